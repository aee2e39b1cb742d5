/** The WASM module: fetched under a signal, with progress, and with words for what keeps it from running. */

import { orAborted } from './abort.js';
import { KinoraError } from './errors.js';
import { fetchAddress, refusePages, shown } from './transport.js';
import init from './wasm/core.js';

/** The glue keeps the first instance of a thread. */
let running = false;

/** Starts the module at `address`, unless it runs already; `onProgress` hears which share of it is here. */
export async function startEngine(address: string, signal: AbortSignal, onProgress?: (share: number) => void, by?: typeof fetch): Promise<void> {
  if (running) return;
  const response = await fetchModule(address, signal, onProgress, by);
  try {
    await orAborted(init({ module_or_path: response }), signal);
  } catch (cause) {
    signal.throwIfAborted();
    const forbidden = /unsafe-eval|content security policy/i.test(String(cause));
    const hint = forbidden ? "the page's policy must allow it: script-src 'wasm-unsafe-eval'" : `${shown(address)} must be a module of this version`;
    throw new KinoraError('wasm', `the WASM module cannot be started: ${String(cause)}`, { cause, hint });
  }
  running = true;
}

async function fetchModule(address: string, signal: AbortSignal, onProgress?: (share: number) => void, by?: typeof fetch): Promise<Response> {
  const failed = (problem: string, cause?: unknown) => {
    const hint = 'serve dist/wasm beside the package, allow it in connect-src, or say where it is with `wasm`';
    return new KinoraError('wasm', `the WASM module at ${shown(address)} cannot be fetched: ${problem}`, { cause, hint });
  };
  const response = await fetchAddress(address, { signal }, by).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw failed(String(cause), cause);
  });
  if (!response.ok || !response.body) throw failed(`the server answered ${response.status}`);
  refusePages(response, address, 'wasm');
  // That of a compressed response is smaller; the share then ends early.
  const bytes = Number(response.headers.get('content-length')) || Infinity;
  let arrived = 0;
  const counted = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        arrived += chunk.byteLength;
        onProgress?.(Math.min(1, arrived / bytes));
        controller.enqueue(chunk);
      },
    }),
  );
  // Servers that do not know the type of WASM are no reason to compile it only once all of it is here.
  return new Response(counted, { headers: { 'content-type': 'application/wasm' } });
}
