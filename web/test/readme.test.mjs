// The example of the project's README, as written.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

test('the example under "In the browser" makes a clip and a file', { timeout: 180_000 }, async () => {
  const readme = readFileSync(join(web, '../README.md'), 'utf8');
  const code = readme.split('## In the browser')[1]?.match(/```js\n([\s\S]*?)```/)?.[1];
  assert.ok(code, 'the README has the example');
  const server = await serve();
  const browser = await launch();
  try {
    const page = await open(browser, server.origin);
    const seen = await page.evaluate(async (code) => {
      const module = new Blob([code, '\nexport { video, file };'], { type: 'text/javascript' });
      const { video, file } = await import(URL.createObjectURL(module));
      const canvas = document.querySelector('canvas');
      const shown = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      return { frames: video.frameCount, type: file.type, bytes: file.size, blue: shown[2] > shown[0] };
    }, code);
    assert.equal(seen.frames, 17);
    assert.match(seen.type, /^(video|image)\//);
    assert.ok(seen.bytes > 1000 && seen.blue, JSON.stringify(seen));
    assert.deepEqual(page.problems, []);
  } finally {
    await browser.close();
    await server.close();
  }
});
