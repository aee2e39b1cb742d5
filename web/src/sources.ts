/** Given pictures and clips as the engine takes them, loaded with the first of them: files as they are, everything else as RGBA bytes. */

import { orAborted } from './abort.js';
import { KinoraError } from './errors.js';
import { film, filmOf, picture, webp, type Drawable } from './films.js';
import type { ImageSource, VideoSource } from './options.js';
import type { SourceCall } from './protocol.js';
import { fileKind, type FileKind } from './recognise.js';
import { fetchAddress, refusePages, shown } from './transport.js';
import { Video } from './video.js';

/** What the engine reads by itself. */
const READABLE: ReadonlySet<FileKind> = new Set(['gif', 'png', 'y4m']);
const CORS_HINT = 'a server on another origin must send `access-control-allow-origin`, and elements need `crossorigin="anonymous"`; else give the file itself';
const HINT = 'it must be complete and not empty';

/** What is read, and for how large a clip. */
export interface Reading {
  /** As messages call it. */
  part: string;
  /** Pixels that the picture is to cover. */
  width: number;
  height: number;
  /** Of films; 0 where one image is needed. */
  fps: number;
  signal: AbortSignal | undefined;
}

/** Reads `source`. */
export async function readSource(source: ImageSource | VideoSource, reading: Reading): Promise<[Omit<SourceCall, 'part' | 'name' | 'frame'>, Uint8Array<ArrayBuffer>[]]> {
  const { part, signal } = reading;
  try {
    return await orAborted(read(source, reading), signal);
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof KinoraError) throw cause;
    const tainted = cause instanceof DOMException && cause.name === 'SecurityError';
    const problem = tainted ? 'the browser keeps pictures of other origins from scripts' : cause instanceof Error ? cause.message : String(cause);
    throw new KinoraError('input-unreadable', `cannot read \`${part}\`: ${problem}`, { cause, hint: tainted ? CORS_HINT : HINT });
  }
}

async function read(source: ImageSource | VideoSource, reading: Reading): ReturnType<typeof readSource> {
  if (source instanceof Video) {
    const frames = Array.from({ length: source.frameCount }, (_, index) => new Uint8Array(source.rgba(index)));
    return [{ arrays: frames.length, width: source.width, height: source.height, fps: source.fps }, frames];
  }
  if (typeof source === 'string' || source instanceof URL) return read(await fetched(source, reading), reading);
  // Platforms without pictures, such as Node, are told by the engine which formats it reads.
  if (source instanceof Blob && (typeof createImageBitmap === 'undefined' || READABLE.has(await fileKind(source)))) {
    return [{ arrays: 1 }, [new Uint8Array(await source.arrayBuffer())]];
  }
  const frames: Uint8Array<ArrayBuffer>[] = [];
  let canvas: OffscreenCanvas | undefined;
  for await (const [drawable, w, h] of pictures(source, reading)) {
    reading.signal?.throwIfAborted();
    // The engine crops and scales; it need not be handed more pixels than it uses.
    const scale = Math.min(1, Math.max(reading.width / w, reading.height / h));
    canvas ??= new OffscreenCanvas(Math.ceil(w * scale), Math.ceil(h * scale));
    const context = canvas.getContext('2d', { willReadFrequently: true })!;
    context.imageSmoothingQuality = 'high';
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(drawable, 0, 0, canvas.width, canvas.height);
    frames.push(new Uint8Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer));
  }
  return [{ arrays: frames.length, width: canvas?.width, height: canvas?.height }, frames];
}

async function* pictures(source: ImageSource | VideoSource, reading: Reading): AsyncGenerator<Drawable> {
  if (Array.isArray(source)) {
    for (const each of source) yield* pictures(each, reading);
  } else if (typeof source === 'string' || source instanceof URL) {
    yield* pictures(await fetched(source, reading), reading);
  } else if (source instanceof Blob) {
    yield* pictureFile(source, reading);
  } else if (globalThis.HTMLVideoElement && source instanceof HTMLVideoElement) {
    yield* filmOf(source, reading.fps, reading.signal);
  } else {
    const image = globalThis.HTMLImageElement && source instanceof HTMLImageElement ? source : undefined;
    // Far from the viewport it would wait for the visitor.
    if (image?.loading === 'lazy') image.loading = 'eager';
    await image?.decode();
    yield* picture(source as ImageBitmapSource);
  }
}

async function* pictureFile(file: Blob, { part, width, height, fps }: Reading): AsyncGenerator<Drawable> {
  const kind = await fileKind(file);
  if (kind === 'webp') return yield* webp(file, fps);
  if (kind === 'svg') return yield await drawing(file, width, height);
  if (kind === 'mp4' || kind === 'webm') {
    if (fps) return yield* film(file, fps);
    throw new KinoraError('not-an-image', `\`${part}\` is a film (${kind}), expected an image`, { hint: 'give it as `video`, or one picture of it' });
  }
  try {
    yield* picture(file);
  } catch (cause) {
    if (kind !== 'unknown') throw cause;
    const found = file.size === 0 ? 'an empty file' : `a file of type "${file.type}" whose first bytes say nothing`;
    const message = `cannot read \`${part}\`: found ${found}, expected PNG, JPEG, GIF, WebP, AVIF, SVG, MP4 or WebM`;
    throw new KinoraError('unknown-input', message, { cause, hint: 'give a file in one of these formats' });
  }
}

/** An SVG, which only documents draw; one without a size of its own gets that of the clip. */
async function drawing(file: Blob, width: number, height: number): Promise<Drawable> {
  if (typeof Image === 'undefined') throw new Error('only pages draw SVG; give a PNG');
  const url = URL.createObjectURL(new Blob([file], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    return [image, image.naturalWidth || width, image.naturalHeight || height];
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function fetched(url: string | URL, { part, signal }: Reading): Promise<Blob> {
  const failed = (problem: string, hint: string, cause?: unknown) =>
    new KinoraError('input-unreadable', `cannot read \`${part}\` from ${shown(url)}: ${problem}`, { cause, hint });
  const response = await fetchAddress(String(url), signal ? { signal } : {}).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw failed(cause instanceof Error ? cause.message : String(cause), CORS_HINT, cause);
  });
  if (!response.ok) throw failed(`the server answered ${response.status}`, 'check the address');
  refusePages(response, url, 'input-unreadable');
  return response.blob();
}
