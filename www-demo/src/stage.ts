/** What the page says around the clip: its caption, what is being done, what there is to know. */

import { KinoraVideo } from 'kinora/element';
import { byId } from './dom.js';
import { play, shows, type Show } from './shows.js';

const clip = byId('clip', KinoraVideo);
const button = byId('generate', HTMLButtonElement);
const notice = byId('notice', HTMLElement);

/** Tells something; with `more`, after what was told last. */
export function say(text: string, more = false): void {
  notice.textContent = more ? `${notice.textContent}${text}` : text;
}

/** What the clip is of, and how it came about. */
export function caption(prompt: string, details = ''): void {
  byId('caption', HTMLElement).textContent = prompt;
  byId('details', HTMLElement).textContent = details;
}

/** The button stops what runs and says how far it is; without `doing` it begins. */
export function showWork(doing?: string, fraction = 0): void {
  button.textContent = doing === undefined ? 'Generate' : `Stop · ${doing}`;
  button.classList.toggle('working', doing !== undefined);
  button.style.setProperty('--done', `${Math.round(fraction * 100)}%`);
  if (doing === undefined) clip.removeAttribute('data-waiting');
  // What it costs was said before.
  else byId('cost', HTMLElement).textContent = '';
}

/** Plays a clip that was made before, in place of one of the visitor's. */
export function presentSample(show: Show = shows[0]): void {
  play(byId('sample', HTMLVideoElement), show);
  clip.setAttribute('alt', `Sample: ${show.prompt}`);
  caption(show.prompt, 'A sample, made by this model');
}

/** What a prompt was taken for, where it can be edited. */
export function showDrawn(used = ''): void {
  byId('drawn', HTMLElement).hidden = used === '';
  byId('drawn-as', HTMLInputElement).value = used;
}

/** For example “12 s left”. */
export const left = (etaMs: number): string => `${Math.max(1, Math.round(etaMs / 1e3))} s left`;
