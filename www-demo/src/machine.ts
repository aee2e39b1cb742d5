/** What this browser and machine can do, for people, and a row of figures to send to others. */

import { checkSupport, models, type ModelInfo, type SupportReport } from 'kinora';
import { isStored } from 'kinora/offline';
import { byId, make, megabytes } from './dom.js';
import { measurePeak } from './peak.js';
import { hasServer } from './server.js';

/** Of the browser's own, which can word prompts. */
const LANGUAGE_MODEL: Record<SupportReport['languageModel'], string> = {
  available: 'in this browser',
  downloading: 'in this browser, being downloaded',
  downloadable: 'in this browser, downloaded when first used',
  unavailable: 'none in this browser',
};

/** When the last step was done, and what steps after the first took, in ms. */
let lastStep = 0;
let times: number[] = [];
/** Multiply-adds count as two operations a second; measured once, when a clip was made. */
let peak: Promise<number | undefined> | undefined;
let row = '';
/** The model that made the last clip. */
let known: ModelInfo | undefined;

/** A step of a clip is done. */
export function timeStep(step: number): void {
  const now = performance.now();
  if (step === 1) times = [];
  else times.push(now - lastStep);
  lastStep = now;
}

/** Adapter, browser and figures in one line. */
export const machineRow = (): string => row;

const middle = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Fills the section about this machine and returns the report; `info` is of the model that made a clip. */
export async function showMachine(info = known): Promise<SupportReport> {
  known = info;
  const [report, plan] = await Promise.all([checkSupport(), models.plan('flipbook')]);
  const stored = await isStored(plan.files.map((file) => file.url));
  const isLeft = report.code !== 'ok' && report.processor && (report.ok || !hasServer);
  byId('verdict', HTMLElement).textContent = isLeft && !report.ok ? `${report.message} Your processor makes the clips instead.` : report.message;
  byId('help', HTMLElement).replaceChildren(
    ...report.help.map(({ text, url }) => {
      const item = make('li');
      item.append(make('a', text, { href: url, rel: 'noreferrer' }));
      return item;
    }),
  );
  const rows: [string, string][] = [];
  if (report.adapter) {
    const { vendor, architecture, fallback } = report.adapter;
    rows.push([isLeft ? 'Adapter, not used' : 'Adapter', [vendor, architecture, fallback ? '(software)' : ''].filter(Boolean).join(' ') || 'not named']);
  }
  const step = middle(times);
  if (info && step) {
    rows.push(['One step', `${(step / 1e3).toFixed(step < 1e3 ? 3 : 1)} s`]);
    // Of the processor none is known.
    const most = isLeft ? undefined : await (peak ??= measurePeak().catch(() => undefined));
    const rate = info.stepFlops / (step / 1e3);
    if (most) rows.push(['Of its peak', `${((100 * rate) / most).toFixed(0)} %, ${giga(rate)} of ${giga(most)} GFLOP/s`]);
  }
  row = [...rows.map(([, value]) => value), navigator.userAgent].join(' | ');
  byId('copy-row', HTMLButtonElement).hidden = rows.length < 2;
  const binding = report.limits?.maxStorageBufferBindingSize;
  if (binding) rows.push(['Largest buffer', megabytes(binding)]);
  rows.push(['Model', `flipbook, ${megabytes(plan.totalBytes)}, ${stored ? 'stored on this device' : 'not stored here yet'}`]);
  rows.push(['Language model', LANGUAGE_MODEL[report.languageModel]]);
  if (report.storage) rows.push(['Storage', `${megabytes(report.storage.usage)} used of ${megabytes(report.storage.quota)}`]);
  byId('report', HTMLElement).replaceChildren(...rows.flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
  byId('forget', HTMLButtonElement).hidden = !stored;
  const download = stored ? 'The model is on this device: nothing to download.' : `Downloads the model once, ${megabytes(plan.totalBytes)}.`;
  byId('cost', HTMLElement).textContent = isLeft ? `No GPU here, so your processor draws it. ${download}` : download;
  return report;
}

/** Whether the larger size costs no patience: there is a GPU, and no software that stands in for one. */
export const isFast = ({ ok, adapter }: SupportReport): boolean => ok && adapter?.fallback === false;

const giga = (rate: number) => (rate / 1e9).toFixed(rate < 1e10 ? 1 : 0);
