/**
 * The part of the clip that is to change, painted over it. The model changes whole tokens, so the brush paints these: a grid of
 * checkboxes for the keyboard (arrow keys and space) and a canvas for the pointer.
 */

import { byId, make } from './dom.js';

/** Side of a token of the built-in model. */
const CELL_PX = 32;

const overlay = byId('region', HTMLElement);
const tools = byId('region-tools', HTMLElement);
const opener = byId('region-open', HTMLButtonElement);
let cells: HTMLInputElement[] = [];
let size: [number, number] = [0, 0];

/** Lays an empty grid over a clip of so many pixels. */
export function openRegion(width: number, height: number): void {
  size = [width, height];
  const columns = width / CELL_PX;
  cells = Array.from({ length: (height / CELL_PX) * columns }, (_, index) => {
    const label = `Row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}`;
    return make('input', '', { type: 'checkbox', 'aria-label': label, tabindex: index === 0 ? '0' : '-1' });
  });
  overlay.replaceChildren(...cells);
  overlay.style.setProperty('--columns', String(columns));
  overlay.style.setProperty('--shape', `${width} / ${height}`);
  show(true);
  cells[0]?.focus();
}

/** Takes the grid away. */
export function closeRegion(): void {
  if (overlay.hidden) return;
  const focused = [overlay, tools].some((part) => part.contains(document.activeElement));
  show(false);
  if (focused) opener.focus();
}

/** White where the clip is to change; nothing if no token is painted. */
export function regionMask(): OffscreenCanvas | undefined {
  if (!cells.some((cell) => cell.checked)) return undefined;
  const canvas = new OffscreenCanvas(...size);
  const context = canvas.getContext('2d');
  if (!context) return undefined;
  context.fillRect(0, 0, ...size);
  context.fillStyle = 'white';
  const columns = size[0] / CELL_PX;
  cells.forEach((cell, index) => {
    if (cell.checked) context.fillRect((index % columns) * CELL_PX, Math.floor(index / columns) * CELL_PX, CELL_PX, CELL_PX);
  });
  return canvas;
}

function show(open: boolean): void {
  overlay.hidden = tools.hidden = !open;
  opener.setAttribute('aria-expanded', String(open));
}

byId('region-clear', HTMLButtonElement).addEventListener('click', () => cells.forEach((cell) => (cell.checked = false)));
byId('region-close', HTMLButtonElement).addEventListener('click', closeRegion);

overlay.addEventListener('keydown', (event) => {
  const columns = size[0] / CELL_PX;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const from = cells.indexOf(event.target as HTMLInputElement);
  const to = step === undefined ? undefined : cells[from + step];
  if (event.key === 'Escape') closeRegion();
  if (step === undefined) return;
  event.preventDefault();
  if (!to) return;
  for (const cell of cells) cell.tabIndex = cell === to ? 0 : -1;
  to.focus();
});

/** What the stroke does to the cells under it. */
let paints: boolean | undefined;
const paint = (event: PointerEvent) => {
  const cell = document.elementFromPoint(event.clientX, event.clientY);
  if (paints !== undefined && cell instanceof HTMLInputElement && overlay.contains(cell)) cell.checked = paints;
};
overlay.addEventListener('pointerdown', (event) => {
  if (!(event.target instanceof HTMLInputElement)) return;
  paints = !event.target.checked;
  paint(event);
});
overlay.addEventListener('pointermove', paint);
for (const type of ['pointerup', 'pointercancel'] as const) window.addEventListener(type, () => (paints = undefined));
overlay.addEventListener('click', (event) => {
  // The stroke did it already; a click without a pointer is the space bar.
  if (event.detail > 0) event.preventDefault();
});
