// A finished clip: pictures, playback and files that play again.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownPage } from './harness.mjs';

const page = ownPage(async () => {
  globalThis.kinora = await import('kinora');
  const { video } = await kinora.generateVideo({ prompt: 'a taxi on a green background', seed: 3, steps: 2, frames: 9, preview: false, durationSeconds: 9 });
  globalThis.video = video;
  /** Writes the clip as a file and decodes it again. */
  globalThis.compare = async (type) => {
    const blob = await video.toBlob({ type });
    const head = String.fromCharCode(...new Uint8Array(await blob.slice(0, 8).arrayBuffer()));
    const { Input, BlobSource, ALL_FORMATS, VideoSampleSink } = await import('mediabunny');
    const track = await new Input({ source: new BlobSource(blob), formats: ALL_FORMATS }).getPrimaryVideoTrack();
    const errors = [];
    for await (const sample of new VideoSampleSink(track).samples()) {
      const context = new OffscreenCanvas(video.width, video.height).getContext('2d');
      sample.draw(context, 0, 0);
      const found = context.getImageData(0, 0, video.width, video.height).data;
      const wanted = video.rgba(errors.length);
      errors.push(found.reduce((sum, value, at) => sum + Math.abs(value - wanted[at]), 0) / found.length);
      sample.close();
    }
    return { type: blob.type, size: blob.size, head, codec: track.codec, frames: errors.length, worst: Math.max(...errors) };
  };
}, { timeout: 180_000 });

test('frames are pictures, video frames and bytes of the same colours', { timeout: 30_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const bitmap = await video.frame(8);
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
    context.drawImage(bitmap, 0, 0);
    const drawn = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
    const stamps = [];
    for await (const frame of video.frames()) {
      stamps.push(frame.timestamp);
      frame.close();
    }
    return { same: drawn.every((value, at) => value === video.rgba(8)[at]), stamps };
  });
  assert.ok(seen.same);
  assert.deepEqual(seen.stamps, Array.from({ length: 9 }, (_, index) => Math.round((index * 1e6) / 12)));
});

test('a clip plays on a canvas and stops with its signal', { timeout: 30_000 }, async () => {
  const [moved, still] = await page.evaluate(async () => {
    const canvas = document.querySelector('canvas');
    const stop = new AbortController();
    video.play(canvas, { signal: stop.signal });
    const look = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.join();
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const looks = new Set();
    for (let i = 0; i < 20; i++) (await pause(50), looks.add(look()));
    stop.abort();
    await pause(50);
    const last = look();
    await pause(300);
    return [looks.size, look() === last];
  });
  assert.ok(moved > 2, `${moved} different pictures in a second`);
  assert.ok(still, 'stopped');
});

for (const [type, magic] of [
  ['video/mp4', /^....ftyp/s],
  ['video/webm', /^\x1aE\xdf\xa3/],
]) {
  test(`${type} plays again with the frames it was made of`, { timeout: 60_000 }, async () => {
    const seen = await page.evaluate((type) => compare(type), type);
    console.log(`${type}: ${seen.codec}, ${seen.size} bytes, mean error at most ${seen.worst.toFixed(2)} of 255`);
    assert.equal(seen.type, type);
    assert.match(seen.head, magic);
    assert.equal(seen.frames, 9);
    assert.ok(seen.worst < 6, `mean error ${seen.worst}`);
  });
}

test('GIF and APNG hold the frames and the prompt', { timeout: 60_000 }, async () => {
  for (const [type, magic] of [['image/gif', 'GIF89a'], ['image/apng', '\x89PNG']]) {
    const seen = await page.evaluate(async (type) => {
      const blob = await video.toBlob({ type });
      const decoder = new ImageDecoder({ data: await blob.arrayBuffer(), type: type === 'image/apng' ? 'image/png' : type });
      await decoder.completed;
      const { image } = await decoder.decode({ frameIndex: 0 });
      const text = await blob.text();
      return { text: text.includes('a taxi on a green background'), head: String.fromCharCode(...new Uint8Array(await blob.slice(0, 8).arrayBuffer())), frames: decoder.tracks.selectedTrack.frameCount, width: image.codedWidth };
    }, type);
    assert.ok(seen.head.startsWith(magic), seen.head);
    assert.deepEqual([seen.frames, seen.width, seen.text], [9, 128, true], type);
  }
});

test('without an encoder there is an exact MP4, or an error that says so', { timeout: 60_000 }, async () => {
  const [auto, asked, webm, wrong] = await page.evaluate(async () => {
    const encoder = globalThis.VideoEncoder;
    globalThis.VideoEncoder = class extends encoder {
      // As some browsers do: promise it, then fail.
      encode() {
        throw new DOMException('no such encoder', 'NotSupportedError');
      }
    };
    const code = (promise) => promise.then(() => 'none', (error) => error.code);
    const result = [await compare('auto'), await compare('video/mp4'), await code(video.toBlob({ type: 'video/webm' })), await code(video.toBlob({ type: 'video/avi' }))];
    globalThis.VideoEncoder = encoder;
    return result;
  });
  for (const seen of [auto, asked]) {
    assert.deepEqual([seen.type, seen.codec, seen.frames], ['video/mp4', 'avc', 9]);
    assert.ok(seen.worst < 2.5, `mean error ${seen.worst}`);
  }
  assert.deepEqual([webm, wrong], ['no-encoder', 'invalid-request']);
});

test('a codec can be chosen, and a file can be a stream', { timeout: 60_000 }, async () => {
  const seen = await page.evaluate(async () => {
    const code = (promise) => promise.then(() => 'none', (error) => error.code ?? error.message);
    const { ALL_FORMATS, BlobSource, Input, VideoSampleSink } = await import('mediabunny');
    const look = async (blob) => {
      const track = await new Input({ source: new BlobSource(blob), formats: ALL_FORMATS }).getPrimaryVideoTrack();
      let frames = 0;
      for await (const sample of new VideoSampleSink(track).samples()) (sample.close(), frames++);
      return [track.codec, frames];
    };
    const collect = async (options) => {
      const pieces = [];
      for await (const piece of video.stream(options)) pieces.push(piece);
      return { pieces: pieces.length, found: await look(new Blob(pieces)) };
    };
    const left = video.stream().getReader();
    await left.read();
    await left.cancel();
    return {
      vp9: await look(await video.toBlob({ type: 'video/mp4', codec: 'vp9' })),
      vp8: await look(await video.toBlob({ type: 'video/webm', codec: 'vp8' })),
      mp4: await collect(),
      webm: await collect({ type: 'video/webm', quality: 'low' }),
      impossible: await code(video.toBlob({ type: 'video/webm', codec: 'avc' })),
      unknown: await code(video.toBlob({ codec: 'mpeg2' })),
      aborted: await code(collect({ signal: AbortSignal.abort(new Error('enough')) })),
    };
  });
  assert.deepEqual([seen.vp9, seen.vp8], [['vp9', 9], ['vp8', 9]]);
  assert.deepEqual([seen.mp4.found, seen.webm.found[1]], [['avc', 9], 9]);
  assert.ok(seen.mp4.pieces > 1 && seen.webm.pieces > 1, `${seen.mp4.pieces} and ${seen.webm.pieces} pieces`);
  assert.deepEqual([seen.impossible, seen.unknown, seen.aborted], ['no-encoder', 'invalid-request', 'enough']);
});

test('encoding can be aborted, and a disposed clip says so', { timeout: 60_000 }, async () => {
  const [before, during, disposed] = await page.evaluate(async () => {
    const caught = (promise) => promise.then(() => 'none', (error) => error.code ?? error.message ?? String(error));
    const abort = new AbortController();
    const during = caught(video.toBlob({ type: 'image/gif', signal: abort.signal }));
    abort.abort(new Error('enough'));
    const before = await caught(video.toBlob({ signal: AbortSignal.abort(new Error('at once')) }));
    video[Symbol.dispose]();
    return [before, await during, await caught(video.toBlob())];
  });
  assert.deepEqual([before, during, disposed], ['at once', 'enough', 'disposed']);
});

test('nothing was left unhandled', () => assert.deepEqual(page.problems, []));
