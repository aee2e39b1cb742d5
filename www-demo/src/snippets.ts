/** Code to copy, always for the clip on the page. */

import { byId } from './dom.js';
import { DEFAULTS, type Recipe } from './recipe.js';

/** Parts of a prompt that are words or numbers; the others are variables in code. */
const PLAIN = ['extend', 'loop', 'strength', 'overlap', 'then'];

/** Writes both snippets; `given` is what the clip was made from besides text, `window` the frames of each window. */
export function showSnippets({ prompt, seed, shape, frames, steps, detail }: Recipe, given: Record<string, unknown> = {}, window = ''): void {
  const [width, height] = shape === DEFAULTS.shape ? [] : shape.split('x');
  const factor = detail === DEFAULTS.detail ? '' : detail;
  const refined = { upscale: factor, interpolate: factor };
  const asked = { seed, width, height, frames: frames === DEFAULTS.frames ? '' : frames, window, ...refined, steps: steps === DEFAULTS.steps ? '' : steps };
  const options = Object.entries(asked).filter(([, value]) => value);
  const attributes = options.map(([name, value]) => `${name}="${value}"`).join(' ');
  const properties = options.map(([name, value]) => `${name}: ${value}`).join(', ');
  const parts = Object.entries(given).map(([name, value]) => (PLAIN.includes(name) ? `${name}: ${JSON.stringify(value)}` : name));
  const text = prompt.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  byId('element-code', HTMLElement).textContent = [
    '// npm install kinora',
    `import 'kinora/element';`,
    '',
    `<kinora-video prompt="${text}"`,
    `  ${attributes}`,
    '  controls loop>',
    '</kinora-video>',
  ].join('\n');
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
