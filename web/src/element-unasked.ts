/** What a `<kinora-video>` does without being told to: `autoplay` and `loading`. */

/** How far outside of the viewport an element begins its work. */
const NEAR = '200px';

/** Begins once, and makes anew what was made unasked when the attributes say something else. */
export class Unasked {
  #observer: IntersectionObserver | undefined;
  #begun = false;
  /** Whether a change of the attributes is being answered. */
  #changing = false;

  constructor(
    readonly element: Element,
    readonly work: { make(): void; load(): void },
  ) {}

  /** Begins what the attributes ask for, unless that was done. */
  begin(): void {
    const { element, work } = this;
    const isEager = element.getAttribute('loading') === 'eager';
    if (this.#begun || !element.isConnected || !(isEager || this.#makes)) return;
    this.#begun = true;
    const start = () => (this.#makes ? work.make() : work.load());
    // Not before the attributes that are being set right now are all there.
    if (isEager) return queueMicrotask(start);
    this.#observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        this.wait();
        start();
      },
      { rootMargin: NEAR },
    );
    this.#observer.observe(element);
  }

  /** Makes a clip once for all attributes that change together. */
  again(): void {
    if (this.#changing || !this.#begun || !this.#makes) return;
    this.#changing = true;
    queueMicrotask(() => {
      this.#changing = false;
      if (this.element.isConnected && this.#makes) this.work.make();
    });
  }

  /** Begins nothing that has not begun. */
  wait(): void {
    this.#observer?.disconnect();
  }

  /** May begin again. */
  forget(): void {
    this.#begun = false;
  }

  get #makes(): boolean {
    return this.element.hasAttribute('autoplay') && this.element.hasAttribute('prompt');
  }
}
