/** How long clips can be: the model's own length, half of it, and multiples that are made window by window. */

import model from '../../models/flipbook/model_index.json';
import { byId, make } from './dom.js';

const { default_frames: OWN_FRAMES, fps: FPS } = model.kinora;
/** In lengths of the model's clips. */
const LENGTHS = [0.5, 1, 2, 4];

/** Frames of a clip of so many lengths; the first frame is one more. */
function framesOf(lengths: number): number {
  return 1 + lengths * (OWN_FRAMES - 1);
}

/** For example “1.4 s”. */
function seconds(frames: number): string {
  return `${(frames / FPS).toFixed(1)} s`;
}

/** What the model makes by itself. */
export const DEFAULT_FRAMES = String(OWN_FRAMES);

/** Fills the choice of the length. */
export function showLengths(): void {
  byId('learned', HTMLElement).textContent = seconds(OWN_FRAMES);
  const labels = LENGTHS.map(framesOf).map((frames) => {
    const radio = make('input', '', { type: 'radio', name: 'frames', value: String(frames), ...(frames === OWN_FRAMES && { checked: '' }) });
    const label = make('label');
    label.append(radio, make('span', seconds(frames)));
    return label;
  });
  byId('lengths', HTMLElement).replaceWith(...labels);
}

/** Frames and window to ask for, if the clip of so many frames has this many scenes. */
export function piecesOf(frames: string, scenes: number): { frames: string; window: string } {
  const lengths = (Number(frames) - 1) / (OWN_FRAMES - 1);
  if (lengths > 1 && lengths >= scenes) return { frames, window: DEFAULT_FRAMES };
  // Else each scene has a window.
  return { frames: lengths > 1 ? DEFAULT_FRAMES : frames, window: '' };
}

/** The choice that makes a clip like this one, if it is made of windows. */
export function lengthOf({ frames, window }: { frames: number; window?: number }): string {
  const offered = window === undefined || LENGTHS.map(framesOf).includes(frames);
  return String(offered ? frames : window);
}
