// What a long-lived page needs: cancelling, queueing, recovery, freeing, and errors that can be acted on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, serve, SLOWNESS } from './harness.mjs';

/** Small and quick: one token row each way. */
const TINY = { width: 64, height: 64, frames: 5, steps: 2, preview: false };

let server, browser, page, broken;
before(async () => {
  // Paths under /broken/ are the shipped model with one thing wrong.
  broken = new Map();
  server = await serve(undefined, (request, response, path) => broken.get(path)?.(request, response) ?? false);
  browser = await launch();
  page = await open(browser, server.origin);
  await page.evaluate(async (tiny) => {
    globalThis.tiny = tiny;
    globalThis.kinora = await import('kinora');
    globalThis.model = await kinora.loadModel({ device: 'webgpu' });
    globalThis.failure = async (promise) => {
      try {
        await promise;
        return { name: 'none' };
      } catch (error) {
        return { name: error?.name, code: error?.code, message: error?.message, hint: error?.hint, reason: String(error) };
      }
    };
  }, TINY);
}, { timeout: 120_000 });
after(async () => {
  await browser?.close();
  await server?.close();
});

test('a cancelled generation rejects with the reason and leaves the model usable', { timeout: 120_000 }, async () => {
  const [own, signalled, early, next] = await page.evaluate(async () => {
    const first = model.generate('a taxi', { steps: 50 });
    setTimeout(() => first.cancel(new Error('enough')), 300);
    const own = await failure(first);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const signalled = await failure(model.generate('a taxi', { steps: 50, signal: abort.signal }));
    const early = await failure(model.generate('a taxi', { signal: AbortSignal.abort('at once') }));
    const { frameCount } = await model.generate('a taxi', tiny);
    return [own, signalled, early, frameCount];
  });
  assert.equal(own.message, 'enough');
  assert.equal(signalled.name, 'AbortError');
  assert.equal(early.reason, 'at once');
  assert.equal(next, TINY.frames);
});

test('after an abort the GPU is idle within half a second', { timeout: 300_000 }, async () => {
  const waits = await page.evaluate(async () => {
    const waits = [];
    // At moments spread over a generation: text, steps and frames.
    for (let round = 0; round < 20; round++) {
      const generation = model.generate('a tiger face', { steps: 3 });
      await new Promise((resolve) => setTimeout(resolve, 150 * round));
      const begun = performance.now();
      generation.cancel();
      await failure(generation);
      waits.push(performance.now() - begun);
    }
    return waits.sort((a, b) => a - b);
  });
  const p95 = waits[18];
  console.log(`abort to idle: median ${waits[10].toFixed(0)} ms, 95th percentile ${p95.toFixed(0)} ms`);
  assert.ok(p95 <= 500 * SLOWNESS, waits.map(Math.round).join(' '));
});

test('a second generation waits for the first, and both are what they are alone', { timeout: 120_000 }, async () => {
  const [order, equal] = await page.evaluate(async () => {
    const order = [];
    const make = (name, seed) => model.generate('a penguin', { ...tiny, seed, onEvent: ({ type }) => ['text', 'done'].includes(type) && order.push(`${name} ${type}`) });
    const [a, b] = [make('a', 1), make('b', 2)];
    const [first] = [await a, await b];
    const alone = await model.generate('a penguin', { ...tiny, seed: 1 });
    return [order, alone.rgba(4).every((value, at) => value === first.rgba(4)[at])];
  });
  assert.deepEqual(order, ['a text', 'a done', 'b text', 'b done']);
  assert.ok(equal, 'the same seed gives the same bytes on the same device');
});

test('only the newest unread preview is kept, and events end with the failure', { timeout: 120_000 }, async () => {
  const [steps, failed] = await page.evaluate(async () => {
    const generation = model.generate('a robot', { ...tiny, steps: 4, preview: { everySteps: 1 } });
    const events = generation[Symbol.asyncIterator]();
    await events.next();
    await generation;
    const steps = [];
    for (let { done, value } = await events.next(); !done; { done, value } = await events.next()) if (value.type === 'step') steps.push(value.step);
    const other = model.generate('a robot', { ...tiny, width: 33 });
    const failed = await failure((async () => { for await (const _ of other); })());
    await failure(other);
    return [steps, failed];
  });
  assert.deepEqual(steps, [4]);
  assert.equal(failed.code, 'invalid-request');
});

test('bad requests name the parameter, what was found and what works', { timeout: 60_000 }, async () => {
  const cases = [
    [{ width: 33 }, /width.*33.*multiple of 32/],
    [{ frames: 16 }, /frames.*16.*17/],
    [{ width: 1e9, height: 1e9 }, /size|limit/],
    [{ steps: 0 }, /steps/],
    [{ steps: 1.5 }, /steps.*1.5/],
    [{ steps: '8' }, /steps.*8/],
    [{ seed: -1 }, /seed/],
    [{ guidance: 'high' }, /guidance.*high/],
    [{ fps: 0 }, /fps/],
  ];
  for (const [options, pattern] of cases) {
    const failed = await page.evaluate((options) => failure(model.generate('x', options)), options);
    assert.equal(failed.code, 'invalid-request', `${JSON.stringify(options)}: ${JSON.stringify(failed)}`);
    assert.match(failed.message, pattern);
  }
  for (const prompt of [null, 7, {}, { text: 1 }]) {
    const failed = await page.evaluate((prompt) => failure(model.generate(prompt)), prompt);
    assert.equal(failed.code, 'invalid-request', JSON.stringify(prompt));
  }
  for (const options of [{ dtype: 'q3' }, { device: 'tpu' }, { cache: 1 }]) {
    assert.equal((await page.evaluate((options) => failure(kinora.loadModel(options)), options)).code, 'invalid-request');
  }
  assert.equal((await page.evaluate(() => failure(kinora.loadModel({ model: 'no-such' })))).code, 'unknown-model');
});

test('broken model files are told apart', { timeout: 120_000 }, async () => {
  const answer = (status, body) => (_, response) => (response.writeHead(status).end(body), true);
  const load = (change) =>
    page.evaluate(
      async ([change]) => {
        const { files } = await kinora.models.plan('flipbook');
        const source = { name: 'broken', files: files.map((file) => (file.path === change.path ? { ...file, ...change } : file)) };
        return failure(kinora.loadModel({ model: source, cache: 'none' }));
      },
      [change],
    );
  const config = 'vae/config.json';
  broken.set('/broken/500', answer(500, 'no'));
  broken.set('/broken/short', answer(200, '{"_class'));
  assert.equal((await load({ path: config, url: `${server.origin}/broken/none` })).code, 'not-found');
  assert.equal((await load({ path: config, url: `${server.origin}/broken/500` })).code, 'download');
  assert.equal((await load({ path: config, url: `${server.origin}/broken/short` })).code, 'corrupt-download');
  assert.equal((await load({ path: config, sha256: ['00'] })).code, 'corrupt-download');
  const weights = 'vae/diffusion_pytorch_model.safetensors';
  const unchecked = { url: `${server.origin}/broken/short`, bytes: undefined, sha256: undefined };
  assert.equal((await load({ path: weights, ...unchecked })).code, 'corrupt-weights');
  assert.equal((await load({ path: config, ...unchecked })).code, 'invalid-config');
});

test('a lost device is opened again for the next generation', { timeout: 120_000 }, async () => {
  // In this thread, where the test can reach the device.
  const [lost, again, frames] = await page.evaluate(async () => {
    let device;
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...args) {
      return (device = await request.apply(this, args));
    };
    const own = await kinora.loadModel({ device: 'webgpu', worker: false });
    const first = device;
    const lost = await failure(own.generate('a cat', { ...tiny, steps: 30, onEvent: (event) => event.type === 'step' && event.step === 2 && first.destroy() }));
    const video = await own.generate('a cat', tiny);
    GPUAdapter.prototype.requestDevice = request;
    const second = device;
    await own.dispose();
    // Without a worker to end, disposing has to destroy the device itself.
    const { reason } = await second.lost;
    return [lost, second !== first && reason === 'destroyed', video.frameCount];
  });
  assert.equal(lost.code, 'device-lost', JSON.stringify(lost));
  assert.ok(again, 'another device, and destroyed in the end');
  assert.equal(frames, TINY.frames);
});

test('a disposed model says so, and ends what runs', { timeout: 120_000 }, async () => {
  const [running, later] = await page.evaluate(async () => {
    const own = await kinora.loadModel();
    const running = own.generate('a cat', { steps: 50 });
    setTimeout(() => own.dispose(), 200);
    return [await failure(running), await failure(own.generate('a cat'))];
  });
  assert.deepEqual([running.code, later.code], ['disposed', 'disposed']);
});

test('a worker that does not start is an error, not a wait', { timeout: 60_000 }, async () => {
  const [missing, refused, waited] = await page.evaluate(async () => {
    const missing = await failure(kinora.loadModel({ worker: () => new Worker('/no-such-worker.js', { type: 'module' }) }));
    const refused = await failure(kinora.loadModel({ worker: () => { throw new Error('not here'); } }));
    // One that starts but never listens.
    const silent = URL.createObjectURL(new Blob([''], { type: 'text/javascript' }));
    const signal = AbortSignal.timeout(300);
    const waited = await failure(kinora.loadModel({ signal, worker: () => new Worker(silent, { type: 'module' }) }));
    return [missing, refused, waited];
  });
  assert.deepEqual([missing.code, refused.code], ['worker', 'worker']);
  assert.ok(missing.hint && refused.message.includes('not here'));
  assert.equal(waited.name, 'TimeoutError');
});

test('loading can be aborted', { timeout: 60_000 }, async () => {
  const [before, during] = await page.evaluate(async () => {
    const before = await failure(kinora.loadModel({ signal: AbortSignal.abort() }));
    const abort = new AbortController();
    const during = failure(kinora.loadModel({ signal: abort.signal, onProgress: () => abort.abort(new Error('changed my mind')) }));
    return [before, await during];
  });
  assert.equal(before.name, 'AbortError');
  assert.equal(during.message, 'changed my mind');
});

test('nothing was left unhandled', () => assert.deepEqual(page.problems.filter((text) => !/404|500/.test(text)), []));
