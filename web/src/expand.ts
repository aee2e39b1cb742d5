/** Prompts that are written anew before a generation, by the browser's own language model or by a function; imported by those who ask for it. */

import { KinoraError } from './errors.js';
import { LANGUAGES, languageModelAvailability, promptApi } from './support.js';

/** Writes a prompt anew; equal seeds should give equal texts. */
export type ExpandFunction = (text: string, seed: number) => string | Promise<string>;

/** In characters; more is no prompt, and more than text encoders read. */
const MAX_CHARS = 1000;
const HINT =
  '`checkSupport()` says whether this browser has a language model; where it must be downloaded first, browsers wait for a click. ' +
  'Else use `expand: true`, or a function of your own';

/** The prompt as `by` writes it. A language model is told its `task`; `note` hears of a download. */
export async function expandPrompt(
  by: 'browser' | ExpandFunction,
  [text, seed]: [string, number],
  task: string,
  signal: AbortSignal,
  note: (text: string) => void,
): Promise<string> {
  signal.throwIfAborted();
  let answer: unknown;
  const aborted = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  try {
    const asked = by === 'browser' ? ask(text, task, signal, note) : (async () => by(text, seed))();
    answer = await Promise.race([asked, aborted]);
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    throw failed(by, cause instanceof Error ? cause.message || cause.name : String(cause), cause);
  }
  if (typeof answer !== 'string') throw failed(by, `its answer is no text but of type ${typeof answer}`);
  const expanded = answer.trim();
  if (expanded === '') throw failed(by, 'its answer is empty');
  if (/[\r\n]/.test(expanded)) throw failed(by, `its answer has ${expanded.split(/\r\n|\r|\n/).length} lines, expected one`);
  if (expanded.length > MAX_CHARS) throw failed(by, `its answer has ${expanded.length} characters, expected at most ${MAX_CHARS}`);
  return expanded;
}

function failed(by: 'browser' | ExpandFunction, problem: string, cause?: unknown): KinoraError {
  const [who, hint] = by === 'browser' ? ['the language model of this browser', HINT] : ['the function `expand`', 'it must return one line of text'];
  return new KinoraError('expand-failed', `${who} cannot expand the prompt: ${problem}`, { cause, hint });
}

async function ask(text: string, task: string, signal: AbortSignal, note: (text: string) => void): Promise<string> {
  if (text.trim() === '') throw new Error('the prompt has no text');
  const availability = await languageModelAvailability();
  if (availability === 'unavailable') throw new Error('there is none, or it cannot run on this machine');
  if (availability !== 'available') note('the browser downloads its language model first');
  const session = await promptApi()!.create({ ...LANGUAGES, initialPrompts: [{ role: 'system', content: task }], signal });
  try {
    return await session.prompt(text, { signal });
  } finally {
    session.destroy();
  }
}
