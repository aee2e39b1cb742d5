/** Sentences that the built-in model understands. */

import data from '../../models/flipbook/vocabulary.json';

/** One object and what it can do. */
export type Subject = (typeof data.objects)[number];

export const subjects: readonly Subject[] = data.objects;
export const colors: readonly string[] = data.colors;

/** “a fox tilting its head on a pink background”. */
export function sentence(subject: Subject, motion: string, color: string): string {
  return `${article(subject.name)} ${motion} on a ${color} background`;
}

/** “an owl”, “a fox”. */
export function article(name: string): string {
  return `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`;
}

/** Any object doing one of its motions anywhere. */
export function anySentence(): { subject: Subject; motion: string; color: string } {
  const subject = any(subjects);
  return { subject, motion: any(subject.motions), color: any(colors) };
}

/** The object that a sentence names, by the longest name or synonym in it. */
export function subjectOf(prompt: string): Subject | undefined {
  const words = ` ${prompt.toLowerCase().replace(/[^a-z0-9-]+/g, ' ')} `;
  let found: Subject | undefined;
  let longest = 0;
  for (const subject of subjects) {
    for (const name of [subject.name, ...subject.synonyms]) {
      if (name.length <= longest || !words.includes(` ${name.toLowerCase()} `)) continue;
      found = subject;
      longest = name.length;
    }
  }
  return found;
}

export function any<T>(list: readonly T[]): T {
  const chosen = list[Math.floor(Math.random() * list.length)];
  if (chosen === undefined) throw new Error('nothing to choose from');
  return chosen;
}
