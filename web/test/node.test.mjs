// The package in Node: a clip in a file, without a browser.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { web } from './harness.mjs';

const SCRIPT = `
import { generateVideo, loadModel, saveVideo, checkSupport } from 'kinora/node';
const support = await checkSupport();
const events = [];
const { video } = await generateVideo({ device: 'webgpu', prompt: 'a taxi on a green background', seed: 3, steps: 2, frames: 5, onEvent: ({ type }) => events.push(type) });
await saveVideo(video, process.argv[1]);
const model = await loadModel({ device: 'cpu' });
const small = { width: 64, height: 64, frames: 5, steps: 1, seed: 3 };
const failure = (prompt, options) => model.generate(prompt, { ...small, ...options }).then(() => 'none', ({ code, message }) => [code, message]);
const failures = {
  webp: await failure({ image: new Blob(['RIFF\\0\\0\\0\\0WEBPVP8 '], { type: 'image/webp' }) }),
  jpeg: await failure({ image: new Blob([new Uint8Array([255, 216, 255, 224])], { type: 'image/jpeg' }) }),
  expand: await failure('taxi', { expand: 'browser' }),
};
const own = await model.generate({ text: 'taxi', then: ['a fox'], overlap: 1 }, { ...small, expand: (text, seed) => \`a \${text} \${seed}\` });
globalThis.LanguageModel = { availability: async () => 'available', create: async () => ({ prompt: async (text) => \`a yellow \${text}\`, destroy() {} }) };
const { metadata } = await model.generate('taxi', { ...small, expand: 'browser' });
const prompts = [own.metadata, metadata].map(({ prompt, originalPrompt }) => [prompt, originalPrompt]);
await model.dispose();
console.log(JSON.stringify({ support, events, frames: video.frameCount, failures, prompts, long: own.frameCount }));
`;

/** Without drivers that were chosen from outside. */
const { VK_DRIVER_FILES, VK_ICD_FILENAMES, ...ENV } = process.env;

test('the messages of Node speak of Node', () => {
  const script = "import { checkSupport } from 'kinora'; console.log(JSON.stringify(await checkSupport()));";
  const run = (script, env = {}) => JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: web, env: { ...ENV, ...env }, stdio: ['ignore', 'pipe', 'ignore'] }).toString());
  const plain = run(script);
  assert.deepEqual([plain.code, /Node.*kinora\/node/.test(plain.message)], ['no-webgpu', true], plain.message);
  const none = run(script.replace("'kinora'", "'kinora/node'"), { VK_DRIVER_FILES: '/none.json', VK_ICD_FILENAMES: '/none.json' });
  assert.deepEqual([none.code, /Node found no graphics adapter/.test(none.message)], ['no-adapter', true], none.message);
});

test('a script makes a clip and a file, with the software adapter of Chromium if there is no other', { timeout: 180_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-'));
  const file = join(folder, 'clip.mp4');
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT, file], { cwd: web, env: ENV, stdio: ['ignore', 'pipe', 'inherit'] });
  const seen = JSON.parse(printed.toString());
  assert.ok(seen.support.ok, JSON.stringify(seen.support));
  assert.deepEqual([seen.frames, seen.events[0], seen.events.at(-1)], [5, 'start', 'done']);
  for (const name of ['webp', 'jpeg']) {
    assert.equal(seen.failures[name][0], 'unknown-input');
    assert.match(seen.failures[name][1], /`image`: expected png, apng, gif or y4m/, 'only what Node reads');
  }
  assert.deepEqual([seen.support.languageModel, seen.failures.expand[0]], ['unavailable', 'expand-failed']);
  assert.deepEqual([seen.prompts, seen.long], [[['a taxi 3', 'taxi'], ['a taxi driving on a white background', 'taxi']], 9]);
  assert.equal(readFileSync(file).subarray(4, 8).toString(), 'ftyp');
  rmSync(folder, { recursive: true });
});
