// Any call to WebGPU of a clip in a size that was not made before fails, or the device is lost before it: an error of a kind or the same
// clip, and the next clip as ever.
// KINORA_TEST_FAULTS tries more of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ownPage, SLOWNESS } from './harness.mjs';

const FAULTS = Number(process.env.KINORA_TEST_FAULTS ?? 5);
/** A generation may take so long, failing or not. */
const LONGEST_MS = 5000 * SLOWNESS;
const OWN_CODES = { refused: ['device', 'out-of-memory', 'device-lost'], lost: ['device-lost'] };

const page = ownPage(async () => {
  const state = { calls: 0, plan: undefined, fired: '', device: undefined };
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    return (state.device = await request.apply(this, args));
  };
  // What a call does in place of its work where it is refused: what browsers do with one that is wrong or has no memory.
  const refusals = {
    createBuffer: [GPUDevice, (call, [descriptor]) => call([{ ...descriptor, size: 2 ** 52 }])],
    createBindGroup: [GPUDevice, (call, [descriptor]) => call([{ ...descriptor, entries: [] }])],
    createComputePipeline: [GPUDevice, (call, [descriptor]) => call([{ ...descriptor, compute: { ...descriptor.compute, entryPoint: 'none' } }])],
    createComputePipelineAsync: [GPUDevice, (call, [descriptor]) => call([{ ...descriptor, compute: { ...descriptor.compute, entryPoint: 'none' } }])],
    writeBuffer: [GPUQueue, (call, [buffer, , ...rest]) => call([buffer, 2 ** 40, ...rest])],
    submit: [GPUQueue, () => void state.device.createBuffer({ size: 2 ** 52, usage: GPUBufferUsage.COPY_DST })],
    mapAsync: [GPUBuffer, () => Promise.reject(new DOMException('refused by a test', 'OperationError'))],
  };
  for (const [name, [type, refuse]] of Object.entries(refusals)) {
    const original = type.prototype[name];
    type.prototype[name] = function (...args) {
      const call = (args) => original.apply(this, args);
      const { plan } = state;
      const number = state.calls++;
      if (!plan || number !== plan.call) return call(args);
      state.plan = undefined;
      state.fired = name;
      if (plan.fault === 'refused') return refuse(call, args);
      state.device.destroy();
      return call(args);
    };
  }
  const { loadModel } = await import('kinora');
  const model = await loadModel({ device: 'webgpu', worker: false });
  const tiny = { width: 64, height: 64, frames: 5, steps: 2, preview: false, seed: 1 };
  // Sizes that were not made before: all buffers and bindings of one are made anew, until it is made to its end.
  const sizes = [64, 96, 128, 160, 192].flatMap((width) => [64, 96, 128, 160].map((height) => ({ ...tiny, frames: 9, width, height })));
  /** The bytes of a clip, or the code of what went wrong. */
  const make = async (size) => {
    try {
      const video = await model.generate('a cat', size);
      return Array.from({ length: size.frames }, (_, at) => video.rgba(at)).join();
    } catch (error) {
      return { code: error?.code, message: String(error?.message ?? error) };
    }
  };
  const expected = await make(tiny);
  if (typeof expected !== 'string') throw new Error(`without a fault: ${JSON.stringify(expected)}`);
  state.calls = 0;
  await make(sizes.shift());
  globalThis.whole = state.calls;
  globalThis.attempt = async (call, fault) => {
    Object.assign(state, { calls: 0, plan: { call, fault }, fired: '' });
    const begun = performance.now();
    let made = await make(sizes[0]);
    const took = performance.now() - begun;
    state.plan = undefined;
    const next = await make(tiny);
    if (typeof made === 'string') made = made === (await make(sizes.shift())) ? 'made' : 'other bits';
    return { fired: state.fired, took, made, next: next === expected ? 'made' : next.code ? next : 'other bits' };
  };
}, { timeout: 300_000 });

// After a loss every kernel is compiled again, which software adapters do slowly.
for (const [fault, count] of [['refused', Math.ceil(0.8 * FAULTS)], ['lost', Math.floor(0.2 * FAULTS)]]) {
  test(`${count} calls of WebGPU: ${fault}`, { timeout: 3_600_000 }, async () => {
    const calls = await page.evaluate(() => whole);
    assert.ok(calls > 60, `${calls} calls`);
    const ends = {};
    for (let at = 0; at < count; at++) {
      // Odd steps from different places reach all parts of a generation.
      const call = (Math.floor((at * calls) / count) + 7 * at) % calls;
      const { fired, took, made, next } = await page.evaluate(([call, fault]) => attempt(call, fault), [call, fault]);
      const what = `call ${call}, ${fired}, ${fault}`;
      assert.ok(fired, `${what}: nothing failed`);
      assert.ok(made === 'made' || OWN_CODES[fault].includes(made.code), `${what}: ${JSON.stringify(made)}`);
      assert.equal(next, 'made', `${what}: ${JSON.stringify(next)} afterwards`);
      assert.ok(took < LONGEST_MS, `${what}: ${took} ms`);
      const end = `${fired}: ${made.code ?? made}`;
      ends[end] = (ends[end] ?? 0) + 1;
    }
    console.log(`${count} of ${calls} calls ${fault}: ${JSON.stringify(ends)}`);
  });
}
