// Models from an address: kept whole or not at all, continued, healed, and never a reason to fail.
import assert from 'node:assert/strict';
import { createReadStream, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const ADDRESS = '/dist/models/flipbook/';
const WEIGHTS = `${ADDRESS}transformer/diffusion_pytorch_model.safetensors`;

let server, browser, page;
/** Requests for files of the model, and after how many bytes to break the connection of one of them. */
let asked, breakAfter;
before(async () => {
  server = await serve(undefined, (request, response, path) => {
    if (!path.startsWith(ADDRESS) || request.method === 'HEAD') return false;
    asked.push({ path, range: request.headers.range });
    if (path !== WEIGHTS || breakAfter === undefined) return false;
    const file = join(web, path);
    response.writeHead(200, { 'content-length': statSync(file).size, etag: '"broken"' });
    createReadStream(file, { end: breakAfter - 1 }).on('data', (data) => response.write(data)).on('end', () => setTimeout(() => response.destroy(), 50));
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
  const context = await browser.newContext();
  page = await context.newPage();
  await page.goto(server.origin);
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
  assert.deepEqual([second.cached, asked], [first.loaded, []]);
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
  assert.deepEqual(asked.map(({ path }) => path), [`${ADDRESS}vae/diffusion_pytorch_model.safetensors`]);
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
