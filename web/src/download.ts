/** Model files from the network into the engine, chunk by chunk: verified, never a whole file in JavaScript's memory. */

import { KinoraError } from './errors.js';
import { CHUNK_BYTES, type FileEntry, type LoadProgress, type ModelSource } from './options.js';

/** Takes the files, one after another. */
export interface Sink {
  begin(path: string, bytes: number): void;
  append(chunk: Uint8Array): void;
}

/** Share of loading that is the download. */
const DOWNLOADING = 0.8;

/** Fetches all files of `source`; returns the last progress. */
export async function download(
  source: ModelSource,
  sink: Sink,
  options: { cache: boolean; signal: AbortSignal; onProgress(progress: LoadProgress): void },
): Promise<LoadProgress> {
  const begun = performance.now();
  const progress: LoadProgress = { phase: 'download', fraction: 0, loadedBytes: 0, totalBytes: 0, cachedBytes: 0, message: 'downloading' };
  progress.totalBytes = source.files.reduce((sum, file) => sum + (file.bytes ?? 0), 0);
  for (const file of source.files) {
    sink.begin(file.path, file.bytes ?? 0);
    let index = 0;
    for await (const chunk of chunks(file, options.signal)) {
      await verify(file, index++, chunk);
      sink.append(chunk);
      progress.loadedBytes += chunk.byteLength;
      progress.totalBytes = Math.max(progress.totalBytes, progress.loadedBytes);
      progress.bytesPerSecond = progress.loadedBytes / Math.max(1e-3, (performance.now() - begun) / 1e3);
      progress.etaSeconds = (progress.totalBytes - progress.loadedBytes) / progress.bytesPerSecond;
      progress.fraction = Math.max(progress.fraction, (DOWNLOADING * progress.loadedBytes) / progress.totalBytes);
      progress.file = file.path;
      options.onProgress({ ...progress });
    }
  }
  return progress;
}

/** The file in pieces of {@link CHUNK_BYTES}, the last one shorter. */
async function* chunks(file: FileEntry, signal: AbortSignal): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const failed = (problem: string, cause?: unknown) =>
    new KinoraError('download', `${file.path} cannot be downloaded: ${problem}`, { cause, hint: `check the network and ${file.url}` });
  const response = await fetch(file.url, { signal }).catch((cause: unknown) => {
    if (signal.aborted) throw cause;
    throw failed(String(cause), cause);
  });
  if (response.status === 404) throw new KinoraError('not-found', `model file not found at ${file.url}`);
  if (!response.ok || !response.body) throw failed(`the server answered ${response.status}`);
  const reader = response.body.getReader();
  let piece = new Uint8Array(CHUNK_BYTES);
  let filled = 0;
  let total = 0;
  for (;;) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      if (signal.aborted) throw cause;
      throw failed(String(cause), cause);
    });
    if (done) break;
    total += value.byteLength;
    for (let at = 0; at < value.byteLength; ) {
      const take = Math.min(value.byteLength - at, CHUNK_BYTES - filled);
      piece.set(value.subarray(at, at + take), filled);
      filled += take;
      at += take;
      if (filled === CHUNK_BYTES) {
        yield piece;
        piece = new Uint8Array(CHUNK_BYTES);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield piece.slice(0, filled);
  if (file.bytes !== undefined && total !== file.bytes) {
    const message = `${file.path} has ${total} bytes, expected ${file.bytes}`;
    throw new KinoraError('corrupt-download', message, { hint: 'download it again; the server or a proxy cut it off or replaced it' });
  }
}

async function verify(file: FileEntry, index: number, chunk: Uint8Array<ArrayBuffer>): Promise<void> {
  const expected = file.sha256?.[index];
  if (file.sha256 && expected === undefined) throw corrupt(file, index);
  // Pages without HTTPS have no digests; they have no WebGPU either, so only the CPU gets there.
  if (!expected || !globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', chunk));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (found !== expected) throw corrupt(file, index);
}

function corrupt(file: FileEntry, index: number): KinoraError {
  const message = `${file.path} was changed on its way: chunk ${index} has another checksum`;
  return new KinoraError('corrupt-download', message, { hint: 'download it again, and clear the cache of the page' });
}
