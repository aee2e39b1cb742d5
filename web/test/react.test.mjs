// The hook in a page of React, in StrictMode: its states, cancelling, failures, and what it leaves behind.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import esbuild from 'esbuild';
import { launch, open, serve, web } from './harness.mjs';

const SITE = `
import { createElement, StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { useVideo } from 'kinora/react';

globalThis.states = [];
function Clip() {
  const clip = (globalThis.clip = useVideo());
  states.push([clip.status, clip.progress]);
  return createElement('p', null, clip.status);
}
const root = createRoot(document.body.appendChild(document.createElement('div')));
root.render(createElement(StrictMode, null, createElement(Clip)));
globalThis.unmount = () => root.unmount();
`;

let folder, server, browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kinora-react-'));
  writeFileSync(join(folder, 'main.js'), SITE);
  symlinkSync(join(web, 'node_modules'), join(folder, 'node_modules'));
  const out = join(folder, 'out');
  mkdirSync(out);
  const alias = { 'kinora/react': join(web, 'dist/react.js') };
  const entryPoints = [{ in: join(folder, 'main.js'), out: 'main' }, { in: join(web, 'dist/worker.js'), out: 'worker' }];
  const define = { 'process.env.NODE_ENV': '"development"' };
  await esbuild.build({ entryPoints, alias, define, bundle: true, splitting: true, format: 'esm', outdir: out, logLevel: 'error' });
  symlinkSync(join(web, 'dist/wasm'), join(out, 'wasm'));
  symlinkSync(join(web, 'dist/models/flipbook'), join(out, 'flipbook'));
  writeFileSync(join(out, 'index.html'), '<!doctype html><title>site</title><link rel="icon" href="data:,"><script type="module" src="main.js"></script>');
  server = await serve(folder);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

test('a component makes clips, cancels, fails and goes', { timeout: 240_000 }, async () => {
  const page = await open(browser, `${server.origin}/out/`);
  await page.waitForFunction(() => globalThis.clip, null, { timeout: 5000 }).catch(() => assert.deepEqual(page.problems, []));
  const small = { width: 64, height: 64, frames: 5, steps: 2, seed: 3 };
  const made = await page.evaluate(async (small) => (await clip.generate('a fox', small)).frameCount, small);
  assert.equal(made, 5);
  await page.waitForFunction(() => clip.status === 'ready');
  const states = await page.evaluate(() => states);
  assert.deepEqual([...new Set(states.map(([status]) => status))], ['idle', 'loading', 'generating', 'ready']);
  const progress = states.map(([, progress]) => progress);
  assert.ok(progress.every((value, index) => index === 0 || value >= progress[index - 1]), String(progress));
  assert.ok(new Set(progress).size > 4, String(progress));

  const cancelled = await page.evaluate(async (small) => {
    const made = clip.generate('a fox', { ...small, steps: 16 });
    setTimeout(() => clip.cancel(), 100);
    return (await made) === undefined;
  }, small);
  assert.ok(cancelled);
  await page.waitForFunction(() => clip.status === 'ready' && clip.video.frameCount === 5, null, { timeout: 10_000 });

  assert.equal(await page.evaluate(() => clip.generate('a fox', { width: 65 }).then(String)), 'undefined');
  await page.waitForFunction(() => clip.status === 'error' && clip.error.code === 'invalid-request', null, { timeout: 10_000 });
  await page.evaluate(() => unmount());
  assert.deepEqual(page.problems, []);
});
