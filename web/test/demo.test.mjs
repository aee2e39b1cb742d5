// The demo page as a visitor meets it: served with its strict policy, on the real model.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { serveDemo } from '../scripts/serve.mjs';
import { launch, web } from './harness.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SMALL = '#prompt=an+owl+turning+its+head+on+a+pink+background&seed=7&frames=9&steps=4';

let server, browser;
let missing = '';
before(async () => {
  execFileSync(process.execPath, [join(web, 'scripts/demo.mjs')], { stdio: 'inherit' });
  server = await serveDemo({ intercept: (path, response) => missing !== '' && path.includes(missing) && response.writeHead(404).end() });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A first visit in a browser profile of its own. */
async function visit({ hash = '', from = browser, ...options } = {}) {
  const context = await from.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(message.text()));
  await page.goto(`${server.origin}/${hash}`);
  await page.waitForFunction(() => document.querySelector('#verdict').textContent !== 'Looking …');
  return page;
}

async function assertAccessible(page, state) {
  if (!(await page.evaluate(() => 'axe' in globalThis))) await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target.join(' ')).join(', ')}`);
  });
  assert.deepEqual(violations, [], state);
}

const stateIs = (page, state) => page.waitForFunction((state) => document.querySelector('kinora-video').state === state, state, { timeout: 240_000 });
const focused = (page) =>
  page.evaluate(() => {
    const { activeElement: outer } = document;
    return (outer?.shadowRoot?.activeElement ?? outer)?.getAttribute('part') ?? outer?.id;
  });

test('a link becomes a clip, to be kept, shared and made again without network', { timeout: 300_000 }, async () => {
  const page = await visit({ hash: SMALL });
  assert.match(await page.textContent('#cost'), /Downloads the model once: \d+\.\d MB/, 'the size is said before anything is downloaded');
  await assertAccessible(page, 'idle');

  await page.click('#generate');
  await stateIs(page, 'generating');
  await page.waitForFunction(() => document.querySelector('kinora-video').shadowRoot.querySelector('.status').textContent.startsWith('Step'));
  await assertAccessible(page, 'generating');
  await stateIs(page, 'ready');
  assert.match(await page.textContent('#details'), /^Seed 7, made in/);
  const frames = await page.evaluate(() => {
    const { video } = document.querySelector('kinora-video');
    return [video.frameCount, new Set(video.rgba(0)).size];
  });
  assert.equal(frames[0], 9);
  assert.ok(frames[1] > 50, `a picture has many values, this one has ${frames[1]}`);
  assert.match(page.url(), /prompt=an\+owl.*seed=7.*frames=9.*steps=4/);
  assert.equal(await page.locator('#gallery li').count(), 1);
  await assertAccessible(page, 'done');

  for (const [name, magic] of [['MP4', 'ftyp'], ['GIF', 'GIF89a']]) {
    const [file] = await Promise.all([page.waitForEvent('download'), page.click(`text=Download ${name}`)]);
    assert.match(file.suggestedFilename(), /^kinora-7\.(mp4|gif)$/);
    assert.ok(readFileSync(await file.path()).subarray(0, 12).includes(magic), name);
  }

  await page.waitForFunction(() => document.querySelector('#cost').textContent.includes('no download'));
  const { port } = new URL(server.origin);
  await server.close();
  await page.reload();
  await page.waitForFunction(() => document.querySelector('#cost').textContent.includes('no download'));
  await page.click('#generate');
  await stateIs(page, 'ready');
  server = await serveDemo({ port: Number(port), intercept: (path, response) => missing !== '' && path.includes(missing) && response.writeHead(404).end() });
  // With the server away, the browser says that it looked for a newer page and service worker.
  assert.deepEqual(page.problems.filter((problem) => !problem.includes('ERR_CONNECTION_REFUSED')), []);
  await page.context().close();
});

test('everything can be done with the keyboard', { timeout: 300_000 }, async () => {
  const page = await visit();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the prompt');
  await page.keyboard.press('Enter');
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.type('a fox tilting its head on a red background');
  assert.equal(await page.inputValue('#prompt'), 'a fox tilting its head on a red background');
  await page.keyboard.press('Enter');
  await stateIs(page, 'loading');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(page), 'cancel', 'Cancel is next to the form');
  await page.keyboard.press('Enter');
  await stateIs(page, 'empty');
  assert.equal(await focused(page), 'generate', 'the focus goes to the form, not to nowhere');
  await page.keyboard.press('Enter');
  await stateIs(page, 'loading');
  await page.keyboard.press('Escape');
  await stateIs(page, 'empty');
  for (let presses = 0; (await focused(page)) !== 'generate' || presses === 0; presses++) {
    assert.ok(presses < 120, 'Tab goes around the whole page and comes back');
    await page.keyboard.press('Tab');
    const visible = await page.evaluate(() => {
      const focus = document.activeElement;
      return focus === document.body || getComputedStyle(focus).outlineStyle !== 'none' || focus.matches('.choice input, kinora-video');
    });
    assert.ok(visible, `the focus on ${await focused(page)} can be seen`);
  }
  assert.deepEqual(page.problems, []);
  await page.context().close();
});

test('what goes wrong is said, and can be tried again', { timeout: 300_000 }, async () => {
  missing = '.safetensors';
  const page = await visit({ colorScheme: 'dark' });
  await page.click('#generate');
  await stateIs(page, 'error');
  assert.match(await page.evaluate(() => document.querySelector('kinora-video').shadowRoot.querySelector('[role=alert]').textContent), /not found/);
  await assertAccessible(page, 'error, dark');
  missing = '';
  await page.click('#generate');
  await stateIs(page, 'generating');
  await page.context().close();
});

test('a browser without an adapter is told what to do', { timeout: 60_000 }, async () => {
  const without = await launch({ webgpu: false });
  try {
    const page = await visit({ from: without, viewport: { width: 320, height: 640 } });
    assert.ok(await page.isDisabled('#generate'));
    assert.match(await page.textContent('#cost'), /no graphics adapter.*What to do/);
    assert.ok((await page.locator('#help a').count()) > 0);
    await assertAccessible(page, 'unsupported, 320 px');
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${overflow} px beyond the edge`);
    assert.deepEqual(page.problems, []);
  } finally {
    await without.close();
  }
});
