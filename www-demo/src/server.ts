/** Clips made by the server that the page comes from (`kinora serve --page`), where the browser has no WebGPU to make them itself. */

import type { PromptParts } from 'kinora';
import { byId, make } from './dom.js';
import { scenesOf, type Recipe } from './recipe.js';
import { playFile } from './shows.js';
import { caption, presentSample, say, showWork } from './stage.js';

/** A job as the server tells of it. */
interface Job {
  id: string;
  status: 'queued' | 'in_progress' | 'completed' | 'failed';
  progress: number;
  preview?: string;
  error?: { message: string };
}

/** Says that a `kinora serve` sent the page, and with `token` that it wants one. It writes this into the page, so that nothing is probed. */
const mark = document.querySelector<HTMLMetaElement>('meta[name="kinora-serve"]');
let token = '';

/** Whether the page comes from a server that makes clips. */
export const hasServer = mark !== null;

/** Says on the page who makes the clips now. */
export function announceServer(): void {
  byId('lede', HTMLElement).textContent = 'This browser has no WebGPU, so the server that this page comes from draws it. What you type is sent there.';
  byId('cost', HTMLElement).textContent = 'Nothing to download but the clip.';
  if (mark?.content !== 'token') return;
  const label = make('label', 'Token of this server', { class: 'field', for: 'token' });
  const field = make('input', '', { id: 'token', type: 'password', autocomplete: 'off', required: '' });
  field.addEventListener('input', () => (token = field.value));
  byId('lede', HTMLElement).after(label, field);
}

/** Has a clip made and shows it, with a way to keep it; says what went wrong. */
export async function generateOnServer(recipe: Recipe, { image, ...others }: PromptParts, signal: AbortSignal): Promise<void> {
  const [first = '', ...then] = scenesOf(recipe.prompt);
  if (then.length > 0 || Object.keys(others).length > 0) return say('The server makes one scene, from words and a first frame.');
  const started = performance.now();
  say('');
  caption(first);
  showWork('waiting for the server');
  try {
    const file = await makeClip(recipe, image as File | undefined, signal);
    const href = playFile(byId('sample', HTMLVideoElement), file);
    byId('clip', HTMLElement).setAttribute('alt', first);
    caption(first, `Made by the server in ${((performance.now() - started) / 1e3).toFixed(1)} s`);
    byId('file-made', HTMLElement).replaceChildren(make('a', 'Download', { href, download: 'kinora.mp4', class: 'main' }));
    byId('file-made', HTMLElement).hidden = false;
  } catch (error) {
    presentSample();
    if (!signal.aborted) say(error instanceof Error ? error.message : String(error));
  }
}

/** Resolves with the MP4. A cancelled clip is forgotten by the server too. */
async function makeClip(recipe: Recipe, image: Blob | undefined, signal: AbortSignal): Promise<Blob> {
  const form = new FormData();
  const { prompt, shape: size, frames, steps, seed } = recipe;
  for (const [name, value] of Object.entries({ prompt, size, frames, steps, seed })) if (value) form.set(name, value);
  if (image) form.set('input_reference', image);
  const { id } = (await (await ask('v1/videos', { method: 'POST', body: form, signal })).json()) as Job;
  const address = `v1/videos/${id}`;
  try {
    for await (const job of changes(await ask(`${address}/events`, { signal }))) {
      showWork(`${job.progress} %`, job.progress / 100);
      if (job.preview) playFile(byId('sample', HTMLVideoElement), pictureOf(job.preview));
      if (job.status === 'failed') throw new Error(job.error?.message ?? 'The server could not make this clip.');
    }
    return await (await ask(`${address}/content`, { signal })).blob();
  } catch (error) {
    if (signal.aborted) await ask(address, { method: 'DELETE' }).catch(() => undefined);
    throw error;
  }
}

async function ask(path: string, request: RequestInit): Promise<Response> {
  const response = await fetch(path, { ...request, ...(token && { headers: { authorization: `Bearer ${token}` } }) });
  if (response.ok) return response;
  const told = (await response.json().catch(() => ({}))) as { error?: { message?: string } };
  throw new Error(told.error?.message ?? `The server answered ${response.status}.`);
}

/** The states that a stream of events tells, to its end. Not by EventSource, which sends no token. */
async function* changes(response: Response): AsyncGenerator<Job> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    const events = (text + part.value).split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data) yield JSON.parse(data) as Job;
    }
  }
}

/** The picture in a `data:` address, which the page's policy does not let it open. */
function pictureOf(address: string): Blob {
  const [type = '', data = ''] = address.replace('data:', '').split(';base64,');
  return new Blob([Uint8Array.from(atob(data), (character) => character.charCodeAt(0))], { type });
}
