// Wan 1.3B of true size with quantised weights in headless Chromium: what a tab holds while it loads, steps, and loads again offline.
// `node scripts/large.mjs`, after `cargo xtask web`. The weights are pseudo-random and made by the server as they are asked for; the text
// encoder is UMT5-XXL's with one layer instead of 24.
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { EXECUTABLES, FLAGS, open, serve, web } from '../test/harness.mjs';

const GOLDEN = join(web, '../tests/golden');
const SHAPES = join(GOLDEN, 'true_size');
const BLOCK = 32;

/** Pseudo-random codes, and a factor that keeps values small. */
const CODES = Buffer.alloc(1 << 20);
for (let i = 0, state = 1; i < CODES.length; i++) CODES[i] = (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
const FACTOR = 0x0a00; // about 0.0002 as f16

/** Names and shapes of a file of shapes, whose names hold ranges such as `{0..29}`. */
function tensors(name) {
  const expand = (key) => {
    const [range, first, last] = /\{(\d+)\.\.(\d+)\}/.exec(key) ?? [];
    if (!range) return [key];
    return Array.from({ length: last - first + 1 }, (_, i) => key.replace(range, Number(first) + i)).flatMap(expand);
  };
  const lines = readFileSync(join(SHAPES, name, 'tensors.txt'), 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));
  return lines.flatMap((line) => {
    const at = line.indexOf(' ');
    return expand(line.slice(0, at)).map((key) => [key, JSON.parse(line.slice(at + 1))]);
  });
}

/** A safetensors file: its size, and its bytes from one place to another. */
function file(list, quantised) {
  const header = {};
  const parts = [];
  let size = 0;
  const add = (name, dtype, shape, bytes) => {
    header[name] = { dtype, shape, data_offsets: [size, (size += bytes)] };
    parts.push({ dtype, from: size - bytes, to: size });
  };
  for (const [name, shape] of list) {
    const count = shape.reduce((product, extent) => product * extent, 1);
    if (quantised && shape.length === 2 && shape[1] % BLOCK === 0) {
      add(name, 'I8', shape, count);
      add(`${name}.scale`, 'F16', [shape[0], shape[1] / BLOCK], (2 * count) / BLOCK);
    } else {
      add(name, 'F16', shape, 2 * count);
    }
  }
  const text = JSON.stringify(header);
  const start = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  start.writeBigUInt64LE(BigInt(start.length - 8));
  start.write(text, 8);
  const read = (from, to) => {
    const bytes = Buffer.alloc(to - from);
    if (from < start.length) start.copy(bytes, 0, from, Math.min(to, start.length));
    for (const part of parts) {
      const [a, b] = [Math.max(from, part.from + start.length), Math.min(to, part.to + start.length)];
      for (let at = a; at < b; ) {
        // Each block of codes begins where its place in the file says.
        const own = (at - start.length) % CODES.length;
        const length = Math.min(b - at, CODES.length - own);
        if (part.dtype === 'I8') CODES.copy(bytes, at - from, own, own + length);
        else for (let i = 0; i < length; i++) bytes[at - from + i] = (FACTOR >> (8 * ((at + i - start.length - part.from) % 2))) & 255;
        at += length;
      }
    }
    return bytes;
  };
  return { size: start.length + size, read };
}

/** A small file from memory. */
const plain = (bytes) => ({ size: bytes.length, read: (from, to) => bytes.subarray(from, to) });
const json = (value) => plain(Buffer.from(JSON.stringify(value)));
const config = (name, changes = {}) => json({ ...JSON.parse(readFileSync(join(SHAPES, name, 'config.json'))), ...changes });

const FILES = {
  'model_index.json': json({
    _class_name: 'WanPipeline', transformer: ['diffusers', 'WanTransformer3DModel'], transformer_2: [null, null],
    text_encoder: ['transformers', 'UMT5EncoderModel'], tokenizer: ['transformers', 'T5TokenizerFast'], vae: ['diffusers', 'AutoencoderKLWan'],
    scheduler: ['diffusers', 'UniPCMultistepScheduler'], boundary_ratio: null, expand_timesteps: false,
  }),
  'scheduler/scheduler_config.json': json({ _class_name: 'UniPCMultistepScheduler', flow_shift: 3, use_flow_sigmas: true, prediction_type: 'flow_prediction', num_train_timesteps: 1000 }),
  'tokenizer/tokenizer.json': plain(readFileSync(join(GOLDEN, 'tokenizer/unigram.json'))),
  'transformer/config.json': config('wan2.1-t2v-1.3b'),
  'transformer/diffusion_pytorch_model.safetensors': file(tensors('wan2.1-t2v-1.3b'), true),
  'text_encoder/config.json': config('umt5-xxl', { num_layers: 1 }),
  'text_encoder/model.safetensors': file(tensors('umt5-xxl').filter(([name]) => !/block\.[1-9]/.test(name)), true),
  'vae/config.json': config('wan2.1-vae'),
  'vae/diffusion_pytorch_model.safetensors': file(tensors('wan2.1-vae'), false),
};

/** Bytes sent of the model. */
let sent = 0;
const server = createServer(async (request, response) => {
  const found = FILES[request.url.slice(1)];
  const headers = { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*', 'access-control-expose-headers': '*' };
  if (!found) return void response.writeHead(request.method === 'OPTIONS' ? 204 : 404, headers).end();
  const [range, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const [from, to] = range ? [Number(first), last ? Number(last) + 1 : found.size] : [0, found.size];
  const part = range && { 'content-range': `bytes ${from}-${to - 1}/${found.size}` };
  response.writeHead(range ? 206 : 200, { ...headers, ...part, etag: '"1"', 'content-length': to - from });
  if (request.method !== 'GET') return void response.end();
  const gone = once(response, 'close');
  for (let at = from; at < to && !response.destroyed; at += 1 << 20) {
    const bytes = found.read(at, Math.min(to, at + (1 << 20)));
    sent += bytes.length;
    if (!response.write(bytes)) await Promise.race([once(response, 'drain'), gone]).catch(() => undefined);
  }
  response.end();
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const address = `http://127.0.0.1:${server.address().port}/`;

const site = await serve();
// A profile on disk: that of a private window lies in memory.
const profile = mkdtempSync(join(tmpdir(), 'kinora-large-'));
const context = await chromium.launchPersistentContext(profile, { executablePath: EXECUTABLES.find((path) => path && existsSync(path)), args: [...FLAGS, '--enable-unsafe-webgpu'] });

/** In the page: loads and tells what was held at most. */
async function held([address, step]) {
  const { loadModel } = await import('kinora');
  const script = `
    const told = new BroadcastChannel('held');
    const most = { wasm: 0, buffers: 0, buffer: 0, limit: 0 };
    let memory, live = 0;
    for (const name of ['instantiate', 'instantiateStreaming']) {
      const original = WebAssembly[name];
      WebAssembly[name] = async (...given) => {
        const made = await original(...given);
        memory = (made.instance ?? made).exports.memory;
        return made;
      };
    }
    const create = GPUDevice.prototype.createBuffer;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const buffer = create.call(this, descriptor);
      most.buffers = Math.max(most.buffers, (live += descriptor.size));
      most.buffer = Math.max(most.buffer, descriptor.size);
      most.limit = this.limits.maxBufferSize;
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => ((live -= descriptor.size), destroy());
      return buffer;
    };
    told.onmessage = () => told.postMessage({ ...most, wasm: memory?.buffer.byteLength ?? 0 });
    import('${location.origin}/dist/worker.js');`;
  const worker = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  const begun = performance.now();
  const model = await loadModel({ model: address, worker: () => new Worker(worker, { type: 'module' }) });
  const seconds = { load: (performance.now() - begun) / 1e3 };
  if (step) {
    const from = performance.now();
    const video = await model.generate('a red ball', { width: 64, height: 64, frames: 5, steps: 1, guidance: 1, seed: 1 });
    seconds.step = (performance.now() - from) / 1e3;
    seconds.frames = video.frameCount;
  }
  const channel = new BroadcastChannel('held');
  const answer = new Promise((resolve) => (channel.onmessage = ({ data }) => resolve(data)));
  channel.postMessage('?');
  const most = await answer;
  await model.dispose();
  return { seconds, most };
}

/** Samples the JavaScript heaps of a page and its worker, in bytes, while `work` goes on. */
async function sampled(page, work) {
  const session = await context.newCDPSession(page);
  const most = {};
  const pending = new Map();
  let number = 0;
  session.on('Target.attachedToTarget', ({ sessionId }) => pending.set(sessionId, 'worker'));
  session.on('Target.detachedFromTarget', ({ sessionId }) => pending.delete(sessionId));
  const keep = (name, { usedSize, backingStorageSize = 0 }) => {
    most[name] = Math.max(most[name] ?? 0, usedSize);
    most[`${name} buffers`] = Math.max(most[`${name} buffers`] ?? 0, backingStorageSize);
  };
  session.on('Target.receivedMessageFromTarget', ({ message }) => {
    const { result } = JSON.parse(message);
    if (result?.usedSize !== undefined) keep('worker', result);
  });
  await session.send('Target.setAutoAttach', { autoAttach: true, waitForDebuggerOnStart: false, flatten: false });
  const timer = setInterval(async () => {
    keep('page', await session.send('Runtime.getHeapUsage').catch(() => ({ usedSize: 0 })));
    const message = JSON.stringify({ id: ++number, method: 'Runtime.getHeapUsage' });
    for (const sessionId of pending.keys()) await session.send('Target.sendMessageToTarget', { sessionId, message }).catch(() => undefined);
  }, 250);
  const result = await work().finally(() => clearInterval(timer));
  return { ...result, heaps: most };
}

try {
  const total = Object.values(FILES).reduce((sum, { size }) => sum + size, 0);
  console.log(`model: ${total} bytes`);
  for (const [title, step] of [['from the network, and one step', true], ['again, without network', false]]) {
    sent = 0;
    const page = await open(context, site.origin);
    const result = await sampled(page, () => page.evaluate(held, [address, step]));
    console.log(title, JSON.stringify({ ...result, sent }));
    await page.close();
    server.closeAllConnections();
    if (step) await new Promise((closed) => server.close(closed));
  }
} finally {
  await context.close();
  await site.close();
  server.close();
  rmSync(profile, { recursive: true });
}
