/** Given pictures and clips as the engine takes them: files as they are, everything else as RGBA bytes. */

import { KinoraError } from './errors.js';
import type { ImageSource, VideoSource } from './options.js';
import type { SourceCall } from './protocol.js';
import { Video } from './video.js';

/** What the engine reads by itself; untyped files may be anything, also what it does not read. */
const READABLE = /^(image\/(gif|a?png))?$/;
/** Pages in the background may never hear of a picture. */
const UNSEEN_MS = 1000;
/** As browsers show pictures of an animation that claim to last no time at all. */
const INSTANT_S = 0.1;

/** A canvas, a picture of a film, or whatever else can be drawn, with its size. */
type Drawable = [CanvasImageSource, number, number];

/** Reads `source`, which is to cover `width` × `height` pixels; a film at `fps` frames per second, or with 0 its picture of now. */
export async function readSource(
  source: ImageSource | VideoSource,
  [width, height, fps]: readonly [number, number, number],
): Promise<[Omit<SourceCall, 'part' | 'frame'>, Uint8Array<ArrayBuffer>[]]> {
  if (source instanceof Video) {
    const frames = Array.from({ length: source.frameCount }, (_, index) => new Uint8Array(source.rgba(index)));
    return [{ arrays: frames.length, width: source.width, height: source.height, fps: source.fps }, frames];
  }
  if (source instanceof Blob) {
    const bare = typeof createImageBitmap === 'undefined';
    // Platforms without pictures, such as Node, are told by the engine which formats it reads.
    if (bare || (READABLE.test(source.type) && !(await isWebp(source)))) return [{ arrays: 1 }, [new Uint8Array(await source.arrayBuffer())]];
  }
  try {
    const frames: Uint8Array<ArrayBuffer>[] = [];
    let canvas: OffscreenCanvas | undefined;
    for await (const [picture, w, h] of pictures(source, fps)) {
      // The engine crops and scales; it need not be handed more pixels than it uses.
      const scale = Math.min(1, Math.max(width / w, height / h));
      canvas ??= new OffscreenCanvas(Math.ceil(w * scale), Math.ceil(h * scale));
      const context = canvas.getContext('2d', { willReadFrequently: true })!;
      context.imageSmoothingQuality = 'high';
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      frames.push(new Uint8Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer));
    }
    return [{ arrays: frames.length, width: canvas?.width, height: canvas?.height }, frames];
  } catch (cause) {
    throw new KinoraError('input-unreadable', `cannot read an image or video: ${String(cause)}`, { cause, hint: 'it must be complete, not empty, and from this origin' });
  }
}

async function* pictures(source: ImageSource | VideoSource, fps: number): AsyncGenerator<Drawable> {
  if (Array.isArray(source)) {
    for (const picture of source) yield* pictures(picture, fps);
  } else if (fps && source instanceof Blob && source.type.startsWith('video/')) {
    yield* film(source, fps);
  } else if (source instanceof Blob && (await isWebp(source))) {
    yield* webp(source, fps);
  } else if (fps && globalThis.HTMLVideoElement && source instanceof HTMLVideoElement) {
    yield* element(source, fps);
  } else {
    yield* picture(source as ImageSource);
  }
}

async function* picture(source: ImageSource): AsyncGenerator<Drawable> {
  const bitmap = await createImageBitmap(source);
  yield [bitmap, bitmap.width, bitmap.height];
  bitmap.close();
}

/** By its first bytes, since types are what file names say. */
async function isWebp(file: Blob): Promise<boolean> {
  const start = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return start.startsWith('RIFF') && start.endsWith('WEBP');
}

/** A WebP: an image, or at each moment the picture on screen. Without decoders of animations browsers see the first one only. */
async function* webp(file: Blob, fps: number): AsyncGenerator<Drawable> {
  const data = new Uint8Array(await file.arrayBuffer());
  // An extended file has its flags in byte 20 (developers.google.com/speed/webp/docs/riff_container).
  if (String.fromCharCode(...data.subarray(12, 16)) !== 'VP8X' || !(data[20]! & 2)) return yield* picture(file);
  if (typeof ImageDecoder === 'undefined') throw new Error('this browser reads no animated WebP; give it as GIF, APNG, MP4 or WebM');
  const decoder = new ImageDecoder({ data, type: 'image/webp' });
  await Promise.all([decoder.tracks.ready, decoder.completed]);
  const { frameCount } = decoder.tracks.selectedTrack!;
  // Where an image is needed the engine says how many it found.
  const rate = fps || 1 / INSTANT_S;
  let end = 0;
  let shown = 0;
  for (let index = 0; index < frameCount; index++) {
    const { image } = await decoder.decode({ frameIndex: index });
    end += (image.duration ?? 0) / 1e6 || INSTANT_S;
    const until = index + 1 < frameCount ? Math.ceil(end * rate - 0.5) : Math.max(1, Math.round(end * rate));
    for (; shown < until; shown++) yield [image, image.displayWidth, image.displayHeight];
    image.close();
  }
  decoder.close();
}

/** The middle of each interval. */
function times(seconds: number, fps: number): number[] {
  return Array.from({ length: Math.max(1, Math.round(seconds * fps)) }, (_, index) => (index + 0.5) / fps);
}

async function* film(file: Blob, fps: number): AsyncGenerator<Drawable> {
  const { BlobSource, CanvasSink, Input, MP4, WEBM } = await import('mediabunny');
  const track = await new Input({ source: new BlobSource(file), formats: [MP4, WEBM] }).getPrimaryVideoTrack();
  if (!track) throw new Error('there is no video in it');
  const start = await track.getFirstTimestamp();
  const moments = times((await track.computeDuration()) - start, fps).map((time) => time + start);
  for await (const shown of new CanvasSink(track).canvasesAtTimestamps(moments)) {
    if (shown) yield [shown.canvas, shown.canvas.width, shown.canvas.height];
  }
}

/** Seeks through the element and leaves it where it was. */
async function* element(video: HTMLVideoElement, fps: number): AsyncGenerator<Drawable> {
  const { currentTime } = video;
  video.pause();
  if (video.readyState < 2) await happens(video, 'loadeddata');
  for (const time of times(video.duration, fps)) {
    const shown = nextPicture(video);
    video.currentTime = time;
    await Promise.all([happens(video, 'seeked'), shown]);
    yield [video, video.videoWidth, video.videoHeight];
  }
  video.currentTime = currentTime;
}

/** On busy machines a seek is over before its picture is there. */
async function nextPicture(video: HTMLVideoElement): Promise<unknown> {
  if (!('requestVideoFrameCallback' in video)) return undefined;
  const shown = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  return Promise.race([shown, new Promise((resolve) => setTimeout(resolve, UNSEEN_MS))]);
}

function happens(target: EventTarget, type: string): Promise<Event> {
  return new Promise((resolve, reject) => {
    target.addEventListener(type, resolve, { once: true });
    target.addEventListener('error', () => reject(new Error('the video cannot be loaded')), { once: true });
  });
}
