/** The texts of `<kinora-video>`. */

import type { LoadProgress } from './options.js';

/** Every text of the element, for translation. */
export interface KinoraVideoLabels {
  generate: string;
  again: string;
  play: string;
  pause: string;
  cancel: string;
  seek: string;
  /** For example “frame 3 of 17”. */
  frame(index: number, count: number): string;
  /** For example “Loading the model, 12 of 45 MB”. */
  loading(progress: LoadProgress): string;
  preparing: string;
  /** For example “Step 3 of 8, about 12 s left”. */
  drawing(step: number, steps: number, secondsLeft: number): string;
  /** For example “Drawing the frames, about 5 s left”. */
  decoding(secondsLeft: number): string;
  /** For screen readers, for example “40 percent”. */
  percent(fraction: number): string;
  done: string;
  cancelled: string;
}

/** What the element says unless told otherwise. */
export const ENGLISH: KinoraVideoLabels = {
  generate: 'Generate',
  again: 'Generate again',
  play: 'Play',
  pause: 'Pause',
  cancel: 'Cancel',
  seek: 'Frame',
  frame: (index, count) => `frame ${index + 1} of ${count}`,
  loading: ({ phase, loadedBytes, totalBytes }) => {
    if (phase === 'plan') return 'Loading the model';
    return phase === 'download' ? `Loading the model, ${megabytes(loadedBytes)} of ${megabytes(totalBytes)} MB` : ENGLISH.preparing;
  },
  preparing: 'Getting ready',
  drawing: (step, steps, left) => `Step ${step} of ${steps}, ${about(left)}`,
  decoding: (left) => `Drawing the frames, ${about(left)}`,
  percent: (fraction) => `${Math.round(fraction * 100)} percent`,
  done: 'The clip is ready',
  cancelled: 'Cancelled',
};

function about(seconds: number): string {
  return `about ${Math.max(1, Math.round(seconds))} s left`;
}

function megabytes(bytes: number): string {
  return String(Math.round(bytes / 1e6));
}
