/** Kernels compiled ahead of time, so that loading shows their progress and the first clip starts at once. */

import { KinoraError } from './errors.js';

/** A kernel as the WASM describes it. */
export interface KernelSource {
  label: string;
  code: string;
  bindings: GPUBufferBindingType[];
}

/**
 * Compiles all kernels without blocking the GPU. While the returned pipelines are alive the browser gives the same ones to
 * the WASM, which can only ask for them synchronously.
 */
export async function compile(
  device: GPUDevice,
  kernels: KernelSource[],
  signal: AbortSignal,
  onCompiled: (done: number) => void,
): Promise<GPUComputePipeline[]> {
  let done = 0;
  const pipelines = kernels.map(async ({ label, code, bindings }) => {
    // The layouts that the WASM asks for: parameters have a dynamic offset.
    const entries = bindings.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type, hasDynamicOffset: type === 'uniform' } }));
    const layout = device.createPipelineLayout({ label, bindGroupLayouts: [device.createBindGroupLayout({ label, entries })] });
    const compute = { module: device.createShaderModule({ label, code }), entryPoint: 'main' };
    const pipeline = await device.createComputePipelineAsync({ label, layout, compute }).catch((cause: unknown) => {
      const hint = 'update the GPU driver, or choose another device';
      throw new KinoraError('device', `the device does not compile ${label}: ${String(cause)}`, { hint, cause });
    });
    onCompiled(++done);
    return pipeline;
  });
  const aborted = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  // What is compiled after an abort is of no use and harmless; nobody waits for it.
  return Promise.race([Promise.all(pipelines), aborted]);
}
