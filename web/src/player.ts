/** Plays a clip on a canvas with pause and single frames, which `Video.play` leaves to its caller. */

import type { Video } from './video.js';

/** One canvas and what it shows. */
export class Player {
  /** Starts again after the last frame. */
  loop = false;
  readonly #canvas: HTMLCanvasElement;
  readonly #onChange: () => void;
  #video: Video | undefined;
  #index = 0;
  /** Time at which frame 0 was or would have been due, in ms; undefined while paused. */
  #begun: number | undefined;

  /** `onChange` is called after every new frame, start and stop. */
  constructor(canvas: HTMLCanvasElement, onChange: () => void) {
    this.#canvas = canvas;
    this.#onChange = onChange;
  }

  /** The frame on show. */
  get index(): number {
    return this.#index;
  }

  get playing(): boolean {
    return this.#begun !== undefined;
  }

  /** Shows the first frame of `video` and waits. */
  show(video: Video): void {
    this.#video = video;
    this.#resize(video.width, video.height);
    this.seek(0);
  }

  /** Shows a picture that belongs to no clip yet. */
  picture(bitmap: ImageBitmap): void {
    this.pause();
    this.#resize(bitmap.width, bitmap.height);
    this.#context().drawImage(bitmap, 0, 0);
  }

  /** Shows nothing. */
  clear(): void {
    this.pause();
    this.#video = undefined;
    const { width, height } = this.#canvas;
    this.#context().clearRect(0, 0, width, height);
  }

  /** Plays on, or from the start if the end is on show. */
  play(): void {
    const video = this.#video;
    if (!video || this.playing) return;
    const from = this.#index >= video.frameCount - 1 ? 0 : this.#index;
    this.#begun = performance.now() - (from / video.fps) * 1e3;
    requestAnimationFrame(this.#tick);
    this.#onChange();
  }

  pause(): void {
    if (!this.playing) return;
    this.#begun = undefined;
    this.#onChange();
  }

  /** Shows one frame and waits there. */
  seek(index: number): void {
    this.#begun = undefined;
    this.#draw(index);
    this.#onChange();
  }

  readonly #tick = (now: number): void => {
    const video = this.#video;
    if (!video || this.#begun === undefined) return;
    const due = Math.max(0, Math.floor(((now - this.#begun) / 1e3) * video.fps));
    const ended = !this.loop && due >= video.frameCount;
    const index = ended ? video.frameCount - 1 : due % video.frameCount;
    if (ended) this.#begun = undefined;
    else requestAnimationFrame(this.#tick);
    if (index === this.#index && !ended) return;
    this.#draw(index);
    this.#onChange();
  };

  #draw(index: number): void {
    const video = this.#video;
    if (!video) return;
    this.#index = index;
    this.#context().putImageData(new ImageData(video.rgba(index), video.width, video.height), 0, 0);
  }

  /** Setting the size clears a canvas, even to the size it has. */
  #resize(width: number, height: number): void {
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
  }

  #context(): CanvasRenderingContext2D {
    // Nothing else has this canvas, so that it cannot have another kind of context.
    return this.#canvas.getContext('2d')!;
  }
}
