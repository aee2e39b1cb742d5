/** The page's side of the protocol: starts a worker, sends calls, settles their promises. */

import { KinoraError, errorFromData } from './errors.js';
import type { LoadOptions } from './options.js';
import type { Calls, FromWorker, Port, ToWorker } from './protocol.js';

interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  onEvent(event: unknown): void;
  /** Takes the frame that was asked for. */
  onFrame: ((frame?: Uint8Array) => void) | undefined;
  signal: AbortSignal | undefined;
}

/** What a call may come with. */
export interface CallOptions<K extends keyof Calls> {
  signal?: AbortSignal | undefined;
  onEvent?: ((event: Calls[K]['event']) => void) | undefined;
  transfer?: Transferable[];
  /** Called with what asks for the next frame by itself; nothing once the call has ended. */
  onStart?(more: () => Promise<Uint8Array | undefined>): void;
}

// Bundlers recognise this expression as it stands, and only so.
let newWorker = () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });

/** Starts workers in another way wherever callers say nothing. */
export function startWorkersBy(start: () => Worker): void {
  newWorker = start;
}

/** Whether `worker` means a thread of its own; platforms such as Node have none. */
export function hasThread(worker: LoadOptions['worker']): boolean {
  return worker !== false && (worker !== undefined || typeof Worker !== 'undefined');
}

/** A running worker. */
export class Client {
  readonly #port: Port;
  readonly #stop: () => void;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  /** Messages from before the worker listens. */
  #waiting: [ToWorker, Transferable[]][] | undefined = [];
  #failure: KinoraError | undefined;

  private constructor(port: Port, stop: () => void, readonly onLog: LoadOptions['onLog']) {
    this.#port = port;
    this.#stop = stop;
    port.addEventListener('message', (message) => this.#receive(message.data as FromWorker));
  }

  /** Starts a worker, or serves the protocol in this thread. */
  static async start(worker: LoadOptions['worker'], onLog?: LoadOptions['onLog']): Promise<Client> {
    if (!hasThread(worker)) {
      const { serve } = await import('./session.js');
      const { port1, port2 } = new MessageChannel();
      const stop = serve(port2);
      port1.start();
      port2.start();
      return new Client(port1, () => (stop(), port2.close()), onLog);
    }
    let started: Worker;
    try {
      started = typeof worker === 'function' ? worker() : newWorker();
    } catch (cause) {
      throw new KinoraError('worker', `the worker cannot be started: ${String(cause)}`, { cause, hint: workerHint(cause) });
    }
    const client = new Client(started, () => started.terminate(), onLog);
    started.addEventListener('error', (event) => {
      const reason = event.message || 'its script cannot be loaded';
      client.close(new KinoraError('worker', `the worker failed: ${reason}`, { hint: workerHint(reason) }));
    });
    return client;
  }

  /** Calls the worker. After an abort the promise is settled once the worker has stopped working on it. */
  call<K extends keyof Calls>(type: K, parameters: Calls[K]['parameters'], options: CallOptions<K> = {}): Promise<Calls[K]['result']> {
    const { signal, onEvent, transfer = [], onStart } = options;
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure);
      if (signal?.aborted) return reject(signal.reason);
      const id = this.#nextId++;
      const abort = () => {
        if (!this.#waiting) return this.#send({ id, type: 'abort' });
        // The worker knows nothing of it yet, and may never.
        this.#waiting = this.#waiting.filter(([message]) => message.id !== id);
        this.#pending.get(id)?.reject(signal?.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      const settled = () => {
        this.#pending.delete(id);
        pending.onFrame?.();
        signal?.removeEventListener('abort', abort);
      };
      const pending: Pending = {
        resolve: (value) => (settled(), resolve(value as Calls[K]['result'])),
        reject: (reason) => (settled(), reject(reason)),
        onEvent: (event) => onEvent?.(event as Calls[K]['event']),
        onFrame: undefined,
        signal,
      };
      this.#pending.set(id, pending);
      let before: Promise<Uint8Array | undefined> = Promise.resolve(undefined);
      const more = () => {
        if (this.#pending.get(id) !== pending) return undefined;
        this.#send({ id, type: 'more' });
        return new Promise<Uint8Array | undefined>((resolve) => (pending.onFrame = resolve));
      };
      onStart?.(() => (before = before.then(more)));
      try {
        this.#send({ id, type, parameters } as ToWorker, transfer);
      } catch (cause) {
        this.#pending.get(id)?.reject(new KinoraError('invalid-request', `an option cannot be sent to the worker: ${String(cause)}`, { cause }));
      }
    });
  }

  /** Ends the worker and everything it does. */
  close(reason: KinoraError): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#stop();
    for (const pending of [...this.#pending.values()]) pending.reject(pending.signal?.aborted ? pending.signal.reason : reason);
  }

  #send(message: ToWorker, transfer: Transferable[] = []): void {
    if (this.#waiting) this.#waiting.push([message, transfer]);
    else this.#port.postMessage(message, transfer);
  }

  #receive(message: FromWorker): void {
    if (message.type === 'ready') {
      const waiting = this.#waiting ?? [];
      this.#waiting = undefined;
      for (const [early, transfer] of waiting) this.#send(early, transfer);
      return;
    }
    if (message.type === 'panic') {
      this.close(new KinoraError('internal', message.message, { hint: 'please report this; load the model again to go on' }));
      return;
    }
    if (message.type === 'log') return this.onLog?.(message.record);
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    switch (message.type) {
      case 'result':
        return pending.resolve(message.result);
      case 'error':
        return pending.reject(errorFromData(message.error));
      case 'aborted':
        return pending.reject(pending.signal?.reason ?? new DOMException('aborted', 'AbortError'));
      case 'event':
        return pending.onEvent(message.event);
      case 'frame':
        return pending.onFrame?.(message.frame);
    }
  }
}

function workerHint(cause: unknown): string {
  if (/trusted/i.test(String(cause))) return 'the page asks for trusted types: pass `worker: () => new Worker(policy.createScriptURL(…), { type: "module" })`';
  return 'serve dist/worker.js from the origin of the page and allow it in worker-src, use `kinora/cdn`, or pass `worker: () => new Worker(…)`';
}
