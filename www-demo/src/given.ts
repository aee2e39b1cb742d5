/** A picture or a clip that the visitor brings along: chosen, or dropped anywhere on the page. */

import type { PromptParts } from 'kinora';
import { byId } from './dom.js';

/** What can be done with a file. */
const ROLES: Record<string, (file: File) => PromptParts> = {
  image: (image) => ({ image }),
  lastImage: (lastImage) => ({ lastImage }),
  edit: (video) => ({ video }),
  forward: (video) => ({ video, extend: 'forward' }),
  backward: (video) => ({ video, extend: 'backward' }),
  loop: (video) => ({ video, loop: true }),
};

const field = byId('file', HTMLInputElement);
const role = byId('role', HTMLSelectElement);
const shown = byId('given', HTMLElement);
let file: File | undefined;

/** What the next clip is made from besides text. */
export function givenParts(): PromptParts {
  return (file && ROLES[role.value]?.(file)) || {};
}

/** Listens for files; `onChange` hears what there is to say of each. */
export function watchFiles(onChange: (text: string) => void): void {
  field.addEventListener('change', () => field.files?.[0] && take(field.files[0], onChange));
  byId('remove', HTMLButtonElement).addEventListener('click', () => {
    file = undefined;
    field.value = '';
    shown.hidden = true;
    field.focus();
    onChange('The file is out again.');
  });
  const drag = (event: DragEvent) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    document.body.classList.toggle('dropping', event.type === 'dragover');
    const dropped = event.type === 'drop' && event.dataTransfer.files[0];
    if (dropped) take(dropped, onChange);
  };
  for (const type of ['dragover', 'dragleave', 'drop'] as const) document.addEventListener(type, drag);
}

function take(taken: File, onChange: (text: string) => void): void {
  file = taken;
  // A PNG or WebP may move as well; the choice is the visitor's.
  role.value = /^(video|image\/gif)/.test(taken.type) ? 'forward' : 'image';
  byId('given-name', HTMLElement).textContent = taken.name;
  shown.hidden = false;
  void thumbnail(taken);
  onChange(`${taken.name} goes into the next clip.`);
}

async function thumbnail(taken: File): Promise<void> {
  const canvas = byId('given-picture', HTMLCanvasElement);
  const context = canvas.getContext('2d');
  context?.clearRect(0, 0, canvas.width, canvas.height);
  // Films have none.
  const bitmap = await createImageBitmap(taken).catch(() => undefined);
  if (!bitmap || taken !== file) return;
  const side = Math.min(bitmap.width, bitmap.height);
  context?.drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}
