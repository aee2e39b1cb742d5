// Pictures and clips by what they are: files without types, addresses, drawings, elements in every state.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, open, serve } from './harness.mjs';

let server, others, browser, page;
/** Files that the servers send, by path. */
const files = new Map();
before(async () => {
  const send = (_, response, path) => {
    const file = files.get(path);
    if (!file) return false;
    if (file === 'never') return true;
    return void response.end(file) ?? true;
  };
  server = await serve(undefined, send);
  // Another origin, which says nothing about CORS.
  others = await serve(undefined, send);
  browser = await launch();
  page = await open(browser, server.origin);
  await page.evaluate(async () => {
    globalThis.kinora = await import('kinora');
    globalThis.model = await kinora.loadModel();
    globalThis.small = { width: 64, height: 64, frames: 5, steps: 1, seed: 3, preview: false };
    const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 64 });
    const context = canvas.getContext('2d');
    context.fillStyle = 'rgb(220 30 40)';
    context.fillRect(0, 0, 64, 64);
    globalThis.blob = (type) => new Promise((resolve) => canvas.toBlob(resolve, type, 1));
    const frames = Array.from({ length: 5 }, () => new Uint8Array(context.getImageData(0, 0, 64, 64).data));
    const wasm = new URL('/dist/wasm/core_bg.wasm', location.href).href;
    globalThis.clip = new kinora.Video({ width: 64, height: 64, fps: 12, frames }, { prompt: 'red', seed: 1 }, { worker: undefined, wasm });
    globalThis.film = await clip.toBlob('video/mp4');
    globalThis.untyped = async (file, type) => new Blob([await file.arrayBuffer()], type ? { type } : {});
    /** Whether the first frame is red, or the failure. */
    globalThis.made = (parts, options) =>
      model.generate({ text: 'a taxi', ...parts }, { ...small, ...options }).then(
        (video) => [...video.rgba(0).subarray((32 * 64 + 32) * 4, (32 * 64 + 32) * 4 + 3)].every((value, at) => Math.abs(value - [220, 30, 40][at]) < 60) || [...video.rgba(0).subarray(0, 3)],
        ({ code, message, hint, name }) => [typeof code === 'string' ? code : name, message, hint],
      );
    globalThis.bytes = async (file) => Array.from(new Uint8Array(await file.arrayBuffer()));
  });
  const [jpeg, mp4] = await page.evaluate(async () => [await bytes(await blob('image/jpeg')), await bytes(film)]);
  files.set('/red.jpg', Buffer.from(jpeg)).set('/red.mp4', Buffer.from(mp4)).set('/never.mp4', 'never').set('/red', Buffer.from(jpeg));
}, { timeout: 300_000 });
after(async () => {
  await browser?.close();
  await server?.close();
  await others?.close();
});

test('a file is what its bytes are', { timeout: 300_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const jpeg = await blob('image/jpeg');
    const svg = '<?xml version="1.0"?>\n<!-- red -->\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8" fill="rgb(220 30 40)"/></svg>';
    return {
      jpeg: await made({ image: await untyped(jpeg) }),
      octets: await made({ image: await untyped(jpeg, 'application/octet-stream') }),
      wrong: await made({ image: await untyped(jpeg, 'image/png') }),
      png: await made({ image: await untyped(await blob('image/png'), 'image/jpeg') }),
      svg: await made({ image: new Blob([svg]) }),
      film: await made({ video: await untyped(film), extend: 'forward', overlap: 1 }),
      octetFilm: await made({ video: await untyped(film, 'application/octet-stream'), extend: 'forward', overlap: 1 }),
      stillFilm: await made({ image: await untyped(film) }),
      nothing: await made({ image: new Blob(['no picture']) }),
    };
  });
  const { stillFilm, nothing, ...good } = seen;
  for (const [name, result] of Object.entries(good)) assert.equal(result, true, `${name}: ${JSON.stringify(result)}`);
  assert.deepEqual(stillFilm.slice(0, 2), ['not-an-image', '`image` is a film (mp4), expected an image']);
  assert.match(String(nothing), /^unknown-input,cannot read `image`: .*expected PNG, JPEG, .*,give a file in one of these formats$/);
});

test('addresses are read, and what other origins forbid is said', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async (others) => {
    const tainted = Object.assign(new Image(), { src: `${others}/red.jpg` });
    return {
      text: await made({ image: '/red' }),
      url: await made({ image: new URL('/red.jpg', location.href) }),
      film: await made({ video: '/red.mp4', extend: 'forward', overlap: 1 }),
      data: await made({ image: `data:image/jpeg;base64,${btoa(String.fromCharCode(...(await bytes(await blob('image/jpeg')))))}` }),
      missing: await made({ image: '/missing.jpg' }),
      forbidden: await made({ image: `${others}/red.jpg` }),
      tainted: await made({ image: tainted }),
      given: (await model.generate({ text: 'x', image: '/red.jpg' }, small)).metadata.given,
    };
  }, others.origin);
  for (const name of ['text', 'url', 'film', 'data']) assert.equal(seen[name], true, `${name}: ${JSON.stringify(seen[name])}`);
  assert.match(String(seen.missing), /^input-unreadable,cannot read `image` from \/missing.jpg: the server answered 404/);
  for (const name of ['forbidden', 'tainted']) assert.match(String(seen[name]), /^input-unreadable,.*access-control-allow-origin.*crossorigin/, name);
  assert.deepEqual(seen.given, { image: '/red.jpg' });
});

test('a video element is asked for its pictures in every state, and goes on playing', { timeout: 120_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const element = (attributes) => Object.assign(document.createElement('video'), { muted: true, ...attributes });
    const parts = (video) => ({ video, extend: 'forward', overlap: 1 });
    const playing = element({ src: '/red.mp4', loop: true });
    await playing.play();
    const played = await made(parts(playing));
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 300);
    const begun = performance.now();
    const aborted = await made(parts(element({ src: '/never.mp4' })), { signal: abort.signal });
    return {
      none: await made(parts(element({ preload: 'none', src: '/red.mp4' }))),
      image: await made({ image: element({ preload: 'none', src: '/red.mp4' }) }),
      empty: await made(parts(element({}))),
      broken: await made(parts(element({ src: '/missing.mp4' }))),
      played, playing: !playing.paused, aborted, waited: performance.now() - begun,
    };
  });
  for (const name of ['none', 'image', 'played', 'playing']) assert.equal(seen[name], true, `${name}: ${JSON.stringify(seen[name])}`);
  assert.match(String(seen.empty), /^input-unreadable,cannot read `video`: the <video> has no source/);
  assert.match(String(seen.broken), /^input-unreadable,cannot read `video`: the <video> cannot be loaded/);
  assert.equal(seen.aborted[0], 'AbortError');
});
