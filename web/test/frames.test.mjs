// Frames as they are decoded: each by itself, no faster than they are read, the same as those of the clip, and without an end; latents and
// previews before them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownPage } from './harness.mjs';

const page = ownPage(async () => {
  const { loadModel } = await import('kinora');
  globalThis.sent = 0;
  const worker = () => {
    const worker = new Worker('/dist/worker.js', { type: 'module' });
    worker.addEventListener('message', ({ data }) => (sent += data.type === 'frame' ? 1 : 0));
    return worker;
  };
  globalThis.model = await loadModel({ worker });
  globalThis.small = { width: 64, height: 64, frames: 9, steps: 1, seed: 3, preview: false };
  globalThis.pixels = async (frame) => {
    const bytes = new Uint8Array(64 * 64 * 4);
    await frame.copyTo(bytes, { format: 'RGBA' });
    return bytes;
  };
  globalThis.code = (work) => work().then(() => 'none', (error) => (typeof error.code === 'string' ? error.code : error.name));
});

test('frames come one by one, as many as are read', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const whole = await model.generate('a fox', small);
    const generation = model.generate('a fox', small);
    const [stamps, same, ahead] = [[], [], []];
    for await (const frame of generation.frames()) {
      same.push((await pixels(frame)).every((value, at) => value === whole.rgba(stamps.length)[at]));
      stamps.push(frame.timestamp);
      frame.close();
      if (stamps.length < 4) await new Promise((resolve) => setTimeout(resolve, 200));
      ahead.push(sent - stamps.length);
    }
    const clip = await generation;
    return { stamps, same, ahead, frameCount: clip.frameCount, seed: clip.metadata.seed, gone: await code(async () => clip.rgba(0)) };
  });
  assert.deepEqual(seen.stamps, Array.from({ length: 9 }, (_, index) => Math.round((index * 1e6) / 12)));
  assert.ok(seen.same.every(Boolean), String(seen.same));
  assert.deepEqual([...new Set(seen.ahead)], [0], 'no frame was sent that nobody had asked for');
  assert.deepEqual([seen.frameCount, seen.seed, seen.gone], [9, 3, 'disposed']);
});

test('who asks late gets all frames, who leaves ends the generation, and failures are thrown', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const count = async (generation) => {
      let count = 0;
      for await (const frame of generation.frames()) (frame.close(), count++);
      return count;
    };
    const done = model.generate('a fox', small);
    await done;
    const late = await count(done);
    const kept = (await done).rgba(8).length;
    const left = model.generate('a fox', small);
    for await (const frame of left.frames()) {
      frame.close();
      break;
    }
    const [one, two] = model.generateMany([{ ...small, prompt: 'a fox' }, { ...small, prompt: 'an owl' }]);
    return { late, kept, left: await code(async () => left), many: [await count(one), await count(two)], failed: await code(() => count(model.generate('a fox', { ...small, width: 65 }))), next: (await model.generate('a fox', small)).frameCount };
  });
  assert.deepEqual(seen, { late: 9, kept: 64 * 64 * 4, left: 'AbortError', many: [9, 9], failed: 'invalid-request', next: 9 });
  assert.deepEqual(page.problems, []);
});

test('a clip without an end goes on as long as it is read, and waits where nobody reads', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const endless = { ...small, frames: 0, window: 9 };
    const prompt = { text: 'a fox', overlap: 1 };
    const whole = await model.generate('a fox', small);
    const [same, ahead, steps] = [[], [], []];
    let before = sent;
    const generation = model.generate(prompt, { ...endless, onEvent: (event) => event.type === 'step' && steps.push(event) });
    for await (const frame of generation.frames()) {
      // The ninth is also the first of the second window, which draws it anew.
      if (same.length < 8) same.push((await pixels(frame)).every((value, at) => value === whole.rgba(same.length)[at]));
      frame.close();
      ahead.push(sent - before - ahead.length - 1);
      if (ahead.length === 18) break;
    }
    const left = await code(async () => generation);
    before = sent;
    const unread = model.generate('a fox', endless);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const kept = sent - before;
    unread.cancel();
    const many = model.generateMany([{ ...endless, prompt: 'a fox' }, { ...small, prompt: 'an owl' }]);
    const { generateVideo } = await import('kinora');
    return {
      same, left, kept, ahead: Math.max(...ahead), steps: steps.map(({ step, steps, fraction, etaMs }) => [step, steps, fraction, etaMs]),
      unread: await code(async () => unread), many: await Promise.all(many.map((one) => code(async () => one))),
      whole: await generateVideo({ prompt: 'a fox', frames: 0 }).catch(({ code, message }) => [code, message]), next: (await model.generate('a fox', small)).frameCount,
    };
  });
  assert.deepEqual([seen.same, seen.left, seen.ahead, seen.kept], [Array(8).fill(true), 'AbortError', 0, 0]);
  // A step of each window, of which eight frames are its own.
  assert.deepEqual(seen.steps, Array(3).fill([1, 1, 0, Infinity]));
  assert.deepEqual([seen.unread, seen.many, seen.next], ['AbortError', Array(2).fill('invalid-request'), 9]);
  assert.deepEqual(seen.whole, ['invalid-request', 'invalid frames: found 0, expected an end where the whole clip is waited for']);
});

test('who asks for latents decides whether they are decoded', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const whole = await model.generate('a fox', small);
    const events = [];
    const generation = model.generate('a fox', { ...small, onEvent: ({ type }) => events.push(type) });
    const { shape, values } = await generation.latents;
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = events.includes('decode');
    const clip = await generation.decode();
    const same = Array.from({ length: 9 }, (_, index) => clip.rgba(index).every((value, at) => value === whole.rgba(index)[at]));
    const other = model.generate('a fox', small);
    await other.latents;
    other.cancel();
    const [one] = model.generateMany([{ ...small, prompt: 'a fox' }, { ...small, prompt: 'an owl' }]);
    const none = [await generation.latents === (await generation.latents), await one.latents, await model.generate('a fox', { ...small, width: 65 }).latents];
    return { shape, sizes: [values.length, shape.reduce((a, b) => a * b)], before, after: events.includes('decode'), same, other: await code(async () => other), none };
  });
  assert.deepEqual([seen.shape[0], seen.shape[2], seen.shape.length, seen.sizes[0]], [1, 3, 5, seen.sizes[1]]);
  assert.deepEqual([seen.before, seen.after, seen.other, seen.none], [false, true, 'AbortError', [true, undefined, undefined]]);
  assert.ok(seen.same.every(Boolean), String(seen.same));
});

test('previews may have several frames, of which the first is as it would be alone', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const draw = (picture) => {
      const context = new OffscreenCanvas(64, 64).getContext('2d');
      context.drawImage(picture, 0, 0);
      return context.getImageData(0, 0, 64, 64).data.join();
    };
    const previews = async (preview) => {
      const found = [];
      const onEvent = (event) => event.type === 'step' && found.push([event.preview === event.previews[0], event.previews.map(draw)]);
      await model.generate('a fox', { ...small, steps: 2, preview, onEvent });
      return found;
    };
    const [alone, several, none] = [await previews({ everySteps: 1 }), await previews({ everySteps: 1, frames: 5 }), await previews(false)];
    return { first: several.slice(0, 1).map(([same, [first]]) => same && first === alone[0][1][0]), counts: [alone, several, none].map((found) => found.map(([, { length }]) => length)), moves: new Set(several[0][1]).size };
  });
  // A clip of nine frames has three in its latents; what follows the last step is the clip itself.
  assert.deepEqual([seen.first, seen.counts], [[true], [[1, 0], [3, 0], [0, 0]]]);
  assert.ok(seen.moves > 1, 'the frames differ');
});
