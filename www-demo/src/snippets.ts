/** Code to copy, always for the clip on the page. */

import { byId } from './dom.js';
import { DEFAULTS, type Recipe } from './recipe.js';

/** Parts of a prompt that are words or numbers; the others are variables in code. */
const PLAIN = ['extend', 'loop', 'strength', 'overlap', 'then'];

/** How a clip is made: its recipe, what it was made from besides text, and the frames of each window. */
export interface Clip {
  recipe: Recipe;
  given?: Record<string, unknown>;
  window?: string;
}

/** What the model would not do by itself, by the names of options. */
function options({ recipe: { seed, shape, frames, steps, detail }, window = '' }: Clip): [string, string][] {
  const [width, height] = shape === DEFAULTS.shape ? [] : shape.split('x');
  const factor = detail === DEFAULTS.detail ? '' : detail;
  const refined = { upscale: factor, interpolate: factor };
  const asked = { seed, width, height, frames: frames === DEFAULTS.frames ? '' : frames, window, ...refined, steps: steps === DEFAULTS.steps ? '' : steps };
  return Object.entries(asked).filter((option): option is [string, string] => Boolean(option[1]));
}

/** The element that makes the clip, with `flags` besides. */
export function elementCode(clip: Clip, flags: string): string {
  const attributes = options(clip).map(([name, value]) => `${name}="${value}"`).join(' ');
  const text = clip.recipe.prompt.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  return [`<kinora-video prompt="${text}"`, `  ${attributes}`, `  ${flags}>`, '</kinora-video>'].join('\n');
}

/** Writes both snippets. */
export function showSnippets(clip: Clip): void {
  const { recipe: { prompt }, given = {} } = clip;
  const properties = options(clip).map(([name, value]) => `${name}: ${value}`).join(', ');
  const parts = Object.entries(given).map(([name, value]) => (PLAIN.includes(name) ? `${name}: ${JSON.stringify(value)}` : name));
  byId('element-code', HTMLElement).textContent = ['// npm install kinora', `import 'kinora/element';`, '', elementCode(clip, 'controls loop')].join('\n');
  byId('api-code', HTMLElement).textContent = [
    `import { loadModel } from 'kinora';`,
    '',
    'const model = await loadModel();',
    'const video = await model.generate(',
    parts.length > 0 ? `  { text: ${JSON.stringify(prompt)}, ${parts.join(', ')} },` : `  ${JSON.stringify(prompt)},`,
    `  { ${properties} },`,
    ');',
    `video.play(document.querySelector('canvas'));`,
    `const file = await video.toBlob({ type: 'video/mp4' });`,
  ].join('\n');
}
