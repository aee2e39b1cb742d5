/**
 * Model files from the network or the cache into the engine, chunk by chunk: verified, never a whole file in JavaScript. Large files of
 * weights stay in the cache, from where the engine reads what it needs.
 */

import { sleep } from './abort.js';
import type { KeptFile, KeptModel } from './cache.js';
import { sha256 } from './digest.js';
import { KinoraError } from './errors.js';
import { CHUNK_BYTES, type FileEntry, type LoadProgress, type ModelSource } from './options.js';
import { fetchAddress, refusePages, shown } from './transport.js';

/** Takes the files, side by side. */
export interface Sink {
  /** Returns the number that the file has from now on. */
  begin(path: string, bytes: number): number;
  append(file: number, chunk: Uint8Array): void;
  /** Forgets what was appended. */
  restart(file: number): void;
  /** Takes a whole file that stays where it is. */
  keep(path: string, bytes: number, file: KeptFile): void;
}

/** Where to keep what is fetched, and whom to tell. */
export interface DownloadOptions {
  kept: KeptModel | undefined;
  /** Stands in for `fetch`. */
  fetch?: typeof fetch | undefined;
  signal: AbortSignal;
  onProgress(progress: LoadProgress): void;
}

/** Shares of loading: of the WASM before the model's files, and of both; the rest is compiling. */
export const ENGINE = 0.05;
export const DOWNLOADED = 0.5;
/** Files on their way at once: small ones take turns rather than distances. */
const LANES = 4;
/** A connection may break off this often in one file before loading fails. */
const RETRIES = 3;
const RETRY_MS = 500;
/** Files of weights from so many bytes on stay in the cache; smaller ones are read at once, and other tabs may have them. */
const LARGE_BYTES = 32 * 1024 * 1024;
const WEIGHTS = /\.(safetensors|gguf)$/;
/** Memory that the network is read into. */
const READ_BYTES = 256 * 1024;
/** One of several files that together are one. */
const PART = /-\d+-of-\d+\./;

/** Fetches all files of `source`; returns the last progress. The first failure ends the others. */
export async function download(source: ModelSource, sink: Sink, options: DownloadOptions): Promise<LoadProgress> {
  const meter = new Meter(source, options.onProgress);
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const waiting = source.files.values();
  const lane = async () => {
    for (const file of waiting) {
      signal.throwIfAborted();
      await new Transfer(file, sink, { ...options, signal }, meter).run();
    }
  };
  // Each ends in its own time, so that no file is still open when the failure is told.
  await Promise.all(Array.from({ length: LANES }, () => lane().catch((error: unknown) => stop.abort(error))));
  stop.signal.throwIfAborted();
  return meter.progress;
}

/** One file on its way. */
class Transfer {
  readonly #sums: string[] = [];
  #cached: KeptFile | undefined;
  #bytes = 0;
  /** That the engine knows it by, if it is to have the bytes themselves. */
  #number: number | undefined;

  constructor(
    readonly file: FileEntry,
    readonly sink: Sink,
    readonly options: DownloadOptions,
    readonly meter: Meter,
  ) {}

  async run(): Promise<void> {
    const { file, sink, options } = this;
    const cached = (this.#cached = await options.kept?.file(file));
    const large = WEIGHTS.test(file.path) && (file.bytes ?? cached?.record.bytes ?? 0) >= LARGE_BYTES;
    if (!cached || !large) this.#number = sink.begin(file.path, file.bytes ?? 0);
    try {
      if (!(await this.#fromCache())) await this.#again();
      if (this.#number === undefined && this.#cached) {
        sink.keep(file.path, this.#bytes, this.#cached);
        this.#cached = undefined;
      }
    } finally {
      this.#cached?.close();
    }
  }

  /** From the network, over and over while that may help. */
  async #again(): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.#fromNetwork();
        break;
      } catch (error) {
        const worthIt = error instanceof KinoraError && error.code === 'download' && tries < RETRIES;
        if (this.options.signal.aborted || !worthIt) throw error;
        await sleep(RETRY_MS * 2 ** tries, this.options.signal);
      }
    }
    await this.#keep((cached) => cached.finish(this.#sums));
  }

  /** Takes what is stored; true if that is the whole file. Damaged chunks are fetched again; what cannot be mended is forgotten. */
  async #fromCache(): Promise<boolean> {
    const cached = this.#cached;
    if (!cached) return false;
    const memory = new Uint8Array(CHUNK_BYTES);
    for (let chunk = cached.next(memory); chunk; chunk = cached.next(memory)) {
      const index = this.#sums.length;
      let sum = await sha256(chunk);
      const expected = this.file.sha256?.[index] ?? (cached.record.complete ? cached.record.sha256[index] : undefined);
      if (expected !== undefined && sum !== expected) {
        const right = await this.#chunk(chunk.byteLength, expected).catch(() => undefined);
        this.options.signal.throwIfAborted();
        if (!right) {
          await this.#keep((cached) => cached.restart(null));
          this.#restart();
          return false;
        }
        await this.#keep((cached) => cached.mend(right, this.#bytes));
        [chunk, sum] = [right, expected];
      }
      this.#take(chunk, sum, true);
    }
    return cached.record.complete;
  }

  /** The next chunk alone, if the server has the one that should be here. */
  async #chunk(bytes: number, sum: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const { signal, fetch } = this.options;
    const headers = { range: `bytes=${this.#bytes}-${this.#bytes + bytes - 1}` };
    const response = await fetchAddress(this.file.url, { signal, headers, cache: 'no-store' }, fetch);
    if (response.status !== 206) return void response.body?.cancel();
    const chunk = new Uint8Array(await response.arrayBuffer());
    return (await sha256(chunk)) === sum ? chunk : undefined;
  }

  async #fromNetwork(): Promise<void> {
    const { file, options } = this;
    const etag = this.#cached?.record.etag;
    const headers: HeadersInit = this.#bytes > 0 && etag ? { range: `bytes=${this.#bytes}-`, 'if-range': etag } : {};
    // What is kept here need not be kept by the browser a second time, and half of it twice.
    const cache = this.#cached ? 'no-store' : 'default';
    const response = await fetchAddress(file.url, { signal: options.signal, headers, cache }, options.fetch).catch((cause: unknown) => this.#failed(String(cause), cause));
    if (response.status === 404) {
      throw new KinoraError('not-found', `model file not found at ${shown(file.url)}`, { hint: PART.test(file.path) ? 'the index beside it lists this part: the server must have all of them' : 'check the address of the model' });
    }
    refusePages(response, file.url, 'not-found');
    if (!response.ok || !response.body) this.#failed(`the server answered ${response.status}`);
    if (response.status !== 206 && this.#bytes > 0) this.#restart();
    await this.#keep(async (cached) => {
      if (this.#bytes === 0) await cached.restart(response.headers.get('etag'));
      return cached.begun();
    });
    // Compressed responses say their compressed length, which says nothing about the file.
    const plain = !response.headers.get('content-encoding');
    const length = plain ? Number(response.headers.get('content-length')) || undefined : undefined;
    const expected = file.bytes ?? (length === undefined ? undefined : this.#bytes + length);
    for await (const chunk of this.#pieces(response.body as ReadableStream<Uint8Array>)) {
      const sum = await sha256(chunk);
      const wanted = file.sha256?.[this.#sums.length];
      if (file.sha256 && sum !== undefined && sum !== wanted) this.#corrupt(`its chunk ${this.#sums.length} has another checksum`);
      await this.#keep((cached) => cached.append(chunk));
      this.#take(chunk, sum, false);
    }
    if (expected !== undefined && this.#bytes !== expected) this.#corrupt(`it has ${this.#bytes} bytes, expected ${expected}`);
  }

  /** The rest of the file in chunks, the last one shorter, all in the same memory. */
  async *#pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const reader = readerOf(body);
    // Comes back with what was read, so that a large file leaves no memory behind to be collected.
    let memory = new Uint8Array(READ_BYTES);
    const piece = new Uint8Array(CHUNK_BYTES);
    let filled = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read(memory).catch((cause: unknown) => this.#failed(String(cause), cause));
        if (done) break;
        memory = new Uint8Array(value.buffer);
        for (let at = 0; at < value.byteLength; ) {
          const size = Math.min(value.byteLength - at, CHUNK_BYTES - filled);
          piece.set(value.subarray(at, at + size), filled);
          filled += size;
          at += size;
          if (filled === CHUNK_BYTES) {
            yield piece;
            filled = 0;
          }
        }
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
    if (filled > 0) yield piece.subarray(0, filled);
  }

  /** Works on the cache; where there is no room for it, loading goes on without. */
  async #keep(work: (cached: KeptFile) => void | Promise<void>): Promise<void> {
    const cached = this.#cached;
    try {
      if (cached) await work(cached);
    } catch {
      this.#cached = undefined;
      if (cached) this.#spill(cached);
      await cached?.discard();
      this.meter.note('there is no room to keep the model in this browser; it is downloaded again next time');
    }
  }

  /** Moves what is stored into the engine after all. */
  #spill(cached: KeptFile): void {
    if (this.#number !== undefined) return;
    const { file, sink } = this;
    this.#number = sink.begin(file.path, file.bytes ?? 0);
    for (let at = 0; at < this.#bytes; at += CHUNK_BYTES) {
      const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.#bytes - at));
      cached.read(chunk, at);
      sink.append(this.#number, chunk);
    }
  }

  #take(chunk: Uint8Array, sum: string | undefined, fromCache: boolean): void {
    if (this.#number !== undefined) this.sink.append(this.#number, chunk);
    this.#sums.push(sum ?? '');
    this.#bytes += chunk.byteLength;
    this.meter.add(this.file.path, chunk.byteLength, fromCache);
  }

  #restart(): void {
    if (this.#number !== undefined) this.sink.restart(this.#number);
    this.meter.add(this.file.path, -this.#bytes, false);
    this.#sums.length = 0;
    this.#bytes = 0;
  }

  #failed(problem: string, cause?: unknown): never {
    if (this.options.signal.aborted) throw this.options.signal.reason;
    const message = `${this.file.path} cannot be downloaded: ${problem}`;
    throw new KinoraError('download', message, { cause, hint: `check the network and ${shown(this.file.url)}` });
  }

  #corrupt(problem: string): never {
    void this.#cached?.restart(null);
    const message = `${this.file.path} arrived changed or cut off: ${problem}`;
    throw new KinoraError('corrupt-download', message, { hint: 'load again; if it stays, the file on the server is not the one expected' });
  }
}

/** Reads into memory that it is given where the stream can do that, as those of platforms do; others ignore the memory. */
function readerOf(body: ReadableStream<Uint8Array>): ReadableStreamBYOBReader {
  try {
    return body.getReader({ mode: 'byob' });
  } catch {
    return body.getReader() as never;
  }
}

/** Adds up what arrives. */
class Meter {
  readonly progress: LoadProgress =
    { phase: 'download', fraction: ENGINE, loadedBytes: 0, totalBytes: 0, cachedBytes: 0, message: 'downloading the model' };
  readonly #begun = performance.now();
  readonly #listed: number;

  constructor(
    source: ModelSource,
    readonly report: (progress: LoadProgress) => void,
  ) {
    this.#listed = source.files.reduce((sum, file) => sum + (file.bytes ?? 0), 0);
  }

  add(file: string, bytes: number, fromCache: boolean): void {
    const { progress } = this;
    progress.loadedBytes += bytes;
    if (fromCache) progress.cachedBytes += bytes;
    progress.totalBytes = Math.max(this.#listed, progress.loadedBytes);
    progress.bytesPerSecond = progress.loadedBytes / Math.max(1e-3, (performance.now() - this.#begun) / 1e3);
    progress.etaSeconds = (progress.totalBytes - progress.loadedBytes) / Math.max(1, progress.bytesPerSecond);
    const share = progress.loadedBytes / Math.max(1, progress.totalBytes);
    progress.fraction = Math.max(progress.fraction, ENGINE + (DOWNLOADED - ENGINE) * share);
    progress.file = file;
    this.report({ ...progress });
  }

  note(message: string): void {
    this.progress.message = message;
    this.report({ ...this.progress });
  }
}
