/** The page's side of the service worker in sw.js, which stores the page at once, and the model and what runs it when they are used. */

/** As in sw.js. */
const USED = 'kinora-used';
/** A first visit should not wait for long. */
const PATIENCE_MS = 3000;

/** Registers the worker. Without it the page works all the same, but not offline. */
export function workOffline(): void {
  navigator.serviceWorker?.register('./sw.js').catch((error: unknown) => console.info('not available offline:', error));
}

/** Resolves once the worker sees what the page fetches, so that the model is stored on the first visit already. */
export async function watched(): Promise<void> {
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

/** Deletes what was stored when the model was used. */
export async function forget(): Promise<void> {
  await caches.delete(USED);
}
