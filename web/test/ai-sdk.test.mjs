// The provider under the AI SDK itself, in the version that package.json pins.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { web } from './harness.mjs';

const SCRIPT = `
import { experimental_generateVideo as generateVideo } from 'ai';
import 'kinora/node';
import { createKinora, kinora as plain } from 'kinora/ai-sdk';

const kinora = createKinora({ device: 'cpu' });

const image = Uint8Array.from(atob('R0lGODdhAQABAIAAAP8AAAAAACwAAAAAAQABAAACAkQBADs='), (char) => char.charCodeAt(0));
const providerOptions = { kinora: { steps: 1 } };
const two = await generateVideo({ model: kinora.video(), prompt: 'a fox', n: 2, seed: 3, resolution: '64x70', duration: 0.4, providerOptions });
const from = await generateVideo({ model: kinora.video(), prompt: { image, text: 'a fox' }, aspectRatio: '1:1', duration: 0.1, providerOptions });
const abort = AbortSignal.abort(new Error('no longer wanted'));
const aborted = await generateVideo({ model: plain.video(), prompt: 'a fox', abortSignal: abort }).then(() => 'none', (error) => error.message);
const refused = await generateVideo({ model: kinora.video(), prompt: 'a fox', maxRetries: 0, providerOptions: { kinora: { guidance: -1 } } }).then(() => 'none', (error) => error.code);
await kinora.dispose();
console.log(JSON.stringify({
  files: two.videos.map(({ mediaType, uint8Array }) => [mediaType, String.fromCharCode(...uint8Array.subarray(4, 8))]),
  warnings: two.warnings, made: two.providerMetadata.kinora.videos, from: from.providerMetadata.kinora.videos[0], aborted, refused,
}));
`;

test('experimental_generateVideo makes clips with the provider', { timeout: 480_000 }, () => {
  const printed = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT], { cwd: web, stdio: ['ignore', 'pipe', 'inherit'] });
  const seen = JSON.parse(printed.toString().split('\n').find((line) => line.startsWith('{')));
  assert.deepEqual(seen.files, Array(2).fill(['video/mp4', 'ftyp']));
  assert.deepEqual(seen.made.map(({ width, height, frames, steps, seed }) => [width, height, frames, steps, seed]), [[64, 64, 5, 1, 3], [64, 64, 5, 1, 4]]);
  assert.deepEqual(seen.warnings.map(({ type, feature }) => [type, feature]), [['compatibility', 'resolution']]);
  assert.deepEqual([seen.from.width / seen.from.height, seen.from.frames, seen.from.given], [1, 1, { image: 'pixels' }]);
  assert.match(seen.aborted, /no longer wanted/);
  assert.equal(seen.refused, 'invalid-request');
});
