/** What stands in for `fetch`: a function of the page for its worker, and whatever keeps files. Loaded where somebody brings one. */

import { KinoraError } from './errors.js';
import type { CacheAdapter } from './options.js';
import { isPage } from './transport.js';

type Fetch = typeof fetch;

/** What the worker's side hears: how the response begins, then a piece for each time it asked, then nothing. */
type Answer = { head: ResponseInit; empty: boolean } | { piece: Uint8Array | undefined } | { problem: string };

/** Responses that have no body. */
const BODYLESS = [101, 204, 205, 304];

/**
 * `by`, with what `cache` keeps in front of it, and how to forget files. An index that has changed makes everything else that is kept
 * worthless.
 */
export function withCache(cache: CacheAdapter, by: Fetch): { fetch: Fetch; forget(urls: string[]): Promise<void> } {
  let stale = false;
  const underway = new Set<Promise<unknown>>();
  const forget = async (urls: string[]) => {
    await Promise.all(underway);
    await Promise.allSettled(urls.map((url) => cache.delete(url)));
  };
  const own: Fetch = async (input, init = {}) => {
    const url = String(input);
    // That belongs to the package, not to the model.
    if (/\.wasm\b/.test(url)) return by(input, init);
    const isPart = new Headers(init.headers).has('range');
    const isIndex = init.cache === 'no-cache';
    const kept = isPart || stale ? undefined : await cache.match(url);
    if (kept && !isIndex) return kept;
    const response = await by(input, init).catch((cause: unknown) => {
      if (kept && !init.signal?.aborted) return kept;
      throw cause;
    });
    if (response === kept || response.status !== 200 || isPart || init.method === 'HEAD' || isPage(response)) return response;
    if (kept && (await kept.text()) !== (await response.clone().text())) stale = true;
    // Without room loading goes on; what is half there must not stay.
    const put = (async () => cache.put(url, response.clone()))().catch(() => cache.delete(url)).catch(() => undefined);
    underway.add(put);
    void put.then(() => underway.delete(put));
    return response;
  };
  return { fetch: own, forget };
}

/** Throws unless `cache` can be used as one. */
export function checkCache(cache: CacheAdapter): void {
  const missing = (['match', 'put', 'delete'] as const).filter((name) => typeof cache?.[name] !== 'function');
  if (missing.length) throw new KinoraError('invalid-request', `invalid cache: it has no ${missing.join(' and no ')}, expected auto, opfs, none or an adapter such as \`await caches.open('models')\``);
}

/** Answers what arrives at `port` by `by`. */
export function serveFetch(port: MessagePort, by: Fetch): void {
  port.onmessage = async ({ data: [url, init], ports: [reply] }: MessageEvent<[string, RequestInit]>) => {
    const answer = (answer: Answer) => reply?.postMessage(answer);
    const stop = new AbortController();
    let response: Promise<Response> | undefined;
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    reply!.onmessage = async ({ data: goOn }) => {
      if (!goOn) return stop.abort();
      try {
        answer({ piece: (await reader?.read())?.value });
      } catch (cause) {
        answer({ problem: String(cause) });
      }
    };
    try {
      response = by(url, { ...init, signal: stop.signal });
      const { status, statusText, headers, body } = await response;
      reader = body?.getReader();
      answer({ head: { status, statusText, headers: [...headers] }, empty: BODYLESS.includes(status) });
    } catch (cause) {
      answer({ problem: String(cause) });
    }
  };
}

/** A `fetch` whose requests are answered at the other end of `port`. */
export function fetchBy(port: MessagePort): Fetch {
  return (url, { signal, headers, ...init } = {}) =>
    new Promise((resolve, reject) => {
      const { port1, port2 } = new MessageChannel();
      let into: ReadableStreamDefaultController<Uint8Array> | undefined;
      let taken: (() => void) | undefined;
      const fail = (reason: unknown) => {
        reject(reason);
        into?.error(reason);
        port1.postMessage(false);
      };
      const body = new ReadableStream<Uint8Array>(
        {
          start: (controller) => void (into = controller),
          pull: () => new Promise<void>((done) => ((taken = done), port1.postMessage(true))),
          cancel: () => port1.postMessage(false),
        },
        { highWaterMark: 0 },
      );
      port1.onmessage = ({ data }: MessageEvent<Answer>) => {
        if ('head' in data) return resolve(new Response(data.empty ? null : body, data.head));
        if ('problem' in data) return fail(new TypeError(data.problem));
        if (data.piece) into?.enqueue(data.piece);
        else into?.close();
        taken?.();
      };
      if (signal?.aborted) return fail(signal.reason);
      signal?.addEventListener('abort', () => fail(signal.reason), { once: true });
      port.postMessage([String(url), { ...init, headers: [...new Headers(headers)] }], [port2]);
    });
}
