// Prints what a page downloads and fails above the caps.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist');
const CAPS = { JavaScript: 30_000, WASM: 700_000 };

const walk = (path) => (statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => walk(join(path, name))) : [path]);
// Node's entry never reaches a page.
const files = walk(dist).filter((path) => path !== join(dist, 'node.js'));
const gzip = (paths) => paths.reduce((sum, path) => sum + gzipSync(readFileSync(path), { level: 9 }).length, 0);
const sizes = { JavaScript: gzip(files.filter((path) => path.endsWith('.js'))), WASM: gzip(files.filter((path) => path.endsWith('.wasm'))) };
const model = walk(join(dist, 'models/flipbook')).reduce((sum, path) => sum + statSync(path).size, 0);

for (const [name, bytes] of Object.entries(sizes)) console.log(`${name.padEnd(10)} ${String(bytes).padStart(7)} bytes gzip, cap ${CAPS[name]}`);
console.log(`flipbook   ${model} bytes`);
const over = Object.keys(CAPS).filter((name) => sizes[name] > CAPS[name]);
if (over.length > 0) {
  console.error(`over the cap: ${over.join(', ')}`);
  process.exit(1);
}
