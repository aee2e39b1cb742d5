// Makes the page work offline from the first visit on. The package keeps the model, once it was used.
// The build puts the constants in: the page's files, and what tells this build from others.
const FILES = __FILES__;
const CACHE = `kinora-page-${__VERSION__}`;

self.addEventListener('install', (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => event.waitUntil(forgetOthers().then(() => self.clients.claim())));

self.addEventListener('fetch', (event) => {
  if (event.request.method === 'GET') event.respondWith(answer(event.request));
});

/** The page from the network if there is one, so that a new version is seen at once; its files have hashes in their names. */
async function answer(request) {
  const page = request.mode === 'navigate';
  const stored = await caches.match(page ? './' : request);
  if (stored && !page) return stored;
  try {
    return await fetch(request);
  } catch (error) {
    if (stored) return stored;
    throw error;
  }
}

async function forgetOthers() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith('kinora-page-') && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}
