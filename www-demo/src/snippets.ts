/** Code to copy, always for the clip on the page. */

import { byId } from './dom.js';
import { DEFAULTS, type Recipe } from './recipe.js';

/** Writes both snippets. */
export function showSnippets({ prompt, seed, shape, frames, steps }: Recipe): void {
  const [width, height] = shape === DEFAULTS.shape ? [] : shape.split('x');
  const given = { seed, width, height, frames: frames === DEFAULTS.frames ? '' : frames, steps: steps === DEFAULTS.steps ? '' : steps };
  const options = Object.entries(given).filter(([, value]) => value);
  const attributes = options.map(([name, value]) => `${name}="${value}"`).join(' ');
  const properties = options.map(([name, value]) => `${name}: ${value}`).join(', ');
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
    `  ${JSON.stringify(prompt)},`,
    `  { ${properties} },`,
    ');',
    `video.play(document.querySelector('canvas'));`,
    `const file = await video.toBlob({ type: 'video/mp4' });`,
  ].join('\n');
}
