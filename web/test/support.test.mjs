// What the package says about browsers that cannot run it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, serve, SLOWNESS } from './harness.mjs';

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
      const load = await loadModel({ device: 'webgpu' }).then(() => 'loaded', (error) => [error.code, error.hint]);
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
    assert.deepEqual([seen.ok, seen.code, seen.processor], [false, code, true]);
    assert.ok(seen.message.length > 20 && seen.help.every(({ text, url }) => text && url.startsWith('https://')), JSON.stringify(seen));
    assert.equal(seen.load[0], code);
    assert.ok(seen.load[1], 'a hint');
  });
}

test('without WebGPU the processor makes the clip, and stops when it should', { timeout: 180_000 }, async () => {
  const browser = await launch({ webgpu: false });
  try {
    const page = await open(browser, server.origin);
    const seen = await page.evaluate(async () => {
      const { loadModel } = await import('kinora');
      const begun = performance.now();
      const model = await loadModel();
      const loaded = performance.now();
      const events = new Set();
      const video = await model.generate('a rocket flying on a blue background', { seed: 7, onEvent: ({ type, preview }) => (events.add(type), preview && events.add('preview')) });
      const made = performance.now();
      const generation = model.generate('a taxi');
      await new Promise((resolve) => setTimeout(resolve, 500));
      const stopped = performance.now();
      generation.cancel();
      await generation.catch(() => undefined);
      const far = await loadModel('https://example.org/model/').catch(({ code }) => code);
      return { device: model.info.device, frames: video.frameCount, values: new Set(video.rgba(8)).size, events: [...events], far, ms: [loaded - begun, made - loaded, performance.now() - stopped] };
    });
    console.log(`loaded in ${Math.round(seen.ms[0])} ms, clip in ${Math.round(seen.ms[1])} ms, stopped in ${Math.round(seen.ms[2])} ms`);
    assert.deepEqual([seen.device, seen.frames, seen.far], ['CPU', 17, 'no-adapter']);
    assert.ok(seen.values > 50 && seen.events.includes('preview'), JSON.stringify(seen));
    assert.ok(seen.ms[1] <= 20_000 * SLOWNESS, `the clip took ${seen.ms[1]} ms`);
    assert.ok(seen.ms[2] <= 1000 * SLOWNESS, `it stopped after ${seen.ms[2]} ms`);
    assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
  }
});
