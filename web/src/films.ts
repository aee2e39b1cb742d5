/** Films and elements that play them, as the pictures they show at a rate. */

import { orAborted, sleep } from './abort.js';
import { containers } from './load-containers.js';

/** A canvas, a picture of a film, or whatever else can be drawn, with its size. */
export type Drawable = [CanvasImageSource, number, number];

/** Pages in the background may never hear of a picture. */
const UNSEEN_MS = 1000;
/** As browsers show pictures of an animation that claim to last no time at all. */
const INSTANT_S = 0.1;

/** The pictures of an MP4 or WebM file. */
export async function* film(file: Blob, fps: number): AsyncGenerator<Drawable> {
  const { BlobSource, CanvasSink, Input, MP4, WEBM } = await containers();
  const track = await new Input({ source: new BlobSource(file), formats: [MP4, WEBM] }).getPrimaryVideoTrack();
  if (!track) throw new Error('there is no video in it');
  if (!(await track.canDecode())) throw new Error(`this browser does not decode ${(await track.getCodecParameterString()) ?? 'its codec'}`);
  const start = await track.getFirstTimestamp();
  const moments = times((await track.computeDuration()) - start, fps).map((time) => time + start);
  for await (const shown of new CanvasSink(track).canvasesAtTimestamps(moments)) {
    if (shown) yield [shown.canvas, shown.canvas.width, shown.canvas.height];
  }
}

/** Seeks through the element and leaves it where it was, playing if it was; with 0 frames per second only its picture of now. */
export async function* filmOf(video: HTMLVideoElement, fps: number, signal: AbortSignal | undefined): AsyncGenerator<Drawable> {
  await ready(video, signal);
  const picture = (): Drawable => [video, video.videoWidth, video.videoHeight];
  if (!fps) return yield picture();
  if (!Number.isFinite(video.duration)) throw new Error('the <video> has no end; give pictures of it instead');
  const { currentTime, paused } = video;
  video.pause();
  try {
    for (const time of times(video.duration, fps)) {
      const shown = nextPicture(video);
      const sought = happens(video, 'seeked', signal);
      video.currentTime = time;
      await Promise.all([sought, shown]);
      yield picture();
    }
  } finally {
    video.currentTime = currentTime;
    // Browsers may refuse; then it stays as it is.
    if (!paused) void video.play().catch(() => undefined);
  }
}

/** Waits until there is a picture, and asks for one where the page did not. */
async function ready(video: HTMLVideoElement, signal: AbortSignal | undefined): Promise<void> {
  if (video.error) throw new Error(`the <video> cannot be loaded: ${video.error.message || `code ${video.error.code}`}`);
  const named = video.srcObject || video.hasAttribute('src') || video.querySelector('source');
  if (!named) throw new Error('the <video> has no source');
  // Also the state in which browsers begin to choose a source, for no longer than this.
  if (video.networkState === video.NETWORK_NO_SOURCE) await sleep(0, signal);
  if (video.networkState === video.NETWORK_NO_SOURCE) throw new Error('no source of the <video> can be played');
  if (video.readyState >= video.HAVE_CURRENT_DATA) return;
  const loaded = happens(video, 'loadeddata', signal);
  // Neither `none` nor `metadata` would ever bring a picture.
  if (video.preload !== 'auto') video.preload = 'auto';
  if (video.readyState === video.HAVE_NOTHING && video.networkState === video.NETWORK_EMPTY) video.load();
  await loaded;
}

/** On busy machines a seek is over before its picture is there. */
async function nextPicture(video: HTMLVideoElement): Promise<unknown> {
  if (!('requestVideoFrameCallback' in video)) return undefined;
  const shown = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
  return Promise.race([shown, new Promise((resolve) => setTimeout(resolve, UNSEEN_MS))]);
}

async function happens(video: HTMLVideoElement, type: string, signal: AbortSignal | undefined): Promise<void> {
  const over = new AbortController();
  const happened = new Promise<void>((resolve, reject) => {
    video.addEventListener(type, () => resolve(), over);
    // Those of `<source>` elements do not bubble; the last one's is what counts.
    video.addEventListener('error', () => reject(new Error('the <video> cannot be loaded')), { ...over, capture: true });
    video.addEventListener('emptied', () => reject(new Error('the source of the <video> was changed meanwhile')), over);
  });
  await orAborted(happened, signal).finally(() => over.abort());
}

/** A WebP: an image, or at each moment the picture on screen. Without decoders of animations browsers see the first one only. */
export async function* webp(file: Blob, fps: number): AsyncGenerator<Drawable> {
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

/** Anything that browsers make a picture of. */
export async function* picture(source: ImageBitmapSource): AsyncGenerator<Drawable> {
  const bitmap = await createImageBitmap(source);
  yield [bitmap, bitmap.width, bitmap.height];
  bitmap.close();
}

/** The middle of each interval. */
function times(seconds: number, fps: number): number[] {
  return Array.from({ length: Math.max(1, Math.round(seconds * fps)) }, (_, index) => (index + 0.5) / fps);
}
