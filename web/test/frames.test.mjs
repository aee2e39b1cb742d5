// Frames as they are decoded: each by itself, no faster than they are read, and the same as those of the clip.
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
