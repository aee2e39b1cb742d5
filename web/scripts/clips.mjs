// Makes the clips that the demo page opens with, by the built-in model in headless Chromium; to be run anew when the model changes.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launch, open, serve, web } from '../test/harness.mjs';

const FOLDER = join(web, '../www-demo/src/assets/clips');
const CLIPS = [
  ['rocket', 'a rocket flying on a blue background', 7],
  ['octopus', 'an octopus waving its tentacles on a yellow background', 3],
  ['butterfly', 'a butterfly flapping its wings on a pink background', 5],
  ['saucer', 'a flying saucer hovering on a purple background', 11],
  ['penguin', 'a penguin waddling on a red background', 4],
  ['fox', 'a fox tilting its head on a green background', 2],
];

mkdirSync(FOLDER, { recursive: true });
const server = await serve();
const browser = await launch();
try {
  const page = await open(browser, server.origin);
  await page.evaluate(async () => (globalThis.model = await (await import('kinora')).loadModel()).info);
  for (const [name, prompt, seed] of CLIPS) {
    const { type, bytes } = await page.evaluate(
      async ([prompt, seed]) => {
        const video = await model.generate(prompt, { seed, preview: false });
        const file = await video.toBlob({ type: 'video/mp4', quality: 'low' });
        return { type: file.type, bytes: Array.from(new Uint8Array(await file.arrayBuffer())) };
      },
      [prompt, seed],
    );
    writeFileSync(join(FOLDER, `${name}.mp4`), Buffer.from(bytes));
    console.log(`${name}: ${type}, ${bytes.length} bytes`);
  }
} finally {
  await browser.close();
  await server.close();
}
