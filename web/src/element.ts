/** The custom element `<kinora-video>`: a prompt in, a clip on show. Importing this module defines it. */

import { checkEnd } from './check.js';
import { MAKING, OBSERVED, optionsOf, reflectAttributes, takeEarly, type KinoraVideoAttributes } from './element-attributes.js';
import type { KinoraVideoEventMap, KinoraVideoEvents, KinoraVideoState } from './element-events.js';
import { ENGLISH, type KinoraVideoLabels } from './element-labels.js';
import { ModelUse } from './element-model.js';
import { Unasked } from './element-unasked.js';
import { View } from './element-view.js';
import { kinoraError } from './errors.js';
import { closePreviews } from './generation.js';
import { flipbookShape } from './models/flipbook.js';
import type { GenerateOptions, GenerationEvent, LoadProgress, PromptParts } from './options.js';
import { Player } from './player.js';
import type { VideoModel } from './model.js';
import type { Video } from './video.js';

export type { KinoraVideoAttributes } from './element-attributes.js';
export type { KinoraVideoEventMap, KinoraVideoEvents, KinoraVideoState, PreviewDetail } from './element-events.js';
export type { KinoraVideoLabels } from './element-labels.js';

/** Share of the bar that loading takes, where a model has to be loaded. */
const LOADING = 0.25;
/** After these the model is unusable, also for others. */
const FATAL: ReadonlySet<string> = new Set(['internal', 'worker', 'disposed']);

// Node has no elements; importing there must not fail, so that servers can render pages that use one.
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/**
 * Generates a clip from its attributes and plays it.
 *
 * Attributes: `prompt`; `model`; `seed`, `width`, `height`, `frames`, `window`, `fps`, `upscale`, `interpolate`, `steps` as in {@link GenerateOptions};
 * `autoplay` begins unasked, and again when these change; `loading` is `lazy` (default: `autoplay` waits until the element is near the viewport) or `eager`
 * (loads the model at once); `loop`; `controls`; `alt` (default: the prompt); `poster`, the address of a picture.
 *
 * Slots: `poster`, `controls`, `error`. Parts: `stage`, `canvas`, `poster`, `player`, `play`, `seek`, `generate`, `work`,
 * `progress`, `status`, `cancel`, `error`, `error-text`, `error-help`. CSS variables: `--kinora-accent`,
 * `--kinora-background`, `--kinora-radius`, `--kinora-gap`, `--kinora-focus`, `--kinora-image-rendering`.
 *
 * Where the system asks for reduced motion nothing plays by itself: the first frame and a play button are shown.
 */
export class KinoraVideo extends Base {
  /** As in the sources, whatever minifiers make of it. */
  static override readonly name = 'KinoraVideo';
  /** The value of the element is submitted with its form. */
  static readonly formAssociated = true;
  /** @internal */
  static readonly observedAttributes = OBSERVED;
  /** The texts of all elements. Assign before the first element is made. */
  static labels: KinoraVideoLabels = ENGLISH;

  #given: PromptParts = {};
  #expand: GenerateOptions['expand'] | undefined;
  readonly #view: View;
  readonly #player: Player;
  readonly #internals = this.attachInternals();
  readonly #stillness = matchMedia('(prefers-reduced-motion: reduce)');
  #state: KinoraVideoState = 'empty';
  #video: Video | undefined;
  #value: File | null = null;
  readonly #use = new ModelUse({
    support: (report) => this.#send('support', report),
    progress: (progress) => this.#onLoading(progress),
  });
  #abort: AbortController | undefined;
  readonly #unasked = new Unasked(this, { make: () => void this.generate(), load: () => this.#use.preload(this.model) });
  /** Of the clip on show, or the one to come. */
  #text = '';
  /** As of the last step. */
  #leftMs = 0;

  /** An element without a clip. */
  constructor() {
    super();
    this.#view = new View(this.attachShadow({ mode: 'open', delegatesFocus: true }), KinoraVideo.labels);
    const { canvas, play, seek, generate, cancel } = this.#view;
    this.#player = new Player(canvas, () => this.#showPlayback());
    play.addEventListener('click', () => this.#toggle());
    canvas.addEventListener('click', () => this.#toggle());
    seek.addEventListener('input', () => this.#player.seek(seek.valueAsNumber));
    generate.addEventListener('click', () => this.generate());
    cancel.addEventListener('click', () => this.cancel());
    this.addEventListener('keydown', ({ key }) => key === 'Escape' && this.cancel());
    this.#setShape(flipbookShape);
    this.#setState('empty');
    // What was assigned before this class was there.
    for (const [name, value] of takeEarly(this, [...OBSERVED, 'given', 'expand', 'video'])) Reflect.set(this, name, value);
  }

  /** What the next clip is made from besides the `prompt` attribute: images, clips and what becomes of them. */
  get given(): PromptParts {
    return this.#given;
  }

  /** Of the next clip. */
  set given(parts: PromptParts) {
    this.#given = parts ?? {};
  }

  /** How the `prompt` attribute is worded, as in {@link GenerateOptions}. */
  get expand(): GenerateOptions['expand'] | undefined {
    return this.#expand;
  }

  /** Of the next clip. */
  set expand(expand: GenerateOptions['expand'] | undefined) {
    this.#expand = expand;
  }

  /** What the element is doing. */
  get state(): KinoraVideoState {
    return this.#state;
  }

  /** The model, once it is loaded. */
  get loaded(): VideoModel | undefined {
    return this.#use.model;
  }

  /** The clip on show; assign one to show it. */
  get video(): Video | undefined {
    return this.#video;
  }

  /** Shows a clip, or nothing, instead of what runs. */
  set video(video: Video | undefined) {
    this.cancel();
    if (video) this.#show(video);
    else this.#clear();
  }

  /** The clip as a file, while the element has a form; else use `video.toBlob()`. `null` until it is encoded. */
  get value(): File | null {
    return this.#value;
  }

  /** The form that the value is submitted with. */
  get form(): HTMLFormElement | null {
    return this.#internals.form;
  }

  /** Makes a clip of what the attributes say and shows it. What runs already is cancelled. */
  generate(): Promise<Video> {
    this.#abort?.abort(cancelled());
    const abort = (this.#abort = new AbortController());
    const video = this.#generate(abort);
    // Whoever does not wait for the clip learns of failures from the element and its events.
    video.catch(() => undefined);
    return video;
  }

  /** Ends what runs and shows the clip from before, if there was one. */
  cancel(): void {
    const abort = this.#abort;
    if (!abort) return;
    abort.abort(cancelled());
    // At once, although the GPU still has some work to drop.
    this.#fail(abort.signal.reason, abort.signal);
  }

  /** Plays the clip on show. */
  play(): void {
    if (this.#state === 'ready') this.#player.play();
  }

  /** Stops at the frame on show. */
  pause(): void {
    this.#player.pause();
  }

  /** @internal */
  connectedCallback(): void {
    this.#stillness.addEventListener('change', this.#onStillness);
    this.#unasked.begin();
  }

  /** @internal */
  disconnectedCallback(): void {
    this.#stillness.removeEventListener('change', this.#onStillness);
    this.#unasked.wait();
    // An element that is only moved is connected again by then.
    queueMicrotask(() => {
      if (this.isConnected) return;
      if (this.#state === 'empty') this.#unasked.forget();
      this.cancel();
      this.pause();
      this.#use.release();
    });
  }

  /** @internal */
  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before === now) return;
    if (name === 'model') {
      this.cancel();
      this.#use.release();
    } else if (name === 'poster') {
      Object.assign(this.#view.poster, { src: now ?? '', hidden: now === null });
    }
    this.#setShape(flipbookShape);
    this.#player.loop = this.hasAttribute('loop');
    this.#render();
    if (MAKING.has(name) && this.#state !== 'empty') this.#unasked.again();
    this.#unasked.begin();
  }

  /** @internal */
  formResetCallback(): void {
    this.video = undefined;
  }

  /** The shape that the clip will have, so that nothing moves when it comes. */
  #setShape(model: { width: number; height: number }): void {
    if (this.#video || (this.#state !== 'empty' && this.#state !== 'loading')) return;
    const side = (name: 'width' | 'height') => Number(this.getAttribute(name)) || model[name];
    this.#view.shape(side('width'), side('height'));
  }

  async #generate(abort: AbortController): Promise<Video> {
    const { signal } = abort;
    const { labels } = this.#view;
    // As of now: what changes meanwhile is for the next clip.
    const prompt: PromptParts = { ...this.#given, text: this.getAttribute('prompt') ?? '' };
    const options: GenerateOptions = { ...optionsOf(this), ...(this.#expand === undefined ? {} : { expand: this.#expand }), signal };
    try {
      checkEnd(options);
      this.#player.pause();
      this.#setState('loading');
      const from = this.loaded ? 0 : LOADING;
      this.#view.progress(0, labels.loading({ phase: 'plan' } as LoadProgress));
      const model = await this.#use.acquire(this.model, signal);
      this.#setShape(model.info);
      this.#setState('generating');
      this.#view.progress(from, labels.preparing);
      this.#text = prompt.text ?? '';
      const generation = model.generate(prompt, options);
      for await (const event of generation) {
        if (signal.aborted) closePreviews(event);
        else this.#onEvent(event, from);
      }
      const video = await generation;
      signal.throwIfAborted();
      this.#abort = undefined;
      this.#show(video);
      this.#view.announce(labels.done, true);
      this.#send('done', video);
      return video;
    } catch (thrown) {
      // A newer call owns the view by now.
      if (this.#abort === abort) this.#fail(thrown, signal);
      throw thrown;
    }
  }

  #fail(thrown: unknown, signal: AbortSignal): void {
    this.#abort = undefined;
    if (signal.aborted) {
      if (this.#video) this.#player.show(this.#video);
      this.#setState(this.#video ? 'ready' : 'empty');
      this.#view.announce(this.#view.labels.cancelled, true);
      this.#send('cancel', undefined);
      return;
    }
    const error = kinoraError(thrown);
    if (FATAL.has(error.code)) this.#use.discard();
    this.#view.failure([error.message, error.hint].filter(Boolean).join('; '), this.#use.help);
    this.#setState('error');
    this.#send('error', error);
  }

  #onLoading(progress: LoadProgress): void {
    if (this.#state === 'loading') this.#view.progress(LOADING * progress.fraction, this.#view.labels.loading(progress));
    this.#send('load-progress', progress);
  }

  #onEvent(event: GenerationEvent, from: number): void {
    const { labels } = this.#view;
    const at = (fraction: number) => from + (1 - from) * fraction;
    if (event.type === 'start' || event.type === 'prompt' || event.type === 'note') {
      this.#send(event.type, event as never);
    } else if (event.type === 'decode' || event.type === 'refine') {
      this.#view.progress(at(event.fraction), labels.decoding(this.#leftMs / 1e3));
    } else if (event.type === 'step') {
      const { step, steps, fraction, etaMs, preview } = event;
      this.#leftMs = etaMs;
      this.#view.progress(at(fraction), labels.drawing(step, steps, etaMs / 1e3));
      this.#send('step', { step, steps, fraction, etaMs });
      if (!preview) return;
      this.#view.covered = false;
      this.#player.picture(preview);
      this.#send('preview', { step, steps, preview });
      preview.close();
    }
  }

  #clear(): void {
    this.#video = undefined;
    this.#setValue(null);
    this.#player.clear();
    this.#setState('empty');
  }

  #show(video: Video): void {
    this.#video = video;
    this.#text = video.metadata.originalPrompt ?? video.metadata.prompt;
    this.#setValue(null);
    this.#view.covered = false;
    this.#player.show(video);
    this.#setState('ready');
    if (!this.#stillness.matches) this.#player.play();
    void this.#encode(video);
  }

  /** Only in a form: encoding costs time and memory. */
  async #encode(video: Video): Promise<void> {
    if (!this.form) return;
    try {
      const blob = await video.toBlob();
      // Another one may be on show by now.
      if (this.#video !== video) return;
      const name = `kinora-${video.metadata.seed}.${blob.type.split('/')[1]}`;
      this.#setValue(new File([blob], name, { type: blob.type }));
      this.dispatchEvent(new Event('change'));
    } catch (thrown) {
      this.#send('error', kinoraError(thrown));
    }
  }

  #setValue(file: File | null): void {
    this.#value = file;
    this.#internals.setFormValue(file);
  }

  #toggle(): void {
    if (this.#player.playing) this.pause();
    else this.play();
  }

  readonly #onStillness = (): void => {
    if (this.#stillness.matches) this.pause();
    this.#render();
  };

  #setState(state: KinoraVideoState): void {
    try {
      this.#internals.states.delete(this.#state);
      this.#internals.states.add(state);
    } catch {
      // Older browsers have no custom states, or want them to begin with two dashes. They are for style only.
    }
    this.#state = state;
    if (state === 'empty') this.#view.covered = true;
    this.#render();
  }

  #render(): void {
    const shown = this.#state === 'generating' || this.#state === 'ready';
    const label = this.getAttribute('alt') ?? ((shown && this.#text) || this.getAttribute('prompt') || '');
    this.#view.render({ state: this.#state, controls: this.hasAttribute('controls'), still: this.#stillness.matches, label });
    this.#showPlayback();
  }

  #showPlayback(): void {
    this.#view.playback(this.#player.playing, this.#player.index, this.#video?.frameCount ?? 0);
  }

  #send<K extends Exclude<keyof KinoraVideoEventMap, 'change'>>(type: K, detail: KinoraVideoEventMap[K]['detail']): void {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The attributes as properties, and the listeners of {@link KinoraVideoEventMap} beside those of every element. */
export interface KinoraVideo extends KinoraVideoAttributes {
  /** As of every element, with the types of this one's events. */
  addEventListener<K extends keyof KinoraVideoEvents>(
    type: K,
    listener: (this: KinoraVideo, event: KinoraVideoEvents[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** As of every element. */
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
  /** As of every element, with the types of this one's events. */
  removeEventListener<K extends keyof KinoraVideoEvents>(
    type: K,
    listener: (this: KinoraVideo, event: KinoraVideoEvents[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  /** As of every element. */
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | EventListenerOptions): void;
}

declare global {
  interface HTMLElementTagNameMap {
    'kinora-video': KinoraVideo;
  }
}

const cancelled = () => new DOMException('the generation was cancelled', 'AbortError');

reflectAttributes(KinoraVideo.prototype);
if (globalThis.customElements && !customElements.get('kinora-video')) customElements.define('kinora-video', KinoraVideo);
