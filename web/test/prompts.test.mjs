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
      // As the command is asked to.
      globalThis.model = await kinora.loadModel({ device: 'cpu' });
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
    ['{ video: new Blob(["no film"], { type: "video/mp4" }) }', 'unknown-input', /video.*expected .*MP4/],
    ['{ video: [] }', 'bad-clip', /frame/],
    ['{ image: 7 }', 'input-unreadable', /image/],
  ];
  for (const [prompt, code, pattern] of cases) {
    const failed = await page.evaluate((prompt) => failure(model.generate(new Function('video', 'halves', 'gif', `return (${prompt})`)(video, halves, gif), small)), prompt);
    assert.equal(failed.code, code, `${prompt}: ${JSON.stringify(failed)}`);
    assert.match(failed.message, pattern, prompt);
  }
});

test('prompts are read in the words of the model, which the seed adds to on request', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const starts = [];
    const onEvent = (event) => event.type === 'start' && starts.push(event.prompt);
    const { metadata } = await model.generate('rocket', { ...small, steps: 1, expand: true, onEvent });
    const plain = await model.generate('rocket', { ...small, steps: 1, onEvent });
    const prompts = [];
    await model.generate('a castle and two ships on a blue background', { ...small, steps: 1, onEvent: (event) => event.type === 'prompt' && prompts.push(event) });
    const literal = await model.generate('two rockets', { ...small, steps: 1, expand: false });
    return { starts, metadata, plain: plain.metadata, prompts, literal: literal.metadata };
  });
  assert.match(seen.starts[0], /^a rocket \w+.* on a \w+ background$/);
  assert.deepEqual([seen.metadata.prompt, seen.metadata.originalPrompt], [seen.starts[0], 'rocket']);
  const caption = 'a rocket flying on a white background';
  assert.deepEqual([seen.plain.prompt, seen.plain.originalPrompt, seen.plain.used], [caption, 'rocket', 'rocket, flying, white']);
  assert.equal(seen.starts[1], caption);
  assert.deepEqual(seen.prompts, [{ type: 'prompt', used: 'ship, sailing, blue', unknown: [{ word: 'castle', nearest: 'ship' }], ignored: ['two'] }]);
  assert.deepEqual([seen.literal.prompt, seen.literal.originalPrompt, seen.literal.used], ['two rockets', undefined, undefined]);
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

/** Luma PSNR of each of our frames against those the command makes from `words`; nothing else is compared. */
function psnrToCommand(words, own, files = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-'));
  try {
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(folder, name), new Uint8Array(bytes));
    const common = ['--model', join(web, '../models/flipbook'), '--size', `${SIDE}x${SIDE}`, '--steps', '2', '--seed', '7', '-o', 'made.y4m'];
    execFileSync(process.env.KINORA_BIN, ['generate', ...words, ...common, '--executor', 'cpu'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    // 4:4:4, BT.601, limited range.
    const file = readFileSync(join(folder, 'made.y4m'));
    const area = SIDE * SIDE;
    let at = file.indexOf('\n') + 1;
    const quality = own.map((rgba) => {
      at = file.indexOf('\n', at) + 1;
      let squares = 0;
      for (let pixel = 0; pixel < area; pixel++) {
        const [r, g, b] = rgba.slice(pixel * 4, pixel * 4 + 3);
        squares += (16 + (219 * (0.299 * r + 0.587 * g + 0.114 * b)) / 255 - file[at + pixel]) ** 2;
      }
      at += 3 * area;
      return 10 * Math.log10((255 ** 2 * area) / squares);
    });
    assert.equal(at, file.length, 'as many frames');
    console.log(`luma PSNR of ${own.length} frames: worst ${Math.min(...quality).toFixed(1)} dB`);
    // Rounding to whole numbers alone leaves 59 dB.
    assert.ok(quality.every((db) => db >= 50), quality.map((db) => db.toFixed(1)).join(' '));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('a clip that was given makes the same frames as with the command', { timeout: 300_000 }, async () => {
  const [bytes, own] = await page.evaluate(async () => {
    const made = await model.generate({ text: 'a taxi', video: gif, extend: 'forward' }, small);
    return [Array.from(new Uint8Array(await gif.arrayBuffer())), Array.from({ length: made.frameCount }, (_, at) => Array.from(made.rgba(at)))];
  });
  psnrToCommand(['a taxi', '--video', 'clip.gif', '--extend', 'forward', '--frames', `${FRAMES}`], own, { 'clip.gif': bytes });
});

test('long clips are made window by window, with the frames of the command', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const events = [];
    const prompt = { text: 'a taxi', then: ['a fox on a red background'], overlap: 1 };
    const options = { ...small, window: 9, frames: 14, preview: { everySteps: 1 } };
    const onEvent = ({ preview, ...event }) => (events.push({ ...event, pictured: preview?.width }), preview?.close());
    const made = await model.generate(prompt, { ...options, onEvent });
    const first = await model.generate('a taxi', small);
    const same = Array.from({ length: 8 }, (_, at) => difference(made.rgba(at), first.rgba(at)));
    const scenes = await model.generate({ ...prompt, then: ['a fox', 'an owl'] }, { ...small, steps: 1 });
    const timed = await model.generate({ text: 'a taxi', overlap: 1 }, { ...small, steps: 1, window: 9, frames: undefined, durationSeconds: 1 });
    const beside = await Promise.all(model.generateMany([{ prompt, ...options }, { prompt: 'a taxi', ...small }]));
    const together = [difference(beside[0].rgba(13), made.rgba(13)), difference(beside[1].rgba(8), first.rgba(8))];
    const frames = Array.from({ length: made.frameCount }, (_, at) => Array.from(made.rgba(at)));
    return { events, metadata: made.metadata, same, scenes: [scenes.frameCount, scenes.metadata], timed: timed.metadata, together, frames };
  });
  const { originalPrompt, given, frames, window, windows } = seen.metadata;
  assert.deepEqual([originalPrompt, given, frames, window, windows], ['a taxi', { then: ['a fox on a red background'], overlap: 1 }, 14, 9, 2]);
  assert.deepEqual(seen.same, Array(8).fill(0), 'the first window is the clip alone, up to the frame that the second draws anew');
  assert.equal(seen.events[0].frames, 14);
  const steps = seen.events.filter(({ type }) => type === 'step');
  assert.deepEqual(steps.map(({ step, steps, pictured }) => [step, steps, pictured ?? 0]), [[1, 4, SIDE], [2, 4, 0], [3, 4, SIDE], [4, 4, 0]]);
  const fractions = seen.events.flatMap(({ fraction }) => fraction ?? []);
  assert.deepEqual(fractions.map((fraction) => Math.round(fraction * 1e3) / 1e3), [0.175, 0.35, 0.675, 0.85, 0.85], 'each window has its share, decoding included');
  assert.ok(steps.every(({ etaMs }) => etaMs > 0));
  assert.deepEqual([seen.scenes[0], seen.scenes[1].windows, seen.scenes[1].frames], [9 + 8 + 8, 3, 25], 'a window for each text');
  assert.deepEqual([seen.timed.frames, seen.timed.windows], [12, 2], 'a second at 12 frames');
  assert.deepEqual(seen.together, [0, 0], 'beside others as alone');
  psnrToCommand(['a taxi', '--then', 'a fox on a red background', '--overlap', '1', '--window', '9', '--frames', '14'], seen.frames);
});

test('impossible windows have the codes of the command', { timeout: 120_000 }, async () => {
  const cases = [
    ['{ text: "x", then: ["y", "z"], overlap: 1 }', { window: 9, frames: 14 }, 'invalid-conditioning', /3 scenes for 2 windows/],
    ['"x"', { window: 17, frames: 9 }, 'invalid-conditioning', /window.*17 frames for a clip of 9/],
    ['"x"', { window: 8, frames: 24 }, 'invalid-request', /frames.*8.*e\.g\. 9/],
    ['{ text: "x", overlap: 9 }', { window: 9, frames: 24 }, 'invalid-conditioning', /overlap/],
    ['{ text: "x", then: "y" }', {}, 'invalid-request', /then/],
    ['"x"', { window: -9, frames: 24 }, 'invalid-request', /window/],
    ['{ video, loop: true, overlap: 1, then: ["y"] }', {}, 'invalid-conditioning', /windows/],
  ];
  for (const [prompt, options, code, pattern] of cases) {
    const failed = await page.evaluate(([prompt, options]) => failure(model.generate(new Function('video', `return (${prompt})`)(video), { ...small, ...options })), [prompt, options]);
    assert.equal(failed.code, code, `${prompt}: ${JSON.stringify(failed)}`);
    assert.match(failed.message, pattern, prompt);
  }
});

/** A browser's language model of which everything can be decided; it remembers what it was asked. */
function stubLanguageModel(available, answer) {
  globalThis.asked = [];
  globalThis.LanguageModel = {
    availability: async (options) => (asked.push(['availability', options.expectedInputs[0].languages.join()]), available),
    create: async ({ initialPrompts, signal }) => {
      asked.push(['create', initialPrompts[0].role, initialPrompts[0].content, signal instanceof AbortSignal]);
      return { prompt: async (text, { signal }) => (asked.push(['prompt', text, signal instanceof AbortSignal]), answer(signal)), destroy: () => asked.push(['destroy']) };
    },
  };
}

test("the browser's own language model expands prompts", { timeout: 300_000 }, async () => {
  await page.evaluate(`globalThis.stubLanguageModel = ${stubLanguageModel}`);
  for (const [available, notes] of [['available', []], ['downloadable', ['the browser downloads its language model first']]]) {
    const seen = await page.evaluate(async (available) => {
      stubLanguageModel(available, () => ' a rocket flying on a blue background\n');
      const notes = [];
      const onEvent = (event) => event.type === 'note' && notes.push(event.text);
      const { metadata } = await model.generate('rocket', { ...small, steps: 1, expand: 'browser', onEvent });
      return { metadata, notes, asked, report: (await kinora.checkSupport()).languageModel };
    }, available);
    assert.deepEqual([seen.metadata.prompt, seen.metadata.originalPrompt], ['a rocket flying on a blue background', 'rocket']);
    assert.deepEqual([seen.notes, seen.report], [notes, available]);
    assert.deepEqual(seen.asked.map(([call]) => call), ['availability', 'create', 'prompt', 'destroy', 'availability']);
    const [, [, role, task, signalled], prompted] = seen.asked;
    assert.deepEqual([role, signalled, prompted], ['system', true, ['prompt', 'rocket', true]]);
    assert.match(task, /text-to-video.*backgrounds: white.*\n[^]*rocket: /, 'it is told the words of the model');
    assert.ok(task.length < 16_000, `${task.length} characters`);
  }
  const seen = await page.evaluate(async () => {
    const own = await model.generate({ text: 'rocket', overlap: 1 }, { ...small, steps: 1, expand: (text, seed) => `a red ${text}, seed ${seed}` });
    const many = await Promise.all(model.generateMany([1, 2].map((seed) => ({ prompt: 'a fox', ...small, steps: 1, seed, expand: async (text, seed) => `${text} ${seed}` }))));
    return [own, ...many].map(({ metadata: { prompt, originalPrompt } }) => [prompt, originalPrompt]);
  });
  assert.deepEqual(seen, [['a red rocket, seed 7', 'rocket'], ['a fox 1', 'a fox'], ['a fox 2', 'a fox']]);
});

test('what a language model cannot do is an error, never another prompt', { timeout: 120_000 }, async () => {
  const cases = [
    ['unavailable', '() => "a rocket"', /language model of this browser.*there is none/],
    ['available', '() => { throw new DOMException("too long", "QuotaExceededError") }', /too long/],
    ['available', '() => " \\n"', /answer is empty/],
    ['available', '() => "one\\ntwo"', /2 lines, expected one/],
    ['available', '() => "x".repeat(1001)', /1001 characters/],
    ['available', '() => undefined', /type undefined/],
  ];
  for (const [available, answer, pattern] of cases) {
    const [failed, destroyed] = await page.evaluate(async ([available, answer]) => {
      stubLanguageModel(available, new Function(`return ${answer}`)());
      const failed = await failure(model.generate('rocket', { ...small, expand: 'browser' }));
      return [failed, asked.some(([call]) => call === 'create') === asked.some(([call]) => call === 'destroy')];
    }, [available, answer]);
    assert.equal(failed.code, 'expand-failed', JSON.stringify(failed));
    assert.match(failed.message, pattern);
    assert.match(failed.hint, /checkSupport.*expand: true/);
    assert.ok(destroyed, 'no session is left behind');
  }
  const seen = await page.evaluate(async () => {
    delete globalThis.LanguageModel;
    const absent = await failure(model.generate('rocket', { ...small, expand: 'browser' }));
    const report = (await kinora.checkSupport()).languageModel;
    const thrown = await failure(model.generate('rocket', { ...small, expand: () => { throw new Error('no idea'); } }));
    const wrong = await failure(model.generate('rocket', { ...small, expand: 'always' }));
    stubLanguageModel('available', (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))));
    const waiting = model.generate('rocket', { ...small, expand: 'browser' });
    setTimeout(() => waiting.cancel(new Error('enough')), 50);
    const deaf = model.generate('rocket', { ...small, expand: () => new Promise(() => undefined) });
    setTimeout(() => deaf.cancel(new Error('enough of that')), 50);
    const cancelled = [await failure(waiting), await failure(deaf)].map(({ message }) => message);
    await new Promise((resolve) => setTimeout(resolve, 50));
    return { absent, report, thrown, wrong, cancelled, calls: asked.map(([call]) => call) };
  });
  assert.deepEqual([seen.absent.code, seen.report], ['expand-failed', 'unavailable']);
  assert.match(seen.absent.message, /there is none/);
  assert.deepEqual([seen.thrown.code, seen.thrown.message], ['expand-failed', 'the function `expand` cannot expand the prompt: no idea']);
  assert.deepEqual([seen.wrong.code, /expand/.test(seen.wrong.message)], ['invalid-request', true]);
  assert.deepEqual(seen.cancelled, ['enough', 'enough of that']);
  assert.deepEqual(seen.calls, ['availability', 'create', 'prompt', 'destroy']);
});

/** Chunks of a RIFF file: a name of four letters, the length, and the bytes, of which there is an even number. */
function riff(name, ...parts) {
  const bytes = Buffer.concat(parts);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([Buffer.from(name), length, bytes, Buffer.alloc(bytes.length % 2)]);
}

/** The picture in a WebP file, without its size and colour profile. */
function pictureOf(webp) {
  let at = 12;
  while (!/VP8[ L]/.test(webp.toString('latin1', at, at + 4))) at += 8 + webp.readUInt32LE(at + 4);
  return webp.subarray(at);
}

test('an animated WebP is a clip, a still one an image', { timeout: 120_000 }, async () => {
  const stills = await page.evaluate(async (side) => {
    const webp = (colour) => halves(colour, colour).convertToBlob({ type: 'image/webp', quality: 1 });
    const files = await Promise.all(['red', 'blue'].map(webp));
    return Promise.all(files.map(async (file) => Array.from(new Uint8Array(await file.arrayBuffer()))));
  }, SIDE);
  const u24 = (value) => Buffer.from([value & 255, (value >> 8) & 255, value >> 16]);
  const size = Buffer.concat([u24(SIDE - 1), u24(SIDE - 1)]);
  // Red for 250 ms, blue for 500 ms: nine frames at the model's twelve per second.
  const frames = stills.map((bytes, index) => riff('ANMF', u24(0), u24(0), size, u24(index === 0 ? 250 : 500), Buffer.from([2]), pictureOf(Buffer.from(bytes))));
  const animated = riff('RIFF', Buffer.from('WEBP'), riff('VP8X', Buffer.from([2, 0, 0, 0]), size), riff('ANIM', Buffer.alloc(6)), ...frames);
  const seen = await page.evaluate(async ([animated, still]) => {
    const files = [new Blob([new Uint8Array(animated)], { type: 'image/webp' }), new Blob([new Uint8Array(animated)])];
    const clips = await Promise.all(files.map((video) => model.generate({ text: 'a taxi', video, strength: 1 }, { ...small, frames: undefined })));
    const colour = (clip, at) => Array.from(clip.rgba(at).subarray(0, 3));
    const image = new Blob([new Uint8Array(still)], { type: 'image/webp' });
    const pictured = await model.generate({ text: 'a taxi', image }, small);
    const { ImageDecoder } = globalThis;
    const refused = await failure(model.generate({ text: 'a taxi', image: files[0] }, small));
    delete globalThis.ImageDecoder;
    const bare = await failure(model.generate({ text: 'a taxi', video: files[0] }, small));
    globalThis.ImageDecoder = ImageDecoder;
    return { lengths: clips.map(({ frameCount }) => frameCount), colours: clips.map((clip) => [colour(clip, 0), colour(clip, 8)]), first: colour(pictured, 0), refused, bare };
  }, [Array.from(animated), stills[0]]);
  const near = (found, wanted) => found.every((value, channel) => Math.abs(value - wanted[channel]) < 90);
  assert.deepEqual(seen.lengths, [9, 9]);
  for (const [first, last] of seen.colours) assert.ok(near(first, [255, 0, 0]) && near(last, [0, 0, 255]), `${first} and ${last}`);
  assert.ok(near(seen.first, [255, 0, 0]), `${seen.first}`);
  assert.equal(seen.refused.code, 'not-an-image');
  assert.deepEqual([seen.bare.code, /GIF, APNG, MP4 or WebM/.test(seen.bare.message)], ['input-unreadable', true]);
});

test('nothing was left unhandled', () => assert.deepEqual(page.problems, []));
