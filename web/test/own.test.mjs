// What callers bring along: a fetch, a cache, a log, adaptations; and what a model says of itself.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const ADDRESS = '/dist/models/flipbook/';
const VAE = `${ADDRESS}vae/diffusion_pytorch_model.safetensors`;
const files = new Map();
let server, browser, page, asked;
/** What the server answers instead of a file. */
let wrong = () => undefined;
before(async () => {
  server = await serve(undefined, (request, response, path) => {
    asked?.push({ path, key: request.headers['x-key'], method: request.method });
    const answer = wrong(path) ?? (files.has(path) && { body: files.get(path) });
    return answer ? response.writeHead(answer.status ?? 200, { 'content-type': answer.type ?? 'application/octet-stream' }).end(answer.body ?? '') : false;
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  asked = [];
  wrong = () => undefined;
  page = await open(await browser.newContext(), server.origin);
  await page.evaluate(async (address) => {
    globalThis.kinora = await import('kinora');
    globalThis.address = address;
    globalThis.failure = (promise) => promise.then(() => ['none'], ({ code, message, hint }) => [code, message, hint]);
    globalThis.load = async (options) => {
      const log = [];
      const model = await kinora.loadModel({ model: address, device: 'cpu', onLog: (record) => log.push(record), ...options });
      await model.dispose();
      return log;
    };
  }, ADDRESS);
});

test('an own fetch gets the model and the WASM, in the worker too', { timeout: 120_000 }, async () => {
  asked = [];
  const log = await page.evaluate(() => load({ cache: 'none', fetch: (url, init = {}) => fetch(url, { ...init, headers: [...new Headers(init.headers), ['x-key', 'secret']] }) }));
  const fetched = asked.filter(({ path }) => path.startsWith(ADDRESS) || path.endsWith('.wasm'));
  assert.ok(fetched.length > 10 && fetched.every(({ key }) => key === 'secret'), JSON.stringify(fetched));
  assert.ok(log.every(({ level, message }) => level === 'info' && message.length > 10), JSON.stringify(log));
  assert.match(log.map(({ message }) => message).join('; '), /engine started after \d+ ms; \d{8} bytes of .* here.*; ready on/);
  const refused = await page.evaluate(() => failure(load({ cache: 'none', fetch: async () => Promise.reject(new TypeError('no way')) })));
  assert.equal(refused[0], 'download');
  assert.match(refused[1], /no way/);
  const stopped = await page.evaluate(async () => {
    const abort = new AbortController();
    const slow = (url, init) => (String(url).endsWith('.safetensors') ? new Promise((_, reject) => init.signal.addEventListener('abort', () => (globalThis.heard = true, reject(init.signal.reason)))) : fetch(url, init));
    setTimeout(() => abort.abort(new Error('enough')), 1500);
    const [, message] = await failure(load({ cache: 'none', fetch: slow, signal: abort.signal }));
    return [message, globalThis.heard];
  });
  assert.deepEqual(stopped, ['enough', true]);
  assert.equal((await page.evaluate(() => failure(load({ fetch: 'mine' }))))[0], 'invalid-request');
});

test('models on the hub are listed, and no file is asked for that is not there', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async (local) => {
    const hub = 'https://huggingface.co/';
    const folder = `${hub}someone/some-model/resolve/main/tiny/`;
    const urls = [];
    const missing = [];
    // The text encoder is in two parts, as large ones are.
    const weights = 'text_encoder/model.safetensors';
    const parts = [1, 2].map((part) => `text_encoder/model-0000${part}-of-00002.safetensors`);
    const { files } = await kinora.models.plan('flipbook');
    const sizes = new Map(files.map(({ path, bytes }) => [path, bytes]));
    const listed = [...sizes.keys()].filter((path) => path !== weights).concat(`${weights}.index.json`, parts);
    const stub = async (address, init) => {
      const url = String(address);
      if (!url.startsWith(hub)) return fetch(url, init);
      urls.push(url.slice(hub.length));
      if (url === `${hub}api/models/someone/some-model/tree/main/tiny/?recursive=true`) return Response.json(listed.map((path) => ({ type: 'file', path: `tiny/${path}`, size: sizes.get(path) ?? 'no model'.length })));
      const path = url.slice(folder.length);
      if (!listed.includes(path)) missing.push(path);
      if (path === `${weights}.index.json`) return Response.json({ weight_map: { a: parts[0].slice('text_encoder/'.length), b: parts[1].slice('text_encoder/'.length) } });
      if (path.endsWith('.safetensors')) return new Response('no model', { status: 200, headers: { 'content-type': 'application/octet-stream' } });
      return fetch(local + path, init);
    };
    const [code] = await failure(kinora.loadModel({ model: folder, device: 'cpu', cache: 'none', fetch: stub }));
    return { code, missing, parts: parts.filter((part) => urls.some((url) => url.endsWith(part))).length, heads: urls.filter((url) => url.includes('?')).length };
  }, ADDRESS);
  assert.deepEqual(seen, { code: 'corrupt-download', missing: [], parts: 2, heads: 1 });
  assert.deepEqual(page.problems, []);
});

test('a plain server is asked for nothing that is not there, if the index lists the files', { timeout: 60_000 }, async () => {
  const { files: whole } = await page.evaluate(() => kinora.models.plan(address));
  assert.deepEqual(whole.map(({ path }) => path).filter((path) => /^(interpolate|upscale|vocabulary)/.test(path)).length, 6, 'what refines clips, and the words');
  const single = 'transformer/diffusion_pytorch_model.safetensors';
  const parts = [1, 2].map((part) => `transformer/diffusion_pytorch_model-0000${part}-of-00002.safetensors`);
  const sizes = Object.fromEntries([...whole.map(({ path, bytes }) => [path, bytes ?? 100]).filter(([path]) => path !== single), [`${single}.index.json`, 90], ...parts.map((path) => [path, 4_000_000])]);
  const index = JSON.parse(readFileSync(join(web, ADDRESS, 'model_index.json'), 'utf8'));
  let files = sizes;
  wrong = (path) => {
    const name = path.slice(ADDRESS.length);
    if (name === 'model_index.json') return { type: 'application/json', body: JSON.stringify({ ...index, kinora: { ...index.kinora, files } }) };
    if (name === `${single}.index.json`) return { type: 'application/json', body: JSON.stringify({ weight_map: { a: parts[0].split('/')[1], b: parts[1].split('/')[1] } }) };
    return name === single ? { status: 404 } : undefined;
  };
  asked = [];
  const plan = await page.evaluate(() => kinora.models.plan(address));
  assert.deepEqual(asked.map(({ path }) => path.slice(ADDRESS.length)), ['model_index.json', `${single}.index.json`]);
  assert.deepEqual(plan.files.filter(({ path }) => parts.includes(path)).map(({ path, bytes }) => [path, bytes]), parts.map((path) => [path, 4_000_000]));
  assert.ok(plan.files.every(({ bytes }) => bytes > 0), 'all sizes are known');
  assert.deepEqual(page.problems, []);
  files = ['transformer/config.json'];
  assert.deepEqual((await page.evaluate(() => failure(kinora.models.plan(address)))).slice(0, 1), ['invalid-config']);
});

test('an own cache keeps the files, without network too, and forgets what cannot be loaded', { timeout: 180_000 }, async () => {
  await page.evaluate(async () => (globalThis.mine = await caches.open('mine')));
  await page.evaluate(() => load({ cache: mine }));
  await page.waitForFunction(async () => (await mine.keys()).length >= 9);
  asked = [];
  await page.evaluate(() => load({ cache: mine }));
  const again = asked.filter(({ path }) => path.startsWith(ADDRESS));
  assert.deepEqual([...new Set(again.map(({ path }) => path))], [`${ADDRESS}model_index.json`], 'whether it is still the newest');
  await page.evaluate(() => load({ cache: mine, fetch: (url, init) => (String(url).includes('/flipbook/') ? Promise.reject(new TypeError('offline')) : fetch(url, init)) }));

  // Another model at the same address.
  wrong = (path) => (path.endsWith('model_index.json') ? { type: 'application/json', body: `${readFileSync(join(web, path), 'utf8')} ` } : undefined);
  asked = [];
  await page.evaluate(() => load({ cache: mine }));
  assert.ok(asked.some(({ path }) => path === VAE), 'is fetched again');

  wrong = (path) => (path.endsWith('model_index.json') ? { type: 'application/json', body: `${readFileSync(join(web, path), 'utf8')}  ` } : path === VAE ? { body: 'no weights' } : undefined);
  const [code] = await page.evaluate(() => failure(load({ cache: mine })));
  assert.notEqual(code, 'none');
  assert.equal(await page.evaluate(async () => (await mine.keys()).length), 0, 'nothing of it stays');
  const [refused, message] = await page.evaluate(() => failure(load({ cache: { match: () => undefined } })));
  assert.equal(refused, 'invalid-request');
  assert.match(message, /no put and no delete/);
});

test('parts that are missing are named', { timeout: 60_000 }, async () => {
  const single = `${ADDRESS}transformer/diffusion_pytorch_model.safetensors`;
  const index = { weight_map: { a: 'diffusion_pytorch_model-00001-of-00002.safetensors', b: 'diffusion_pytorch_model-00002-of-00002.safetensors' } };
  wrong = (path) => (path === single ? { status: 404 } : path === `${single}.index.json` ? { type: 'application/json', body: JSON.stringify(index) } : undefined);
  const [code, message, hint] = await page.evaluate(() => failure(load({ cache: 'none' })));
  assert.equal(code, 'not-found');
  assert.match(message, /transformer\/diffusion_pytorch_model-0000[12]-of-00002\.safetensors/);
  assert.match(hint, /index.*part/);
  wrong = (path) => (path === single ? { status: 404 } : path === `${single}.index.json` ? { body: '<no json' } : undefined);
  const broken = await page.evaluate(() => failure(load({ cache: 'none' })));
  assert.deepEqual([broken[0], /index\.json holds no JSON/.test(broken[1])], ['invalid-config', true], broken[1]);
});

/** A LoRA of rank 1 for the queries of the first block, as safetensors. */
function adaptation() {
  const config = JSON.parse(readFileSync(join(web, '../models/flipbook/transformer/config.json'), 'utf8'));
  const width = config.num_attention_heads * config.attention_head_dim;
  const name = 'transformer.transformer_blocks.0.attn1.to_q';
  const bytes = 4 * width;
  const header = JSON.stringify({
    [`${name}.lora_A.weight`]: { dtype: 'F32', shape: [1, width], data_offsets: [0, bytes] },
    [`${name}.lora_B.weight`]: { dtype: 'F32', shape: [width, 1], data_offsets: [bytes, 2 * bytes] },
    'transformer.nothing.lora_A.weight': { dtype: 'F32', shape: [1, 1], data_offsets: [2 * bytes, 2 * bytes + 4] },
    'transformer.nothing.lora_B.weight': { dtype: 'F32', shape: [1, 1], data_offsets: [2 * bytes + 4, 2 * bytes + 8] },
  });
  const padded = header.padEnd(8 * Math.ceil(header.length / 8));
  const file = Buffer.alloc(8 + padded.length + 2 * bytes + 8);
  file.writeBigUInt64LE(BigInt(padded.length));
  file.write(padded, 8);
  new Float32Array(2 * width).forEach((_, at) => file.writeFloatLE(Math.sin(at), 8 + padded.length + 4 * at));
  return file;
}

test('an adaptation changes the clip as far as it is asked to, and is reported', { timeout: 240_000 }, async () => {
  files.set('/own.safetensors', adaptation());
  const seen = await page.evaluate(async () => {
    const made = async (lora) => {
      const model = await kinora.loadModel({ lora });
      const video = await model.generate('a fox', { width: 64, height: 64, frames: 5, steps: 2, seed: 3, preview: false });
      await model.dispose();
      return { loras: model.info.loras, words: model.vocabulary?.objects.length, frame: video.rgba(2) };
    };
    const [none, full] = [await made({ url: '/own.safetensors', strength: 0 }), await made([{ url: new URL('/own.safetensors', location.href) }])];
    const [missing] = await failure(kinora.generateVideo({ prompt: 'a fox', lora: { url: '/nothing.safetensors' } }));
    return { loras: full.loras, words: [none.words, full.words], differs: full.frame.some((value, at) => Math.abs(value - none.frame[at]) > 8), missing };
  });
  console.log(seen.loras.join('; '));
  assert.deepEqual([seen.words, seen.differs, seen.missing], [[234, 234], true, 'not-found']);
  assert.match(seen.loras.join(), /own\.safetensors: 2 of 4 tensors applied; not used: transformer\.nothing/);
});

test('states of texts replace the text encoder', { timeout: 120_000 }, async () => {
  const folder = join(web, '../tests/tiny-model');
  const weights = (part) => [`${part}/config.json`, `${part}/diffusion_pytorch_model.safetensors`];
  const shared = ['scheduler/scheduler_config.json', 'tokenizer/tokenizer.json', ...weights('transformer'), ...weights('vae')];
  for (const name of [...shared, 'model_index.json', 'text_encoder/config.json', 'text_encoder/model.safetensors']) files.set(`/whole/${name}`, readFileSync(join(folder, name)));
  const clip = async (address) => page.evaluate(async (model) => {
    const loaded = await kinora.loadModel({ model, cache: 'none' });
    const video = await loaded.generate({ text: 'water', negative: 'ocean waves' }, { seed: 3 });
    const states = await loaded.textStates();
    const [code, message] = await failure(loaded.generate({ text: 'a stone', negative: 'ocean waves' }));
    await loaded.dispose();
    return { rgba: Array.from({ length: video.frameCount }, (_, at) => [...video.rgba(at)]), states: [...states], code, message };
  }, address);
  const whole = await clip('/whole/');
  for (const name of shared) files.set(`/bare/${name}`, files.get(`/whole/${name}`));
  files.set('/bare/text_states.safetensors', Buffer.from(whole.states));
  const { kinora, ...index } = JSON.parse(files.get('/whole/model_index.json'));
  const sizes = Object.fromEntries([...files].flatMap(([path, { length }]) => (path.startsWith('/bare/') ? [[path.slice(6), length]] : [])));
  files.set('/bare/model_index.json', Buffer.from(JSON.stringify({ ...index, text_encoder: [null, null], kinora: { ...kinora, files: sizes } })));
  asked = [];
  const bare = await clip('/bare/');
  assert.deepEqual(bare.rgba, whole.rgba, 'the same clip, bit for bit');
  assert.ok(whole.rgba.length === 5 && whole.rgba[0].some((value) => value !== whole.rgba[0][0]), 'a clip');
  assert.deepEqual(bare.states, whole.states, 'and the same states again');
  assert.deepEqual([whole.code, bare.code], ['none', 'invalid-request']);
  assert.match(bare.message, /`a stone`, expected a text of .*text_states\.safetensors, since .* without its text encoder \(BertModel\)/);
  assert.ok(asked.some(({ path }) => path === '/bare/text_states.safetensors') && asked.every(({ path }) => !path.startsWith('/bare/text_encoder')), 'no encoder was asked for');
});

test('a model says which words it knows and what it needs', { timeout: 60_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const model = await kinora.loadModel({ device: 'cpu' });
    await model.dispose();
    return { fox: model.vocabulary.objects.find(({ name }) => /fox/.test(name)), colors: model.vocabulary.colors, list: kinora.models.list(), info: model.info };
  });
  assert.ok(seen.fox.motions.length > 0 && Array.isArray(seen.fox.synonyms), JSON.stringify(seen.fox));
  assert.equal(seen.colors.length, 8);
  const { name, width, height, frames, fps } = seen.info;
  const [{ bytes, needs, ...listed }] = seen.list;
  assert.deepEqual(listed, { name, width, height, frames, fps });
  assert.ok(bytes > 40e6 && needs.gpuBytes > bytes && needs.bufferBytes > 1e6, JSON.stringify(needs));
});
