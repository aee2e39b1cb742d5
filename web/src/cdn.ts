/**
 * The whole package as one file, which runs from any origin and needs no import map. It defines `<kinora-video>` too. The WASM and
 * the model stay beside it.
 */

import { startWorkersBy } from './client.js';
import type { Port } from './protocol.js';
import { serve } from './session.js';

export * from './index.js';
export { KinoraVideo } from './element.js';

/** @internal */
export function serveWorker(): void {
  serve(globalThis as unknown as Port);
}

// Browsers start no workers from other origins, but import modules from there; the worker's script is this file again.
startWorkersBy(() => {
  const script = `import { serveWorker } from ${JSON.stringify(import.meta.url)}; serveWorker();`;
  const address = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  const worker = new Worker(address, { type: 'module' });
  // It is read by the time that the worker says something; revoking earlier breaks it in some browsers.
  worker.addEventListener('message', () => URL.revokeObjectURL(address), { once: true });
  return worker;
});
