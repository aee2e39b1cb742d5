// Builds dist/ from src/, the WASM that xtask put into src/wasm/, and the models of the repository.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildSync, transformSync } from 'esbuild';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const CHUNK_BYTES = 4 * 1024 * 1024; // as in src/options.ts
const PARTS = ['model_index.json', 'scheduler', 'tokenizer/tokenizer.json', 'text_encoder', 'transformer', 'vae', 'vocabulary.json', 'vocabulary.safetensors'];

/** What the GPU must hold for a clip of a model's default size, and in one buffer; test/generate.test.mjs compares. */
const NEEDS = { flipbook: { gpuBytes: 100e6, bufferBytes: 64 * 2 ** 20 } };

/** The list of a model's files as a module, so that bundlers see every address, and the files beside it. */
function model(name) {
  const folder = join(web, '..', 'models', name);
  const { _class_name: pipeline, kinora } = JSON.parse(readFileSync(join(folder, 'model_index.json'), 'utf8'));
  const files = [...PARTS, ...(kinora.cascade ?? [])].flatMap((part) => walk(join(folder, part)));
  const entries = files.map((file) => {
    const path = relative(folder, file).replaceAll('\\', '/');
    const bytes = readFileSync(file);
    const sums = [];
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) sums.push(createHash('sha256').update(bytes.subarray(at, at + CHUNK_BYTES)).digest('hex'));
    const address = `new URL('./${name}/${path}', import.meta.url).href`;
    return `    { path: '${path}', bytes: ${bytes.length}, sha256: ${JSON.stringify(sums)}, url: ${address} },`;
  });
  const header = `/** The files of the model ${name}. Written by scripts/build.mjs. */\n\nimport type { ModelSource } from '../options.js';\n\n`;
  const body = `export const ${name}: ModelSource = {\n  name: '${name}',\n  pipeline: '${pipeline}',\n  files: [\n${entries.join('\n')}\n  ],\n};\n`;
  mkdirSync(join(web, 'src/models'), { recursive: true });
  const { default_width: width, default_height: height, default_frames: frames, fps } = kinora;
  const shape = `\n/** Of its clips by default, in pixels. */\nexport const ${name}Shape = { width: ${width}, height: ${height} };\n`
    + `\n/** What such a clip is and takes. */\nexport const ${name}Needs = { ...${name}Shape, frames: ${frames}, fps: ${fps}, needs: ${JSON.stringify(NEEDS[name])} };\n`;
  writeFileSync(join(web, `src/models/${name}.ts`), `${header}/** Comes with the package. */\n${body}${shape}`);
  const papers = ['MODEL_CARD.md', 'NOTICE'].map((name) => join(folder, name));
  for (const file of [...files, ...papers]) cpSync(file, join(web, 'dist/models', name, relative(folder, file)));
}

/** What the core module says that it runs, as a module for the page, which has to know before it fetches one. */
async function pipelines() {
  const { initSync, pipelines } = await import(pathToFileURL(join(web, 'src/wasm/core.js')));
  initSync({ module: readFileSync(join(web, 'src/wasm/core_bg.wasm')) });
  const header = '/** The pipeline classes that the core module runs. Written by scripts/build.mjs. */\n\n';
  writeFileSync(join(web, 'src/wasm/pipelines.ts'), `${header}export const pipelines: readonly string[] = ${JSON.stringify(pipelines())};\n`);
}

function walk(path) {
  return statSync(path).isDirectory() ? readdirSync(path).sort().flatMap((name) => walk(join(path, name))) : [path];
}

rmSync(join(web, 'dist'), { recursive: true, force: true });
model('flipbook');
await pipelines();
for (const name of ['LICENSE-APACHE', 'LICENSE-MIT', 'NOTICE']) cpSync(join(web, '..', name), join(web, name));
for (const file of ['core.js', 'core_bg.wasm', 'families_bg.wasm']) cpSync(join(web, 'src/wasm', file), join(web, 'dist/wasm', file));
const tsc = (...flags) => execFileSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', web, ...flags], { stdio: 'inherit' });
tsc();
// Few files are smaller than many, and every entry still finds its parts. The addresses of the worker, the WASM and the model stay as
// they are, because bundlers of sites look for them.
const dist = join(web, 'dist');
const scripts = walk(dist).filter((path) => path.endsWith('.js'));
const entries = ['index', 'element', 'node', 'worker', 'react', 'ai-sdk', 'bridge', 'encode', 'offline', 'sources', 'lora', 'expand', 'folder'].map((name) => join(dist, `${name}.js`));
const addresses = join(dist, 'models/flipbook.js');
const shared = { format: 'esm', target: 'es2022', minify: true, legalComments: 'none', write: false };
const { outputFiles } = buildSync({ ...shared, entryPoints: entries, outdir: dist, bundle: true, splitting: true, chunkNames: 'part-[hash]', external: ['./models/flipbook.js', 'mediabunny', 'node:*', 'react', 'webgpu'] });
// One file with everything in it, for pages without a bundler; the model's addresses are in it, and mediabunny.
const whole = buildSync({ ...shared, entryPoints: [join(dist, 'cdn.js')], outfile: join(dist, 'cdn.js'), bundle: true, legalComments: 'eof', banner: { js: '/* kinora, MIT OR Apache-2.0; contains mediabunny, MPL-2.0, https://mediabunny.dev */' } });
const { code } = transformSync(readFileSync(addresses, 'utf8'), { format: 'esm', target: 'es2022', minify: true });
for (const path of scripts) rmSync(path);
for (const { path, contents } of outputFiles) writeFileSync(path, contents);
// The addresses were relative to dist/models/.
writeFileSync(join(dist, 'cdn.js'), whole.outputFiles[0].text.replaceAll('"./flipbook/', '"./models/flipbook/'));
writeFileSync(addresses, code);
