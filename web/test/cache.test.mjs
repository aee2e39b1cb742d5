// Models from an address: kept whole or not at all, continued, healed, and never a reason to fail.
import assert from 'node:assert/strict';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const ADDRESS = '/dist/models/flipbook/';
const INDEX = `${ADDRESS}model_index.json`;
const WEIGHTS = `${ADDRESS}transformer/diffusion_pytorch_model.safetensors`;

let server, browser, page;
/** Requests for files of the model, and after how many bytes to break the connection of one of them. */
let asked, breakAfter;
/** What the server answers instead of a file: `path => { status, type, body }`. */
let wrong;
/** How many files are on their way, and how many at most there were. */
let underway, most;
before(async () => {
  server = await serve(undefined, (request, response, path) => {
    if (!path.startsWith(ADDRESS)) return false;
    const answer = wrong(path, request.method);
    if (answer === 'nothing') return response.destroy();
    if (answer) return response.writeHead(answer.status ?? 200, { 'content-type': answer.type ?? 'application/json' }).end(answer.body ?? '');
    if (request.method === 'HEAD') return false;
    asked.push({ path, range: request.headers.range });
    most = Math.max(most, ++underway);
    response.on('close', () => underway--);
    if (path !== WEIGHTS || breakAfter === undefined) return false;
    const file = join(web, path);
    response.writeHead(200, { 'content-length': statSync(file).size, etag: '"broken"' });
    createReadStream(file, { end: breakAfter - 1 }).on('data', (data) => response.write(data)).on('end', () => response.write('', () => setTimeout(() => response.destroy(), 200)));
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
  wrong = () => undefined;
  underway = most = 0;
  page = await open(await browser.newContext(), server.origin);
  await page.evaluate(async (address) => {
    globalThis.kinora = await import('kinora');
    // Without a device, so that nothing is compiled: only the files matter here.
    globalThis.load = async (options) => {
      const seen = [];
      const model = await kinora.loadModel({ model: address, device: 'cpu', onProgress: (progress) => seen.push(progress), ...options });
      await model.dispose();
      const last = seen.at(-1);
      return { loaded: last.loadedBytes, cached: last.cachedBytes, notes: [...new Set(seen.map(({ message }) => message))] };
    };
    globalThis.code = (promise) => promise.then(() => 'none', (error) => error.code);
  }, ADDRESS);
});

test('the second time nothing is fetched, until the model is deleted', { timeout: 120_000 }, async () => {
  const first = await page.evaluate(() => load());
  assert.equal(first.cached, 0);
  assert.ok(asked.length >= 9, `${asked.length} files`);
  asked = [];
  const second = await page.evaluate(() => load());
  assert.deepEqual([second.cached, asked.map(({ path }) => path)], [first.loaded, [INDEX]], 'whether it is still the newest');
  assert.deepEqual(page.problems, [], 'nothing was asked for that is not there');
  const [kept, plan, isCached] = await page.evaluate((address) => Promise.all([kinora.models.cached(), kinora.models.plan(address), kinora.models.isCached(address)]), ADDRESS);
  assert.deepEqual(kept, [{ id: server.origin + ADDRESS, bytes: first.loaded }]);
  assert.deepEqual([plan.cachedBytes, plan.totalBytes, isCached], [first.loaded, first.loaded, true]);
  const left = await page.evaluate(async (address) => (await kinora.models.delete(address), [await kinora.models.cached(), await kinora.models.isCached(address)]), ADDRESS);
  assert.deepEqual(left, [[], false]);
});

test('a download that broke off is continued where it stopped', { timeout: 120_000 }, async () => {
  breakAfter = 9_000_000;
  assert.equal(await page.evaluate(() => code(load())), 'download');
  assert.equal(await page.evaluate((address) => kinora.models.isCached(address), ADDRESS), false);
  breakAfter = undefined;
  asked = [];
  const again = await page.evaluate(() => load());
  assert.deepEqual(asked.find(({ path }) => path === WEIGHTS)?.range, `bytes=${2 * 4 * 1024 * 1024}-`, JSON.stringify(asked));
  assert.ok(again.cached > 0 && again.cached < again.loaded);
});

test('a damaged cache heals itself', { timeout: 120_000 }, async () => {
  const { loaded } = await page.evaluate(() => load());
  await page.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('kinora-models');
    for await (const folder of root.values()) {
      const handle = await folder.getFileHandle(encodeURIComponent('vae/diffusion_pytorch_model.safetensors'));
      const file = await handle.createWritable({ keepExistingData: true });
      await file.write({ type: 'write', position: 5_000_000, data: new Uint8Array(64) });
      await file.close();
    }
  });
  asked = [];
  const again = await page.evaluate(() => load());
  assert.equal(again.loaded, loaded);
  assert.deepEqual(asked.map(({ path }) => path), [INDEX, `${ADDRESS}vae/diffusion_pytorch_model.safetensors`]);
});

test('without room the model loads all the same, and says so', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(() => {
    const full = `let left = 10e6;
      const write = FileSystemSyncAccessHandle.prototype.write;
      FileSystemSyncAccessHandle.prototype.write = function (data, options) {
        if ((left -= data.byteLength) < 0) throw new DOMException('full', 'QuotaExceededError');
        return write.call(this, data, options);
      };
      import('${location.origin}/dist/worker.js');`;
    const script = URL.createObjectURL(new Blob([full], { type: 'text/javascript' }));
    return load({ worker: () => new Worker(script, { type: 'module' }) });
  });
  assert.ok(seen.loaded > 40_000_000);
  assert.ok(seen.notes.some((note) => /no room/.test(note)), seen.notes.join('; '));
  assert.equal(await page.evaluate((address) => kinora.models.isCached(address), ADDRESS), false);
});

test('a folder that is no model is refused by name', { timeout: 60_000 }, async () => {
  assert.equal(await page.evaluate(() => code(load({ model: './nothing/' }))), 'not-found');
  assert.equal(await page.evaluate(() => code(kinora.models.plan('nothing'))), 'unknown-model');
});

test('wrong answers leave nothing behind', { timeout: 120_000 }, async () => {
  const config = `${ADDRESS}transformer/config.json`;
  for (const [answer, expected] of [
    [{ type: 'text/html; charset=utf-8', body: '<!doctype html><title>welcome</title>' }, 'not-found'],
    [{ body: '{"_class_name": "LTXVideoTransformer3DModel", "num_layers": "many"}' }, 'invalid-config'],
  ]) {
    wrong = (path) => (path === config ? answer : undefined);
    const message = await page.evaluate(() => load().then(String, ({ code, message }) => `${code}: ${message}`));
    assert.ok(message.startsWith(`${expected}: `), message);
    assert.doesNotMatch(message, /usize|u64|f32/, 'no types of the inside');
    assert.equal(await page.evaluate((address) => kinora.models.isCached(address), ADDRESS), false);
    wrong = () => undefined;
    const { loaded } = await page.evaluate(() => load());
    assert.ok(loaded > 40_000_000, expected);
    await page.evaluate(() => kinora.models.clear());
  }
  // Even a page in place of every file.
  wrong = () => ({ type: 'text/html', body: '<!doctype html>' });
  assert.equal(await page.evaluate(() => code(load())), 'not-found');
  assert.deepEqual(page.problems, []);
});

test('a model that was replaced is fetched again, and one whose server is away is not', { timeout: 120_000 }, async () => {
  const { loaded } = await page.evaluate(() => load());
  wrong = () => 'nothing';
  assert.equal((await page.evaluate(() => load())).cached, loaded, 'without its server');
  wrong = (path) => (path === INDEX ? { body: `${readFileSync(join(web, path), 'utf8')}\n` } : undefined);
  const { cached } = await page.evaluate(() => load());
  assert.equal(cached, 0);
  assert.equal((await page.evaluate(() => load())).cached, loaded + 1, 'and kept');
  // A list of files says by its version that there are others.
  const kept = await page.evaluate(async (address) => {
    const { files } = await kinora.models.plan(address);
    await load({ model: { name: 'listed', version: '1', files } });
    return Promise.all(['1', '2'].map(async (version) => (await kinora.models.plan({ name: 'listed', version, files })).cachedBytes));
  }, ADDRESS);
  assert.deepEqual(kept, [loaded + 1, 0]);
});

test('files come side by side, also from servers that answer no HEAD', { timeout: 120_000 }, async () => {
  wrong = (_, method) => (method === 'HEAD' ? { status: 405 } : undefined);
  const { totalBytes, files } = await page.evaluate((address) => kinora.models.plan(address), ADDRESS);
  assert.ok(totalBytes > 40_000_000, `${totalBytes} bytes`);
  assert.ok(files.some(({ path }) => path === 'vocabulary.json'), 'the words it knows come along');
  await page.evaluate(() => load());
  assert.ok(most > 1, `${most} at once`);
});
