/** Which models there are, of which files they consist, and what this browser keeps of them. */

import { deleteModel, keptBytes, keptModels } from './cache.js';
import { fetched, KinoraError } from './errors.js';
import { flipbook, flipbookNeeds } from './models/flipbook.js';
import type { FileEntry, LoadOptions, ModelSource } from './options.js';
import { shown } from './transport.js';

/** A model that needs no address. */
export interface ModelEntry {
  name: string;
  /** All files together. */
  bytes: number;
  /** Of its clips by default, in pixels, frames and frames per second. */
  width: number;
  height: number;
  frames: number;
  fps: number;
  /** What the GPU must hold for such a clip, and in one buffer. */
  needs: { gpuBytes: number; bufferBytes: number };
}

/** What loading a model would fetch. */
export interface ModelPlan {
  files: FileEntry[];
  totalBytes: number;
  /** Already in this browser. */
  cachedBytes: number;
}

/** A model of which this browser keeps files. */
export interface CachedModel {
  /** The address it was loaded from. */
  id: string;
  bytes: number;
}

/** What is known about models without loading one. */
export const models = {
  /** The models that come with the package. */
  list(): ModelEntry[] {
    return [{ name: flipbook.name, bytes: totalBytes(flipbook), ...flipbookNeeds }];
  },
  /** What loading `model` would fetch. Asks the server of a model that is not in the package for its file list. */
  async plan(model: NonNullable<LoadOptions['model']>, signal?: AbortSignal): Promise<ModelPlan> {
    const source = await resolveModel(model, signal);
    return { files: source.files, totalBytes: totalBytes(source), cachedBytes: await keptBytes(source) };
  },
  /** Whether `model` loads without network: it comes with the package, or all of it is kept here. */
  async isCached(model: NonNullable<LoadOptions['model']>): Promise<boolean> {
    if (model === 'flipbook') return true;
    const id = sourceName(model);
    return (await keptModels()).some((cached) => cached.id === id && cached.complete);
  },
  /** The models this browser keeps files of. */
  async cached(): Promise<CachedModel[]> {
    return (await keptModels()).map(({ id, bytes }) => ({ id, bytes }));
  },
  /** Forgets the files of a model. */
  async delete(model: NonNullable<LoadOptions['model']>): Promise<void> {
    await deleteModel(sourceName(model));
  },
  /** Forgets the files of all models. */
  async clear(): Promise<void> {
    for (const { id } of await keptModels()) await deleteModel(id);
  },
};

/** The files of the model that `model` names. */
export async function resolveModel(model: NonNullable<LoadOptions['model']>, signal?: AbortSignal, cache = true, by?: typeof fetch): Promise<ModelSource> {
  if (model === 'flipbook') return flipbook;
  if (typeof model === 'object' && !(model instanceof URL)) return checkSource(model);
  const address = folderAddress(model);
  return (await fetched(import('./folder.js'))).listFolder(address, signal, cache, by);
}

function sourceName(model: NonNullable<LoadOptions['model']>): string {
  if (typeof model === 'object' && !(model instanceof URL)) return model.name;
  return model === 'flipbook' ? model : folderAddress(model);
}

function totalBytes(source: ModelSource): number {
  return source.files.reduce((sum, file) => sum + (file.bytes ?? 0), 0);
}

function folderAddress(model: string | URL): string {
  // A plain word is a slip of the pen far more often than a folder beside the page.
  if (model instanceof URL || /^(\.{0,2}\/|[a-z]+:)/i.test(model)) {
    try {
      const base = globalThis.location?.href;
      const url = new URL(model, base);
      if (!url.pathname.endsWith('/')) url.pathname += '/';
      return url.href;
    } catch {
      // Not an address either: falls through.
    }
  }
  const hint = 'give `flipbook`, or the address of a folder with model_index.json, such as ./models/mine/';
  throw new KinoraError('unknown-model', `unknown model \`${shown(model)}\``, { hint });
}

/** A copy with nothing in it that a worker could not be sent. */
function checkSource(source: ModelSource): ModelSource {
  const invalid = (found: string) => new KinoraError('invalid-request', `invalid model: ${found}, expected \`{ name, files }\` with a path and a url for each file`);
  if (typeof source?.name !== 'string' || !Array.isArray(source.files) || source.files.length === 0) throw invalid('found no name or no files');
  const files = source.files.map(({ path, url, bytes, sha256 }) => {
    if (typeof path !== 'string' || !(typeof url === 'string' || (url as unknown) instanceof URL)) throw invalid(`found a file \`${String(path)}\` at \`${shown(String(url))}\``);
    return { path, url: String(url), ...(bytes === undefined ? {} : { bytes: Number(bytes) }), ...(sha256 === undefined ? {} : { sha256: sha256.map(String) }) };
  });
  const { name, version, pipeline } = source;
  return { name, files, ...(version !== undefined && { version: String(version) }), ...(pipeline !== undefined && { pipeline: String(pipeline) }) };
}
