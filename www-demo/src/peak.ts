/** How many multiply-adds this adapter does in a second, by a kernel that does nothing else. */

const LANES = 64;
const GROUPS = 256;
const ROUNDS = 256;
/** Vectors of four that each lane works on at once, so that no result is waited for. */
const CHAINS = 8;
/** Work grows until it takes this long, in ms. */
const ENOUGH_MS = 20;
const MOST_DOUBLINGS = 10;

const CODE = `
@group(0) @binding(0) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(1) var<uniform> rounds: vec4u;
@compute @workgroup_size(${LANES})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let a = vec4f(f32(id.x) * 1e-6 + 0.5);
  ${Array.from({ length: CHAINS }, (_, chain) => `var c${chain} = a + ${chain}.0;`).join(' ')}
  for (var round = 0u; round < rounds.x; round++) {
    ${Array.from({ length: CHAINS }, (_, chain) => `c${chain} = fma(c${chain}, a, a);`).join(' ')}
  }
  out[id.x] = ${Array.from({ length: CHAINS }, (_, chain) => `c${chain}`).join(' + ')};
}`;

/** Operations a second, two for each multiply-add; nothing without an adapter. */
export async function measurePeak(): Promise<number | undefined> {
  const adapter = await navigator.gpu?.requestAdapter();
  const device = await adapter?.requestDevice();
  if (!device) return undefined;
  try {
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module: device.createShaderModule({ code: CODE }) } });
    const out = device.createBuffer({ size: GROUPS * LANES * 16, usage: GPUBufferUsage.STORAGE });
    const uniform = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: out } }, { binding: 1, resource: { buffer: uniform } }] });
    let rate = 0;
    let rounds = ROUNDS;
    for (let doubling = 0; doubling < MOST_DOUBLINGS; doubling++, rounds *= 2) {
      device.queue.writeBuffer(uniform, 0, new Uint32Array([rounds, 0, 0, 0]));
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(GROUPS);
      pass.end();
      const begun = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      const ms = performance.now() - begun;
      rate = Math.max(rate, (2 * 4 * CHAINS * rounds * LANES * GROUPS) / (ms / 1e3));
      if (ms >= ENOUGH_MS) break;
    }
    return rate;
  } finally {
    device.destroy();
  }
}
