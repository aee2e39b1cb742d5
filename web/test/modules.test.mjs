// Which of the two WASM modules a page fetches, and that a family of the second one makes in a page what the command makes, block by block
// and from references too.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const GOLDEN = join(web, '../tests/golden');
const CORE = '/dist/wasm/core_bg.wasm';
const FAMILIES = '/dist/wasm/families_bg.wasm';
const REQUEST = { prompt: 'a photo', width: 32, height: 16, frames: 9, steps: 2, seed: 7 };

let folder, server, browser, fetched;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kinora-modules-'));
  wan(join(folder, 'wan'));
  wan(join(folder, 'causal'), { causal: { block_frames: 1, window: 3 } });
  wan(join(folder, 'vace'), undefined, 'VACE');
  server = await serve(undefined, (_, response, path) => {
    if (path.endsWith('.wasm')) fetched.push(path);
    if (!/^\/(wan|causal|vace)\//.test(path)) return false;
    try {
      return response.end(readFileSync(join(folder, path)));
    } catch {
      return response.writeHead(404).end();
    }
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A whole model of the fixtures, of one class or another, with what its transformer says of itself besides. */
function wan(to, kinora, kind = '') {
  const [{ scheduler }] = Object.values(JSON.parse(readFileSync(join(GOLDEN, 'wan_pipeline/cases.json'), 'utf8')));
  const parts = { transformer: kind ? 'wan_vace/transformer' : 'wan_pipeline/transformer', text_encoder: 'wan_pipeline/text_encoder', vae: 'wan_vae/v21' };
  for (const [name, from] of Object.entries(parts)) cpSync(join(GOLDEN, from), join(to, name), { recursive: true });
  const config = join(to, 'transformer/config.json');
  if (kinora) writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), kinora }));
  mkdirSync(join(to, 'tokenizer'));
  mkdirSync(join(to, 'scheduler'));
  cpSync(join(GOLDEN, 'tokenizer/unigram.json'), join(to, 'tokenizer/tokenizer.json'));
  writeFileSync(join(to, 'scheduler/scheduler_config.json'), JSON.stringify(scheduler));
  const index = {
    _class_name: `Wan${kind}Pipeline`,
    scheduler: ['diffusers', scheduler._class_name],
    text_encoder: ['transformers', 'UMT5EncoderModel'],
    tokenizer: ['transformers', 'T5TokenizerFast'],
    transformer: ['diffusers', `Wan${kind}Transformer3DModel`],
    transformer_2: [null, null],
    vae: ['diffusers', 'AutoencoderKLWan'],
  };
  writeFileSync(join(to, 'model_index.json'), JSON.stringify(index));
}

/** Has a new page do something. */
async function inPage(work, given) {
  fetched = [];
  const page = await open(browser, server.origin);
  const result = await page.evaluate(work, given);
  assert.deepEqual(page.problems, []);
  await page.close();
  return result;
}

const load = (options) => inPage(async (options) => (await (await import('kinora')).loadModel(options)).info.name, options);

test('the model of the package needs the small module only', { timeout: 60_000 }, async () => {
  await load({ device: 'cpu' });
  assert.deepEqual(fetched, [CORE]);
});

test('without a thread of its own a model takes the module that runs all', { timeout: 60_000 }, async () => {
  await load({ device: 'cpu', worker: false });
  assert.deepEqual(fetched, [FAMILIES]);
});

test('a clip of another family is that of the command', { timeout: 180_000 }, async () => {
  const { prompt, ...options } = REQUEST;
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const frames = join(folder, 'frames');
  const words = ['generate', prompt, ...flags, '--model', join(folder, 'wan'), '-o', `${frames}/`];
  execFileSync(process.env.KINORA_BIN, words, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, KINORA_KERNELS: 'soft' } });
  const pictures = readdirSync(frames).sort().map((name) => readFileSync(join(frames, name)).toString('base64'));
  const worst = await inPage(
    async ([prompt, options, pictures]) => {
      const { loadModel } = await import('kinora');
      const model = await loadModel({ model: '/wan/', cache: 'none' });
      const video = await model.generate(prompt, { ...options, preview: false });
      let worst = 0;
      for (const [index, picture] of pictures.entries()) {
        const bytes = await (await fetch(`data:image/png;base64,${picture}`)).blob();
        const bitmap = await createImageBitmap(bytes, { premultiplyAlpha: 'none', colorSpaceConversion: 'none' });
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
        context.drawImage(bitmap, 0, 0);
        const native = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
        video.rgba(index).forEach((value, at) => (worst = Math.max(worst, Math.abs(value - native[at]))));
      }
      return video.frameCount === pictures.length ? worst : `${video.frameCount} frames`;
    },
    [prompt, options, pictures],
  );
  assert.deepEqual(fetched, [FAMILIES]);
  assert.equal(pictures.length, REQUEST.frames);
  // Compilers of shaders round a value or another differently.
  assert.ok(worst <= 2, String(worst));
});

test('a clip of blocks goes on without an end, each of which is made when the one before is read', { timeout: 120_000 }, async () => {
  const seen = await inPage(async ({ prompt, width, height, frames, seed }) => {
    const { loadModel } = await import('kinora');
    const model = await loadModel({ model: '/causal/', cache: 'none', device: 'cpu' });
    const options = { width, height, seed, steps: 1, preview: false };
    const whole = await model.generate(prompt, { ...options, frames });
    const [same, steps] = [[], []];
    let done = 0;
    const generation = model.generate(prompt, { ...options, frames: 0, onEvent: ({ type }) => (done += type === 'step') });
    for await (const frame of generation.frames()) {
      const bytes = new Uint8Array(4 * width * height);
      await frame.copyTo(bytes, { format: 'RGBA' });
      frame.close();
      if (same.length < frames) same.push(bytes.every((value, at) => value === whole.rgba(same.length)[at]));
      steps.push(done);
      if (steps.length === 30) break;
    }
    await model.dispose();
    return { same, steps };
  }, REQUEST);
  assert.deepEqual(seen.same, Array(REQUEST.frames).fill(true), 'the clip that has an end begins like it');
  // The first latent frame is a frame, the others are four; a step each, and one block at most ahead of what was read.
  assert.ok(seen.steps.every((steps, frame) => [0, 1].includes(steps - 1 - Math.ceil(frame / 4))), String(seen.steps));
});

test('references reach the model that looks at them, as strongly as is asked', { timeout: 120_000 }, async () => {
  const seen = await inPage(async ({ prompt, width, height, seed }) => {
    const { loadModel } = await import('kinora');
    const canvas = Object.assign(document.createElement('canvas'), { width: 40, height: 40 });
    canvas.getContext('2d').fillRect(0, 0, 20, 40);
    const model = await loadModel({ model: '/vace/', cache: 'none', device: 'cpu' });
    const options = { width, height, frames: 5, steps: 1, seed, preview: false };
    const made = async (references, conditioningScale) => {
      const { metadata, ...video } = await model.generate({ text: prompt, references }, { ...options, conditioningScale }).then((video) => ({ metadata: video.metadata, bytes: video.rgba(4).join() }));
      return [video.bytes, metadata.given?.references, metadata.conditioningScale];
    };
    const [without, one, half] = [await made(undefined, undefined), await made([canvas], undefined), await made([canvas], 0.5)];
    await model.dispose();
    const flipbook = await loadModel({ device: 'cpu' });
    const refused = await flipbook.generate({ text: prompt, references: [canvas] }).catch(({ code }) => code);
    return { differ: new Set([without, one, half].map(([bytes]) => bytes)).size, told: [without, one, half].map(([, ...told]) => told), refused };
  }, REQUEST);
  assert.deepEqual([seen.differ, seen.told], [3, [[undefined, undefined], [['pixels'], undefined], [['pixels'], 0.5]]]);
  assert.equal(seen.refused, 'invalid-conditioning');
});
