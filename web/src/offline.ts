/**
 * `kinora/offline`: pages that work without network. `keepOffline` is for the service worker of a site: it stores the page at once, and
 * the WASM, its worker and the model when they were used. The other functions are for the page.
 */

/** What to store. */
export interface OfflineOptions {
  /** What the page begins with, as addresses relative to the service worker; `./` is the page itself. Stored on the first visit. */
  page: readonly string[];
  /** What is stored when it is used, as such addresses. Default: the WASM, scripts, JSON and weights of this origin. */
  used?: readonly string[];
  /** Another one for every build of the site. */
  version: string;
}

/** What is used of `ServiceWorkerGlobalScope`, which TypeScript knows only in projects for workers. */
interface Scope {
  location: Location;
  clients: { claim(): Promise<void> };
  addEventListener(type: 'install' | 'activate', listener: (event: Waiting) => void): void;
  addEventListener(type: 'fetch', listener: (event: Fetching) => void): void;
}

interface Waiting {
  waitUntil(work: Promise<unknown>): void;
}

interface Fetching extends Waiting {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

const PAGES = 'kinora-page-';
const USED = 'kinora-used';
const USABLE = /\.(wasm|m?js|json|safetensors|gguf)$/;
/** A first visit should not wait for long. */
const PATIENCE_MS = 3000;

/** Makes a service worker answer without network: call it once, at the top of its script. */
export function keepOffline({ page, used, version }: OfflineOptions): void {
  const scope = globalThis as unknown as Scope;
  const current = PAGES + version;
  const absolute = (path: string) => new URL(path, scope.location.href).href;
  const listed = used && new Set(used.map(absolute));
  const isUsed = (url: string) => listed?.has(url) ?? (new URL(url).origin === scope.location.origin && USABLE.test(new URL(url).pathname));

  // A newer version waits until no tab needs the files of the older one.
  scope.addEventListener('install', (event) => event.waitUntil(caches.open(current).then((cache) => cache.addAll(page.map(absolute)))));
  scope.addEventListener('activate', (event) => event.waitUntil(tidy().then(() => scope.clients.claim())));
  scope.addEventListener('fetch', (event) => {
    const { method, headers, url } = event.request;
    // A part of a file is no file: let the network answer. Films are asked for from their start to their end.
    const isWhole = ['bytes=0-', null].includes(headers.get('range'));
    if (method === 'GET' && isWhole && /^https?:/.test(url)) event.respondWith(answer(event));
  });

  /** The page from the network if there is one, so that a new version is seen at once; its files have hashes in their names. */
  async function answer(event: Fetching): Promise<Response> {
    const { request } = event;
    const isPage = request.mode === 'navigate';
    const stored = await caches.match(isPage ? absolute('./') : request);
    if (stored && !isPage) return stored;
    try {
      const response = await fetch(request);
      if (response.status === 200 && isUsed(request.url)) event.waitUntil(store(request, response.clone()));
      return response;
    } catch (error) {
      if (stored) return stored;
      throw error;
    }
  }

  /** Without room the page goes on without a copy. */
  async function store(request: Request, response: Response): Promise<void> {
    const cache = await caches.open(USED);
    await cache.put(request, response).catch(() => undefined);
  }

  /** Drops what other builds stored and this one does not name. */
  async function tidy(): Promise<void> {
    for (const name of await caches.keys()) if (name.startsWith(PAGES) && name !== current) await caches.delete(name);
    const cache = await caches.open(USED);
    for (const { url } of await cache.keys()) if (!isUsed(url)) await cache.delete(url);
  }
}

/** Registers the service worker at `script`. Without one the page works all the same, but not offline. */
export async function startOffline(script: string | URL = './sw.js', options?: RegistrationOptions): Promise<boolean> {
  return Boolean(await navigator.serviceWorker?.register(script, options).catch(() => undefined));
}

/** Resolves once the service worker sees what the page fetches, so that the model is stored on the first visit already; or soon after. */
export async function offlineStarted(): Promise<void> {
  const { serviceWorker } = navigator;
  if (!serviceWorker || serviceWorker.controller) return;
  const controlled = new Promise((resolve) => serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
  await Promise.race([controlled, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
}

/** Whether all of these addresses can be read without network. */
export async function isStored(urls: readonly string[]): Promise<boolean> {
  if (!globalThis.caches) return false;
  const found = await Promise.all(urls.map((url) => caches.match(url)));
  return found.every((response) => response !== undefined);
}

/** Deletes what was stored when it was used; the page itself stays. */
export async function forgetStored(): Promise<void> {
  await caches.delete(USED);
}
