/**
 * Which words of the sentence the model does not know, underlined as one types, with the nearest that it does know to tap. Until the
 * model is loaded spelling and synonyms decide, then its text encoder.
 */

import type { VideoModel } from 'kinora';
import { byId, make } from './dom.js';
import { colors, data, subjects } from './vocabulary.js';

/** A word of the sentence, and what can stand in its place. */
interface Unknown {
  word: string;
  nearest: string[];
}

/** What spelling is compared with. */
interface Spelling {
  /** Every word, and what it stems from. */
  known: Set<string>;
  /** The words of names and synonyms, and what they are names of. */
  names: { part: string; name: string }[];
}

/** Words that say how things belong together, and those that every sentence may have. */
const PLAIN =
  'a an the and or of on in at to with without its his her their it is are be being by for from over under up down into onto as while then very ' +
  'background in front behind this that some two three small little big large tiny cute happy slowly quickly';
/** What is offered for one word. */
const MOST_OFFERS = 3;
/** Letters that may differ, of words of so many. */
const slips = (length: number) => (length < 4 ? 0 : length < 7 ? 1 : 2);
/** After the last key, in ms. */
const PAUSE_MS = 400;
/** For so long the page may not answer while the lists are made, in ms. */
const SLICE_MS = 8;

const split = (text: string) => text.toLowerCase().match(/[\p{L}\p{N}’'-]+/gu) ?? [];
const stem = (word: string) => word.replace(/(?:'s|’s)$/, '').replace(/(?:ing|ed|es|s)$/, '').replace(/(.)\1$/, '$1').replace(/e$/, '');

const field = byId('prompt', HTMLTextAreaElement);
const mirror = byId('mirror', HTMLElement);
const offers = byId('offers', HTMLElement);
let spelling: Spelling | undefined;
let learning: Promise<void> | undefined;
let waiting: ReturnType<typeof setTimeout> | undefined;
/** What the model said of sentences. */
const answers = new Map<string, Unknown[]>();

/** Once the page has answered what it was asked. */
const later = () => new Promise((resolve) => setTimeout(resolve));

/** Makes the lists in slices between which the page answers. */
async function learn(): Promise<void> {
  const known = new Set<string>();
  const names: Spelling['names'] = [];
  const add = (text: string) => {
    for (const word of split(text)) known.add(word).add(stem(word));
  };
  // What is on the page comes first.
  await later();
  for (const text of [PLAIN, ...colors, ...Object.entries(data.places).flat(2)]) add(text);
  let end = performance.now() + SLICE_MS;
  for (const { name, synonyms, also, motions } of subjects) {
    for (const phrase of [name, ...synonyms, ...also]) {
      add(phrase);
      for (const part of split(phrase)) names.push({ part, name });
    }
    for (const motion of motions) add(motion);
    if (performance.now() < end) continue;
    await later();
    end = performance.now() + SLICE_MS;
  }
  spelling = { known, names };
}

/** The words of `text` that are not on the model's list, by their spelling. */
function unknownWords(text: string, { known, names }: Spelling): Unknown[] {
  const found = new Map<string, Unknown>();
  for (const word of split(text)) {
    if (word.length < 3 || known.has(word) || known.has(stem(word))) continue;
    found.set(word, { word, nearest: nearest(word, names) });
  }
  return [...found.values()];
}

/** Objects whose names or synonyms are spelt most like `word`. */
function nearest(word: string, names: Spelling['names']): string[] {
  const most = slips(word.length);
  const alike = names.filter(({ part }) => Math.abs(part.length - word.length) <= most);
  const scored = alike.map(({ part, name }) => ({ name, away: distance(part, word) }));
  const close = scored.filter(({ away }) => away <= most).sort((a, b) => a.away - b.away);
  return [...new Set(close.map(({ name }) => name))].slice(0, MOST_OFFERS);
}

/** Letters to change, add, leave out or swap with their neighbour (optimal string alignment). */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => Array.from({ length: b.length + 1 }, (_, j) => (i === 0 ? j : j === 0 ? i : 0)));
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const changed = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(changed, rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = least;
    }
  }
  return rows[a.length]![b.length]!;
}

/** Looks at the sentence now, and again once the model has. `model` is asked for what spelling cannot tell. */
export function lookAtWords(model: () => VideoModel | undefined, isIdle: () => boolean): void {
  const text = field.value;
  const told = answers.get(text);
  show(text, told ?? (spelling ? unknownWords(text, spelling) : []));
  // As of then: much may have been typed.
  if (!spelling && !told) void (learning ??= learn()).then(() => field.value === text && lookAtWords(model, isIdle));
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    if (answers.has(text) || text.trim() === '' || !isIdle()) return;
    const scenes = text.split('\n').filter((line) => line.trim());
    const told = await Promise.all(scenes.map((scene) => model()?.understand(scene))).catch(() => []);
    if (told.length === 0 || told.some((event) => event === undefined)) return;
    const unknown = told.flatMap((event) => event?.unknown.map(({ word, nearest }) => ({ word, nearest: [nearest] })) ?? []);
    answers.set(text, unknown);
    if (field.value === text) show(text, unknown);
  }, PAUSE_MS);
}

function show(text: string, unknown: Unknown[]): void {
  const parts = unknown.map(({ word }) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const pieces = parts.length === 0 ? [text] : text.split(new RegExp(`(?<![\\p{L}\\p{N}])(${parts.join('|')})(?![\\p{L}\\p{N}])`, 'giu'));
  // The last line of a field that ends in a line break is empty, and counts.
  mirror.replaceChildren(...pieces.map((piece, index) => (index % 2 ? make('mark', piece) : piece)), '\u200b');
  offers.replaceChildren(...unknown.slice(0, MOST_OFFERS).map(offer));
}

function offer({ word, nearest }: Unknown): HTMLElement {
  const line = make('p', `“${word}” is not on its list. `, { class: 'offer' });
  line.append(nearest.length > 0 ? 'Try ' : 'It will draw the nearest thing it knows.');
  for (const name of nearest) {
    const chip = make('button', name, { type: 'button', class: 'chip' });
    chip.addEventListener('click', () => {
      const at = field.value.toLowerCase().indexOf(word.toLowerCase());
      if (at < 0) return;
      field.setRangeText(name, at, at + word.length, 'end');
      field.focus();
      field.dispatchEvent(new Event('input', { bubbles: true }));
    });
    line.append(chip);
  }
  return line;
}
