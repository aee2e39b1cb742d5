/** The attributes of `<kinora-video>`: which it looks at as they change, and which are options of the next clip. */

import type { GenerateOptions } from './options.js';

/** Those that change what is on show or begin something. */
export const OBSERVED = ['prompt', 'model', 'alt', 'poster', 'width', 'height', 'controls', 'loop', 'autoplay', 'loading'];
const NUMBERS = ['width', 'height', 'frames', 'window', 'fps', 'steps', 'seed'] as const;

/** What the attributes of `element` ask for; wrong values are refused where they are used. */
export function optionsOf(element: Element): GenerateOptions {
  return Object.fromEntries(NUMBERS.filter((name) => element.hasAttribute(name)).map((name) => [name, Number(element.getAttribute(name))]));
}
