/** What a clip is made from, as the form holds it and as the address after `#` carries it. */

import { DEFAULT_FRAMES } from './lengths.js';

/** Empty texts stand for the model's default, an empty seed for a random one. */
export interface Recipe {
  /** A line for each scene. */
  prompt: string;
  seed: string;
  /** For example `128x128`. */
  shape: string;
  frames: string;
  steps: string;
  /** `2` doubles pixels and frames of what is generated, `1` leaves it. */
  detail: string;
}

const KEYS = ['prompt', 'seed', 'shape', 'frames', 'steps', 'detail'] as const;
/** As the form allows. */
const MAX_CHARS = 400;
/** What the model does by itself. */
export const DEFAULTS: { shape: string; frames: string; steps: string; detail: string } & Partial<Recipe> = { shape: '128x128', frames: DEFAULT_FRAMES, steps: '8', detail: '1' };

/** What the form says. */
export function readForm(form: HTMLFormElement): Recipe {
  const data = new FormData(form);
  const text = (key: string) => String(data.get(key) ?? '').trim();
  return { prompt: text('prompt'), seed: text('seed'), shape: text('shape'), frames: text('frames'), steps: text('steps'), detail: text('detail') };
}

/** Puts a recipe into the form. Choices that the form does not offer stay as they are. */
export function fillForm(form: HTMLFormElement, recipe: Partial<Recipe>): void {
  for (const key of KEYS) {
    const value = recipe[key];
    const field = form.elements.namedItem(key);
    if (value === undefined) continue;
    if (field instanceof RadioNodeList) {
      for (const radio of field) if (radio instanceof HTMLInputElement) radio.checked = radio.value === value || radio.checked;
    } else if (field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement) {
      field.value = value;
    }
  }
}

/** The part of an address after `#`. */
export function hashOf(recipe: Recipe): string {
  const given = KEYS.filter((key) => recipe[key] !== '' && recipe[key] !== DEFAULTS[key]);
  return new URLSearchParams(given.map((key) => [key, recipe[key]])).toString();
}

/** What an address asks for; nothing if it asks for nothing. */
export function recipeOf(hash: string): Partial<Recipe> | undefined {
  const parameters = new URLSearchParams(hash.replace(/^#/, ''));
  if (!parameters.get('prompt')) return undefined;
  const recipe: Partial<Recipe> = { ...DEFAULTS, seed: '' };
  for (const key of KEYS) {
    const value = parameters.get(key);
    if (value !== null) recipe[key] = value.slice(0, MAX_CHARS);
  }
  if (!/^\d{0,15}$/.test(recipe.seed ?? '')) recipe.seed = '';
  return recipe;
}

/** A prompt has a line for each scene. */
export function scenesOf(prompt: string): string[] {
  return prompt.split('\n').map((line) => line.trim()).filter(Boolean);
}

/** For example “an owl blinking, then an owl turning its head”. */
export function captionOf(scenes: string[]): string {
  return scenes.join(', then ');
}
