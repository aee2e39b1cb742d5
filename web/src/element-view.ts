/** The shadow tree and the style of `<kinora-video>`. It needs no inline style or script, so that strict policies allow it. */

/** The nodes that change. */
export interface View {
  readonly stage: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  readonly poster: HTMLImageElement;
  readonly error: HTMLElement;
  readonly errorText: HTMLElement;
  readonly errorHelp: HTMLElement;
  readonly player: HTMLElement;
  readonly play: HTMLButtonElement;
  readonly seek: HTMLInputElement;
  readonly generate: HTMLButtonElement;
  readonly work: HTMLElement;
  readonly progress: HTMLProgressElement;
  readonly status: HTMLElement;
  readonly cancel: HTMLButtonElement;
  readonly live: HTMLElement;
}

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
progress::-webkit-progress-bar { background: var(--_line) }
progress::-webkit-progress-value { background: var(--_accent); transition: inline-size .3s }
progress::-moz-progress-bar { background: var(--_accent) }
.status { flex: 1; font-variant-numeric: tabular-nums }
.live { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
@media (prefers-reduced-motion: reduce) { progress::-webkit-progress-value { transition: none } }
`;

let sheet: CSSStyleSheet | undefined;

/** Builds the tree in `root`. */
export function buildView(root: ShadowRoot): View {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
  }
  root.adoptedStyleSheets = [sheet];
  const canvas = make('canvas', 'canvas', { role: 'img' });
  const poster = make('img', 'poster', { alt: '', hidden: '' });
  const stage = make('div', 'stage', {}, canvas, make('slot', '', { name: 'poster' }, poster));

  const errorText = make('p', 'error-text', {});
  const errorHelp = make('ul', 'error-help', {});
  const error = make('div', 'error', { role: 'alert', hidden: '' }, make('slot', '', { name: 'error' }, errorText, errorHelp));

  const play = make('button', 'play', { type: 'button' });
  const seek = make('input', 'seek', { type: 'range', min: '0', step: '1', value: '0' });
  const generate = make('button', 'generate', { type: 'button' });
  const player = make('div', 'player', {}, play, seek, generate);

  const progress = make('progress', 'progress', { max: '1' });
  const status = make('span', 'status', {});
  const cancel = make('button', 'cancel', { type: 'button' });
  const work = make('div', 'work', { hidden: '' }, progress, status, cancel);

  const live = make('div', 'live', { 'aria-live': 'polite' });
  root.append(stage, error, make('slot', '', { name: 'controls' }, player, work), live);
  return { stage, canvas, poster, error, errorText, errorHelp, player, play, seek, generate, work, progress, status, cancel, live };
}

/** An element whose class and part are `name`. */
export function make<K extends keyof HTMLElementTagNameMap>(
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
