/** Frames on their way from the engine to the page: kept for the clip, or, once the page asks for one, handed over one by one. */

/** Those of one generation. */
export class Frames {
  #kept: Uint8Array[] = [];
  /** Asked for and not there yet. */
  #wanted = 0;
  #streams = false;
  #wake: (() => void) | undefined;

  constructor(readonly send: (frame: Uint8Array) => void) {}

  /** Takes a frame; the engine waits for the promise, if there is one, before it makes another. */
  add(frame: Uint8Array): Promise<void> | undefined {
    this.#kept.push(frame);
    this.#hand();
    if (!this.#streams || this.#kept.length === 0) return undefined;
    return new Promise((wake) => (this.#wake = wake));
  }

  /** The page wants a frame. */
  more(): void {
    this.#streams = true;
    this.#wanted++;
    this.#hand();
  }

  /** Gives those that nobody asked for, and lets the engine go on. */
  drop(): Uint8Array[] {
    this.#wake?.();
    return this.#kept.splice(0);
  }

  #hand(): void {
    for (; this.#wanted > 0 && this.#kept.length > 0; this.#wanted--) this.send(this.#kept.shift()!);
    if (this.#kept.length === 0) this.#wake?.();
  }
}
