/** The attributes of `<kinora-video>`: which it looks at as they change, which are options of the next clip, and all as properties. */

import type { GenerateOptions } from './options.js';

const NUMBERS = ['width', 'height', 'frames', 'window', 'fps', 'upscale', 'interpolate', 'steps', 'seed'] as const;
const TEXTS = { prompt: '', model: 'flipbook', alt: '', poster: '', loading: 'lazy' };
const FLAGS = ['controls', 'loop', 'autoplay'];

/** Those that change what is on show or begin something. */
export const OBSERVED = [...Object.keys(TEXTS), ...FLAGS, ...NUMBERS];
/** Those that another clip would come of. */
export const MAKING: ReadonlySet<string> = new Set(['prompt', 'model', ...NUMBERS]);

/** The attributes of `<kinora-video>` as properties; `undefined` and `null` remove one. */
export interface KinoraVideoAttributes {
  /** What the clip shows. */
  prompt: string;
  /** `flipbook`, or the address of a model. */
  model: string;
  /** Of the picture; default: the prompt. */
  alt: string;
  /** The address of a picture to begin with. */
  poster: string;
  /** Whether the model is loaded at once. */
  loading: 'lazy' | 'eager';
  /** Whether there are buttons. */
  controls: boolean;
  /** Whether the clip begins again after its end. */
  loop: boolean;
  /** Whether a clip is made unasked, also anew when the attributes say something else. */
  autoplay: boolean;
  /** As in {@link GenerateOptions}, like the others. */
  width: number | undefined;
  height: number | undefined;
  frames: number | undefined;
  window: number | undefined;
  fps: number | undefined;
  upscale: number | undefined;
  interpolate: number | undefined;
  steps: number | undefined;
  seed: number | undefined;
}

/** Makes properties of the attributes of all elements with this prototype. */
export function reflectAttributes(prototype: Element): void {
  const reflect = (name: string, get: (value: string | null) => unknown, text: (value: unknown) => string | null) =>
    Object.defineProperty(prototype, name, {
      get(this: Element) {
        return get(this.getAttribute(name));
      },
      set(this: Element, value: unknown) {
        const now = text(value);
        if (now === null) this.removeAttribute(name);
        else this.setAttribute(name, now);
      },
      enumerable: true,
      configurable: true,
    });
  const plain = (value: unknown) => (value === undefined || value === null ? null : String(value));
  for (const [name, absent] of Object.entries(TEXTS)) reflect(name, (value) => value ?? absent, plain);
  for (const name of NUMBERS) reflect(name, (value) => (value === null ? undefined : Number(value)), plain);
  for (const name of FLAGS) reflect(name, (value) => value !== null, (value) => (value ? '' : null));
}

/** Takes the values away that were set before `element` was upgraded, by `names`, so that they can be set anew. */
export function takeEarly(element: Element, names: readonly string[]): Map<string, unknown> {
  const values = element as unknown as Record<string, unknown>;
  const early = new Map(names.filter((name) => Object.hasOwn(element, name)).map((name) => [name, values[name]]));
  for (const name of early.keys()) delete values[name];
  return early;
}

/** What the attributes of `element` ask for; wrong values are refused where they are used. */
export function optionsOf(element: Element): GenerateOptions {
  return Object.fromEntries(NUMBERS.filter((name) => element.hasAttribute(name)).map((name) => [name, Number(element.getAttribute(name))]));
}
