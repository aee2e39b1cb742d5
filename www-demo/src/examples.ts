/** A few sentences to begin with, and others on request. */

import { byId, make } from './dom.js';
import { anySentence, article, sentence } from './vocabulary.js';

const COUNT = 3;

/** Fills the list; `onChoose` hears the sentence. */
export function showExamples(onChoose: (sentence: string) => void): void {
  const chosen = new Map<string, ReturnType<typeof anySentence>>();
  while (chosen.size < COUNT) {
    const example = anySentence();
    chosen.set(example.subject.name, example);
  }
  const chips = [...chosen.values()].map(({ subject, motion, color }) => {
    const chip = make('button', `${article(subject.name)} ${motion}`, { type: 'button', class: 'chip', 'data-color': color });
    chip.addEventListener('click', () => onChoose(sentence(subject, motion, color)));
    return chip;
  });
  const list = byId('examples', HTMLElement);
  const more = make('button', 'Other ideas', { type: 'button', class: 'chip plain' });
  more.addEventListener('click', () => {
    showExamples(onChoose);
    list.querySelector<HTMLButtonElement>('.plain')?.focus();
  });
  list.replaceChildren(...chips, more);
}
