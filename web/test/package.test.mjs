// The package as npm packs it: its manifest, its types, its documentation, and how bundlers take it.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import esbuild from 'esbuild';
import { publint } from 'publint';
import * as vite from 'vite';
import webpack from 'webpack';
import { apiDifferences } from '../scripts/api.mjs';
import { writeSite } from '../scripts/docs.mjs';
import { launch, open, serve, web } from './harness.mjs';

// Everything a bundler can lose: the worker, the WASM in it, the files of the model, the chunk that writes MP4, the element.
const SITE = `
import { loadModel, models, Video } from 'kinora';
import { KinoraVideo } from 'kinora/element';

globalThis.check = async (wasm) => {
  const frames = [1, 2].map((value) => new Uint8Array(64 * 64 * 4).fill(90 * value));
  const metadata = { prompt: 'a test', seed: 7 };
  const video = new Video({ width: 64, height: 64, fps: 10, frames }, metadata, { worker: undefined, wasm });
  const gif = await video.toBlob({ type: 'image/gif' });
  const mp4 = await video.toBlob({ type: 'video/mp4' });
  // Fails for want of files, once the worker has the WASM.
  const load = await loadModel({ model: { name: 'none', files: [{ path: 'x', url: 'data:,x' }] }, device: 'cpu', cache: 'none' }).catch((error) => error.code);
  const { files } = await models.plan('flipbook');
  const sizes = await Promise.all(files.map(async ({ url }) => (await (await fetch(url)).arrayBuffer()).byteLength));
  const element = document.body.appendChild(document.createElement('kinora-video'));
  return {
    gif: gif.size > 100,
    mp4: mp4.size > 100,
    load,
    wrongFiles: files.filter((file, index) => file.bytes !== sizes[index]).map((file) => file.path),
    element: element instanceof KinoraVideo && element.state,
  };
};
`;
const GOOD = { gif: true, mp4: true, load: 'not-found', wrongFiles: [], element: 'empty' };

let folder, tarball, unpacked, browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kinora-package-'));
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: web }));
  tarball = join(folder, packed.filename);
  execFileSync('tar', ['-xzf', tarball, '-C', folder]);
  unpacked = join(folder, 'package');
  const modules = join(folder, 'node_modules');
  mkdirSync(modules);
  cpSync(unpacked, join(modules, 'kinora'), { recursive: true });
  symlinkSync(join(web, 'node_modules/mediabunny'), join(modules, 'mediabunny'));
  writeFileSync(join(folder, 'main.js'), SITE);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

const PAGE = '<!doctype html><title>site</title><link rel="icon" href="data:,"><script type="module" src="main.js"></script>';

/** Opens the site that is in `site` below the folder, and has it check itself. */
async function assertWorks(site, html = PAGE, wasm) {
  if (html) writeFileSync(join(folder, site, 'index.html'), html);
  const server = await serve(folder);
  try {
    const page = await open(browser, `${server.origin}/${site}/`);
    await page.waitForFunction(() => globalThis.check, null, { timeout: 10_000 });
    const seen = await page.evaluate((wasm) => globalThis.check(wasm), wasm ?? `${server.origin}/node_modules/kinora/dist/wasm/core_bg.wasm`);
    assert.deepEqual(seen, GOOD);
    assert.deepEqual(page.problems, []);
    await page.close();
  } finally {
    await server.close();
  }
}

test('Vite builds a site from the package', { timeout: 60_000 }, async () => {
  const root = join(folder, 'vite-src');
  mkdirSync(root);
  writeFileSync(join(root, 'index.html'), '<!doctype html><title>site</title><link rel="icon" href="data:,"><script type="module" src="../main.js"></script>');
  await vite.build({ root, configFile: false, logLevel: 'error', base: './', build: { outDir: '../vite', emptyOutDir: true } });
  await assertWorks('vite', '');
});

test('Vite builds a site for a strict policy, in which small files are no addresses of their own', { timeout: 60_000 }, async () => {
  // The site asks for `data:` addresses itself, and without workers everything happens under the page's policy.
  const site = SITE.replace(/  const sizes = .*\n/, '  const sizes = files.map(({ bytes }) => bytes);\n').replace("cache: 'none' }", "cache: 'none', worker: false }").replace('data:,x', 'data:application/json;base64,e30=');
  const loads = `globalThis.load = async () => (await loadModel({ device: 'cpu', worker: false })).info.name;`;
  const root = join(folder, 'strict-src');
  mkdirSync(root);
  writeFileSync(join(root, 'main.js'), `${site}\n${loads}`);
  writeFileSync(join(root, 'index.html'), '<!doctype html><title>site</title><link rel="icon" href="icon.png"><script type="module" src="main.js"></script>');
  writeFileSync(join(root, 'icon.png'), '');
  await vite.build({ root, configFile: false, logLevel: 'error', base: './', build: { outDir: '../strict', emptyOutDir: true } });
  const policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'";
  const server = await serve(folder, (_, response) => void response.setHeader('content-security-policy', policy));
  try {
    const page = await open(browser, `${server.origin}/strict/`);
    await page.waitForFunction(() => globalThis.check, null, { timeout: 10_000 });
    const inlined = readdirSync(join(folder, 'strict/assets')).filter((name) => name.endsWith('.js')).some((name) => readFileSync(join(folder, 'strict/assets', name), 'utf8').includes('data:application/json'));
    assert.ok(inlined, 'Vite does what this is about');
    assert.deepEqual(await page.evaluate((wasm) => globalThis.check(wasm), `${server.origin}/node_modules/kinora/dist/wasm/core_bg.wasm`), GOOD);
    assert.equal(await page.evaluate(() => globalThis.load()), 'flipbook');
    assert.deepEqual(page.problems, []);
    await page.close();
  } finally {
    await server.close();
  }
});

test('webpack builds a site from the package', { timeout: 60_000 }, async () => {
  const output = { path: join(folder, 'webpack'), filename: 'main.js', publicPath: 'auto' };
  const config = { mode: 'production', context: folder, entry: './main.js', output, performance: { hints: false }, optimization: { minimize: false } };
  const stats = await new Promise((built, failed) => webpack(config, (error, stats) => (error ? failed(error) : built(stats))));
  assert.equal(stats.toString({ all: false, errors: true, warnings: true }), '');
  await assertWorks('webpack');
});

test('esbuild bundles the package with its worker and files beside it', { timeout: 60_000 }, async () => {
  const outdir = join(folder, 'esbuild');
  const entryPoints = [join(folder, 'main.js'), { in: 'kinora/worker', out: 'worker' }].map((entry) => (entry.in ? entry : { in: entry, out: 'main' }));
  await esbuild.build({ entryPoints, absWorkingDir: folder, bundle: true, splitting: true, format: 'esm', outdir, logLevel: 'error' });
  cpSync(join(unpacked, 'dist/wasm'), join(outdir, 'wasm'), { recursive: true });
  cpSync(join(unpacked, 'dist/models/flipbook'), join(outdir, 'flipbook'), { recursive: true });
  await assertWorks('esbuild');
});

test('a page without a bundler uses the package through an import map', { timeout: 60_000 }, async () => {
  const imports = {
    kinora: '/node_modules/kinora/dist/index.js',
    'kinora/element': '/node_modules/kinora/dist/element.js',
    mediabunny: '/node_modules/mediabunny/dist/bundles/mediabunny.min.mjs',
  };
  mkdirSync(join(folder, 'plain'));
  cpSync(join(folder, 'main.js'), join(folder, 'plain/main.js'));
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  await assertWorks('plain', `<!doctype html><title>site</title><link rel="icon" href="data:,">${map}<script type="module" src="main.js"></script>`);
});

test('one file does everything from another origin, without an import map', { timeout: 60_000 }, async () => {
  const cdn = await serve(folder, (_, response) => void response.setHeader('access-control-allow-origin', '*'));
  const address = `${cdn.origin}/node_modules/kinora/dist/cdn.js`;
  mkdirSync(join(folder, 'cdn'));
  writeFileSync(join(folder, 'cdn/main.js'), SITE.replace("'kinora'", `'${address}'`).replace("'kinora/element'", `'${address}'`));
  try {
    await assertWorks('cdn', PAGE, `${cdn.origin}/node_modules/kinora/dist/wasm/core_bg.wasm`);
  } finally {
    await cdn.close();
  }
});

test('without mediabunny that is said, and no other file is written instead', { timeout: 60_000 }, async () => {
  mkdirSync(join(folder, 'bare'));
  writeFileSync(join(folder, 'bare/main.js'), SITE);
  const map = `<script type="importmap">{"imports":{"kinora":"/node_modules/kinora/dist/index.js","kinora/element":"/node_modules/kinora/dist/element.js"}}</script>`;
  writeFileSync(join(folder, 'bare/index.html'), PAGE.replace('<script', `${map}<script`));
  const server = await serve(folder);
  try {
    const page = await open(browser, `${server.origin}/bare/`);
    await page.waitForFunction(() => globalThis.check, null, { timeout: 10_000 });
    const wasm = `${server.origin}/node_modules/kinora/dist/wasm/core_bg.wasm`;
    const { code, message, hint } = await page.evaluate((wasm) => globalThis.check(wasm).catch(({ code, message, hint }) => ({ code, message, hint })), wasm);
    assert.equal(code, 'missing-package');
    assert.match(message, /mediabunny/);
    assert.match(hint, /import map.*kinora\/cdn/);
    await page.close();
  } finally {
    await server.close();
  }
});

test('a server that renders pages can import the element', async () => {
  const { KinoraVideo } = await import(pathToFileURL(join(folder, 'node_modules/kinora/dist/element.js')));
  assert.equal(typeof KinoraVideo, 'function');
});

test('the manifest is sound', async () => {
  const { messages } = await publint({ pkgDir: unpacked, pack: false });
  assert.deepEqual(messages.map(({ code, path }) => `${code} at ${path?.join('.')}`), []);
});

test('the types resolve as the modules do', async () => {
  const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)), { excludeEntrypoints: ['./wasm', './wasm/families'] });
  assert.ok(result.types);
  // The package is ESM only: `require` and the resolution of Node 10 are not for it.
  const problems = result.problems.filter(({ kind, resolutionKind }) => kind !== 'CJSResolvesToESM' && !['node10', 'node16-cjs'].includes(resolutionKind));
  assert.deepEqual(problems, []);
});

const CONSUMER = `
import { generateVideo, loadModel, KinoraError, models, type Generation, type GenerationEvent, type Video } from 'kinora';
import { kinora } from 'kinora/ai-sdk';
import { KinoraVideo } from 'kinora/element';
import { useVideo } from 'kinora/react';

const sdk = kinora.video('flipbook');
async function use(canvas: HTMLCanvasElement): Promise<Video> {
  const model = await loadModel('flipbook');
  const generation: Generation = model.generate({ text: 'a fox', image: 'fox.jpg', lastImage: new URL('https://example.org') });
  for await (const event of generation) if (event.type === 'step') event.preview?.close();
  const onEvent = (event: GenerationEvent) => console.log(event.type);
  const { video } = await generateVideo({ prompt: 'a fox', steps: 4, onEvent });
  video.play(canvas);
  await video.toBlob('video/mp4');
  await generation.catch((error: unknown) => console.log(error instanceof KinoraError && error.code)).finally(() => model.dispose());
  return video;
}
const element: KinoraVideo = document.createElement('kinora-video');
element.prompt = 'a fox';
element.seed = 7;
element.addEventListener('done', ({ detail }) => console.log(detail.frameCount));
export { element, models, sdk, use, useVideo };
`;
const TEMPLATES = {
  'ai-sdk': `import type { Experimental_VideoModelV4 as VideoModelV4 } from '@ai-sdk/provider';
import { kinora } from 'kinora/ai-sdk';
export const model: VideoModelV4 = kinora.video();`,
  react: `import type {} from 'kinora/jsx/react';
export const view = <kinora-video prompt="a fox" seed={7} loop controls className="x" given={{ image: 'fox.jpg' }} ondone={(event) => console.log(event.detail.frameCount)} />;`,
  preact: `import type {} from 'kinora/jsx/preact';
export const view = <kinora-video prompt="a fox" seed={7} loop class="x" ondone={(event) => console.log(event.detail.frameCount)} />;`,
  'solid-js': `import type {} from 'kinora/jsx/solid';
export const view = <kinora-video prompt="a fox" seed={7} loop class="x" prop:given={{ image: 'fox.jpg' }} on:done={(event) => console.log(event.detail.frameCount)} />;`,
  vue: `import type { GlobalComponents } from 'vue';
import type {} from 'kinora/jsx/vue';
type Props = InstanceType<GlobalComponents['kinora-video']>['$props'];
export const props: Props = { prompt: 'a fox', seed: 7, onDone: (event) => console.log(event.detail.frameCount) };`,
  svelte: `import type { SvelteHTMLElements } from 'svelte/elements';
import type {} from 'kinora/jsx/svelte';
export const props: SvelteHTMLElements['kinora-video'] = { prompt: 'a fox', seed: 7, class: 'x', ondone: (event) => console.log(event.detail.frameCount) };`,
};

test('the types are clean for everyone, those of templates included', { timeout: 180_000 }, () => {
  const root = join(folder, 'types');
  mkdirSync(root);
  const modules = join(folder, 'node_modules');
  for (const name of ['react', '@types/react', 'csstype', 'preact', 'solid-js', 'seroval', 'vue', '@vue', 'svelte', '@ai-sdk/provider', 'json-schema']) {
    const link = join(modules, name);
    mkdirSync(dirname(link), { recursive: true });
    if (!existsSync(link) && existsSync(join(web, 'node_modules', name))) symlinkSync(join(web, 'node_modules', name), link);
  }
  writeFileSync(join(root, 'package.json'), '{"type":"module"}');
  writeFileSync(join(root, 'main.ts'), CONSUMER);
  for (const [name, text] of Object.entries(TEMPLATES)) writeFileSync(join(root, `${name}.tsx`), text);
  // The libraries of Vite's templates.
  const base = { target: 'ES2022', lib: ['ES2022', 'DOM', 'DOM.Iterable'], types: [], strict: true, noEmit: true, preserveSymlinks: true };
  const check = (compilerOptions, files) => {
    writeFileSync(join(root, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...base, ...compilerOptions }, files }));
    const { stdout } = spawnSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', root], { encoding: 'utf8' });
    assert.equal(stdout, '', `${JSON.stringify(compilerOptions)} ${files}`);
  };
  for (const [module, moduleResolution] of [['ESNext', 'bundler'], ['Node16', 'node16'], ['NodeNext', 'nodenext']]) {
    check({ module, moduleResolution, skipLibCheck: false }, ['main.ts']);
  }
  for (const name of Object.keys(TEMPLATES)) {
    // Frameworks need not be clean themselves.
    const jsx = name === 'solid-js' ? { jsx: 'preserve' } : { jsx: 'react-jsx' };
    check({ module: 'ESNext', moduleResolution: 'bundler', skipLibCheck: true, ...jsx, jsxImportSource: ['preact', 'solid-js'].includes(name) ? name : 'react' }, [`${name}.tsx`]);
  }
});

test('every exported symbol is documented, and TypeDoc agrees', { timeout: 120_000 }, async () => {
  assert.deepEqual(await writeSite(join(folder, 'documentation')), []);
  assert.match(readFileSync(join(folder, 'documentation/classes/element.KinoraVideo.html'), 'utf8'), /Makes a clip of what the attributes say/);
  assert.match(readFileSync(join(folder, 'documentation/documents/Pages_that_work_offline.html'), 'utf8'), /keepOffline/);
});

test('the public interface is the one that was accepted', () => assert.deepEqual(apiDifferences(), []));
