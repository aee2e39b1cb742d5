/** Sentences that the built-in model understands, and the list of what it can draw. */

import data from '../../models/flipbook/vocabulary.json';
import { byId, make } from './dom.js';
import { GROUPS } from './groups.js';

export { data };

/** One object and what it can do. */
export type Subject = (typeof data.objects)[number];

export const subjects: readonly Subject[] = data.objects;
export const colors: readonly string[] = data.colors;

/** Thumbnails in a row of assets/things.webp, and their side in pixels; as in web/scripts/things.mjs. */
const COLUMNS = 18;
const THUMBNAIL_PX = 48;

/** “a fox tilting its head on a pink background”. */
export function sentence(subject: Subject, motion: string, color: string): string {
  return `${article(subject.name)} ${motion} on a ${color} background`;
}

/** “an owl”, “a fox”, “a unicorn”. */
export function article(name: string): string {
  return `${/^(?!uni)[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`;
}

/** Any object doing one of its motions anywhere. */
export function anySentence(): { subject: Subject; motion: string; color: string } {
  const subject = any(subjects);
  return { subject, motion: any(subject.motions), color: any(colors) };
}

export function any<T>(list: readonly T[]): T {
  const chosen = list[Math.floor(Math.random() * list.length)];
  if (chosen === undefined) throw new Error('nothing to choose from');
  return chosen;
}

/** Fills the list once it is opened; `onChoose` hears which object was tapped. */
export function showVocabulary(onChoose: (subject: Subject) => void): void {
  const details = byId('words', HTMLDetailsElement);
  const filter = byId('filter', HTMLInputElement);
  byId('count', HTMLElement).textContent = `${subjects.length} things`;
  byId('count', HTMLElement).addEventListener('click', () => (details.open = true));
  details.addEventListener('toggle', fill, { once: true });

  function fill(): void {
    const groups = Object.entries(GROUPS).map(([title, names]) => {
      const things = names.map((name) => {
        const at = subjects.findIndex((subject) => subject.name === name);
        const subject = subjects[at]!;
        const picture = make('i', '', { 'aria-hidden': 'true' });
        picture.style.backgroundPosition = `-${(at % COLUMNS) * THUMBNAIL_PX}px -${Math.floor(at / COLUMNS) * THUMBNAIL_PX}px`;
        const button = make('button', '', { type: 'button', class: 'thing' });
        button.append(picture, name);
        button.addEventListener('click', () => onChoose(subject));
        return { button, words: [name, ...subject.synonyms, ...subject.also].join(' ').toLowerCase() };
      });
      const section = make('section', '', { 'aria-label': title });
      const list = make('div', '', { class: 'things' });
      list.append(...things.map(({ button }) => button));
      section.append(make('h3', title), list);
      return { section, things };
    });
    const nothing = make('p', 'Nothing on its list is called that. It will still draw the nearest thing.', { class: 'note', hidden: '' });
    byId('vocabulary', HTMLElement).append(...groups.map(({ section }) => section), nothing);
    filter.addEventListener('input', () => {
      const wanted = filter.value.trim().toLowerCase();
      for (const { section, things } of groups) {
        for (const { button, words } of things) button.hidden = !words.includes(wanted);
        section.hidden = things.every(({ button }) => button.hidden);
      }
      nothing.hidden = groups.some(({ section }) => !section.hidden);
    });
  }
}
