/** The demo page: a form, a `<kinora-video>`, and what can be done with the clip. */

import type { GenerateOptions, PromptParts, Video } from 'kinora';
import { KinoraVideo } from 'kinora/element';
import { forgetStored, offlineStarted, startOffline } from 'kinora/offline';
import { byId, make } from './dom.js';
import { showExamples } from './examples.js';
import { showFailure, watchFailure } from './failure.js';
import { addToGallery } from './gallery.js';
import { givenParts, watchFiles } from './given.js';
import { DEFAULT_FRAMES, lengthOf, piecesOf, showLengths } from './lengths.js';
import { isFast, machineRow, showMachine, timeStep } from './machine.js';
import { captionOf, DEFAULTS, fillForm, hashOf, readForm, recipeOf, scenesOf, type Recipe } from './recipe.js';
import { closeRegion, openRegion, regionMask } from './region.js';
import { onClick, watchResult } from './result.js';
import { announceServer, generateOnServer, hasServer } from './server.js';
import { showClips } from './shows.js';
import { showSnippets, type Clip } from './snippets.js';
import { caption, left, presentSample, say, showDrawn, showWork } from './stage.js';
import { closeVariations, showVariations } from './variations.js';
import { any, colors, sentence, showVocabulary } from './vocabulary.js';
import { lookAtWords } from './words.js';

const TITLE = document.title;
/** Frames of the built-in model come in such groups, after a first one. */
const FRAME_STEP = 4;

const clip = byId('clip', KinoraVideo);
const form = byId('form', HTMLFormElement);
const prompt = byId('prompt', HTMLTextAreaElement);
const button = byId('generate', HTMLButtonElement);
const wording = form.elements.namedItem('expand') as RadioNodeList;
const actions = byId('actions', HTMLElement);

/** What this machine makes unless asked for something else. */
let own = DEFAULTS;
let begun = 0;
/** As the prompt was when the clip was begun. */
let begunFrom = '';
/** Ends variations that are being made, or the work of a server. */
let varying: AbortController | undefined;
/** The server makes the clips: there is no WebGPU. */
let onServer = false;
/** The clip on show, to be made again elsewhere. */
let onShow: Clip | undefined;
const isBusy = () => varying !== undefined || clip.state === 'loading' || clip.state === 'generating';
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
  clip.expand = expansion();
  clip.toggleAttribute('data-crisp', detail === '');
  closeVariations();
  showDrawn();
  clip.removeAttribute('alt');
  say('');
  closeRegion();
  caption(captionOf([first, ...then]));
  // Whatever is on show was made from something else.
  clip.toggleAttribute('data-waiting', true);
  showWork('starting');
  clip.scrollIntoView({ block: 'nearest' });
  begun = performance.now();
  begunFrom = prompt.value;
  await offlineStarted();
  await clip.generate();
}

const expansion = (): 'browser' | false | undefined => (wording.value === 'browser' ? 'browser' : wording.value === 'words' ? undefined : false);

/** Four clips of the sentence by four seeds; the model is here, because a clip is. */
async function vary(): Promise<void> {
  const { loaded } = clip;
  if (!loaded || isBusy()) return;
  if (!onShow) return;
  const { recipe: { prompt: text, shape, frames, steps, detail }, given = {}, window } = onShow;
  const then = (given.then as string[] | undefined) ?? [];
  const [width, height] = shape.split('x').map(Number);
  const factor = detail === '2' ? ({ upscale: 2, interpolate: 2 } as const) : {};
  const expand = expansion();
  const options: GenerateOptions = { ...(width && height && { width, height }), ...(frames && { frames: Number(frames) }), ...(window && { window: Number(window) }), steps: Number(steps), ...factor };
  varying = new AbortController();
  say('');
  showWork('starting');
  clip.pause();
  try {
    const job = { ...options, prompt: { text, ...(then.length > 0 && { then }) }, signal: varying.signal, ...(expand !== undefined && { expand }) };
    const videos = await showVariations(loaded, job, take, (fraction, etaMs) => showWork(left(etaMs), fraction));
    for (const video of videos) addToGallery(video, () => take(video));
    say('Four variations. Tap one to take it.');
  } catch (error) {
    if (!varying.signal.aborted) say(error instanceof Error ? error.message : String(error));
  }
  varying = undefined;
  // Unless another clip was begun meanwhile.
  if (!isBusy()) showWork();
  clip.play();
  void showMachine();
}

/** Has the server make a clip of what the form says. */
async function makeOnServer(): Promise<void> {
  varying = new AbortController();
  await generateOnServer(readForm(form), givenParts(), varying.signal);
  varying = undefined;
  showWork();
}

/** Shows a clip that was made before, and how to make it again. */
function take(video: Video): void {
  clip.video = video;
  closeRegion();
  fillForm(form, recipeOfVideo(video));
  lookAtPrompt();
  present(video);
  clip.scrollIntoView({ block: 'nearest' });
}

/** Works on with the clip on show. */
function workOn(parts: (video: Video) => PromptParts, frames = ''): void {
  const { video } = clip;
  // A clip of several scenes is in the last one now.
  const prompt = scenesOf(readForm(form).prompt).at(-1) ?? '';
  // The element shows what went wrong.
  if (video) generate({ video, ...parts(video) }, { prompt, frames, shape: shapeOf(video) }).catch(() => undefined);
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
  for (const id of ['share', 'embed', 'vary']) byId(id, HTMLButtonElement).hidden = brought;
  clip.setAttribute('prompt', prompt);
  showDrawn(used);
  history.replaceState(null, '', `#${hashOf(recipe)}`);
  const generated = generatedFrames(video);
  const frames = generated === Number(DEFAULT_FRAMES) ? '' : String(generated);
  onShow = { recipe: { ...recipe, prompt, frames }, given, window: window === undefined ? '' : String(window) };
  showSnippets(onShow);
  clip.toggleAttribute('data-crisp', (video.metadata.upscale ?? 1) === 1);
  actions.hidden = false;
  const [red, green, blue] = video.rgba(0);
  clip.parentElement?.style.setProperty('--glow', `rgb(${red} ${green} ${blue})`);
}

/** What is on the stage when nothing came of a prompt is no picture of it. */
function presentLast(): void {
  if (clip.video) present(clip.video);
  else presentSample();
}

clip.addEventListener('load-progress', ({ detail: { fraction } }) => {
  document.title = `${Math.round(fraction * 100)} % loaded – Kinora`;
  showWork(`loading ${Math.round(fraction * 100)} %`, fraction);
});
clip.addEventListener('step', ({ detail: { step, fraction, etaMs } }) => {
  document.title = `${Math.round(fraction * 100)} % – Kinora`;
  showWork(left(etaMs), fraction);
  timeStep(step);
});
clip.addEventListener('preview', () => clip.removeAttribute('data-waiting'));
clip.addEventListener('cancel', () => {
  document.title = TITLE;
  showWork();
  void showMachine();
  presentLast();
  // The button that has the focus goes away, and without a clip there is none to take its place.
  if (!clip.video && clip.matches(':focus-within')) button.focus();
});
clip.addEventListener('start', ({ detail: { prompt: expanded, originalPrompt } }) => {
  if (originalPrompt === undefined || wording.value !== 'browser') return;
  const scenes = [expanded, ...(clip.given.then ?? [])];
  caption(captionOf(scenes));
  // Where it can be edited, and is not worded anew again.
  prompt.value = scenes.join('\n');
  wording.value = 'words';
  wordedNext = true;
  say(`“${originalPrompt}” became “${expanded}”. Edit it and generate again.`);
});
clip.addEventListener('prompt', ({ detail: { used, unknown } }) => {
  showDrawn(used);
  say(unknown.map(({ word, nearest }) => ` The model does not know “${word}”; the nearest is ${nearest}.`).join(''), true);
});
byId('draw', HTMLButtonElement).addEventListener('click', () => {
  prompt.value = byId('drawn-as', HTMLInputElement).value.split('; then ').join('\n');
  wording.value = 'words';
  form.requestSubmit();
});
byId('drawn-as', HTMLInputElement).addEventListener('keydown', (event) => {
  if (event.key === 'Enter') byId('draw', HTMLButtonElement).click();
});
clip.addEventListener('note', ({ detail }) => say(detail.text));
watchFailure(() => form.requestSubmit());
clip.addEventListener('error', ({ detail }) => {
  showFailure(detail);
  document.title = `Failed – Kinora`;
  showWork();
  presentLast();
  void showMachine();
});
clip.addEventListener('done', ({ detail: video }) => {
  showWork();
  document.title = `Ready – Kinora`;
  if (wordedNext) worded.add(video);
  wordedNext = false;
  present(video, performance.now() - begun);
  addToGallery(video, () => take(video));
  // Whoever waited is led to the clip; whoever writes the next sentence is not disturbed.
  if (prompt.value === begunFrom) byId('caption', HTMLElement).focus({ preventScroll: true });
  clip.scrollIntoView({ block: 'nearest' });
  lookAtPrompt();
  void showMachine(clip.loaded?.info);
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') stop();
});
window.addEventListener('focus', () => {
  if (clip.state === 'ready' || clip.state === 'error') document.title = TITLE;
});

function stop(): void {
  varying?.abort();
  clip.cancel();
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (event.submitter === button && isBusy()) return stop();
  varying?.abort();
  if (onServer) return void makeOnServer();
  // The element shows what went wrong.
  generate(givenParts()).catch(() => undefined);
});
prompt.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

const lookAtPrompt = () => lookAtWords(() => clip.loaded, () => !isBusy());
prompt.addEventListener('input', lookAtPrompt);

function write(text: string): void {
  prompt.value = text;
  byId('seed', HTMLInputElement).value = '';
  lookAtPrompt();
  prompt.focus();
}

showVocabulary((subject) => {
  write(sentence(subject, any(subject.motions), any(colors)));
  form.scrollIntoView({ block: 'nearest' });
});

byId('extend', HTMLButtonElement).addEventListener('click', () => workOn(() => ({ extend: 'forward' })));
byId('loop', HTMLButtonElement).addEventListener('click', () => workOn(() => ({ loop: true })));
byId('region-open', HTMLButtonElement).addEventListener('click', () => {
  if (!clip.video) return;
  clip.pause();
  openRegion(clip.video.width, clip.video.height);
});
byId('repaint', HTMLButtonElement).addEventListener('click', () => {
  const mask = regionMask();
  if (!mask) say('Paint over a part of the clip first.');
  else workOn(() => ({ mask }), String(framesOf(clip.video)));
});
watchFiles(say);

byId('vary', HTMLButtonElement).addEventListener('click', () => void vary());
watchResult(() => clip.video, () => onShow ?? { recipe: readForm(form) }, say);
onClick(byId('copy-row', HTMLButtonElement), (text) => (byId('copied', HTMLElement).textContent = text), async () => {
  await navigator.clipboard.writeText(machineRow());
  return 'Copied.';
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
  lookAtPrompt();
}
window.addEventListener('hashchange', readAddress);

void startOffline();
showLengths();
presentSample();
showClips((show) => {
  clip.video = undefined;
  fillForm(form, { ...own, prompt: show.prompt, seed: show.seed });
  lookAtPrompt();
  closeVariations();
  presentSample(show);
  onShow = undefined;
  actions.hidden = true;
  clip.scrollIntoView({ block: 'nearest' });
  button.focus();
});
readAddress();
showExamples(write);
showSnippets({ recipe: { ...readForm(form), seed: readForm(form).seed || '7' } });
const support = await showMachine();
byId('expand-browser', HTMLElement).hidden = support.languageModel === 'unavailable';
if (isFast(support)) own = { ...DEFAULTS, detail: '2' };
// A link says what it asks for.
if (!recipeOf(location.hash)) fillForm(form, { detail: own.detail });
if (!support.ok && hasServer) {
  onServer = true;
  announceServer();
} else if (!support.ok && !support.processor) {
  button.disabled = true;
  byId('cost', HTMLElement).replaceChildren(`${support.message} `, make('a', 'What to do', { href: '#machine' }));
}
