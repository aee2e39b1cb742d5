// A clip in the page: load, generate, frames, and the same frames as the command makes.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const PROMPT = 'a rocket flying on a blue background';
const SEED = 7;

let server, browser, page;
before(async () => {
  server = await serve();
  browser = await launch();
  page = await open(browser, server.origin);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test('a prompt becomes a clip, with events on the way', { timeout: 180_000 }, async () => {
  const seen = await page.evaluate(
    async ([prompt, seed]) => {
      const begun = performance.now();
      const { loadModel } = await import('kinora');
      const load = [];
      const model = (globalThis.model = await loadModel({ onProgress: (progress) => load.push(progress) }));
      const loadedMs = performance.now() - begun;
      const events = [];
      let firstPreviewMs;
      const generation = model.generate(prompt, { seed });
      for await (const event of generation) {
        if (event.type === 'step' && event.preview) {
          firstPreviewMs ??= performance.now() - begun;
          event.preview = { width: event.preview.width, height: event.preview.height };
        }
        events.push(event);
      }
      const video = (globalThis.video = await generation);
      const { width, height, fps, frameCount, metadata } = video;
      return { load, events, loadedMs, firstPreviewMs, totalMs: performance.now() - begun, info: model.info, width, height, fps, frameCount, metadata };
    },
    [PROMPT, SEED],
  );
  console.log(`device ${seen.info.device}; loaded ${Math.round(seen.loadedMs)} ms, first preview ${Math.round(seen.firstPreviewMs)} ms, clip ${Math.round(seen.totalMs)} ms`);
  const fractions = seen.load.map((progress) => progress.fraction);
  assert.deepEqual(fractions, fractions.toSorted((a, b) => a - b), 'the bar never moves back');
  assert.equal(seen.load.at(-1).phase, 'ready');
  assert.deepEqual([seen.width, seen.height, seen.fps, seen.frameCount], [128, 128, 12, 17]);
  assert.equal(seen.metadata.seed, SEED);
  const types = seen.events.map((event) => event.type);
  assert.equal(types[0], 'start');
  assert.equal(types.at(-1), 'done');
  assert.ok(types.includes('text') && types.includes('decode'), types.join(' '));
  assert.equal(seen.events.findLast((event) => event.type === 'step').step, seen.info.steps);
  assert.deepEqual(page.problems, []);
});

test('the frames are those of the command on the same adapter', { timeout: 180_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-'));
  const arguments_ = ['generate', PROMPT, '--seed', String(SEED), '--model', join(web, '../models/flipbook'), '-o', `${folder}/frames/`];
  execFileSync(process.env.KINORA_BIN, arguments_, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, KINORA_KERNELS: 'soft' } });
  const count = await page.evaluate(() => globalThis.video.frameCount);
  const quality = [];
  for (let index = 0; index < count; index++) {
    const name = execFileSync('ls', [join(folder, 'frames')]).toString().split('\n')[index];
    const png = readFileSync(join(folder, 'frames', name)).toString('base64');
    quality.push(
      await page.evaluate(
        async ([png, index]) => {
          const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob(), { premultiplyAlpha: 'none', colorSpaceConversion: 'none' });
          const context = new OffscreenCanvas(picture.width, picture.height).getContext('2d');
          context.drawImage(picture, 0, 0);
          const native = context.getImageData(0, 0, picture.width, picture.height).data;
          const own = globalThis.video.rgba(index);
          const squares = own.reduce((sum, value, at) => sum + (value - native[at]) ** 2, 0);
          return squares === 0 ? 99 : 10 * Math.log10((255 ** 2 * own.length) / squares);
        },
        [png, index],
      ),
    );
  }
  rmSync(folder, { recursive: true });
  console.log(`PSNR of ${count} frames: worst ${Math.min(...quality).toFixed(1)} dB`);
  assert.ok(count === 17 && quality.every((db) => db >= 50), quality.map((db) => db.toFixed(1)).join(' '));
});
