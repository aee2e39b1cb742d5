// Makes the page work offline: the page itself from the first visit on, the model once it was used.
// The build puts the constants in: the page's own files, stored at once, and those stored when they are used.
const SHELL = __SHELL__;
const ON_USE = __ON_USE__;
const VERSION = __VERSION__;

const PAGE = `kinora-page-${VERSION}`;
const FILES = 'kinora-files';

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(PAGE).then((cache) => cache.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => event.waitUntil(clean().then(() => self.clients.claim())));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const own = new URL(request.url).origin === self.location.origin;
  // A part of a file is no file: let the network answer.
  if (request.method !== 'GET' || !own || request.headers.has('range')) return;
  event.respondWith(request.mode === 'navigate' ? newest(request) : stored(event));
});

/** The page: from the network if there is one, so that a new version is seen at once. */
async function newest(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const response = await caches.match('./');
    if (response) return response;
    throw error;
  }
}

/** Everything else has its content's hash in its name, and never changes. */
async function stored(event) {
  const found = await caches.match(event.request);
  if (found) return found;
  const response = await fetch(event.request);
  if (response.status === 200 && ON_USE.some((path) => new URL(path, self.location).href === event.request.url)) {
    const copy = response.clone();
    // Without room the page goes on without a copy.
    event.waitUntil(caches.open(FILES).then((cache) => cache.put(event.request, copy)).catch(() => undefined));
  }
  return response;
}

/** Drops the pages of other versions and the files that this version no longer names. */
async function clean() {
  for (const name of await caches.keys()) if (name.startsWith('kinora-page-') && name !== PAGE) await caches.delete(name);
  const known = new Set(ON_USE.map((path) => new URL(path, self.location).href));
  const files = await caches.open(FILES);
  for (const request of await files.keys()) if (!known.has(request.url)) await files.delete(request);
}
