// Prints what a page downloads and fails above the caps.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist');
// A page fetches one of the two modules: core is that of the built-in model, families runs everything.
const CAPS = { JavaScript: 34_000, core: 720_000, families: 876_000, 'one file': 200_000, react: 3000, 'ai-sdk': 3000, bridge: 2000, encode: 3000, offline: 2000, sources: 3500, lora: 1000, expand: 1500, folder: 2500 };
// What pages import beside or instead of the rest; Node's entry never reaches one, `bridge` is for those that fetch in a
// way of their own, `encode` for those that write files, `sources` for those that give pictures or clips, `lora` for those that adapt a model,
// `expand` for those whose prompts somebody else writes anew, `folder` for those whose model has an address.
const APART = ['node', 'cdn', 'react', 'ai-sdk', 'bridge', 'encode', 'offline', 'sources', 'lora', 'expand', 'folder'].map((name) => `${name}.js`);

const walk = (path) => (statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => walk(join(path, name))) : [path]);
const files = walk(dist).filter((path) => !APART.some((name) => path === join(dist, name)));
const gzip = (paths) => paths.reduce((sum, path) => sum + gzipSync(readFileSync(path), { level: 9 }).length, 0);
const scripts = files.filter((path) => path.endsWith('.js'));
const wasm = (name) => gzip([join(dist, `wasm/${name}_bg.wasm`)]);
const entry = (name) => gzip([join(dist, `${name}.js`)]);
const sizes = { JavaScript: gzip(scripts), core: wasm('core'), families: wasm('families'), 'one file': entry('cdn'), react: entry('react'), 'ai-sdk': entry('ai-sdk'), bridge: entry('bridge'), encode: entry('encode'), offline: entry('offline'), sources: entry('sources'), lora: entry('lora'), expand: entry('expand'), folder: entry('folder') };
const model = walk(join(dist, 'models/flipbook')).reduce((sum, path) => sum + statSync(path).size, 0);

for (const [name, bytes] of Object.entries(sizes)) console.log(`${name.padEnd(10)} ${String(bytes).padStart(7)} bytes gzip, cap ${CAPS[name]}`);
console.log(`flipbook   ${model} bytes`);
const over = Object.keys(CAPS).filter((name) => sizes[name] > CAPS[name]);
if (over.length > 0) {
  console.error(`over the cap: ${over.join(', ')}`);
  process.exit(1);
}
