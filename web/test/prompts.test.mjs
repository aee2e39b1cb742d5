// Prompts of every kind: images, clips and masks in every form a page has them, with the words and the codes of the command.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

/** One token row and column of the built-in model. */
const SIDE = 64;
const FRAMES = 9;

let server, browser, page;
before(async () => {
  server = await serve();
  browser = await launch();
  page = await open(browser, server.origin);
  await page.evaluate(
    async ([side, frames]) => {
      globalThis.kinora = await import('kinora');
      globalThis.model = await kinora.loadModel();
      globalThis.small = { width: side, height: side, frames, steps: 2, seed: 7, preview: false };
      globalThis.video = await model.generate('a taxi on a green background', small);
      globalThis.gif = await video.toBlob({ type: 'image/gif' });
      /** Left half `left`, right half `right`. */
      globalThis.halves = (left, right, width = side, height = side) => {
        const canvas = new OffscreenCanvas(width, height);
        const context = canvas.getContext('2d');
        for (const [at, colour] of [[0, left], [1, right]]) (context.fillStyle = colour), context.fillRect((at * width) / 2, 0, width / 2, height);
        return canvas;
      };
      globalThis.failure = (promise) => Promise.resolve(promise).then(() => ({ code: 'none' }), ({ code, message, hint }) => ({ code, message, hint }));
      /** Mean difference of two frames, of 255. */
      globalThis.difference = (a, b) => a.reduce((sum, value, at) => sum + Math.abs(value - b[at]), 0) / a.length;
    },
    [SIDE, FRAMES],
  );
}, { timeout: 300_000 });
after(async () => {
  await browser?.close();
  await server?.close();
});

test('clips go on, back, around and into each other', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const text = 'a taxi on a green background';
    const make = (parts) => model.generate({ text, video, ...parts }, small);
    const same = (made, at, from) => difference(made.rgba(at), video.rgba(from));
    const last = video.frameCount - 1;
    const forward = await make({ extend: 'forward' });
    const backward = await make({ extend: 'backward' });
    const loop = await make({ loop: true, overlap: 1 });
    const connect = await make({ connect: video, overlap: 1 });
    return {
      lengths: [forward, backward, loop, connect].map((made) => made.frameCount),
      kept: [same(forward, 0, 0), same(backward, backward.frameCount - 1, last), same(connect, 0, 0), same(connect, connect.frameCount - 1, last)],
      given: forward.metadata.given,
      frames: forward.metadata.frames,
    };
  });
  // A latent frame is 4 frames, the first of a clip 1. Shared are 5 and 8 frames, around the gaps 1 and 4.
  assert.deepEqual(seen.lengths, [9 - 5 + 9, 9 - 8 + 9, 9 - 1 - 4 + 9, 9 - 1 + 9 - 4 + 9]);
  assert.deepEqual(seen.kept, [0, 0, 0, 0], 'what was given outside of the overlap is untouched');
  assert.deepEqual(seen.given, { video: 'pixels', extend: 'forward' });
  assert.equal(seen.frames, FRAMES);
});

test('a clip is the same in every form it can be given in', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const exact = await video.toBlob({ type: 'image/apng' });
    const film = await video.toBlob({ type: 'video/mp4' });
    const element = Object.assign(document.createElement('video'), { src: URL.createObjectURL(film), muted: true });
    const pictures = await Promise.all(Array.from({ length: video.frameCount }, (_, index) => video.frame(index)));
    const make = (source) => model.generate({ text: 'a taxi', video: source, strength: 0.9 }, { ...small, frames: undefined });
    const wanted = await make(video);
    const forms = { exact, pictures, gif, film, element, untyped: new Blob([exact]) };
    const found = {};
    for (const [name, source] of Object.entries(forms)) {
      const made = await make(source);
      found[name] = [made.frameCount, Math.max(...Array.from({ length: made.frameCount }, (_, at) => difference(made.rgba(at), wanted.rgba(at))))];
    }
    return found;
  });
  console.log(`frames and mean difference: ${JSON.stringify(seen)}`);
  for (const [name, [frames, difference]] of Object.entries(seen)) {
    assert.equal(frames, FRAMES, `${name}: as long as the clip that is changed`);
    // What compresses without loss gives the same bytes; GIF has few colours, films are blurred.
    assert.ok(difference <= (['exact', 'pictures', 'untyped'].includes(name) ? 0 : 8), `${name}: ${difference}`);
  }
});

test('a mask says where a clip changes, and images where they stand', { timeout: 300_000 }, async () => {
  const [outside, inside, corners] = await page.evaluate(async () => {
    const changed = await model.generate({ text: 'a penguin on a red background', video, mask: halves('black', 'white') }, small);
    const [outside, inside] = [0, 1].map((half) => {
      let sum = 0;
      for (let at = 0; at < video.rgba(8).length; at++) if (Math.floor(((at / 4) % 64) / 32) === half) sum += Math.abs(changed.rgba(8)[at] - video.rgba(8)[at]);
      return sum / (video.rgba(8).length / 2);
    });
    const keyed = await model.generate({ text: 'a taxi', image: halves('rgb(40 60 200)', 'rgb(230 200 40)', 300, 200), keyframes: { 8: halves('rgb(230 200 40)', 'rgb(40 60 200)') } }, small);
    const corner = (at, x) => Array.from(keyed.rgba(at).subarray((32 * 64 + x) * 4, (32 * 64 + x) * 4 + 3));
    return [outside, inside, [corner(0, 8), corner(0, 56), corner(8, 8), corner(8, 56)]];
  });
  console.log(`mean change outside the mask ${outside.toFixed(1)}, inside ${inside.toFixed(1)}; corners ${JSON.stringify(corners)}`);
  assert.ok(inside > 2 * outside && inside > 20, `${inside} inside, ${outside} outside`);
  const wanted = [[40, 60, 200], [230, 200, 40], [230, 200, 40], [40, 60, 200]];
  corners.forEach((rgb, at) => rgb.forEach((value, channel) => assert.ok(Math.abs(value - wanted[at][channel]) < 40, `${rgb}, expected ${wanted[at]}`)));
});

test('what contradicts itself or cannot be read has the codes of the command', { timeout: 120_000 }, async () => {
  const cases = [
    ['{ extend: "forward" }', 'invalid-conditioning', /extend without a video/],
    ['{ text: "x", mask: halves("red", "blue") }', 'invalid-conditioning', /mask without a video/],
    ['{ video, image: halves("red", "blue") }', 'invalid-conditioning', /both images and a video/],
    ['{ video, loop: true, connect: video }', 'invalid-conditioning', /both connect and loop/],
    ['{ video, loop: true }', 'invalid-conditioning', /overlap/],
    ['{ video, extend: "sideways" }', 'invalid-request', /extend.*sideways/],
    ['{ video, strength: 1.5 }', 'invalid-conditioning', /strength.*1\.5/],
    ['{ video, mask: halves("black", "black") }', 'invalid-conditioning', /no painted pixel/],
    ['{ keyframes: { 9: halves("red", "blue") } }', 'invalid-conditioning', /keyframe.*9.*0 to 8/],
    ['{ keyframes: { x: halves("red", "blue") } }', 'invalid-request', /sources|frame/],
    ['{ image: video }', 'not-an-image', /image.*9 frames/],
    ['{ image: new Blob(["no picture"]) }', 'unknown-input', /image/],
    ['{ video: gif.slice(0, 200) }', 'input-unreadable', /video/],
    ['{ video: new Blob(["no film"], { type: "video/mp4" }) }', 'input-unreadable', /video/],
    ['{ video: [] }', 'bad-clip', /frame/],
    ['{ image: 7 }', 'input-unreadable', /image/],
  ];
  for (const [prompt, code, pattern] of cases) {
    const failed = await page.evaluate((prompt) => failure(model.generate(new Function('video', 'halves', 'gif', `return (${prompt})`)(video, halves, gif), small)), prompt);
    assert.equal(failed.code, code, `${prompt}: ${JSON.stringify(failed)}`);
    assert.match(failed.message, pattern, prompt);
  }
});

test('a short prompt is expanded on request, the same for the same seed', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const starts = [];
    const onEvent = (event) => event.type === 'start' && starts.push(event.prompt);
    const { metadata } = await model.generate('rocket', { ...small, steps: 1, expand: true, onEvent });
    const plain = await model.generate('rocket', { ...small, steps: 1, onEvent });
    return { starts, metadata, plain: plain.metadata };
  });
  assert.match(seen.starts[0], /^a rocket \w+.* on a \w+ background$/);
  assert.deepEqual([seen.metadata.prompt, seen.metadata.originalPrompt], [seen.starts[0], 'rocket']);
  assert.deepEqual([seen.plain.prompt, seen.plain.originalPrompt], ['rocket', undefined]);
  assert.equal(seen.starts[1], 'rocket');
});

test('generations side by side are what they are alone', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const jobs = [{ prompt: 'a taxi', ...small }, { prompt: { text: 'a fox', image: halves('red', 'blue') }, ...small, width: 96, seed: 3 }];
    const done = [];
    const many = model.generateMany(jobs.map((job, index) => ({ ...job, onEvent: ({ type }) => ['start', 'done'].includes(type) && done.push(`${index} ${type}`) })));
    const together = await Promise.all(many);
    const differences = [];
    for (const [index, { prompt, ...options }] of jobs.entries()) differences.push(difference((await model.generate(prompt, options)).rgba(8), together[index].rgba(8)));
    const [first, second] = model.generateMany(jobs);
    first.cancel(new Error('enough'));
    const cancelled = [await failure(first), await failure(second)].map(({ message }) => message);
    const refused = await Promise.all(model.generateMany([jobs[0], { prompt: 'x', width: 33 }]).map(failure));
    return { done, differences, seeds: many.map(({ seed }) => seed), widths: together.map(({ width }) => width), cancelled, refused: refused.map(({ code }) => code), none: model.generateMany([]).length };
  });
  assert.deepEqual(seen.done.toSorted(), ['0 done', '0 start', '1 done', '1 start']);
  assert.deepEqual(seen.differences, [0, 0]);
  assert.deepEqual([seen.seeds, seen.widths], [[7, 3], [64, 96]]);
  assert.deepEqual(seen.cancelled, ['enough', 'enough']);
  assert.deepEqual(seen.refused, ['invalid-request', 'invalid-request'], 'nothing begins while one of them is wrong');
  assert.equal(seen.none, 0);
});

test('a clip that was given makes the same frames as with the command', { timeout: 300_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-'));
  try {
    const [bytes, own] = await page.evaluate(async () => {
      const made = await model.generate({ text: 'a taxi', video: gif, extend: 'forward' }, small);
      return [Array.from(new Uint8Array(await gif.arrayBuffer())), Array.from({ length: made.frameCount }, (_, at) => Array.from(made.rgba(at)))];
    });
    writeFileSync(join(folder, 'clip.gif'), new Uint8Array(bytes));
    const words = ['--video', 'clip.gif', '--extend', 'forward', '--size', `${SIDE}x${SIDE}`, '--frames', `${FRAMES}`, '--steps', '2', '--seed', '7', '-o', 'made.y4m'];
    const model = join(web, '../models/flipbook');
    execFileSync(process.env.KINORA_BIN, ['generate', 'a taxi', '--model', model, ...words], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, KINORA_KERNELS: 'soft' } });
    // Only the luma is compared: 4:4:4, BT.601, limited range.
    const file = readFileSync(join(folder, 'made.y4m'));
    const area = SIDE * SIDE;
    let at = file.indexOf('\n') + 1;
    const worst = own.map((rgba) => {
      at = file.indexOf('\n', at) + 1;
      let squares = 0;
      for (let pixel = 0; pixel < area; pixel++) {
        const [r, g, b] = rgba.slice(pixel * 4, pixel * 4 + 3);
        squares += (16 + (219 * (0.299 * r + 0.587 * g + 0.114 * b)) / 255 - file[at + pixel]) ** 2;
      }
      at += 3 * area;
      return 10 * Math.log10((255 ** 2 * area) / squares);
    });
    console.log(`luma PSNR of ${own.length} frames: worst ${Math.min(...worst).toFixed(1)} dB`);
    assert.equal(at, file.length, 'as many frames');
    // Rounding to whole numbers alone leaves 59 dB.
    assert.ok(worst.every((db) => db >= 50), worst.map((db) => db.toFixed(1)).join(' '));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('nothing was left unhandled', () => assert.deepEqual(page.problems, []));
