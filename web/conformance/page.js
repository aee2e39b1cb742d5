// Compares every kernel with its twin in this browser, with the kernels for GPUs and with those for software adapters.
import init, { Tester, version } from './wasm/core.js';

const element = (id) => document.getElementById(id);
const say = (text) => (element('status').textContent = text);

/** What the adapter says of itself. */
async function adapter() {
  const found = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!found) throw new Error('this browser has no WebGPU adapter');
  const { vendor, architecture, device, description } = found.info ?? {};
  const limits = {};
  for (const name of ['maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupStorageSize']) {
    limits[name] = found.limits[name];
  }
  return { adapter: { vendor, architecture, device, description }, features: [...found.features].sort(), limits };
}

async function run() {
  await init({ module_or_path: new URL('wasm/core_bg.wasm', import.meta.url) });
  const report = { kinora: version(), date: new Date().toISOString(), browser: navigator.userAgent, ...(await adapter()), cases: [] };
  const presets = ['gpu', 'soft'];
  const progress = element('progress');
  progress.hidden = false;
  for (const preset of presets) {
    const tester = await Tester.open(preset).catch((problem) => {
      report.cases.push({ preset, kernels: [], problem: String(problem) });
    });
    if (!tester) continue;
    report.device = tester.name();
    const count = tester.case_count();
    progress.max = presets.length * count;
    for (let at = 0; at < count; at++) {
      const kernels = tester.kernels_of(at);
      say(`${preset}: ${kernels.join(', ')}`);
      const begun = performance.now();
      const problem = await tester.compare(at).then(() => undefined, String);
      report.cases.push({ preset, kernels, milliseconds: Math.round(performance.now() - begun), ...(problem && { problem }) });
      progress.value += 1;
      // A frame for the page, between two cases.
      await new Promise((next) => setTimeout(next));
    }
    tester.free();
  }
  return report;
}

function show(report) {
  const wrong = report.cases.filter((one) => one.problem);
  element('verdict').textContent = wrong.length ? `${wrong.length} of ${report.cases.length} cases are wrong` : `${report.cases.length} cases, all right`;
  element('problems').replaceChildren(
    ...wrong.map(({ preset, problem }) => Object.assign(document.createElement('li'), { textContent: `${preset}: ${problem.split('\n')[0]}` })),
  );
  element('json').value = JSON.stringify(report);
  element('report').hidden = false;
}

element('run').addEventListener('click', async () => {
  element('run').disabled = true;
  try {
    show(await run());
    say('');
  } catch (problem) {
    say(problem instanceof Error ? problem.message : String(problem));
    element('run').disabled = false;
  }
});
element('copy').addEventListener('click', () => {
  element('json').select();
  navigator.clipboard?.writeText(element('json').value);
});
