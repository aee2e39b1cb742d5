// Makes the thumbnails of the demo page's list: everything that the built-in model can draw, by the model, in headless Chromium; to be
// run anew when the model changes.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open, serve, web } from '../test/harness.mjs';

// As in www-demo/src/vocabulary.ts.
const COLUMNS = 18;
const SIDE = 48;
/** Side by side. */
const PACK = 13;

const { objects } = JSON.parse(readFileSync(join(web, '../models/flipbook/vocabulary.json'), 'utf8'));
const server = await serve();
const browser = await launch();
try {
  const page = await open(browser, server.origin);
  await page.evaluate(async ([columns, side, count]) => {
    const { loadModel } = await import('kinora');
    const sheet = new OffscreenCanvas(columns * side, Math.ceil(count / columns) * side);
    Object.assign(globalThis, { model: await loadModel(), sheet });
  }, [COLUMNS, SIDE, objects.length]);
  for (let from = 0; from < objects.length; from += PACK) {
    const prompts = objects.slice(from, from + PACK).map(({ name, motions }) => `a ${name} ${motions[0]} on a white background`);
    await page.evaluate(
      async ([prompts, from, columns, side]) => {
        const videos = await Promise.all(model.generateMany(prompts.map((prompt) => ({ prompt, seed: 1, frames: 1, steps: 4, expand: false }))));
        const context = sheet.getContext('2d');
        context.imageSmoothingQuality = 'high';
        for (const [index, video] of videos.entries()) {
          const at = from + index;
          const frame = await video.frame(0);
          context.drawImage(frame, (at % columns) * side, Math.floor(at / columns) * side, side, side);
          frame.close();
        }
      },
      [prompts, from, COLUMNS, SIDE],
    );
    console.log(`${from + prompts.length} of ${objects.length}`);
  }
  const bytes = await page.evaluate(async () => Array.from(new Uint8Array(await (await sheet.convertToBlob({ type: 'image/webp', quality: 0.75 })).arrayBuffer())));
  writeFileSync(join(web, '../www-demo/src/assets/things.webp'), Buffer.from(bytes));
  console.log(`${bytes.length} bytes`);
} finally {
  await browser.close();
  await server.close();
}
