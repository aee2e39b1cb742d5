/** Four clips of one sentence by four seeds, in a grid: one is chosen. They are made side by side. */

import type { GenerateOptions, Prompt, Video, VideoModel } from 'kinora';
import { byId, make } from './dom.js';

const COUNT = 4;
const list = byId('variations', HTMLUListElement);
const still = matchMedia('(prefers-reduced-motion: reduce)');
let playing = new AbortController();

/** Hides the grid. */
export function closeVariations(): void {
  playing.abort();
  list.hidden = true;
  list.replaceChildren();
}

/** Makes the clips and fills the grid as they come; `onStep` hears the share that is done and what is left in ms. */
export async function showVariations(
  model: VideoModel,
  job: GenerateOptions & { prompt: Prompt },
  onChoose: (video: Video) => void,
  onStep: (fraction: number, etaMs: number) => void,
): Promise<Video[]> {
  closeVariations();
  playing = new AbortController();
  list.hidden = false;
  const seeds = crypto.getRandomValues(new Uint32Array(COUNT));
  const places = [...seeds].map(() => {
    const place = make('li');
    place.append(make('span', '', { class: 'empty' }));
    return place;
  });
  list.replaceChildren(...places);
  const onEvent: NonNullable<GenerateOptions['onEvent']> = (event) => {
    if (event.type === 'step') onStep(event.fraction, event.etaMs);
  };
  const generations = model.generateMany([...seeds].map((seed, index) => ({ ...job, seed, preview: false, ...(index === 0 && { onEvent }) })));
  try {
    const videos = await Promise.all(generations);
    videos.forEach((video, index) => {
      const canvas = make('canvas');
      const button = make('button', '', { type: 'button', 'aria-label': `Take variation ${index + 1}, seed ${video.metadata.seed}` });
      button.append(canvas);
      button.addEventListener('click', () => {
        for (const other of list.querySelectorAll('button')) other.setAttribute('aria-pressed', String(other === button));
        onChoose(video);
      });
      video.play(canvas, { signal: playing.signal });
      places[index]?.replaceChildren(button);
    });
    if (still.matches) playing.abort();
    list.querySelector('button')?.focus();
    return videos;
  } catch (error) {
    closeVariations();
    throw error;
  }
}
