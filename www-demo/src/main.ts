/** The demo page: a form, a `<kinora-video>`, and what can be done with the clip. */

import { KinoraError, type PromptParts, type Video, type VideoType } from 'kinora';
import { KinoraVideo } from 'kinora/element';
import { forgetStored, offlineStarted, startOffline } from 'kinora/offline';
import { byId, make } from './dom.js';
import { addToGallery } from './gallery.js';
import { givenParts, watchFiles } from './given.js';
import { DEFAULT_FRAMES, lengthOf, piecesOf, showLengths } from './lengths.js';
import { showMachine } from './machine.js';
import { DEFAULTS, fillForm, hashOf, readForm, recipeOf, type Recipe } from './recipe.js';
import { closeRegion, openRegion, regionMask } from './region.js';
import { play, showClips, shows, type Show } from './shows.js';
import { showSnippets } from './snippets.js';
import { anySentence, article, any, colors, sentence, subjectOf, subjects } from './vocabulary.js';

const TITLE = document.title;
const NUM_EXAMPLES = 3;
/** Frames of the built-in model come in such groups, after a first one. */
const FRAME_STEP = 4;

const clip = byId('clip', KinoraVideo);
const form = byId('form', HTMLFormElement);
const prompt = byId('prompt', HTMLTextAreaElement);
const button = byId('generate', HTMLButtonElement);
const wording = form.elements.namedItem('expand') as RadioNodeList;
const notice = byId('notice', HTMLElement);
const actions = byId('actions', HTMLElement);

let begun = 0;
/** Clips whose prompt the browser's language model wrote. */
const worded = new WeakSet<Video>();
let wordedNext = false;

/** Makes a clip of what the form says and of `given`. Clips that are continued or changed bring their own size and length. */
async function generate(given: PromptParts, own: Partial<Recipe> = given.video ? { frames: '' } : {}): Promise<void> {
  const recipe = { ...readForm(form), ...own };
  const [width = '', height = ''] = recipe.shape.split('x');
  const [first = '', ...then] = scenesOf(recipe.prompt);
  const pieces = own.frames === undefined ? piecesOf(recipe.frames, 1 + then.length) : { frames: own.frames, window: '' };
  const detail = recipe.detail === '2' ? '2' : '';
  for (const [name, value] of Object.entries({ ...recipe, ...pieces, prompt: first, width, height, upscale: detail, interpolate: detail })) {
    if (value && name !== 'shape' && name !== 'detail') clip.setAttribute(name, value);
    else clip.removeAttribute(name);
  }
  clip.given = then.length > 0 ? { ...given, then } : given;
  clip.expand = wording.value === 'browser' ? 'browser' : wording.value === 'words' ? undefined : false;
  showDrawn();
  clip.removeAttribute('alt');
  notice.textContent = '';
  closeRegion();
  caption(captionOf([first, ...then]));
  // Whatever is on show was made from something else.
  clip.toggleAttribute('data-waiting', true);
  showWork('starting');
  clip.scrollIntoView({ block: 'nearest' });
  begun = performance.now();
  await offlineStarted();
  await clip.generate();
}

/** A prompt has a line for each scene. */
function scenesOf(prompt: string): string[] {
  return prompt.split('\n').map((line) => line.trim()).filter(Boolean);
}

/** For example “an owl blinking, then an owl turning its head”. */
function captionOf(scenes: string[]): string {
  return scenes.join(', then ');
}

/** Works on with the clip on show. */
function workOn(parts: (video: Video) => PromptParts, frames = ''): void {
  const { video } = clip;
  // A clip of several scenes is in the last one now.
  const prompt = scenesOf(readForm(form).prompt).at(-1) ?? '';
  // The element shows what went wrong.
  if (video) generate({ video, ...parts(video) }, { prompt, frames, shape: shapeOf(video) }).catch(() => undefined);
}

function caption(prompt: string, details = ''): void {
  byId('caption', HTMLElement).textContent = prompt;
  byId('details', HTMLElement).textContent = details;
}

/** The button stops what runs and says how far it is; without `doing` it begins. */
function showWork(doing?: string, fraction = 0): void {
  button.textContent = doing === undefined ? 'Generate' : `Stop (${doing})`;
  button.classList.toggle('working', doing !== undefined);
  button.style.setProperty('--done', `${Math.round(fraction * 100)}%`);
  if (doing === undefined) clip.removeAttribute('data-waiting');
  // What it costs was said before.
  else byId('cost', HTMLElement).textContent = '';
}

function presentSample(show: Show = shows[0]): void {
  play(byId('sample', HTMLVideoElement), show);
  clip.setAttribute('alt', `Sample: ${show.prompt}`);
  caption(show.prompt, 'A sample, made by this model');
}

/** What a prompt was taken for, where it can be edited. */
function showDrawn(used = ''): void {
  byId('drawn', HTMLElement).hidden = used === '';
  byId('drawn-as', HTMLInputElement).value = used;
}

/** As it was written, so that a link says what was asked for; except by the browser's language model, which may not say it again. */
function recipeOfVideo(video: Video): Recipe {
  const { prompt, originalPrompt = prompt, seed, steps, given, upscale = 1 } = video.metadata;
  const then = (given?.then as string[] | undefined) ?? [];
  const scenes = [worded.has(video) ? prompt : originalPrompt, ...then];
  return { prompt: scenes.join('\n'), seed: String(seed), shape: shapeOf(video), frames: lengthOf({ ...video.metadata, frames: generatedFrames(video) }), steps: String(steps), detail: String(upscale) };
}

/** The shape of what was generated, before it was enlarged. */
function shapeOf({ width, height, metadata }: Video): string {
  const factor = metadata.upscale ?? 1;
  return `${width / factor}x${height / factor}`;
}

/** How many frames were generated, before others came between. */
function generatedFrames({ metadata }: Video): number {
  return 1 + (metadata.frames - 1) / (metadata.interpolate ?? 1);
}

/** As many frames of a clip as the model can make. */
function framesOf(video?: Video): number {
  const frames = ((video?.frameCount ?? 1) - 1) / (video?.metadata.interpolate ?? 1);
  return 1 + FRAME_STEP * Math.floor(frames / FRAME_STEP);
}

/** Everything around the clip says what it was made from. */
function present(video: Video, ms?: number): void {
  const recipe = recipeOfVideo(video);
  const { seed, given = {}, used, window } = video.metadata;
  const { then, ...files } = given;
  const prompt = scenesOf(recipe.prompt)[0] ?? '';
  const brought = Object.keys(files).length > 0;
  const origin = brought ? ['from a picture or clip, which a link cannot carry'] : [];
  caption(captionOf(scenesOf(recipe.prompt)), [`Seed ${seed}`, ...(ms === undefined ? [] : [`made in ${(ms / 1e3).toFixed(1)} s`]), ...origin].join(', '));
  byId('share', HTMLButtonElement).hidden = brought;
  clip.setAttribute('prompt', prompt);
  showDrawn(used);
  history.replaceState(null, '', `#${hashOf(recipe)}`);
  const generated = generatedFrames(video);
  const frames = generated === Number(DEFAULT_FRAMES) ? '' : String(generated);
  showSnippets({ ...recipe, prompt, frames }, given, window === undefined ? '' : String(window));
  actions.hidden = false;
  const [red, green, blue] = video.rgba(0);
  clip.parentElement?.style.setProperty('--glow', `rgb(${red} ${green} ${blue})`);
}

clip.addEventListener('load-progress', ({ detail: { fraction } }) => {
  document.title = `${Math.round(fraction * 100)} % loaded – Kinora`;
  showWork(`loading, ${Math.round(fraction * 100)} %`, fraction);
});
clip.addEventListener('step', ({ detail: { fraction, etaMs } }) => {
  document.title = `${Math.round(fraction * 100)} % – Kinora`;
  showWork(`about ${Math.max(1, Math.round(etaMs / 1e3))} s left`, fraction);
});
clip.addEventListener('preview', () => clip.removeAttribute('data-waiting'));
clip.addEventListener('cancel', () => {
  document.title = TITLE;
  showWork();
  void showMachine();
  if (clip.video) return present(clip.video);
  presentSample();
  // The button that has the focus goes away, and without a clip there is none to take its place.
  if (clip.matches(':focus-within')) button.focus();
});
clip.addEventListener('start', ({ detail: { prompt: expanded, originalPrompt } }) => {
  if (originalPrompt === undefined || wording.value !== 'browser') return;
  const scenes = [expanded, ...(clip.given.then ?? [])];
  caption(captionOf(scenes));
  // Where it can be edited, and is not worded anew again.
  prompt.value = scenes.join('\n');
  wording.value = 'words';
  wordedNext = true;
  notice.textContent = `“${originalPrompt}” became “${expanded}”. Edit it and generate again.`;
});
clip.addEventListener('prompt', ({ detail: { used, unknown } }) => {
  showDrawn(used);
  notice.textContent += unknown.map(({ word, nearest }) => ` The model does not know “${word}”; the nearest is ${nearest}.`).join('');
});
byId('draw', HTMLButtonElement).addEventListener('click', () => {
  prompt.value = byId('drawn-as', HTMLInputElement).value.split('; then ').join('\n');
  wording.value = 'words';
  form.requestSubmit();
});
byId('drawn-as', HTMLInputElement).addEventListener('keydown', (event) => {
  if (event.key === 'Enter') byId('draw', HTMLButtonElement).click();
});
clip.addEventListener('note', ({ detail }) => (notice.textContent = detail.text));
clip.addEventListener('error', () => {
  document.title = `Failed – Kinora`;
  showWork();
  void showMachine();
});
clip.addEventListener('done', ({ detail: video }) => {
  showWork();
  document.title = `Ready – Kinora`;
  if (wordedNext) worded.add(video);
  wordedNext = false;
  present(video, performance.now() - begun);
  addToGallery(video, () => {
    clip.video = video;
    closeRegion();
    fillForm(form, recipeOfVideo(video));
    hint();
    present(video);
    clip.scrollIntoView({ block: 'nearest' });
  });
  void showMachine();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') clip.cancel();
});
window.addEventListener('focus', () => {
  if (clip.state === 'ready' || clip.state === 'error') document.title = TITLE;
});

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (event.submitter === button && (clip.state === 'loading' || clip.state === 'generating')) return clip.cancel();
  // The element shows what went wrong.
  generate(givenParts()).catch(() => undefined);
});
prompt.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

function hint(): void {
  const known = prompt.value.trim() === '' || subjectOf(prompt.value);
  byId('hint', HTMLElement).textContent = known ? '' : 'None of these words is on its list. It will draw the closest thing that it knows, and say which.';
}
prompt.addEventListener('input', hint);

function write(text: string): void {
  prompt.value = text;
  byId('seed', HTMLInputElement).value = '';
  hint();
  prompt.focus();
}

function showExamples(): void {
  const chosen = new Map<string, ReturnType<typeof anySentence>>();
  while (chosen.size < NUM_EXAMPLES) {
    const example = anySentence();
    chosen.set(example.subject.name, example);
  }
  const examples = [...chosen.values()].map(({ subject, motion, color }) => {
    const chip = make('button', `${article(subject.name)} ${motion}`, { type: 'button', class: 'chip', 'data-color': color });
    chip.addEventListener('click', () => write(sentence(subject, motion, color)));
    return chip;
  });
  const more = make('button', 'Other ideas', { type: 'button', class: 'chip plain' });
  more.addEventListener('click', () => {
    showExamples();
    byId('examples', HTMLElement).querySelector<HTMLButtonElement>('.plain')?.focus();
  });
  byId('examples', HTMLElement).replaceChildren(...examples, more);
}

byId('count', HTMLElement).textContent = `${subjects.length} things`;
const words = subjects.map((subject) => {
  const chip = make('button', subject.name, { type: 'button', class: 'chip' });
  chip.addEventListener('click', () => write(sentence(subject, any(subject.motions), any(colors))));
  return { chip, names: [subject.name, ...subject.synonyms].join(' ').toLowerCase() };
});
byId('vocabulary', HTMLElement).append(...words.map(({ chip }) => chip));
byId('filter', HTMLInputElement).addEventListener('input', ({ target }) => {
  const wanted = (target as HTMLInputElement).value.trim().toLowerCase();
  for (const { chip, names } of words) chip.hidden = !names.includes(wanted);
});
byId('count', HTMLElement).addEventListener('click', () => (byId('words', HTMLDetailsElement).open = true));

/** Runs a button's work once at a time and says if it failed. */
function onClick(clicked: HTMLButtonElement, work: () => Promise<string>): void {
  clicked.addEventListener('click', async () => {
    if (clicked.getAttribute('aria-busy') === 'true') return;
    clicked.setAttribute('aria-busy', 'true');
    try {
      notice.textContent = await work();
    } catch (error) {
      notice.textContent = error instanceof KinoraError ? [error.message, error.hint].filter(Boolean).join('; ') : String(error);
    }
    clicked.removeAttribute('aria-busy');
  });
}

byId('extend', HTMLButtonElement).addEventListener('click', () => workOn(() => ({ extend: 'forward' })));
byId('loop', HTMLButtonElement).addEventListener('click', () => workOn(() => ({ loop: true })));
byId('region-open', HTMLButtonElement).addEventListener('click', () => {
  if (!clip.video) return;
  clip.pause();
  openRegion(clip.video.width, clip.video.height);
});
byId('repaint', HTMLButtonElement).addEventListener('click', () => {
  const mask = regionMask();
  if (!mask) notice.textContent = 'Paint over a part of the clip first.';
  else workOn(() => ({ mask }), String(framesOf(clip.video)));
});
watchFiles((text) => (notice.textContent = text));

for (const button of document.querySelectorAll<HTMLButtonElement>('[data-save]')) {
  onClick(button, async () => {
    const { video } = clip;
    if (!video) return 'There is no clip yet.';
    const file = await video.toBlob({ type: button.dataset.save as VideoType });
    const name = `kinora-${video.metadata.seed}.${file.type.split('/')[1]}`;
    const href = URL.createObjectURL(file);
    make('a', '', { href, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
    return `Saved ${name}, ${Math.ceil(file.size / 1e3)} kB.`;
  });
}
onClick(byId('share', HTMLButtonElement), async () => {
  await navigator.clipboard.writeText(location.href);
  return 'The link is on the clipboard. Whoever opens it can make the same clip.';
});
for (const button of document.querySelectorAll<HTMLButtonElement>('[data-copy]')) {
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(byId(button.dataset.copy ?? '', HTMLElement).textContent ?? '');
    button.textContent = 'Copied';
    setTimeout(() => (button.textContent = 'Copy'), 2000);
  });
}
byId('forget', HTMLButtonElement).addEventListener('click', async () => {
  await forgetStored();
  await showMachine();
});

function readAddress(): void {
  const recipe = recipeOf(location.hash);
  if (recipe) fillForm(form, recipe);
  // Whoever gets the same clip every time should see why.
  if (recipe?.seed) byId('options', HTMLDetailsElement).open = true;
  hint();
}
window.addEventListener('hashchange', readAddress);

void startOffline();
showLengths();
presentSample();
showClips((show) => {
  clip.video = undefined;
  fillForm(form, { ...DEFAULTS, prompt: show.prompt, seed: show.seed });
  hint();
  presentSample(show);
  actions.hidden = true;
  clip.scrollIntoView({ block: 'nearest' });
  button.focus();
});
readAddress();
showExamples();
showSnippets({ ...readForm(form), seed: readForm(form).seed || '7' });
const support = await showMachine();
byId('expand-browser', HTMLElement).hidden = support.languageModel === 'unavailable';
if (!support.ok) {
  button.disabled = true;
  byId('cost', HTMLElement).replaceChildren(`${support.message} `, make('a', 'What to do', { href: '#machine' }));
}
