// Large weights stay in the origin's private file system: the engine reads what it needs, and its memory does not hold them.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const MODEL = join(web, '../tests/tiny-model');
const WEIGHTS = 'text_encoder/model.safetensors';
const CONFIG = 'text_encoder/config.json';
const CHUNK = 4 * 1024 * 1024;
const PADDING = 48e6;

let server, browser, page;
/** Ranges of the weights that were asked for, and files. */
let asked;
/** After how many bytes the connection breaks. */
let breakAfter;

/** The weights of the tiny model's text encoder with very many words that no tokenizer knows. */
function padded() {
  const file = readFileSync(join(MODEL, WEIGHTS));
  const header = 8 + Number(file.readBigUInt64LE(0));
  const tensors = JSON.parse(file.subarray(8, header));
  const table = tensors['embeddings.word_embeddings.weight'];
  const [rows, width] = table.shape;
  const end = header + table.data_offsets[1];
  table.shape = [rows + PADDING / width / 2, width];
  for (const { data_offsets } of Object.values(tensors)) {
    for (const [i, offset] of (data_offsets ?? []).entries()) if (offset >= end - header) data_offsets[i] += PADDING;
  }
  const text = Buffer.from(JSON.stringify(tensors));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const config = { ...JSON.parse(readFileSync(join(MODEL, CONFIG))), vocab_size: table.shape[0] };
  return { [WEIGHTS]: Buffer.concat([length, text, file.subarray(header, end), Buffer.alloc(PADDING), file.subarray(end)]), [CONFIG]: Buffer.from(JSON.stringify(config)) };
}

before(async () => {
  const large = padded();
  server = await serve(web, (request, response, path) => {
    const [, folder, name] = /^\/(tiny|large)\/(.*)$/.exec(path) ?? [];
    if (!folder) return false;
    const body = (folder === 'large' && large[name]) || readFileSync(join(MODEL, name));
    const { range } = request.headers;
    if (request.method === 'GET') asked.push(range ? `${name} ${range}` : name);
    const [whole, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
    const [start, end] = whole ? [Number(first), last ? Number(last) + 1 : body.length] : [0, body.length];
    const headers = { 'content-length': end - start, etag: '"1"', ...(whole && { 'content-range': `bytes ${start}-${end - 1}/${body.length}` }) };
    response.writeHead(whole ? 206 : 200, headers);
    if (request.method === 'HEAD') return response.end() && true;
    if (body === large[WEIGHTS] && breakAfter !== undefined) response.write(body.subarray(start, breakAfter), () => setTimeout(() => response.destroy(), 50));
    else response.end(body.subarray(start, end));
    return true;
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  asked = [];
  breakAfter = undefined;
  page = await open(await browser.newContext(), server.origin);
  await page.evaluate(async () => {
    globalThis.kinora = await import('kinora');
    /** A worker that tells how much memory its engine has, and may be told that the storage is full. */
    const script = `
      const told = new BroadcastChannel('heap');
      for (const name of ['instantiate', 'instantiateStreaming']) {
        const original = WebAssembly[name];
        WebAssembly[name] = async (...given) => {
          const made = await original(...given);
          told.onmessage = () => told.postMessage((made.instance ?? made).exports.memory.buffer.byteLength);
          return made;
        };
      }
      if (self.name) {
        let left = Number(self.name);
        const write = FileSystemSyncAccessHandle.prototype.write;
        FileSystemSyncAccessHandle.prototype.write = function (data, options) {
          if ((left -= data.byteLength) < 0) throw new DOMException('full', 'QuotaExceededError');
          return write.call(this, data, options);
        };
      }
      import('${location.origin}/dist/worker.js');`;
    const address = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
    globalThis.load = (model, room = '') => kinora.loadModel({ model, device: 'cpu', worker: () => new Worker(address, { type: 'module', name: room }) });
    globalThis.heap = async () => {
      const channel = new BroadcastChannel('heap');
      const bytes = new Promise((resolve) => (channel.onmessage = ({ data }) => resolve(data)));
      channel.postMessage('?');
      return bytes.finally(() => channel.close());
    };
    /** Bytes of a clip of a model, as a sum and one by one. */
    globalThis.clip = async (model) => {
      const video = await model.generate('a red ball', { seed: 3 });
      return Array.from({ length: video.frameCount }, (_, frame) => [...video.rgba(frame)].join()).join();
    };
  });
});

test('weights are read where they are kept, and no network is needed again', { timeout: 120_000 }, async () => {
  const [small, large, heap] = await page.evaluate(async () => {
    const small = await load('/tiny/');
    const frames = await clip(small);
    await small.dispose();
    const large = await load('/large/');
    return [frames, await clip(large), await heap()].concat(await large.dispose());
  });
  assert.ok(small.length > 5 * 32 * 32 * 4, 'a clip');
  assert.equal(large, small, 'the same weights, the same clip');
  assert.ok(heap < PADDING, `${heap} bytes of memory`);
  asked = [];
  const again = await page.evaluate(async () => {
    // Both read the same file.
    const models = [await load('/large/'), await load('/large/')];
    return Promise.all(models.map(clip));
  });
  assert.deepEqual(again, [small, small]);
  assert.deepEqual(asked, ['model_index.json', 'model_index.json']);
  assert.deepEqual(page.problems, []);
});

test('what breaks off goes on, and what is damaged is fetched alone', { timeout: 120_000 }, async () => {
  breakAfter = 3 * CHUNK + 1000;
  assert.equal(await page.evaluate(() => load('/large/').then(() => 'none', ({ code }) => code)), 'download');
  breakAfter = undefined;
  asked = [];
  await page.evaluate(async () => (await load('/large/')).dispose());
  assert.ok(asked.includes(`${WEIGHTS} bytes=${3 * CHUNK}-`), asked.join());
  await page.evaluate(async (name) => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('kinora-models');
    for await (const folder of root.values()) {
      const file = await (await folder.getFileHandle(encodeURIComponent(name))).createWritable({ keepExistingData: true });
      await file.write({ type: 'write', position: 9_000_000, data: new Uint8Array([1]) });
      await file.close();
    }
  }, WEIGHTS);
  for (const expected of [['model_index.json', `${WEIGHTS} bytes=${2 * CHUNK}-${3 * CHUNK - 1}`], ['model_index.json']]) {
    asked = [];
    await page.evaluate(async () => (await load('/large/')).dispose());
    assert.deepEqual(asked, expected);
  }
});

test('where there is no room the engine has the weights itself', { timeout: 120_000 }, async () => {
  const [frames, heap, small] = await page.evaluate(async () => {
    const large = await load('/large/', '20000000');
    return [await clip(large), await heap(), await clip(await load('/tiny/'))];
  });
  assert.equal(frames, small);
  assert.ok(heap > PADDING, `${heap} bytes of memory`);
});

test('a model in use is not deleted, and says so', { timeout: 60_000 }, async () => {
  const [during, afterwards] = await page.evaluate(async () => {
    const model = await load('/large/');
    const remove = () => kinora.models.delete('/large/').then(() => 'gone', ({ code, message }) => `${code}: ${message}`);
    const during = await remove();
    await model.dispose();
    return [during, await remove()];
  });
  assert.match(during, /^busy: a model in use/);
  assert.equal(afterwards, 'gone');
});
