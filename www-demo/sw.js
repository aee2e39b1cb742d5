// Makes the page work offline: the page itself from the first visit on, the WASM, its worker and the model once they were used.
// The build puts the constants in: the page's files, those of generating, and what tells this build from others.
const PAGE_FILES = __PAGE_FILES__;
const USED_FILES = __USED_FILES__;
const PAGE = `kinora-page-${__VERSION__}`;
const USED = 'kinora-used';

const usedUrls = new Set(USED_FILES.map((path) => new URL(path, self.location).href));

self.addEventListener('install', (event) => {
  // A newer version waits until no tab needs the files of the older one.
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(PAGE_FILES)));
});

self.addEventListener('activate', (event) => event.waitUntil(tidy().then(() => self.clients.claim())));

self.addEventListener('fetch', (event) => {
  const { method, headers } = event.request;
  // A part of a file is no file: let the network answer. Films are asked for from their start to their end.
  if (method === 'GET' && ['bytes=0-', null].includes(headers.get('range'))) event.respondWith(answer(event));
});

/** The page from the network if there is one, so that a new version is seen at once; its files have hashes in their names. */
async function answer(event) {
  const { request } = event;
  const page = request.mode === 'navigate';
  const stored = await caches.match(page ? './' : request);
  if (stored && !page) return stored;
  try {
    const response = await fetch(request);
    if (response.status === 200 && usedUrls.has(request.url)) event.waitUntil(store(request, response.clone()));
    return response;
  } catch (error) {
    if (stored) return stored;
    throw error;
  }
}

/** Without room the page goes on without a copy. */
async function store(request, response) {
  const cache = await caches.open(USED);
  await cache.put(request, response).catch(() => undefined);
}

/** Drops what other builds stored and this one does not name. */
async function tidy() {
  for (const name of await caches.keys()) if (name.startsWith('kinora-page-') && name !== PAGE) await caches.delete(name);
  const used = await caches.open(USED);
  for (const request of await used.keys()) if (!usedUrls.has(request.url)) await used.delete(request);
}
