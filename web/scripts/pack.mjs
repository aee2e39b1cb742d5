// Packs the package as it would be published, into a folder, and checks what is in it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const [folder] = process.argv.slice(2);
const manifest = JSON.parse(readFileSync(join(web, 'package.json'), 'utf8'));
const { access, provenance } = manifest.publishConfig ?? {};
const wrong = [];
if (access !== 'public' || provenance !== true) wrong.push('publishConfig must have "access": "public" and "provenance": true');
// npm compares it with where the build ran.
if (!manifest.repository?.url?.startsWith('git+https://')) wrong.push('repository.url must be the public repository, which provenance is compared with');
const scripts = Object.keys(manifest.scripts ?? {}).filter((name) => /^(pre|post)?(install|prepare|publish)/.test(name));
if (scripts.length > 0) wrong.push(`scripts that run at install or publish: ${scripts.join(', ')}`);

mkdirSync(folder, { recursive: true });
const [{ filename, size, unpackedSize, files }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: web }));
const paths = files.map(({ path }) => path);
const targets = Object.values(manifest.exports).flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target))).map((path) => path.replace('./', ''));
for (const path of [...targets, 'README.md', 'LICENSE-MIT', 'LICENSE-APACHE', 'NOTICE']) if (!paths.includes(path)) wrong.push(`${path} is not in the package`);
for (const path of paths) if (/\.map$|\.test\.|(^|\/)\.|node_modules/.test(path)) wrong.push(`${path} does not belong into the package`);
console.log(`${filename}: ${files.length} files, ${size} bytes, ${unpackedSize} unpacked`);
if (wrong.length > 0) {
  console.error(wrong.join('\n'));
  process.exit(1);
}
