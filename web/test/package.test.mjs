// The package as npm packs it: its manifest, its types, its documentation, and how bundlers take it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import esbuild from 'esbuild';
import { publint } from 'publint';
import { Application, LogLevel } from 'typedoc';
import * as vite from 'vite';
import webpack from 'webpack';
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

/** Opens the site that is in `site` below the folder, and has it check itself. */
async function assertWorks(site, html = '<!doctype html><title>site</title><link rel="icon" href="data:,"><script type="module" src="main.js"></script>') {
  if (html) writeFileSync(join(folder, site, 'index.html'), html);
  const server = await serve(folder);
  try {
    const page = await open(browser, `${server.origin}/${site}/`);
    await page.waitForFunction(() => globalThis.check, null, { timeout: 10_000 });
    const seen = await page.evaluate((wasm) => globalThis.check(wasm), `${server.origin}/node_modules/kinora/dist/wasm/core_bg.wasm`);
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

test('a server that renders pages can import the element', async () => {
  const { KinoraVideo } = await import(pathToFileURL(join(folder, 'node_modules/kinora/dist/element.js')));
  assert.equal(typeof KinoraVideo, 'function');
});

test('the manifest is sound', async () => {
  const { messages } = await publint({ pkgDir: unpacked, pack: false });
  assert.deepEqual(messages.map(({ code, path }) => `${code} at ${path?.join('.')}`), []);
});

test('the types resolve as the modules do', async () => {
  const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)), { excludeEntrypoints: ['./wasm'] });
  assert.ok(result.types);
  // The package is ESM only: `require` and the resolution of Node 10 are not for it.
  const problems = result.problems.filter(({ kind, resolutionKind }) => kind !== 'CJSResolvesToESM' && !['node10', 'node16-cjs'].includes(resolutionKind));
  assert.deepEqual(problems, []);
});

test('every exported symbol is documented, and TypeDoc agrees', { timeout: 120_000 }, async () => {
  const app = await Application.bootstrap({
    entryPoints: ['src/index.ts', 'src/element.ts', 'src/node.ts'].map((path) => join(web, path)),
    tsconfig: join(web, 'tsconfig.json'),
    excludeInternal: true,
    excludePrivate: true,
    excludeExternals: true,
    // Links to the sources need a remote, which not every checkout has.
    disableSources: true,
    validation: { notExported: true, invalidLink: true, notDocumented: true },
    requiredToBeDocumented: ['Class', 'Interface', 'TypeAlias', 'Function', 'Variable', 'Method', 'Accessor', 'Constructor'],
    // What belongs to the language.
    externalSymbolLinkMappings: { typescript: { 'Promise.then': '#' } },
  });
  const warnings = [];
  app.logger.log = (message, level) => level >= LogLevel.Warn && warnings.push(message);
  const project = await app.convert();
  app.validate(project);
  await app.generateDocs(project, join(folder, 'documentation'));
  assert.deepEqual(warnings, []);
  assert.match(readFileSync(join(folder, 'documentation/classes/element.KinoraVideo.html'), 'utf8'), /Makes a clip of what the attributes say/);
});
