// What the package says about browsers that cannot run it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, serve } from './harness.mjs';

let server;
before(async () => void (server = await serve()));
after(() => server?.close());

async function report(options, prepare = () => {}) {
  const browser = await launch(options);
  try {
    const page = await open(browser, options.origin ?? server.origin);
    await page.evaluate(prepare);
    return await page.evaluate(async () => {
      const { checkSupport, loadModel } = await import('kinora');
      const load = await loadModel().then(() => 'loaded', (error) => [error.code, error.hint]);
      return { ...(await checkSupport()), load };
    });
  } finally {
    await browser.close();
  }
}

test('a software adapter works and is named', { timeout: 120_000 }, async () => {
  const seen = await report({});
  assert.deepEqual([seen.ok, seen.code, seen.adapter.fallback], [true, 'software-adapter', true]);
  assert.ok(seen.limits.maxStorageBufferBindingSize >= 128 * 1024 * 1024);
  assert.ok(seen.storage.quota > 0);
  assert.ok(seen.encoders.includes('vp9') && seen.encoders.every((name) => /^(avc|vp9|av1|vp8)$/.test(name)), seen.encoders.join());
  assert.equal(seen.load, 'loaded');
});

for (const [name, code, prepare] of [
  ['no WebGPU', 'no-webgpu', () => delete Navigator.prototype.gpu],
  ['no adapter', 'no-adapter', () => (GPU.prototype.requestAdapter = async () => null)],
]) {
  test(`${name}: a report with help, and the same code from loadModel`, { timeout: 60_000 }, async () => {
    const seen = await report({}, prepare);
    assert.deepEqual([seen.ok, seen.code], [false, code]);
    assert.ok(seen.message.length > 20 && seen.help.every(({ text, url }) => text && url.startsWith('https://')), JSON.stringify(seen));
    assert.equal(seen.load[0], code);
    assert.ok(seen.load[1], 'a hint');
  });
}
