/** The page's side of the protocol: starts a worker, sends calls, settles their promises. */

import { errorFromData, fetched, KinoraError } from './errors.js';
import type { Latents } from './generation.js';
import type { LoadOptions } from './options.js';
import type { Calls, FromWorker, Port, ToWorker } from './protocol.js';

interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  onEvent(event: unknown): void;
  /** Take what was asked for. */
  answers: Partial<Record<keyof Answers, (value?: never) => void>>;
  signal: AbortSignal | undefined;
}

/** What may be asked of a call that runs, by what is sent for it. */
interface Answers {
  frame: Uint8Array;
  latents: Latents;
}

/** Asks a call that runs for something; nothing comes once it has ended. */
export type Ask = <K extends keyof Answers>(message: 'more' | 'hold' | 'decode', answer: K) => Promise<Answers[K] | undefined>;

/** What a call may come with. */
export interface CallOptions<K extends keyof Calls> {
  signal?: AbortSignal | undefined;
  onEvent?: ((event: Calls[K]['event']) => void) | undefined;
  transfer?: Transferable[];
  onStart?(ask: Ask): void;
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
      const { serve } = await fetched(import('./session.js'));
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
        for (const answer of Object.values(pending.answers)) answer();
        signal?.removeEventListener('abort', abort);
      };
      const pending: Pending = {
        resolve: (value) => (settled(), resolve(value as Calls[K]['result'])),
        reject: (reason) => (settled(), reject(reason)),
        onEvent: (event) => onEvent?.(event as Calls[K]['event']),
        answers: {},
        signal,
      };
      this.#pending.set(id, pending);
      onStart?.(async (type, answer) => {
        if (this.#pending.get(id) !== pending) return undefined;
        this.#send({ id, type });
        return new Promise((resolve) => (pending.answers[answer] = resolve));
      });
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
      default:
        return pending.answers[message.type]?.(message.value as never);
    }
  }
}

function workerHint(cause: unknown): string {
  if (/trusted/i.test(String(cause))) return 'the page asks for trusted types: pass `worker: () => new Worker(policy.createScriptURL(…), { type: "module" })`';
  return 'serve dist/worker.js from the origin of the page and allow it in worker-src, use `kinora/cdn`, or pass `worker: () => new Worker(…)`';
}
