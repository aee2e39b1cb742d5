/// <reference lib="esnext.disposable" preserve="true" />
/** A finished clip in the page's memory. */

import type { EncodeOptions, StreamOptions, VideoType } from './encode.js';
import { described } from './check.js';
import { fetched, KinoraError } from './errors.js';
import type { GenerationMetadata, LoadOptions } from './options.js';
import type { GeneratedClip } from './protocol.js';

/** How to start a worker that encodes. */
export interface EncoderSetup {
  worker: LoadOptions['worker'];
  wasm: string;
}

/** The frame with this index of a clip, with its time in microseconds. */
export function videoFrame(rgba: AllowSharedBufferSource, index: number, { width, height, fps }: { width: number; height: number; fps: number }): VideoFrame {
  const microseconds = (frames: number) => Math.round((frames * 1e6) / fps);
  return new VideoFrame(rgba, { format: 'RGBA', codedWidth: width, codedHeight: height, timestamp: microseconds(index), duration: microseconds(1) });
}

/** A finished clip. It stays usable after the model is disposed. */
export class Video implements Disposable {
  /** As in the sources, whatever minifiers make of it. */
  static readonly name = 'Video';
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Frames per second. */
  readonly fps: number;
  readonly frameCount: number;
  /** What the clip was made from. */
  readonly metadata: GenerationMetadata;
  readonly #setup: EncoderSetup;
  #frames: Uint8ClampedArray<ArrayBuffer>[] | undefined;
  /** How many are somewhere else. */
  readonly #taken: number;

  /** @internal */
  constructor(clip: GeneratedClip, metadata: GenerationMetadata, setup: EncoderSetup, taken = 0) {
    this.#taken = taken;
    this.width = clip.width;
    this.height = clip.height;
    this.fps = clip.fps;
    this.frameCount = taken + clip.frames.length;
    this.metadata = metadata;
    this.#setup = setup;
    this.#frames = clip.frames.map((frame) => new Uint8ClampedArray(frame.buffer as ArrayBuffer, frame.byteOffset, frame.byteLength));
  }

  /** RGBA bytes of a frame, row by row from the top. Not a copy. */
  rgba(index: number): Uint8ClampedArray<ArrayBuffer> {
    if (!this.#frames) throw new KinoraError('disposed', 'the clip was disposed');
    const frame = this.#frames[index - this.#taken];
    if (index >= 0 && index < this.#taken) throw new KinoraError('disposed', `frame ${index} went to whoever read \`frames()\` of the generation`);
    if (!frame) throw new KinoraError('invalid-request', `no frame ${index}; the clip has frames 0 to ${this.frameCount - 1}`);
    return frame;
  }

  /** A frame as a picture; the caller closes it. */
  async frame(index: number): Promise<ImageBitmap> {
    return createImageBitmap(this.#image(index));
  }

  /** All frames that are here with timestamps in microseconds; the caller closes each. */
  async *frames(): AsyncGenerator<VideoFrame, void, undefined> {
    for (let index = this.#taken; index < this.frameCount; index++) yield videoFrame(this.rgba(index), index, this);
  }

  /** Plays the clip on a canvas, which gets its size, until `signal` is aborted. */
  play(canvas: HTMLCanvasElement, { loop = true, signal }: { loop?: boolean; signal?: AbortSignal } = {}): void {
    if (typeof canvas?.getContext !== 'function') {
      throw new KinoraError('invalid-request', `invalid canvas: found ${described(canvas)}, expected a <canvas> element`, { hint: 'is the script run before the element is there?' });
    }
    const context = canvas.getContext('2d');
    if (!context) throw new KinoraError('invalid-request', 'the canvas has no 2D context; give one that nothing else draws on');
    canvas.width = this.width;
    canvas.height = this.height;
    let begun: number | undefined;
    let shown = -1;
    const draw = (now: number) => {
      if (signal?.aborted || !this.#frames) return;
      begun ??= now;
      const index = Math.floor(((now - begun) / 1e3) * this.fps);
      const last = !loop && index >= this.frameCount - 1;
      const wanted = last ? this.frameCount - 1 : index % this.frameCount;
      if (wanted !== shown) context.putImageData(this.#image(wanted), 0, 0);
      shown = wanted;
      if (!last) requestAnimationFrame(draw);
    };
    context.putImageData(this.#image(0), 0, 0);
    requestAnimationFrame(draw);
  }

  /** The clip as a file, of the type that is named or of that of the options. WebM needs WebCodecs; the others work everywhere. */
  async toBlob(options?: EncodeOptions | VideoType): Promise<Blob> {
    return (await fetched(import('./encode.js'))).encodeVideo(this, this.#setup, options);
  }

  /** The clip as an MP4 or WebM file that grows while it is encoded; needs WebCodecs. */
  stream(options?: StreamOptions): ReadableStream<Uint8Array> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const write = async () => (await fetched(import('./encode.js'))).streamVideo(this, writable, options);
    // Readers are told of it, and those that left are not.
    write().catch((reason: unknown) => writable.abort(reason).catch(() => undefined));
    return readable;
  }

  /** Frees the frames. */
  [Symbol.dispose](): void {
    this.#frames = undefined;
  }

  #image(index: number): ImageData {
    return new ImageData(this.rgba(index), this.width, this.height);
  }
}
