/** Which models there are, of which files they consist, and what this browser keeps of them. */

import { cachedBytes, cachedModels, cachedSource, deleteModel } from './cache.js';
import { KinoraError } from './errors.js';
import { flipbook } from './models/flipbook.js';
import type { FileEntry, LoadOptions, ModelSource } from './options.js';

/** A model that needs no address. */
export interface ModelEntry {
  name: string;
  /** All files together. */
  bytes: number;
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
    return [{ name: flipbook.name, bytes: totalBytes(flipbook) }];
  },
  /** What loading `model` would fetch. Asks the server of a model that is not in the package for its file list. */
  async plan(model: NonNullable<LoadOptions['model']>, signal?: AbortSignal): Promise<ModelPlan> {
    const source = await resolveModel(model, signal);
    return { files: source.files, totalBytes: totalBytes(source), cachedBytes: await cachedBytes(source) };
  },
  /** Whether `model` loads without network: it comes with the package, or all of it is kept here. */
  async isCached(model: NonNullable<LoadOptions['model']>): Promise<boolean> {
    if (model === 'flipbook') return true;
    const id = sourceName(model);
    return (await cachedModels()).some((cached) => cached.id === id && cached.complete);
  },
  /** The models this browser keeps files of. */
  async cached(): Promise<CachedModel[]> {
    return (await cachedModels()).map(({ id, bytes }) => ({ id, bytes }));
  },
  /** Forgets the files of a model. */
  async delete(model: NonNullable<LoadOptions['model']>): Promise<void> {
    await deleteModel(sourceName(model));
  },
  /** Forgets the files of all models. */
  async clear(): Promise<void> {
    for (const { id } of await cachedModels()) await deleteModel(id);
  },
};

/** The files of the model that `model` names. */
export async function resolveModel(model: NonNullable<LoadOptions['model']>, signal?: AbortSignal, cache = true): Promise<ModelSource> {
  if (model === 'flipbook') return flipbook;
  if (typeof model === 'object' && !(model instanceof URL)) return checkSource(model);
  const folder = folderAddress(model);
  return (cache && (await cachedSource(folder))) || listFolder(folder, signal);
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
  throw new KinoraError('unknown-model', `unknown model \`${String(model)}\``, { hint });
}

/** A copy with nothing in it that a worker could not be sent. */
function checkSource(source: ModelSource): ModelSource {
  const invalid = (found: string) => new KinoraError('invalid-request', `invalid model: ${found}, expected \`{ name, files }\` with a path and a url for each file`);
  if (typeof source?.name !== 'string' || !Array.isArray(source.files) || source.files.length === 0) throw invalid('found no name or no files');
  const files = source.files.map(({ path, url, bytes, sha256 }) => {
    if (typeof path !== 'string' || !(typeof url === 'string' || (url as unknown) instanceof URL)) throw invalid(`found a file \`${String(path)}\` at \`${String(url)}\``);
    return { path, url: String(url), ...(bytes === undefined ? {} : { bytes: Number(bytes) }), ...(sha256 === undefined ? {} : { sha256: sha256.map(String) }) };
  });
  return { name: source.name, files };
}

/** Components with weights, and how their files may be called (diffusers and transformers differ). */
const COMPONENTS = ['text_encoder', 'transformer', 'vae'];
const WEIGHTS = ['diffusion_pytorch_model', 'model'];

/** The files of a folder in diffusers layout; a server cannot be asked for a listing, so known names are tried. */
async function listFolder(folder: string, signal?: AbortSignal): Promise<ModelSource> {
  const entry = (path: string, bytes?: number): FileEntry => ({ path, url: new URL(path, folder).href, ...(bytes === undefined ? {} : { bytes }) });
  const files = ['model_index.json', 'scheduler/scheduler_config.json', 'tokenizer/tokenizer.json'].map((path) => entry(path));
  for (const component of COMPONENTS) {
    files.push(entry(`${component}/config.json`));
    const weights = await listWeights(component, folder, entry, signal);
    if (weights.length === 0) {
      const names = WEIGHTS.map((name) => `${name}.safetensors`).join(' or ');
      throw new KinoraError('not-found', `${folder}${component}/ has no ${names}`, { hint: 'the folder must be a diffusers model with safetensors' });
    }
    files.push(...weights);
  }
  return { name: folder, files };
}

async function listWeights(
  component: string,
  folder: string,
  entry: (path: string, bytes?: number) => FileEntry,
  signal?: AbortSignal,
): Promise<FileEntry[]> {
  for (const name of WEIGHTS) {
    const single = `${component}/${name}.safetensors`;
    const found = await ask(new URL(single, folder), 'HEAD', signal);
    if (found) return [entry(single, Number(found.headers.get('content-length')) || undefined)];
    const index = await ask(new URL(`${single}.index.json`, folder), 'GET', signal);
    if (index) {
      const { weight_map } = (await index.json()) as { weight_map?: Record<string, string> };
      return [...new Set(Object.values(weight_map ?? {}))].sort().map((shard) => entry(`${component}/${shard}`));
    }
  }
  return [];
}

/** The response, or nothing if there is no such file. */
async function ask(url: URL, method: string, signal?: AbortSignal): Promise<Response | undefined> {
  const response = await fetch(url, { method, ...(signal && { signal }) }).catch((cause: unknown) => {
    if (signal?.aborted) throw signal.reason;
    throw new KinoraError('download', `${url.href} cannot be reached: ${String(cause)}`, { cause, hint: 'check the network and the server’s CORS headers' });
  });
  if (response.ok) return response;
  if (response.status === 404 || response.status === 403) return undefined;
  throw new KinoraError('download', `${url.href} cannot be fetched: the server answered ${response.status}`);
}
