// Pictures of every state of the demo page, for looking at: three sizes, light and dark. `screens.mjs FOLDER`, after scripts/demo.mjs.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { launch } from '../test/harness.mjs';
import { serveDemo } from './serve.mjs';

const [folder] = process.argv.slice(2);
const SIZES = [[1280, 800], [820, 1180], [390, 844]];
const HASH = '#prompt=an+owl+turning+its+head+on+a+pink+background&seed=7&frames=9&steps=4';
mkdirSync(folder, { recursive: true });
let missing = '';
const server = await serveDemo({ intercept: (path, response) => missing !== '' && path.includes(missing) && response.writeHead(404).end() });
const browser = await launch();
const stateIs = (page, state) => page.waitForFunction((state) => document.querySelector('kinora-video').state === state, state, { timeout: 240_000 });

/** A visit through the states, with a picture of each at one size. */
async function visit(colorScheme) {
  const context = await browser.newContext({ colorScheme, viewport: { width: SIZES[0][0], height: SIZES[0][1] } });
  const page = await context.newPage();
  const shoot = async (state, { fullPage = false, show } = {}) => {
    for (const [width, height] of SIZES) {
      await page.setViewportSize({ width, height });
      // What is looked at, where a visitor of this size would have scrolled to.
      await page.evaluate((show) => show && document.querySelector(show).scrollIntoView({ block: 'center' }), show);
      await page.waitForTimeout(150);
      await page.screenshot({ path: join(folder, `${state}-${colorScheme}-${width}.png`), fullPage });
    }
    await page.setViewportSize({ width: SIZES[0][0], height: SIZES[0][1] });
  };
  await page.goto(server.origin);
  await page.waitForFunction(() => document.querySelector('#verdict').textContent !== 'Looking …');
  await page.waitForTimeout(800);
  await shoot('opened', { fullPage: true });
  await page.fill('#prompt', 'a pengin riding a blorptang');
  await page.waitForTimeout(100);
  await shoot('words');
  await page.click('#options summary');
  await shoot('options', { show: '#options' });
  await page.click('#options summary');
  await page.click('#count');
  await page.waitForSelector('.thing');
  await shoot('vocabulary', { show: '.thing' });
  await page.goto(`${server.origin}/${HASH}`);
  await page.reload();
  await page.evaluate(() => (document.querySelector('#options').open = false));
  await page.click('#generate');
  await stateIs(page, 'loading');
  await shoot('loading', { show: '#clip' });
  await page.waitForFunction(() => document.querySelector('#generate').textContent.includes('left'), null, { timeout: 120_000 });
  await shoot('generating', { show: '#clip' });
  await stateIs(page, 'ready');
  await shoot('ready', { fullPage: true });
  await page.click('text=Share');
  await shoot('share', { show: '#share' });
  await page.keyboard.press('Escape');
  await page.click('#region-open');
  await shoot('painting', { show: '#repaint' });
  await page.click('#region-close');
  await page.click('#vary');
  await page.waitForFunction(() => document.querySelectorAll('#variations canvas').length === 4, null, { timeout: 240_000 });
  await shoot('variations', { show: '#variations' });
  await context.close();

  missing = '.safetensors';
  const other = await browser.newContext({ colorScheme, viewport: { width: 1280, height: 800 } });
  const failed = await other.newPage();
  await failed.goto(server.origin);
  await failed.fill('#prompt', 'an owl blinking');
  await failed.click('#generate');
  await stateIs(failed, 'error');
  for (const [width, height] of SIZES) {
    await failed.setViewportSize({ width, height });
    await failed.evaluate(() => document.querySelector('#again').scrollIntoView({ block: 'center' }));
    await failed.screenshot({ path: join(folder, `error-${colorScheme}-${width}.png`) });
  }
  missing = '';
  await other.close();
}

for (const scheme of ['light', 'dark']) await visit(scheme);
await browser.close();
const without = await launch({ webgpu: false });
for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of SIZES) {
    const page = await (await without.newContext({ colorScheme, viewport: { width, height } })).newPage();
    await page.goto(server.origin);
    await page.waitForFunction(() => document.querySelector('#verdict').textContent !== 'Looking …');
    await page.screenshot({ path: join(folder, `unsupported-${colorScheme}-${width}.png`) });
  }
}
await without.close();
await server.close();
