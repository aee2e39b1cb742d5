/** One loaded model for all elements of a page that name it. */

import { loadModel, type VideoModel } from './model.js';
import type { LoadProgress } from './options.js';

interface Entry {
  readonly model: Promise<VideoModel>;
  readonly abort: AbortController;
  readonly listeners: Set<(progress: LoadProgress) => void>;
  users: number;
}

const entries = new Map<string, Entry>();

/** A model in use; `release` it once. The last one to do so frees the GPU. */
export interface Lease {
  readonly model: VideoModel;
  release(): void;
  /** Releases it, and lets nobody else have this model: it is broken. */
  discard(): void;
}

/** Loads the model or joins those who have it. The download ends when nobody waits for it any more. */
export async function leaseModel(name: string, onProgress: (progress: LoadProgress) => void, signal: AbortSignal): Promise<Lease> {
  signal.throwIfAborted();
  const entry = entries.get(name) ?? begin(name);
  entry.users++;
  entry.listeners.add(onProgress);
  let held = true;
  const release = () => {
    if (held) leave(name, entry);
    held = false;
  };
  let abort: (() => void) | undefined;
  try {
    const aborted = new Promise<never>((_, reject) => {
      abort = () => reject(signal.reason);
      signal.addEventListener('abort', abort);
    });
    const model = await Promise.race([entry.model, aborted]);
    const discard = () => {
      forget(name, entry);
      release();
    };
    return { model, release, discard };
  } catch (error) {
    release();
    throw error;
  } finally {
    entry.listeners.delete(onProgress);
    if (abort) signal.removeEventListener('abort', abort);
  }
}

function begin(name: string): Entry {
  const abort = new AbortController();
  const listeners: Entry['listeners'] = new Set();
  const onProgress = (progress: LoadProgress) => listeners.forEach((listener) => listener(progress));
  const entry: Entry = { model: loadModel({ model: name, signal: abort.signal, onProgress }), abort, listeners, users: 0 };
  entries.set(name, entry);
  // The next one to ask gets a new try.
  entry.model.catch(() => forget(name, entry));
  return entry;
}

function leave(name: string, entry: Entry): void {
  entry.users--;
  if (entry.users > 0) return;
  forget(name, entry);
  entry.abort.abort();
  entry.model.then(
    (model) => model.dispose(),
    () => undefined, // It failed or was aborted: there is nothing to free.
  );
}

function forget(name: string, entry: Entry): void {
  if (entries.get(name) === entry) entries.delete(name);
}
