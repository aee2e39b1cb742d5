/** A running generation: a promise of a clip and a stream of events. */

import type { GenerationEvent } from './options.js';
import type { Video } from './video.js';

/** What a clip is before it is decoded. */
export interface Latents {
  /** Channels, frames, height and width, after a 1. */
  shape: number[];
  /** Row by row. */
  values: Float32Array<ArrayBuffer>;
}

/** What a generation can be asked for before its end. */
export interface Asks {
  more(): Promise<VideoFrame | undefined>;
  hold(): Promise<Latents | undefined>;
  decode(): void;
}

/** A generation that has begun. `await` it for the clip, or loop over it for its events, or both. */
export class Generation implements PromiseLike<Video>, AsyncIterable<GenerationEvent> {
  /** As in the sources, whatever minifiers make of it. */
  static readonly name = 'Generation';
  /** The clip. */
  readonly result: Promise<Video>;
  /** The seed in use, also when none was given. */
  readonly seed: number;
  readonly #abort: AbortController;
  readonly #readers = new Set<Reader>();
  readonly #asks: Asks | undefined;
  #latents: Promise<Latents | undefined> | undefined;
  #ended = false;

  /** @internal */
  constructor(seed: number, abort: AbortController, run: (emit: (event: GenerationEvent) => void) => Promise<Video>, asks?: Asks) {
    this.#asks = asks;
    this.seed = seed;
    this.#abort = abort;
    const end = () => {
      for (const reader of this.#readers) reader.end();
      this.#ended = true;
    };
    // A failure that nobody looks at is reported by the platform, as that of every promise.
    this.result = run((event) => this.#emit(event)).finally(end);
    abort.signal.addEventListener('abort', () => this.#looked(), { once: true });
  }

  /** Ends the generation; its promise rejects with `reason` once the GPU is idle. */
  cancel(reason: unknown = new DOMException('the generation was cancelled', 'AbortError')): void {
    this.#abort.abort(reason);
  }

  /** As {@link Promise.then} of {@link result}. */
  then<A = Video, B = never>(
    onFulfilled?: ((video: Video) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result.then(onFulfilled, onRejected);
  }

  /** As {@link Promise.catch} of {@link result}. */
  catch<B = never>(onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<Video | B> {
    return this.result.catch(onRejected);
  }

  /** As {@link Promise.finally} of {@link result}. */
  finally(onFinally?: (() => void) | null): Promise<Video> {
    return this.result.finally(onFinally);
  }

  /**
   * What is there once all steps are done. Who asks for it before that decides what becomes of it: nothing is decoded until
   * {@link decode} or {@link cancel}, and other generations wait. Nothing comes where there is no such moment: of clips side by side, of
   * those that are decoded while they are made, and once it is over.
   */
  get latents(): Promise<Latents | undefined> {
    return (this.#latents ??= this.#asks?.hold() ?? Promise.resolve(undefined));
  }

  /** Has the {@link latents} decoded that were asked for; the clip, as {@link result}. */
  decode(): Promise<Video> {
    this.#asks?.decode();
    return this.result;
  }

  /**
   * The frames, each as soon as it is decoded; no more is decoded than is read, so that memory does not grow with the clip,
   * which need not have an end (`frames: 0`). The reader closes each, and cancels the generation by leaving. The clip itself is then
   * without the frames that were read here.
   */
  frames(): ReadableStream<VideoFrame> & AsyncIterable<VideoFrame> {
    let rest: AsyncIterator<VideoFrame> | undefined;
    const next = async () => (rest ? undefined : this.#asks?.more());
    const stream = new ReadableStream<VideoFrame>(
      {
        pull: async (controller) => {
          const frame = await next();
          if (frame) return controller.enqueue(frame);
          rest ??= (await this.result).frames();
          const { done, value } = await rest.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        cancel: (reason) => this.cancel(reason),
      },
      { highWaterMark: 0 },
    );
    // Not every browser loops over streams.
    return Object.assign(stream, { [Symbol.asyncIterator]: () => read(stream) });
  }

  /** The events from now on. Of steps that were not read in time only the newest remains. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GenerationEvent, void, undefined> {
    // The loop throws the failure.
    this.#looked();
    const reader = new Reader();
    if (this.#ended) reader.end();
    this.#readers.add(reader);
    try {
      for (;;) {
        const event = await reader.next();
        if (!event) break;
        yield event;
      }
      // Throws what the generation failed with.
      await this.result;
    } finally {
      this.#readers.delete(reader);
      reader.drop();
    }
  }

  /** Whoever cancels knows why there is no clip. */
  #looked(): void {
    this.result.catch(() => undefined);
  }

  #emit(event: GenerationEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }
}

async function* read(stream: ReadableStream<VideoFrame>): AsyncGenerator<VideoFrame, void, undefined> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel();
  }
}

/** Frees the pictures of an event that nobody reads. */
export function closePreviews(event: GenerationEvent): void {
  if (event.type === 'step') for (const preview of event.previews) preview.close();
}

/** The events one loop has not read yet. */
class Reader {
  #events: GenerationEvent[] = [];
  #ended = false;
  #wake: (() => void) | undefined;

  push(event: GenerationEvent): void {
    const last = this.#events.at(-1);
    if (event.type === 'step' && last?.type === 'step') {
      closePreviews(last);
      this.#events.pop();
    }
    this.#events.push(event);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  async next(): Promise<GenerationEvent | undefined> {
    while (this.#events.length === 0 && !this.#ended) {
      await new Promise<void>((wake) => (this.#wake = wake));
    }
    return this.#events.shift();
  }

  drop(): void {
    this.#events.forEach(closePreviews);
    this.#events = [];
  }
}
