// The package in Node: a clip in a file, without a browser.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { web } from './harness.mjs';

const SCRIPT = `
import { generateVideo, saveVideo, checkSupport } from 'kinora/node';
const support = await checkSupport();
const events = [];
const { video } = await generateVideo({ prompt: 'a taxi on a green background', seed: 3, steps: 2, frames: 5, onEvent: ({ type }) => events.push(type) });
await saveVideo(video, process.argv[1]);
console.log(JSON.stringify({ support, events, frames: video.frameCount }));
`;

test('a script makes a clip and a file', { timeout: 180_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-'));
  const file = join(folder, 'clip.mp4');
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT, file], { cwd: web, stdio: ['ignore', 'pipe', 'inherit'] });
  const seen = JSON.parse(printed.toString());
  assert.ok(seen.support.ok, JSON.stringify(seen.support));
  assert.deepEqual([seen.frames, seen.events[0], seen.events.at(-1)], [5, 'start', 'done']);
  assert.equal(readFileSync(file).subarray(4, 8).toString(), 'ftyp');
  rmSync(folder, { recursive: true });
});
