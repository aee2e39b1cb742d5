// Every block of code in the package's README and guides, and the example of the project's README, executed as written: in a page, in Node,
// in a service worker.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import esbuild from 'esbuild';
import { launch, open, serve, web } from './harness.mjs';

/** The words after three backticks, for what runs where. `sh` and tables of files are for people. */
const KINDS = new Set(['js', 'js node', 'js worker', 'html', 'tsx', '']);
/** What is made is small, whatever is asked for. */
const SHIM = `
import { VideoModel } from '/dist/index.js';
export * from '/dist/index.js';
const small = (options, frames = 9) => ({ frames, ...options, ...(options?.window && { window: 9, frames: 13 }), width: 64, height: 64, steps: 1 });
const { generateMany } = VideoModel.prototype;
VideoModel.prototype.generateMany = function (jobs) {
  return generateMany.call(this, jobs.map((job) => small(job, job.prompt?.connect || job.prompt?.loop ? 17 : 9)));
};
`;
const IMPORTS = { kinora: '/shim.js', mediabunny: '/node_modules/mediabunny/dist/bundles/mediabunny.min.mjs', ...Object.fromEntries(['element', 'offline', 'react', 'ai-sdk'].map((name) => [`kinora/${name}`, `/dist/${name}.js`])) };
const MAP = `<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`;
const PAGE = `<!doctype html><title>page</title><link rel="icon" href="data:,">${MAP}<canvas></canvas><div id="root"></div>`;

const blocks = ['README.md', ...readdirSync(join(web, 'guides')).map((name) => `guides/${name}`)].flatMap((path) => {
  const text = readFileSync(join(web, path), 'utf8');
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, kind, code], index) => ({ name: `${path} ${index + 1}`, kind, code }));
});
const of = (kind) => blocks.filter((block) => block.kind === kind);

let server, browser, page;
const served = new Map([['/shim.js', SHIM], ['/style.safetensors', adaptation()]]);
before(async () => {
  server = await serve(undefined, (_, response, path) => {
    if (path === '/page/') return void response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE) ?? true;
    const text = served.get(path) ?? (/^\/(page\/)?assets\//.test(path) ? '' : undefined);
    if (text === undefined) return false;
    const type = path.endsWith('.js') ? 'text/javascript' : path.endsWith('.html') ? 'text/html' : 'application/octet-stream';
    return void response.writeHead(200, { 'content-type': type }).end(text) ?? true;
  });
  browser = await launch();
  page = await open(browser, `${server.origin}/page/`);
  await page.evaluate(async () => {
    // What the blocks speak of without making it.
    const { loadModel } = await import('kinora');
    globalThis.model = await loadModel();
    globalThis.canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
    canvas.getContext('2d').fillRect(0, 0, 32, 64);
    globalThis.file = await new Promise((resolve) => canvas.toBlob(resolve));
    globalThis.video = await model.generate('a taxi', { seed: 1, frames: 17 });
    globalThis.other = await model.generate('a bus', { seed: 1, frames: 17 });
    globalThis.LanguageModel = { availability: async () => 'available', create: async () => ({ prompt: async () => 'a rocket flying', destroy() {} }) };
  });
}, { timeout: 120_000 });
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A LoRA that changes nothing. */
function adaptation() {
  const { num_attention_heads, attention_head_dim } = JSON.parse(readFileSync(join(web, '../models/flipbook/transformer/config.json'), 'utf8'));
  const width = num_attention_heads * attention_head_dim;
  const name = 'transformer.transformer_blocks.0.attn1.to_q.lora_';
  const header = JSON.stringify({ [`${name}A.weight`]: { dtype: 'F32', shape: [1, width], data_offsets: [0, 4 * width] }, [`${name}B.weight`]: { dtype: 'F32', shape: [width, 1], data_offsets: [4 * width, 8 * width] } });
  const file = Buffer.alloc(8 + header.length + 8 * width);
  file.writeBigUInt64LE(BigInt(header.length));
  file.write(header, 8);
  return file;
}

/** The code as one module for a page, in which the package is what the page's import map says. */
async function bundled(code, loader) {
  const stdin = { contents: code, loader, resolveDir: web };
  const { outputFiles } = await esbuild.build({ stdin, bundle: true, write: false, format: 'esm', jsx: 'automatic', external: ['kinora', 'kinora/*'], define: { 'process.env.NODE_ENV': '"production"' }, logLevel: 'silent' });
  return outputFiles[0].text;
}

const run = (code) => page.evaluate((code) => import(URL.createObjectURL(new Blob([code], { type: 'text/javascript' }))).then(() => 'done', (error) => `${error.code ?? error.name}: ${error.message}`), code);

test('every block is of a kind that is executed', () => {
  assert.ok(blocks.length > 20, `${blocks.length} blocks`);
  assert.deepEqual(blocks.filter(({ kind }) => !KINDS.has(kind)).map(({ name, kind }) => `${name}: ${kind}`), []);
  assert.deepEqual(of('').filter(({ code }) => !/^npm install /.test(code)).map(({ name }) => name), []);
});

test('the blocks for pages', { timeout: 600_000 }, async () => {
  for (const { name, code } of of('js')) {
    const begun = performance.now();
    served.set('/page/sw.js', '// one that does nothing');
    assert.equal(await run(await bundled(code, 'js')), 'done', name);
    console.log(`${name}: ${((performance.now() - begun) / 1e3).toFixed(1)} s`);
  }
  // One of them asks for a model that is not there.
  assert.deepEqual(page.problems.splice(0).filter((problem) => !problem.includes('/no-such-model/')), []);
});

test('the components', { timeout: 120_000 }, async () => {
  for (const { name, code } of of('tsx')) {
    // Exactly one, which takes no properties.
    const component = /function ([A-Z]\w*)\(\)/.exec(code)?.[1];
    assert.ok(component, name);
    const imports = "import { createElement as element, useEffect, useRef } from 'react'; import { createRoot } from 'react-dom/client';";
    const shown = `createRoot(document.getElementById('root')).render(element(${component}));`;
    // One React for hook and component; the package looks for its files beside itself.
    const text = await bundled(`${imports}\n${code.replace("'kinora/react'", `'${join(web, 'dist/react.js')}'`)}\n${shown}`, 'tsx');
    served.set('/dist/component.js', text);
    await page.evaluate(() => import('/dist/component.js'));
    await page.waitForFunction(() => document.querySelector('#root button'), null, { timeout: 10_000 });
    assert.deepEqual(page.problems, []);
  }
});

test('the pages', { timeout: 120_000 }, async () => {
  for (const [index, { name, code }] of of('html').entries()) {
    const own = code.replace(/https:\/\/cdn\.jsdelivr\.net\/npm\/kinora/g, '');
    const map = own.includes('importmap') ? '' : MAP;
    served.set(`/html-${index}.html`, `<!doctype html><title>page</title><link rel="icon" href="data:,">${map}${own.replaceAll('"/node_modules/kinora/', '"/')}`);
    const site = await open(browser, `${server.origin}/html-${index}.html`);
    await site.waitForLoadState('load');
    if (code.includes('<kinora-video')) await site.waitForFunction(() => document.querySelector('kinora-video').state === 'empty', null, { timeout: 10_000 });
    await site.waitForTimeout(200);
    assert.deepEqual(site.problems, [], name);
    await site.close();
  }
});

test('the service worker', { timeout: 60_000 }, async () => {
  const [{ code }, ...more] = of('js worker');
  assert.equal(more.length, 0);
  const { outputFiles } = await esbuild.build({ stdin: { contents: code, resolveDir: web }, alias: { 'kinora/offline': join(web, 'dist/offline.js') }, bundle: true, write: false, format: 'iife' });
  served.set('/page/sw.js', outputFiles[0].text);
  const site = await open(await browser.newContext(), `${server.origin}/page/`);
  const stored = await site.evaluate(async () => {
    const { offlineStarted, startOffline } = await import('kinora/offline');
    const begun = await startOffline('./sw.js');
    await offlineStarted();
    await fetch('/page/used.json').catch(() => undefined);
    return [begun, (await caches.keys()).filter((name) => name.startsWith('kinora-page-'))];
  });
  assert.deepEqual(stored, [true, ['kinora-page-2026-11-28']]);
});

test('the scripts for Node', { timeout: 180_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'kinora-docs-'));
  const { VK_DRIVER_FILES, VK_ICD_FILENAMES, ...env } = process.env;
  mkdirSync(join(folder, 'transformer'));
  writeFileSync(join(folder, 'transformer/config.json'), '{}');
  for (const { name, code } of of('js node')) {
    // Each makes a clip, or lists the files of a folder.
    const out = join(folder, 'clip.gif');
    const index = join(folder, 'model_index.json');
    cpSync(join(web, '../models/flipbook/model_index.json'), index);
    execFileSync(process.execPath, ['--input-type=module', '-e', code], { cwd: web, env: { ...env, OUT: out, MODEL: folder }, stdio: ['ignore', 'ignore', 'inherit'] });
    if (code.includes('OUT')) assert.ok(statSync(out).size > 500, name);
    else assert.deepEqual(JSON.parse(readFileSync(index, 'utf8')).kinora.files, { 'transformer/config.json': 2 }, name);
  }
  rmSync(folder, { recursive: true });
});

test('the example in the README of the project makes a clip and a file', { timeout: 180_000 }, async () => {
  const readme = readFileSync(join(web, '../README.md'), 'utf8');
  const code = readme.split('## In the browser')[1]?.match(/```js\n([\s\S]*?)```/)?.[1];
  assert.ok(code, 'the README has the example');
  const site = await open(browser, server.origin);
  const seen = await site.evaluate(async (code) => {
    const module = new Blob([code, '\nexport { video, file };'], { type: 'text/javascript' });
    const { video, file } = await import(URL.createObjectURL(module));
    const canvas = document.querySelector('canvas');
    const shown = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return { frames: video.frameCount, type: file.type, bytes: file.size, blue: shown[2] > shown[0] };
  }, code);
  assert.equal(seen.frames, 17);
  assert.match(seen.type, /^(video|image)\//);
  assert.ok(seen.bytes > 1000 && seen.blue, JSON.stringify(seen));
  assert.deepEqual(site.problems, []);
  await site.close();
});
