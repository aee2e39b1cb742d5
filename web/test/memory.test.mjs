// Loading and disposing models again and again must not grow the browser.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { launch, open, serve } from './harness.mjs';

const CYCLES = Number(process.env.KINORA_TEST_CYCLES ?? 8);
const WARM_UP = 5;
const GROWTH = 1.02;
/** Of so many cycles and more, how much 100 of them may add after the first 20. */
const [MANY, SLOPE] = [100, 0.01];

/** Resident memory in KiB, but for mapped files, of this process's descendants that run as `--type=kind`. */
function residentKib(kind) {
  const found = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map((pid) => {
    try {
      return { command: readFileSync(`/proc/${pid}/cmdline`, 'utf8'), status: readFileSync(`/proc/${pid}/status`, 'utf8'), pid };
    } catch {
      // It ended meanwhile.
      return undefined;
    }
  });
  const parents = new Map(found.filter(Boolean).map(({ pid, status }) => [pid, /PPid:\t(\d+)/.exec(status)?.[1]]));
  const ours = (pid) => pid !== undefined && (pid === String(process.pid) || ours(parents.get(pid)));
  const matching = found.filter((entry) => entry?.command.includes(`--type=${kind}`) && ours(entry.pid));
  return matching.reduce((sum, { status }) => sum + field(status, 'RssAnon') + field(status, 'RssShmem'), 0);
}

/** What 100 cycles add, as a share of the mean: a line through the sizes by least squares. */
function slope(sizes) {
  const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
  const middle = (sizes.length - 1) / 2;
  const over = sizes.reduce((sum, size, at) => sum + (at - middle) * (size - mean), 0);
  return (100 * over) / sizes.reduce((sum, _, at) => sum + (at - middle) ** 2, 0) / mean;
}

function field(status, name) {
  return Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
}

test(`${CYCLES} models, one after another, take the memory of one`, { timeout: 7_200_000 }, async () => {
  const server = await serve();
  const browser = await launch();
  try {
    const page = await open(browser, server.origin);
    const client = await page.context().newCDPSession(page);
    const sizes = [];
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      await page.evaluate(async () => {
        const { loadModel } = await import('kinora');
        const model = await loadModel({ device: 'webgpu' });
        const video = await model.generate('a taxi', { width: 64, height: 64, frames: 5, steps: 1, preview: false });
        video[Symbol.dispose]();
        await model.dispose();
      });
      await client.send('HeapProfiler.collectGarbage');
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.equal(page.workers().length, 0, 'the worker has ended');
      sizes.push({ gpu: residentKib('gpu-process'), renderer: residentKib('renderer') });
      console.log(`cycle ${cycle + 1}: GPU process ${sizes.at(-1).gpu} KiB, renderers ${sizes.at(-1).renderer} KiB`);
    }
    for (const kind of ['gpu', 'renderer']) {
      if (CYCLES >= MANY) {
        const growth = slope(sizes.slice(20).map((size) => size[kind]));
        console.log(`${kind}: ${(100 * growth).toFixed(3)} % in 100 cycles`);
        assert.ok(growth <= SLOPE, `${kind} grows by ${(100 * growth).toFixed(2)} % in 100 cycles`);
      }
      const [warm, late] = [sizes.slice(0, WARM_UP), sizes.slice(WARM_UP)].map((part) => part.map((size) => size[kind]));
      // Allocators keep some of what was freed, sooner or later: the smallest after counts against the largest before.
      assert.ok(Math.min(...late.slice(-3)) <= GROWTH * Math.max(...warm), `${kind}: ${sizes.map((size) => size[kind]).join(' ')}`);
    }
  } finally {
    await browser.close();
    await server.close();
  }
});
