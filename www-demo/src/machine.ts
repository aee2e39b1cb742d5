/** What this browser and machine can do, for people. */

import { checkSupport, models, type SupportReport } from 'kinora';
import { isStored } from 'kinora/offline';
import { byId, make, megabytes } from './dom.js';

/** Of the browser's own, which can word prompts. */
const LANGUAGE_MODEL: Record<SupportReport['languageModel'], string> = {
  available: 'in this browser',
  downloading: 'in this browser, being downloaded',
  downloadable: 'in this browser, downloaded when it is first used',
  unavailable: 'none in this browser',
};

/** Fills the section about this machine and returns the report. */
export async function showMachine(): Promise<SupportReport> {
  const [report, plan] = await Promise.all([checkSupport(), models.plan('flipbook')]);
  const stored = await isStored(plan.files.map((file) => file.url));
  byId('verdict', HTMLElement).textContent = report.message;
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
    rows.push(['Adapter', [vendor, architecture, fallback ? '(software)' : ''].filter(Boolean).join(' ') || 'not named']);
  }
  const binding = report.limits?.maxStorageBufferBindingSize;
  if (binding) rows.push(['Largest buffer', megabytes(binding)]);
  rows.push(['Model', `flipbook, ${megabytes(plan.totalBytes)}, ${stored ? 'stored on this device' : 'not stored here yet'}`]);
  rows.push(['Language model', LANGUAGE_MODEL[report.languageModel]]);
  if (report.storage) rows.push(['Storage', `${megabytes(report.storage.usage)} used of ${megabytes(report.storage.quota)}`]);
  byId('report', HTMLElement).replaceChildren(...rows.flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
  byId('forget', HTMLButtonElement).hidden = !stored;
  byId('cost', HTMLElement).textContent = stored
    ? 'The model is stored on this device: no download.'
    : `Downloads the model once: ${megabytes(plan.totalBytes)}.`;
  return report;
}
