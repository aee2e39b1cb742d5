// Loading and disposing models again and again must not grow the browser.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { launch, open, serve } from './harness.mjs';

const CYCLES = Number(process.env.KINORA_TEST_CYCLES ?? 8);
const WARM_UP = 5;
const GROWTH = 1.02;
/** Of so many cycles and more, how much 100 of them may add to what is in use, after the first 20. */
const [MANY, SLOPE] = [100, 0.01];
/** How much more may be resident after so many: allocators keep ever more fragments of what was freed. */
const FRAGMENTS = 1.05;
/** What is in use, by names of memory-infra: of each allocator of the process what it gave out. */
const IN_USE = [['malloc', 'allocated_objects_size'], ['partition_alloc/allocated_objects', 'size'], ['v8', 'size'], ['blink_gc', 'size']];

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

/** KiB in use in the GPU process and in pages, without what allocators keep of what was freed. */
async function inUseKib(session) {
  const events = [];
  const collect = ({ value }) => events.push(...value);
  session.on('Tracing.dataCollected', collect);
  const complete = new Promise((resolve) => session.once('Tracing.tracingComplete', resolve));
  const traceConfig = { includedCategories: ['disabled-by-default-memory-infra'], excludedCategories: ['*'], memoryDumpConfig: { triggers: [] } };
  await session.send('Tracing.start', { transferMode: 'ReportEvents', traceConfig });
  await session.send('Tracing.requestMemoryDump', { deterministic: true, levelOfDetail: 'light' });
  await session.send('Tracing.end');
  await complete;
  session.off('Tracing.dataCollected', collect);
  const names = new Map(events.filter(({ name }) => name === 'process_name').map(({ pid, args }) => [pid, args.name]));
  const kib = (kind) => {
    const dumps = events.filter(({ ph, pid }) => ph === 'v' && names.get(pid) === kind).map(({ args }) => args.dumps.allocators ?? {});
    const bytes = dumps.flatMap((allocators) => IN_USE.map(([name, what]) => Number.parseInt(allocators[name]?.attrs[what]?.value ?? '0', 16)));
    return bytes.reduce((sum, size) => sum + size, 0) / 1024;
  };
  return { gpu: kib('GPU Process'), renderer: kib('Renderer') };
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
    const session = await browser.newBrowserCDPSession();
    const sizes = [];
    const used = [];
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
      // The first one takes memory for the trace itself.
      if (CYCLES >= MANY) {
        used.push(await inUseKib(session));
        console.log(`  in use: ${used.at(-1).gpu.toFixed(0)} KiB and ${used.at(-1).renderer.toFixed(0)} KiB`);
        assert.ok(used.at(-1).gpu > 1000 && used.at(-1).renderer > 1000, 'known');
      }
    }
    for (const kind of ['gpu', 'renderer']) {
      if (CYCLES >= MANY) {
        const [growth, resident] = [used, sizes].map((all) => slope(all.slice(20).map((size) => size[kind])));
        console.log(`${kind}: ${(100 * growth).toFixed(3)} % more in use in 100 cycles, ${(100 * resident).toFixed(3)} % resident`);
        assert.ok(growth <= SLOPE, `${kind} grows by ${(100 * growth).toFixed(2)} % in 100 cycles`);
      }
      const [warm, late] = [sizes.slice(0, WARM_UP), sizes.slice(WARM_UP)].map((part) => part.map((size) => size[kind]));
      // Allocators keep some of what was freed, sooner or later: the smallest after counts against the largest before.
      assert.ok(Math.min(...late.slice(-3)) <= (CYCLES >= MANY ? FRAGMENTS : GROWTH) * Math.max(...warm), `${kind}: ${sizes.map((size) => size[kind]).join(' ')}`);
    }
  } finally {
    await browser.close();
    await server.close();
  }
});
