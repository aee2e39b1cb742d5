/** The shadow tree and the style of `<kinora-video>`. It needs no inline style or script, so that strict policies allow it. */

import type { KinoraVideoState } from './element-events.js';
import type { KinoraVideoLabels } from './element-labels.js';

/** Between two announcements to screen readers, in ms. */
const QUIET = 5000;

const STYLE = `
:host { display: block; --_accent: var(--kinora-accent, #c2410c); --_line: color-mix(in srgb, currentColor 22%, transparent) }
:host([hidden]), [hidden] { display: none !important }
.stage { display: grid; overflow: hidden; border-radius: var(--kinora-radius, 12px);
  background: var(--kinora-background, color-mix(in srgb, currentColor 7%, transparent)) }
canvas, .poster { grid-area: 1 / 1; display: block; width: 100%; height: auto; image-rendering: var(--kinora-image-rendering, auto) }
.poster { height: 100%; object-fit: cover }
slot[name=poster] { grid-area: 1 / 1; display: block }
slot[name=poster]::slotted(*) { display: block; width: 100%; height: 100%; object-fit: cover }
.error { margin-top: var(--kinora-gap, 12px); padding-inline-start: 12px; border-inline-start: 3px solid var(--_accent) }
.error p, .error ul { margin: 0 0 4px; padding: 0; list-style: none }
.error a { color: inherit }
.player, .work { display: flex; align-items: center; gap: 12px; min-height: 44px; margin-top: var(--kinora-gap, 12px) }
.work { flex-wrap: wrap }
button { font: inherit; color: inherit; min-height: 44px; padding: 0 16px; border: 1px solid var(--_line); border-radius: 999px;
  background: none; cursor: pointer }
button:hover { border-color: currentColor }
.play { display: grid; place-items: center; width: 44px; padding: 0; flex: none }
.play::before { content: ''; width: 14px; height: 14px; margin-inline-start: 2px; background: currentColor; forced-color-adjust: none;
  clip-path: polygon(5% 0, 100% 50%, 5% 100%) }
.play.playing::before { margin: 0; clip-path: polygon(0 0, 35% 0, 35% 100%, 65% 100%, 65% 0, 100% 0, 100% 100%, 0 100%) }
:is(button, input, a):focus-visible { outline: 3px solid var(--kinora-focus, var(--_accent)); outline-offset: 3px }
input, progress { accent-color: var(--_accent) }
input { flex: 1; min-width: 60px; height: 24px; margin: 0; cursor: pointer }
progress { appearance: none; flex: 1 1 100%; width: 100%; height: 6px; border: 0; border-radius: 3px; overflow: hidden; background: var(--_line) }
progress::-webkit-progress-bar { background: none }
progress::-webkit-progress-value { background: var(--_accent); transition: inline-size .4s; animation: kinora-pulse 1.8s infinite }
progress::-moz-progress-bar { background: var(--_accent) }
@keyframes kinora-pulse { 50% { opacity: .6 } }
.status { flex: 1; font-variant-numeric: tabular-nums }
.live { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
@media (prefers-reduced-motion: reduce) { progress::-webkit-progress-value { transition: none; animation: none } }
`;

let sheet: CSSStyleSheet | undefined;

/** What decides which controls there are. */
export interface Situation {
  state: KinoraVideoState;
  /** Whether the author wants controls. */
  controls: boolean;
  /** Whether the visitor wants as little motion as possible. */
  still: boolean;
  label: string;
}

/** The nodes that change, and how they look in each situation. */
export class View {
  readonly canvas = make('canvas', 'canvas', { role: 'img' });
  readonly poster = make('img', 'poster', { alt: '', hidden: '' });
  readonly play = make('button', 'play', { type: 'button' });
  readonly seek = make('input', 'seek', { type: 'range', min: '0', step: '1', value: '0' });
  readonly generate = make('button', 'generate', { type: 'button' });
  readonly cancel = make('button', 'cancel', { type: 'button' });
  readonly #posterSlot = make('slot', '', { name: 'poster' }, this.poster);
  readonly #errorText = make('p', 'error-text', {});
  readonly #errorHelp = make('ul', 'error-help', {});
  readonly #error = make('div', 'error', { role: 'alert', hidden: '' }, make('slot', '', { name: 'error' }, this.#errorText, this.#errorHelp));
  readonly #player = make('div', 'player', {}, this.play, this.seek, this.generate);
  readonly #progress = make('progress', 'progress', { max: '1' });
  readonly #status = make('span', 'status', {});
  readonly #work = make('div', 'work', { hidden: '' }, this.#progress, this.#status, this.cancel);
  readonly #live = make('div', 'live', { 'aria-live': 'polite' });
  readonly #root: ShadowRoot;
  #announced = -Infinity;

  constructor(
    root: ShadowRoot,
    readonly labels: KinoraVideoLabels,
  ) {
    this.#root = root;
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    root.adoptedStyleSheets = [sheet];
    this.cancel.textContent = labels.cancel;
    this.seek.setAttribute('aria-label', labels.seek);
    const controls = make('slot', '', { name: 'controls' }, this.#player, this.#work);
    root.append(make('div', 'stage', {}, this.canvas, this.#posterSlot), this.#error, controls, this.#live);
  }

  /** Shows what the situation needs and keeps the focus in the element when the button under it goes away. */
  render({ state, controls, still, label }: Situation): void {
    const working = state === 'loading' || state === 'generating';
    const clip = state === 'ready';
    const focused = this.#root.activeElement;
    this.canvas.setAttribute('aria-label', label);
    this.#error.hidden = state !== 'error';
    this.#work.hidden = !working;
    // Whoever may not see motion needs the button to start it.
    this.#player.hidden = working || !(controls || (clip && still));
    this.play.hidden = this.seek.hidden = !clip;
    this.generate.hidden = !controls;
    this.generate.textContent = clip ? this.labels.again : this.labels.generate;
    if (working && (focused === this.generate || focused === this.play)) this.cancel.focus();
    if (!working && focused === this.cancel) (clip ? this.play : this.generate).focus();
  }

  /** In pixels. */
  shape(width: number, height: number): void {
    const { canvas } = this;
    // Setting one clears the canvas, even to what it was.
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  /** Covers the canvas, or lets it be seen. */
  set covered(covered: boolean) {
    this.#posterSlot.hidden = !covered;
  }

  /** What the player is doing. */
  playback(playing: boolean, index: number, count: number): void {
    this.play.classList.toggle('playing', playing);
    this.play.setAttribute('aria-label', playing ? this.labels.pause : this.labels.play);
    this.seek.max = String(Math.max(0, count - 1));
    this.seek.valueAsNumber = index;
    this.seek.setAttribute('aria-valuetext', this.labels.frame(index, count));
  }

  /** How far the work is. */
  progress(fraction: number, status: string): void {
    this.#progress.value = fraction;
    this.#progress.setAttribute('aria-label', status);
    this.#status.textContent = status;
    this.announce(`${status}, ${this.labels.percent(fraction)}`);
  }

  /** What went wrong, and where to read on. */
  failure(text: string, help: { text: string; url: string }[]): void {
    this.#errorText.textContent = text;
    this.#errorHelp.replaceChildren(
      ...help.map(({ text, url }) => {
        const link = make('a', '', { href: url });
        link.textContent = text;
        return make('li', '', {}, link);
      }),
    );
  }

  /** Says something now and then only: a screen reader that never stops is no help. */
  announce(text: string, important = false): void {
    const now = performance.now();
    if (!important && now - this.#announced < QUIET) return;
    this.#announced = now;
    this.#live.textContent = text;
  }
}

/** An element whose class and part are `name`. */
function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  name: string,
  attributes: Record<string, string>,
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (name) {
    element.className = name;
    element.setAttribute('part', name);
  }
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
