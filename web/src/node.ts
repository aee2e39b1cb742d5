/**
 * The package for Node: WebGPU by the peer dependency `webgpu`, model files from disk. Import this module instead of `kinora`.
 * Node has no workers of the browser's kind, no pictures and no video encoders: there are no previews, and MP4 files are not compressed.
 */

import { createReadStream, existsSync } from 'node:fs';
import { rename, rm, stat, writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

import { create, globals } from 'webgpu';

import { KinoraError } from './errors.js';
import { addTransport } from './transport.js';
import type { Video } from './video.js';

export * from './index.js';

/** Types that are not told from the first bytes. */
const MEDIA_TYPES: Record<string, string> = { '.wasm': 'application/wasm', '.json': 'application/json' };

/** Where packages of Chromium and Chrome put SwiftShader. */
const SOFTWARE_DRIVERS = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/usr/lib/chromium-browser', '/opt/google/chrome'].map(
  (folder) => `${folder}/vk_swiftshader_icd.json`,
);

const scope = globalThis as Record<string, unknown>;
Object.assign(globalThis, globals);
// Held by a global: the adapter's library goes down with this object.
scope['kinoraGpu'] ??= await openGpu();
// Node 20 has no navigator, later ones have one that cannot be replaced but extended.
if (!globalThis.navigator) Object.defineProperty(globalThis, 'navigator', { value: {}, configurable: true });
Object.defineProperty(globalThis.navigator, 'gpu', { value: scope['kinoraGpu'], configurable: true });
// The WASM asks for WebGPU only in what looks like a page or a worker.
scope['WorkerGlobalScope'] ??= class WorkerGlobalScope {};

addTransport('file:', async (url) => {
  const path = fileURLToPath(url);
  try {
    const { size } = await stat(path);
    const headers = { 'content-length': String(size), 'content-type': MEDIA_TYPES[extname(path)] ?? 'application/octet-stream' };
    return new Response(Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array<ArrayBuffer>>, { headers });
  } catch {
    return new Response(null, { status: 404 });
  }
});

/** WebGPU on a driver of this machine, or else on the one that Chromium brings for machines without a GPU. */
async function openGpu(): Promise<GPU> {
  const gpu = create([]);
  const { env } = process;
  if (env['VK_DRIVER_FILES'] || env['VK_ICD_FILENAMES'] || (await gpu.requestAdapter().catch(() => null))) return gpu;
  const manifest = SOFTWARE_DRIVERS.find((path) => existsSync(path));
  if (!manifest) return gpu;
  // Older loaders read the second one.
  env['VK_DRIVER_FILES'] = env['VK_ICD_FILENAMES'] = manifest;
  return create([]);
}

/** Writes a clip to `path`, whole or not at all: `.mp4`, `.gif`, or `.apng` and `.png`. */
export async function saveVideo(video: Video, path: string): Promise<void> {
  const extension = extname(path).toLowerCase();
  const type = ({ '.mp4': 'video/mp4', '.gif': 'image/gif', '.apng': 'image/apng', '.png': 'image/apng' } as const)[extension];
  if (!type) throw new KinoraError('invalid-request', `invalid path: found \`${path}\`, expected an ending .mp4, .gif or .apng`);
  const partial = `${path}.part`;
  const blob = await video.toBlob({ type });
  try {
    await writeFile(partial, new Uint8Array(await blob.arrayBuffer()));
    await rename(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
}
