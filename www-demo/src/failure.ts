/** What went wrong, in words for people, with the exact message for those who ask and a button that tries again. */

import type { ErrorCode, KinoraError } from 'kinora';
import { byId } from './dom.js';

const FILE = 'This file cannot be read as a picture or a clip. JPEG, PNG, GIF, WebP, MP4 and WebM work.';
const MEMORY = 'There was not enough memory. Close other tabs, or choose the smaller size or a shorter clip.';
const MODEL = 'The model on this server is incomplete. That is not your fault; trying again later may help.';

const WORDS: Partial<Record<ErrorCode, string>> = {
  download: 'The model could not be fetched. Check your connection, then try again.',
  wasm: 'The program could not be fetched. Check your connection, then try again.',
  'corrupt-download': 'The model arrived damaged. Trying again fetches it anew.',
  'not-found': MODEL,
  'invalid-config': MODEL,
  'out-of-memory': MEMORY,
  limit: MEMORY,
  'device-lost': 'The graphics driver was reset. Try again.',
  'unknown-input': FILE,
  'input-unreadable': FILE,
  'not-an-image': 'A clip cannot stand where a picture is needed. Choose what else to use it for.',
  'input-too-large': 'This file is too large. A smaller or shorter one works.',
};

/** Shows it in place of what the element would say. */
export function showFailure({ code, message, hint }: KinoraError): void {
  byId('failure-text', HTMLElement).textContent = WORDS[code] ?? 'That did not work.';
  byId('failure-detail', HTMLElement).textContent = [message, hint].filter(Boolean).join('; ');
}

/** `onAgain` is called when the button is pressed. */
export function watchFailure(onAgain: () => void): void {
  byId('again', HTMLButtonElement).addEventListener('click', onAgain);
}
