/** What a generation hands to the page before its end: frames, kept for the clip or, once the page asks for one, one by one; and latents. */

import type { Latents } from './generation.js';

/** Of one generation. */
export class Frames {
  #kept: Uint8Array[] = [];
  /** Asked for and not there yet. */
  #wanted = 0;
  #streams: boolean;
  #holds = false;
  #wake: (() => void) | undefined;
  #go: (() => void) | undefined;

  /** `streams` from the first frame on what is too long to be kept. */
  constructor(readonly send: (answer: { type: 'frame'; value: Uint8Array } | { type: 'latents'; value: Latents }) => void, streams: boolean) {
    this.#streams = streams;
  }

  /** Takes a frame; the engine waits for the promise, if there is one, before it makes another. */
  add(frame: Uint8Array): Promise<void> | undefined {
    this.#kept.push(frame);
    this.#hand();
    if (!this.#streams || this.#kept.length === 0) return undefined;
    return new Promise((wake) => (this.#wake = wake));
  }

  /** Takes latents; the engine waits for the promise, if there is one, before it decodes them. */
  latents(values: Float32Array<ArrayBuffer>, shape: number[]): Promise<void> | undefined {
    if (!this.#holds) return undefined;
    this.send({ type: 'latents', value: { values, shape } });
    return new Promise((go) => (this.#go = go));
  }

  /** The page wants a frame. */
  more(): void {
    this.#streams = true;
    this.#wanted++;
    this.#hand();
  }

  /** The page wants the latents, and to say what becomes of them. */
  hold(): void {
    this.#holds = true;
  }

  /** It wants all of the clip. */
  decode(): void {
    this.#holds = false;
    this.#go?.();
  }

  /** Gives those that nobody asked for, and lets the engine go on. */
  drop(): Uint8Array[] {
    this.decode();
    this.#wake?.();
    return this.#kept.splice(0);
  }

  #hand(): void {
    for (; this.#wanted > 0 && this.#kept.length > 0; this.#wanted--) this.send({ type: 'frame', value: this.#kept.shift()! });
    if (this.#kept.length === 0) this.#wake?.();
  }
}
