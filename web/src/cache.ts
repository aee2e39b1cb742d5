/**
 * Model files in the origin-private file system, one folder for each model. A file counts as whole only once its record,
 * written last, says so, and a model only once it was loaded from its files; an interrupted download leaves a record that is
 * not complete and is continued from there.
 */

import { digestOf } from './digest.js';
import { KinoraError } from './errors.js';
import { CHUNK_BYTES, type FileEntry, type ModelSource } from './options.js';

/** What is known of a stored file. */
interface FileRecord {
  path: string;
  url: string;
  /** Of the response; a server that has none cannot be asked to continue. */
  etag: string | null;
  complete: boolean;
  bytes: number;
  /** SHA-256 of each chunk; only of complete files. */
  sha256: string[];
}

interface ModelRecord {
  id: string;
  /** Of the source; files of another version are worthless. */
  version: string | null;
  /** Of the source; records of early versions have none. */
  pipeline?: string | null;
  /** Of the whole model. */
  files: { path: string; url: string }[];
  /** Whether a model was made of these very files: servers send wrong ones too. */
  loaded: boolean;
}

/** `FileSystemSyncAccessHandle`, which TypeScript knows only in projects for workers. */
interface SyncAccess {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options?: { at: number }): number;
  getSize(): number;
  truncate(bytes: number): void;
  flush(): void;
  close(): void;
}

const ROOT = 'kinora-models';
const MODEL_RECORD = 'model.json';

/** The folder of a model. Only for workers, whose file access is synchronous. */
export class KeptModel {
  readonly #record: ModelRecord;
  readonly #folder: FileSystemDirectoryHandle;

  private constructor(record: ModelRecord, folder: FileSystemDirectoryHandle) {
    this.#record = record;
    this.#folder = folder;
  }

  /** The folder for `source`, which may be empty; nothing where there is no such storage. */
  static async open(source: ModelSource): Promise<KeptModel | undefined> {
    try {
      const folder = await modelFolder(source.name, true);
      const old = await readJson<ModelRecord>(folder, MODEL_RECORD);
      const files = source.files.map(({ path, url }) => ({ path, url }));
      const version = source.version ?? null;
      const same = old?.version === version;
      if (old && !same) await empty(folder);
      const loaded = same && old.loaded && JSON.stringify(old.files) === JSON.stringify(files);
      const record: ModelRecord = { id: source.name, version, pipeline: source.pipeline ?? null, files, loaded };
      await writeJson(folder, MODEL_RECORD, record);
      return new KeptModel(record, folder);
    } catch {
      // Private windows, embedded pages, old browsers, another tab that is doing the same: loading works without.
      return undefined;
    }
  }

  /** A file, which may be empty; nothing where another tab writes it. */
  file(entry: FileEntry): Promise<KeptFile | undefined> {
    return KeptFile.open(this.#folder, entry).catch(() => undefined);
  }

  /** The model was loaded: from now on it needs no network. */
  async loaded(): Promise<void> {
    if (this.#record.loaded) return;
    this.#record.loaded = true;
    // Without it the next visit asks the server again, no more.
    await writeJson(this.#folder, MODEL_RECORD, this.#record).catch(() => undefined);
  }

  /** Forgets everything: the model cannot be loaded from these files. */
  async drop(): Promise<void> {
    await empty(this.#folder).catch(() => undefined);
  }
}

/** A file on its way into the cache, or out of it; one that a model works with stays open. */
export class KeptFile {
  readonly record: FileRecord;
  readonly #folder: FileSystemDirectoryHandle;
  readonly #handle: FileSystemFileHandle;
  #data: SyncAccess;
  #at = 0;

  private constructor(record: FileRecord, folder: FileSystemDirectoryHandle, handle: FileSystemFileHandle, data: SyncAccess) {
    this.record = record;
    this.#folder = folder;
    this.#handle = handle;
    this.#data = data;
  }

  /** @internal */
  static async open(folder: FileSystemDirectoryHandle, file: FileEntry): Promise<KeptFile> {
    const name = encodeURIComponent(file.path);
    const old = await readJson<FileRecord>(folder, `${name}.record`);
    const record = old?.url === file.url ? old : { path: file.path, url: file.url, etag: null, complete: false, bytes: 0, sha256: [] };
    const handle = await folder.getFileHandle(name, { create: true });
    // What is whole may be read by several tabs at once, where the browser knows this mode.
    const kept = new KeptFile(record, folder, handle, await openSync(handle, record.complete ? 'read-only' : 'readwrite'));
    const usable = record.complete ? kept.#data.getSize() === record.bytes : record.etag !== null;
    if (!usable) await kept.restart(null);
    return kept;
  }

  /** The next chunk that is here, if any, as a part of `memory`. */
  next(memory: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
    const left = this.#data.getSize() - this.#at;
    // A shorter chunk is the end of the file if that is complete, else where the download broke off.
    if (left <= 0 || (left < CHUNK_BYTES && !this.record.complete)) return undefined;
    const chunk = memory.subarray(0, left);
    this.#at += this.#data.read(chunk, { at: this.#at });
    return chunk;
  }

  /** Fills `into` with what is stored at `at`; returns how many bytes there were. */
  read(into: Uint8Array, at: number): number {
    return this.#data.read(into, { at });
  }

  /** Puts the right bytes in the place of damaged ones. */
  async mend(chunk: Uint8Array<ArrayBuffer>, at: number): Promise<void> {
    await this.#writable();
    this.#data.write(chunk, { at });
    this.#data.flush();
  }

  async #writable(): Promise<void> {
    if (!this.record.complete) return;
    this.#data.close();
    try {
      this.#data = await openSync(this.#handle, 'readwrite');
    } catch (error) {
      // Another tab reads it: so can this one go on doing.
      this.#data = await openSync(this.#handle, 'read-only');
      throw error;
    }
  }

  /** Forgets what is stored: the server has another version, or it was damaged. */
  async restart(etag: string | null): Promise<void> {
    await this.#writable();
    Object.assign(this.record, { etag, complete: false, bytes: 0, sha256: [] });
    this.#data.truncate(0);
    this.#at = 0;
  }

  /** Stores the beginning of a download, so that it can be continued. */
  async begun(): Promise<void> {
    this.#data.truncate(this.#at);
    await this.#save();
  }

  /** Adds a chunk. Throws if the browser has no room for it. */
  append(chunk: Uint8Array<ArrayBuffer>): void {
    const written = this.#data.write(chunk, { at: this.#at });
    if (written < chunk.byteLength) throw new DOMException('the storage is full', 'QuotaExceededError');
    this.#at += written;
  }

  /** Marks the file as whole. */
  async finish(sha256: string[]): Promise<void> {
    this.#data.flush();
    Object.assign(this.record, { complete: true, bytes: this.#at, sha256 });
    await this.#save();
  }

  close(): void {
    this.#data.close();
  }

  /** Removes the file: there is no room for all of it. */
  async discard(): Promise<void> {
    this.close();
    const { name } = this.#handle;
    for (const entry of [name, `${name}.record`]) await this.#folder.removeEntry(entry).catch(() => undefined);
  }

  #save(): Promise<void> {
    return writeJson(this.#folder, `${this.#handle.name}.record`, this.record);
  }
}

/** The models that are kept, whole or in part. */
export async function keptModels(): Promise<{ id: string; bytes: number; complete: boolean }[]> {
  const found = [];
  for (const folder of await modelFolders()) {
    const model = await readJson<ModelRecord>(folder, MODEL_RECORD);
    if (!model) continue;
    const files = await completeFiles(folder);
    const bytes = [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
    found.push({ id: model.id, bytes, complete: isWhole(model, files) });
  }
  return found;
}

/** The model `id` if all of it is kept, so that it loads without network. */
export async function keptSource(id: string): Promise<ModelSource | undefined> {
  try {
    const folder = await modelFolder(id, false);
    const model = await readJson<ModelRecord>(folder, MODEL_RECORD);
    const complete = await completeFiles(folder);
    if (!model || !isWhole(model, complete)) return undefined;
    const files = model.files.map((file) => ({ ...file, bytes: complete.get(file.path) ?? 0 }));
    const { version, pipeline } = model;
    return { name: id, files, ...(version !== null && { version }), ...(pipeline && { pipeline }) };
  } catch {
    // No such folder, or no such storage.
    return undefined;
  }
}

/** Bytes of whole files of `source` that are kept. */
export async function keptBytes(source: ModelSource): Promise<number> {
  try {
    const folder = await modelFolder(source.name, false);
    const model = await readJson<ModelRecord>(folder, MODEL_RECORD);
    if (model?.version !== (source.version ?? null)) return 0;
    return [...(await completeFiles(folder)).values()].reduce((sum, bytes) => sum + bytes, 0);
  } catch {
    // No such folder, or no such storage.
    return 0;
  }
}

/** Removes all files of a model. */
export async function deleteModel(id: string): Promise<void> {
  for (const folder of await modelFolders()) {
    const model = await readJson<ModelRecord>(folder, MODEL_RECORD);
    if (model?.id !== id) continue;
    await held(await root(false), (folders) => folders.removeEntry(folder.name, { recursive: true })).catch((cause: unknown) => {
      throw new KinoraError('busy', 'a model in use, here or in another tab, cannot be deleted', { cause, hint: 'dispose of it first' });
    });
  }
}

function isWhole(model: ModelRecord, complete: Map<string, number>): boolean {
  return model.loaded && model.files.every(({ path }) => complete.has(path));
}

async function root(create: boolean): Promise<FileSystemDirectoryHandle> {
  return held(await navigator.storage.getDirectory(), (storage) => storage.getDirectoryHandle(ROOT, { create }));
}

async function modelFolder(id: string, create: boolean): Promise<FileSystemDirectoryHandle> {
  // Addresses are longer than file names may be.
  const name = (await digestOf(id))!.slice(0, 32);
  return held(await root(create), (folders) => folders.getDirectoryHandle(name, { create }));
}

async function modelFolders(): Promise<FileSystemDirectoryHandle[]> {
  const folders = [];
  try {
    for await (const handle of (await root(false)).values()) {
      if (handle.kind === 'directory') folders.push(handle as FileSystemDirectoryHandle);
    }
  } catch {
    // Nothing was ever kept, or there is no such storage.
  }
  return folders;
}

async function empty(folder: FileSystemDirectoryHandle): Promise<void> {
  const names = [];
  for await (const { name } of folder.values()) names.push(name);
  for (const name of names) await folder.removeEntry(name);
}

/** The whole files of a model and their bytes. */
async function completeFiles(folder: FileSystemDirectoryHandle): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for await (const { name } of folder.values()) {
    const record = name.endsWith('.record') ? await readJson<FileRecord>(folder, name) : undefined;
    if (record?.complete) found.set(record.path, record.bytes);
  }
  return found;
}

async function readJson<T>(folder: FileSystemDirectoryHandle, name: string): Promise<T | undefined> {
  try {
    const file = await held(await folder.getFileHandle(name), (handle) => handle.getFile());
    return JSON.parse(await file.text()) as T;
  } catch {
    // Absent, or cut off while it was written: the same as never written.
    return undefined;
  }
}

async function writeJson(folder: FileSystemDirectoryHandle, name: string, value: unknown): Promise<void> {
  const data = await openSync(await folder.getFileHandle(name, { create: true }), 'readwrite');
  try {
    data.truncate(0);
    data.write(new TextEncoder().encode(JSON.stringify(value)));
    data.flush();
  } finally {
    data.close();
  }
}

function openSync(handle: FileSystemFileHandle, mode: 'read-only' | 'readwrite'): Promise<SyncAccess> {
  const file = handle as unknown as { createSyncAccessHandle(options: { mode: string }): Promise<SyncAccess> };
  return held(file, (file) => file.createSyncAccessHandle({ mode }));
}

const HELD = new Set<unknown>();

/** Chromium never answers if it collects a handle that nothing refers to any longer while it works. */
async function held<H, T>(handle: H, work: (handle: H) => Promise<T>): Promise<T> {
  HELD.add(handle);
  try {
    return await work(handle);
  } finally {
    HELD.delete(handle);
  }
}
