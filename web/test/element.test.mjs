// `<kinora-video>` by itself. Clips are made by hand where a test is not about generating.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

let server, browser;
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A page that knows the element and has `clip()`, which makes a clip of one colour for each frame. */
async function pageWithElement(html, media = {}, from = browser) {
  const page = await open(from, server.origin);
  await page.emulateMedia(media);
  await page.evaluate(async (html) => {
    const { Video } = await import('kinora');
    await import('/dist/element.js');
    globalThis.clip = (numFrames = 4) => {
      const frames = Array.from({ length: numFrames }, (_, index) => new Uint8Array(64 * 64 * 4).fill(255 - 40 * index));
      const metadata = { prompt: 'a test', negative: '', seed: 7, model: 'none', width: 64, height: 64, frames: numFrames, fps: 10, steps: 1, guidance: 1, kinora: '0' };
      return new Video({ width: 64, height: 64, fps: 10, frames }, metadata, { worker: undefined, wasm: new URL('/dist/wasm/core_bg.wasm', location).href });
    };
    globalThis.part = (name) => document.querySelector('kinora-video').shadowRoot.querySelector(`[part=${name}]`);
    document.body.innerHTML = html;
  }, html);
  return page;
}

test('the element of the README knows the attributes that the README lists', async () => {
  const readme = readFileSync(join(web, 'README.md'), 'utf8');
  const html = readme.match(/```html\n.*\n(<kinora-video[\s\S]*?)```/)?.[1];
  const page = await pageWithElement(html ?? '');
  const listed = [...readme.match(/\| attributes \|(.*)/)[1].matchAll(/`([a-z]+)/g)].map(([, name]) => name);
  const source = ['element', 'element-attributes'].map((name) => readFileSync(join(web, `src/${name}.ts`), 'utf8')).join();
  assert.deepEqual(listed.filter((name) => !source.includes(`'${name}'`)), []);
  assert.deepEqual(
    await page.evaluate(() => {
      const element = document.querySelector('kinora-video');
      return [element.state, part('canvas').getAttribute('aria-label'), part('generate').textContent, part('generate').hidden];
    }),
    ['empty', 'a rocket flying on a blue background', 'Generate', false],
  );
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('a clip plays, pauses and steps by keyboard', async () => {
  const page = await pageWithElement('<kinora-video controls alt="Grey frames"></kinora-video>');
  await page.evaluate(() => (document.querySelector('kinora-video').video = clip(12)));
  assert.equal(await page.evaluate(() => part('canvas').getAttribute('aria-label')), 'Grey frames');
  assert.equal(await page.evaluate(() => part('play').getAttribute('aria-label')), 'Pause', 'it plays');
  await page.waitForFunction(() => part('seek').valueAsNumber > 1);
  await page.evaluate(() => part('play').focus());
  await page.keyboard.press('Space');
  assert.equal(await page.evaluate(() => part('play').getAttribute('aria-label')), 'Play', 'Space stopped it');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowRight');
  const shown = await page.evaluate(() => [part('seek').getAttribute('aria-valuetext'), part('canvas').getContext('2d').getImageData(0, 0, 1, 1).data[0]]);
  assert.deepEqual(shown, ['frame 2 of 12', 215]);
  await page.evaluate(() => document.querySelector('kinora-video').play());
  await page.waitForFunction(() => part('play').getAttribute('aria-label') === 'Play' && part('seek').valueAsNumber === 11, null, { timeout: 10_000 });
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('reduced motion shows the first frame and a play button, even without controls', async () => {
  const page = await pageWithElement('<kinora-video loop></kinora-video>', { reducedMotion: 'reduce' });
  await page.evaluate(() => (document.querySelector('kinora-video').video = clip()));
  await page.waitForTimeout(300);
  const still = await page.evaluate(() => [part('play').getAttribute('aria-label'), part('seek').valueAsNumber, part('player').hidden]);
  assert.deepEqual(still, ['Play', 0, false]);
  await page.evaluate(() => part('play').click());
  await page.waitForFunction(() => part('seek').valueAsNumber > 0);
  await page.close();
});

test('its form sends the clip as a file until it is reset', async () => {
  const page = await pageWithElement('<form><kinora-video name="clip"></kinora-video></form>');
  const sent = await page.evaluate(async () => {
    const [form, element] = [document.querySelector('form'), document.querySelector('kinora-video')];
    const before = [element.value, new FormData(form).get('clip')];
    const changed = new Promise((resolve) => element.addEventListener('change', resolve, { once: true }));
    element.video = clip();
    await changed;
    const file = new FormData(form).get('clip');
    form.reset();
    return { before, name: file.name, type: file.type, size: file.size, after: [element.value, new FormData(form).get('clip'), element.state] };
  });
  assert.deepEqual(sent.before, [null, null]);
  assert.match(sent.name, /^kinora-7\.(mp4|webm|gif)$/);
  assert.ok(sent.size > 200 && sent.type.includes('/'), JSON.stringify(sent));
  assert.deepEqual(sent.after, [null, null, 'empty']);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('autoplay waits until the element is near the viewport', async () => {
  const page = await pageWithElement('<style>div{height:3000px}</style><div></div><kinora-video autoplay prompt="a fox"></kinora-video>');
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => document.querySelector('kinora-video').state), 'empty');
  await page.evaluate(() => document.querySelector('kinora-video').scrollIntoView());
  await page.waitForFunction(() => document.querySelector('kinora-video').state === 'loading');
  const end = await page.evaluate(() => {
    const element = document.querySelector('kinora-video');
    const cancelled = new Promise((resolve) => element.addEventListener('cancel', () => resolve('cancelled')));
    element.remove();
    return cancelled;
  });
  assert.equal(end, 'cancelled', 'a removed element stops its work');
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('elements share one model, report a bad attribute, and free the model with the last of them', { timeout: 300_000 }, async () => {
  const page = await pageWithElement('');
  const seen = await page.evaluate(async () => {
    let started = 0;
    let ended = 0;
    globalThis.Worker = class extends Worker {
      constructor(...parameters) {
        super(...parameters);
        started++;
      }
      terminate() {
        ended++;
        super.terminate();
      }
    };
    document.body.innerHTML = '<kinora-video prompt="a fox" seed="never" controls></kinora-video><kinora-video prompt="an owl" seed="-1"></kinora-video>';
    const elements = [...document.querySelectorAll('kinora-video')];
    const events = [];
    for (const type of ['support', 'error']) elements[0].addEventListener(type, () => events.push(type));
    const failures = await Promise.all(elements.map((element) => element.generate().catch((error) => error.code)));
    const alert = part('error');
    const said = alert.hidden ? '' : alert.textContent;
    document.body.replaceChildren();
    await new Promise((resolve) => setTimeout(resolve, 100));
    return { failures, said, events, started, ended };
  });
  assert.deepEqual(seen.failures, ['invalid-request', 'invalid-request']);
  assert.match(seen.said, /invalid seed: found NaN, expected a whole number/);
  assert.deepEqual(seen.events, ['support', 'error']);
  assert.deepEqual([seen.started, seen.ended], [1, 1]);
  assert.deepEqual(page.problems, []);
  await page.close();
});

test('without an adapter it says so of models that the processor is too slow for, and shows where to read on', async () => {
  const without = await launch({ webgpu: false });
  try {
    const page = await pageWithElement('<kinora-video prompt="a fox" model="/models/other/" controls></kinora-video>', {}, without);
    const seen = await page.evaluate(async () => {
      const element = document.querySelector('kinora-video');
      const code = await element.generate().catch((error) => error.code);
      const alert = part('error');
      return { code, state: element.state, hidden: alert.hidden, text: alert.textContent, links: alert.querySelectorAll('a').length, again: !part('generate').hidden };
    });
    assert.match(seen.text, /no graphics adapter/);
    assert.deepEqual([seen.code, seen.state, seen.hidden, seen.again], ['no-adapter', 'error', false, true]);
    assert.ok(seen.links > 0);
  } finally {
    await without.close();
  }
});

test('properties set before the script, attributes as properties, and a box of the right shape from the start', { timeout: 180_000 }, async () => {
  const page = await open(browser, server.origin);
  const seen = await page.evaluate(async () => {
    const early = document.createElement('kinora-video');
    document.body.append(early);
    Object.assign(early, { prompt: 'an owl', seed: 7, width: 96, height: 64, frames: 5, steps: 2, loop: true, given: { negative: 'x' }, expand: true });
    const { KinoraVideo } = await import('/dist/element.js');
    const { prompt, seed, loop, given, expand, loading, model, fps } = early;
    const attributes = ['prompt', 'seed', 'width', 'loop'].map((name) => early.getAttribute(name));
    early.fps = 10;
    const fpsAttribute = early.getAttribute('fps');
    early.fps = undefined;
    early.loop = false;
    Object.assign(early.style, { width: '192px', display: 'block' });
    const plain = document.body.appendChild(document.createElement('kinora-video'));
    plain.style.width = '200px';
    const heights = [early, plain].map((element) => element.shadowRoot.querySelector('canvas').getBoundingClientRect().height);
    return { name: KinoraVideo.name, attributes, fpsAttribute, removed: [early.hasAttribute('fps'), early.hasAttribute('loop')], read: [prompt, seed, loop, given, expand, loading, model, fps ?? null], heights };
  });
  assert.deepEqual(seen, {
    name: 'KinoraVideo',
    attributes: ['an owl', '7', '96', ''],
    fpsAttribute: '10',
    removed: [false, false],
    read: ['an owl', 7, true, { negative: 'x' }, true, 'lazy', 'flipbook', null],
    heights: [128, 200],
  });

  const changed = await page.evaluate(async () => {
    const element = document.querySelector('kinora-video');
    Object.assign(element, { given: {}, expand: false });
    const label = () => element.shadowRoot.querySelector('canvas').getAttribute('aria-label');
    const made = element.generate();
    element.prompt = 'a fox';
    element.seed = 8;
    const { metadata } = await made;
    const after = label();
    const heard = new Promise((resolve) => element.addEventListener('done', ({ detail }) => resolve([detail.metadata.prompt, detail.metadata.seed])));
    // From now on what the attributes say is made unasked.
    element.setAttribute('loading', 'eager');
    element.autoplay = true;
    element.prompt = 'a cat';
    element.seed = 9;
    return [metadata.prompt, metadata.seed, after, await heard];
  });
  assert.deepEqual(changed, ['an owl', 7, 'an owl', ['a cat', 9]]);
  assert.deepEqual(page.problems, []);
});
