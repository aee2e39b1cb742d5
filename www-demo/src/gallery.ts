/** The clips of this visit, newest first. They move while pointed at or focused. */

import type { Video } from 'kinora';
import { byId, make } from './dom.js';

/** Older clips go: each holds its frames in memory. */
const MOST = 24;

/** Adds a clip; `onChoose` is called when it is clicked. */
export function addToGallery(video: Video, onChoose: () => void): void {
  const { prompt, seed } = video.metadata;
  const list = byId('gallery', HTMLUListElement);
  const canvas = make('canvas');
  const button = make('button', '', { type: 'button', 'aria-label': `Show again: ${prompt}, seed ${seed}` });
  button.append(canvas, make('span', prompt));
  button.addEventListener('click', onChoose);

  let playing: AbortController | undefined;
  const still = () => {
    playing?.abort();
    canvas.width = video.width;
    canvas.height = video.height;
    canvas.getContext('2d')?.putImageData(new ImageData(video.rgba(0), video.width, video.height), 0, 0);
  };
  const move = () => {
    if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
    playing?.abort();
    playing = new AbortController();
    video.play(canvas, { signal: playing.signal });
  };
  for (const type of ['pointerenter', 'focus']) button.addEventListener(type, move);
  for (const type of ['pointerleave', 'blur']) button.addEventListener(type, still);
  still();

  const item = make('li');
  item.append(button);
  list.prepend(item);
  if (list.childElementCount > MOST) list.lastElementChild?.remove();
  byId('visit', HTMLElement).hidden = false;
}
