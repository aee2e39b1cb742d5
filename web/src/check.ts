/** Arguments as callers pass them, looked at before anything slow happens. What depends on the model, the engine checks. */

import { KinoraError } from './errors.js';
import type { GenerateOptions, Prompt } from './options.js';

/** Numbers: whether they are whole, the least, and what they are. */
const NUMBERS: Record<string, [whole: boolean, least: number, what: string]> = {
  width: [true, 1, 'a whole number of pixels'],
  height: [true, 1, 'a whole number of pixels'],
  frames: [true, 0, 'a whole number of frames'],
  window: [true, 1, 'a whole number of frames'],
  steps: [true, 1, 'a whole number of steps'],
  seed: [true, 0, 'a whole number up to 2^53 − 1'],
  fps: [false, 0, 'a number of frames per second'],
  durationSeconds: [false, 0, 'a number of seconds'],
  guidance: [false, 0, 'a number'],
};

/** A value as messages show it. */
export function described(value: unknown): string {
  if (typeof value === 'string') return `the text "${value.length > 40 ? `${value.slice(0, 40)}…` : value}"`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return 'a list';
  if (typeof value !== 'object' || value === null) return String(value);
  const { constructor } = value;
  return constructor === Object || !constructor?.name ? 'an object' : `a ${constructor.name}`;
}

function invalid(name: string, found: unknown, expected: string, hint?: string): KinoraError {
  return new KinoraError('invalid-request', `invalid ${name}: found ${described(found)}, expected ${expected}`, { hint });
}

/** Throws unless `value` is one of few words. */
export function oneOf(name: string, value: unknown, allowed: readonly string[]): void {
  if (!allowed.includes(value as string)) throw invalid(name, value, allowed.join(', '));
}

/** `value`, unless it is no object of options. */
export function anObject<T extends object>(name: string, value: T): T {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw invalid(name, value, 'an object');
}

/** Throws what is wrong with a prompt and its options. */
export function checkJob(job: GenerateOptions & { prompt: Prompt }): void {
  const { prompt, preview, expand, onEvent, signal } = anObject('options', job);
  checkPrompt(prompt);
  checkNumbers(job);
  const isPreview = preview === undefined || typeof preview === 'boolean' || (typeof preview === 'object' && preview !== null);
  if (!isPreview) throw invalid('preview', preview, 'false or { everySteps, frames }');
  if (!['undefined', 'boolean', 'function'].includes(typeof expand) && expand !== 'browser') throw invalid('expand', expand, 'true, false, "browser" or a function');
  checkFunction('onEvent', onEvent);
  checkSignal(signal);
}

/** Throws unless the numbers among `options` are such. */
export function checkNumbers(options: GenerateOptions): void {
  for (const [name, [whole, least, what]] of Object.entries(NUMBERS)) {
    const value: unknown = options[name as keyof GenerateOptions];
    if (value === undefined) continue;
    const fits = typeof value === 'number' && value >= least && (whole ? Number.isSafeInteger(value) : Number.isFinite(value));
    if (!fits) throw invalid(name, value, `${what} from ${least}`);
  }
}

/** Throws for a clip whose end somebody waits for, and which has none. */
export function checkEnd({ frames }: GenerateOptions): void {
  if (frames === 0) throw invalid('frames', 0, 'an end where the whole clip is waited for', 'read `model.generate(…).frames()`');
}

/** Throws unless `signal` is absent or can be listened to. */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && typeof (signal as AbortSignal)?.addEventListener !== 'function') throw invalid('signal', signal, 'an AbortSignal');
}

/** Throws unless `value` is absent or a function. */
export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw invalid(name, value, 'a function');
}

function checkPrompt(prompt: unknown): void {
  const expected = 'a text, or an object { text, image, video, … }';
  if (typeof prompt === 'string') return void checkText(prompt, false);
  // Of all objects only plain ones have parts; a picture alone is a part without its name.
  const plain = typeof prompt === 'object' && prompt !== null && [Object.prototype, null].includes(Object.getPrototypeOf(prompt));
  if (!plain) throw invalid('prompt', prompt, expected);
  const parts = prompt as Record<string, unknown>;
  const { text, negative, then, ...given } = parts;
  // Whether these belong together the engine knows.
  checkText(text, Object.values(given).some((part) => part !== undefined));
  if (negative !== undefined && typeof negative !== 'string') throw invalid('negative', negative, 'a text');
  if (then !== undefined && !(Array.isArray(then) && then.every((text) => typeof text === 'string'))) throw invalid('then', then, 'a list of texts');
}

function checkText(text: unknown, given: boolean): void {
  if (text === undefined ? given : typeof text === 'string' && (given || text.trim() !== '')) return;
  throw invalid('prompt', text, 'a text, an image or a video', 'say what the clip shows, for example "a rocket flying on a blue background"');
}
