// Habits of promises and options: what callers may expect without reading the documentation, and words where they slipped.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownPage } from './harness.mjs';

const page = ownPage(async () => {
  globalThis.kinora = await import('kinora');
  globalThis.model = await kinora.loadModel();
  globalThis.small = { width: 64, height: 64, frames: 5, steps: 1, seed: 3 };
  globalThis.said = (promise) => promise.then(() => ['nothing'], ({ code, message, hint }) => [code, message, hint]);
});

test('a generation is a promise in every respect', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const unhandled = [];
    addEventListener('unhandledrejection', (event) => (event.preventDefault(), unhandled.push(event.reason.message)));
    const log = [];
    const video = await model.generate('a fox', small).finally(() => log.push('finally'));
    const caught = await model.generate('a fox', { ...small, width: 63 }).catch((error) => error.code);
    // Nobody looks at this one.
    model.generate('a fox', { ...small, width: 65 });
    // These were looked at: by a loop, and by whoever cancelled.
    const loop = (async () => {
      for await (const event of model.generate('a fox', { ...small, width: 66 })) log.push(event.type);
    })().catch(() => log.push('loop'));
    model.generate('a fox', small).cancel();
    await loop;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return { frames: video.frameCount, caught, log, unhandled };
  });
  assert.deepEqual([seen.frames, seen.caught, seen.log], [5, 'invalid-request', ['finally', 'loop']]);
  assert.equal(seen.unhandled.length, 1, seen.unhandled.join('; '));
  assert.match(seen.unhandled[0], /65/);
});

test('a text in place of options is understood or refused', { timeout: 60_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const video = await model.generate('a fox', small);
    return {
      load: await said(kinora.loadModel('./nothing-here/')),
      url: await said(kinora.loadModel(new URL('./nothing-here/', location.href))),
      generate: await said(model.generate('a fox', 'fast')),
      estimate: await said(model.estimate('a fox')),
      many: await Promise.all(model.generateMany([{ prompt: 'a fox', ...small }, 'a fox']).map(said)),
      gif: (await video.toBlob('image/gif')).type,
      quality: await said(video.toBlob({ quality: 'best' })),
      frame: await said(video.frame(99)),
      play: await said((async () => video.play(null))()),
    };
  });
  assert.deepEqual([seen.load[0], seen.url[0], seen.gif], ['not-found', 'not-found', 'image/gif']);
  assert.deepEqual(seen.generate.slice(0, 2), ['invalid-request', 'invalid options: found the text "fast", expected an object']);
  assert.deepEqual([seen.estimate[0], ...seen.many.map(([code]) => code)], Array(3).fill('invalid-request'));
  assert.equal(seen.quality[1], 'invalid quality: found the text "best", expected low, medium, high');
  assert.deepEqual([seen.play[1], seen.frame[0]], ['invalid canvas: found null, expected a <canvas> element', 'invalid-request']);
});

test('arguments are checked before anything is loaded, in words without types of the inside', { timeout: 60_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const begun = performance.now();
    const wrong = [
      { prompt: 'a fox', guidance: -1 }, { prompt: 'a fox', width: '64' }, { prompt: 'a fox', steps: 1.5 }, { prompt: 'a fox', seed: -1 },
      { prompt: 'a fox', seed: 2 ** 60 }, { prompt: 'a fox', fps: NaN }, { prompt: 'a fox', expand: 'ai' }, { prompt: 'a fox', signal: {} },
      { prompt: 'a fox', preview: 'yes' }, { prompt: '' }, { prompt: '  ' }, {}, { prompt: null }, { prompt: 7 }, { prompt: new Blob() },
      { prompt: {} }, { prompt: { text: 'a fox', then: 'an owl' } }, { prompt: { text: ['a fox'] } }, { prompt: 'a fox', device: 'gpu' },
    ];
    const answers = await Promise.all(wrong.map((options) => said(kinora.generateVideo(options))));
    return { ms: performance.now() - begun, answers, started: performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('worker.js')).length };
  });
  for (const [code, message] of seen.answers) {
    assert.equal(code, 'invalid-request', message);
    assert.match(message, /^invalid \w+: found .+, expected .+/);
    assert.doesNotMatch(message, /\b[ui](8|16|32|64|size)\b|f32|f64|Some|Vec/);
  }
  assert.ok(seen.ms < 500, `${seen.ms} ms`);
  assert.match(seen.answers[1][1], /invalid width: found the text "64", expected a whole number of pixels from 1/);
});

test('messages name an address without the file that is in it', { timeout: 60_000 }, async () => {
  const seen = await page.evaluate(() => said(kinora.loadModel({ model: { name: 'x', files: [{ path: 'model_index.json', url: `data:text/html,${'x'.repeat(5000)}` }] }, device: 'cpu', cache: 'none' })));
  assert.equal(seen[0], 'not-found');
  assert.match(seen[1], /^data:text\/html,… \(5015 characters\) is a web page/);
  assert.ok(seen.join().length < 400, seen.join());
});

test('classes are called what they are called in the documentation', async () => {
  const names = await page.evaluate(() => ['Generation', 'KinoraError', 'Video', 'VideoModel'].map((name) => kinora[name].name));
  assert.deepEqual(names, ['Generation', 'KinoraError', 'Video', 'VideoModel']);
});
