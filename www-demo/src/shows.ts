/** The clips that the page opens with: made by the model that it runs, in motion, each a tap away from being made again. */

import butterfly from './assets/clips/butterfly.mp4';
import fox from './assets/clips/fox.mp4';
import octopus from './assets/clips/octopus.mp4';
import penguin from './assets/clips/penguin.mp4';
import rocket from './assets/clips/rocket.mp4';
import saucer from './assets/clips/saucer.mp4';
import { byId, make } from './dom.js';

/** A clip as web/scripts/clips.mjs makes it. */
export interface Show {
  url: string;
  prompt: string;
  seed: string;
}

/** As in web/scripts/clips.mjs. */
export const shows: readonly [Show, ...Show[]] = [
  { url: rocket, prompt: 'a rocket flying on a blue background', seed: '7' },
  { url: octopus, prompt: 'an octopus waving its tentacles on a yellow background', seed: '3' },
  { url: butterfly, prompt: 'a butterfly flapping its wings on a pink background', seed: '5' },
  { url: saucer, prompt: 'a flying saucer hovering on a purple background', seed: '11' },
  { url: penguin, prompt: 'a penguin waddling on a red background', seed: '4' },
  { url: fox, prompt: 'a fox tilting its head on a green background', seed: '2' },
];

const still = matchMedia('(prefers-reduced-motion: reduce)');

/** Plays a clip, or shows its first frame where the visitor wants as little motion as possible. */
export function play(video: HTMLVideoElement, { url }: Pick<Show, 'url'>): void {
  Object.assign(video, { muted: true, loop: true, playsInline: true, src: url });
  // Browsers that save power show the first frame.
  if (!still.matches) video.play().catch(() => undefined);
}

/** Shows a picture, or plays a clip, that was made elsewhere, and returns its address. What was shown before is let go. */
export function playFile(video: HTMLVideoElement, file: Blob): string {
  for (const old of [video.src, video.poster]) if (old.startsWith('blob:')) URL.revokeObjectURL(old);
  const url = URL.createObjectURL(file);
  if (file.type.startsWith('video/')) {
    video.removeAttribute('poster');
    play(video, { url });
  } else {
    video.removeAttribute('src');
    video.poster = url;
  }
  return url;
}

/** Fills the list of clips. */
export function showClips(onChoose: (show: Show) => void): void {
  byId('shows', HTMLUListElement).append(
    ...shows.map((show) => {
      const video = make('video', '', { 'aria-hidden': 'true', tabindex: '-1' });
      const button = make('button', '', { type: 'button' });
      button.append(video, make('span', show.prompt));
      button.addEventListener('click', () => onChoose(show));
      play(video, show);
      const item = make('li');
      item.append(button);
      return item;
    }),
  );
}
