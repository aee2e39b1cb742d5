/** The files of a model at an address, imported by those who name one: a server cannot be asked for a listing, but `model_index.json` says what there is. */

import { keptSource } from './cache.js';
import { digestOf } from './digest.js';
import { KinoraError } from './errors.js';
import type { FileEntry, ModelSource } from './options.js';
import { fetchAddress, refusePages, shown } from './transport.js';

const INDEX = 'model_index.json';
/** Of prompts, for a model without its text encoder. */
const STATES = 'text_states.safetensors';
/** Whoever has the model already does not wait longer to hear that it is still the newest. */
const NEWS_MS = 5000;
/** Components with weights. */
const WEIGHTED = /^(text_encoder|image_encoder|transformer|unet|vae)(_\d+)?$/;
/** How each library calls the files of weights; some folders mix them. */
const WEIGHTS: Record<string, string[]> = {
  transformers: ['model', 'diffusion_pytorch_model'],
  diffusers: ['diffusion_pytorch_model', 'model'],
};

/** What is read of the index. */
interface Index {
  [component: string]: unknown;
  kinora?: {
    /** Whatever else is in the folder, by path, with its size. */
    files?: unknown;
    vocabulary?: unknown;
    vocabulary_states?: unknown;
    cascade?: unknown;
  };
}

/**
 * The files of the folder at `address`, which ends in a slash: those that this browser keeps if the server's index is still the
 * one they came with, or if the server cannot be asked.
 */
export async function listFolder(address: string, signal: AbortSignal | undefined, cache: boolean, by?: typeof fetch): Promise<ModelSource> {
  const kept = cache ? await keptSource(address) : undefined;
  if (!kept) return list(address, await fetchIndex(address, signal, by), signal, by);
  try {
    const limit = AbortSignal.timeout(NEWS_MS);
    const index = await fetchIndex(address, signal ? AbortSignal.any([signal, limit]) : limit, by);
    if ((await digestOf(index)) === kept.version) return kept;
    return await list(address, index, signal, by);
  } catch {
    signal?.throwIfAborted();
    // Offline, or the server is out of order: what once was loaded still can be.
    return kept;
  }
}

async function fetchIndex(address: string, signal: AbortSignal | undefined, by?: typeof fetch): Promise<string> {
  const response = await ask(address + INDEX, { signal, by, cache: 'no-cache' });
  if (response) return response.text();
  throw new KinoraError('not-found', `model file not found at ${shown(address + INDEX)}`, { hint: 'the address must be that of a model in diffusers layout' });
}

async function list(folder: string, text: string, signal: AbortSignal | undefined, by?: typeof fetch): Promise<ModelSource> {
  const index = parse(text, folder + INDEX) as Index;
  const asking: Asking = { signal, by };
  const { files: own, vocabulary, vocabulary_states: states, cascade } = index.kinora ?? {};
  const known = listed(own, folder) ?? (await hubListing(folder, asking));
  const entry = (path: string, bytes = known?.get(path)): FileEntry => ({ path, url: new URL(path, folder).href, ...(bytes === undefined ? {} : { bytes }) });
  const weighted = async (name: string, library: string) => [entry(`${name}/config.json`), ...(await listWeights(name, library, folder, entry, asking, known))];
  const components = Object.entries(index).map(async ([name, component]): Promise<FileEntry[]> => {
    // `[null, null]` is a component that this model does without.
    if (!Array.isArray(component) || typeof component[1] !== 'string') return [];
    if (name === 'scheduler') return [entry('scheduler/scheduler_config.json')];
    if (/^tokenizer(_\d+)?$/.test(name)) return [entry(`${name}/tokenizer.json`)];
    return WEIGHTED.test(name) ? weighted(name, String(component[0])) : [];
  });
  const stages = Array.isArray(cascade) ? cascade.map((name) => weighted(String(name), 'diffusers')) : [];
  const words = [vocabulary, states, known?.has(STATES) && STATES].filter((path) => typeof path === 'string').map((path) => entry(path));
  const files = [entry(INDEX), ...(await Promise.all([...components, ...stages])).flat(), ...words];
  const version = await digestOf(text);
  const { _class_name: pipeline } = index;
  return { name: folder, files, ...(version !== undefined && { version }), ...(typeof pipeline === 'string' && { pipeline }) };
}

/** The sizes that an index lists itself, so that no server has to be asked for what may not be there. */
function listed(files: unknown, folder: string): Map<string, number> | undefined {
  if (files === undefined) return undefined;
  const sizes = Object.entries(files ?? {});
  if (sizes.length > 0 && sizes.every(([, bytes]) => Number.isSafeInteger(bytes) && bytes >= 0)) return new Map(sizes);
  throw new KinoraError('invalid-config', `${shown(folder + INDEX)}: \`kinora.files\` holds no sizes by path`, { hint: 'write the bytes of each file of the folder, or leave it out' });
}

function parse(text: string, address: string): object {
  try {
    const index: unknown = JSON.parse(text);
    if (typeof index === 'object' && index !== null) return index;
  } catch {
    // Falls through: no JSON is as wrong as another kind of it.
  }
  throw new KinoraError('invalid-config', `${shown(address)} holds no JSON object`, { hint: 'the address must be that of a model in diffusers layout' });
}

async function listWeights(
  component: string,
  library: string,
  folder: string,
  entry: (path: string, bytes?: number) => FileEntry,
  asking: Asking,
  known?: Map<string, number>,
): Promise<FileEntry[]> {
  const names = WEIGHTS[library] ?? WEIGHTS['diffusers']!;
  for (const name of names) {
    const single = `${component}/${name}.safetensors`;
    if (known?.has(single)) return [entry(single)];
    const found = known ? undefined : await ask(new URL(single, folder).href, { method: 'HEAD', ...asking });
    // That of a compressed response says nothing about the file.
    const plain = found && !found.headers.get('content-encoding');
    if (found) return [entry(single, (plain && Number(found.headers.get('content-length'))) || undefined)];
    const parts = `${single}.index.json`;
    const index = known && !known.has(parts) ? undefined : await ask(new URL(parts, folder).href, asking);
    if (index) {
      const { weight_map } = parse(await index.text(), folder + parts) as { weight_map?: Record<string, string> };
      return [...new Set(Object.values(weight_map ?? {}))].sort().map((shard) => entry(`${component}/${shard}`));
    }
  }
  const found = names.map((name) => `${name}.safetensors`).join(' or ');
  throw new KinoraError('not-found', `${folder}${component}/ has no ${found}, and no .index.json of parts of one`, { hint: 'the folder must be a diffusers model with safetensors' });
}

/**
 * The sizes of all files of a folder on the Hugging Face hub, by path, so that nobody has to ask for files that may not be there: browsers
 * show each as an error. Nothing elsewhere.
 */
async function hubListing(folder: string, asking: Asking): Promise<Map<string, number> | undefined> {
  const [, hub, revision, path = ''] = /^(https:\/\/huggingface\.co\/)([^/]+\/[^/]+\/resolve\/[^/]+)\/(.*)$/.exec(folder) ?? [];
  if (!hub || !revision) return undefined;
  const response = await ask(`${hub}api/models/${revision.replace('/resolve/', '/tree/')}/${path}?recursive=true`, asking);
  const files = response && ((await response.json()) as { path: string; size: number }[]);
  return files && new Map(files.map(({ path: whole, size }) => [whole.slice(path.length), size]));
}

/** How long to ask, and what stands in for `fetch`. */
interface Asking {
  signal: AbortSignal | undefined;
  by: typeof fetch | undefined;
}

/** The response, or nothing if there is no such file. */
async function ask(url: string, { signal, by, ...options }: { method?: string; cache?: RequestCache } & Asking): Promise<Response | undefined> {
  const init = { ...options, ...(signal && { signal }) };
  const response = await fetchAddress(url, init, by).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw new KinoraError('download', `${shown(url)} cannot be reached: ${String(cause)}`, { cause, hint: 'check the network and the server’s CORS headers' });
  });
  if (options.method === 'HEAD' && [405, 501].includes(response.status)) {
    // The headers are all that is wanted: the body is left on the way.
    const got = await ask(url, { signal, by });
    void got?.body?.cancel();
    return got;
  }
  if (response.status === 404 || response.status === 403 || response.status === 410) return undefined;
  if (!response.ok) throw new KinoraError('download', `${shown(url)} cannot be fetched: the server answered ${response.status}`);
  try {
    refusePages(response, url, 'not-found');
    return response;
  } catch {
    // A page for people in place of a file is as good as none.
    return undefined;
  }
}
