/** Loading a model and generating with it. */

import { Client } from './client.js';
import { KinoraError } from './errors.js';
import { Generation } from './generation.js';
import { resolveModel } from './models.js';
import { flipbook } from './models/flipbook.js';
import { VERSION, type GenerateOptions, type GenerationEvent, type GenerationMetadata, type LoadOptions, type ModelInfo, type Prompt } from './options.js';
import type { GenerateCall } from './protocol.js';
import { checkSupport } from './support.js';
import { Video, type EncoderSetup } from './video.js';

/** Loads a model into a worker of its own. */
export async function loadModel(options: LoadOptions = {}): Promise<VideoModel> {
  const { dtype = 'auto', device = 'auto', kernels = 'auto', cache = 'auto', signal, onProgress, worker } = options;
  oneOf('dtype', dtype, ['auto', 'f16', 'f32']);
  oneOf('device', device, ['auto', 'webgpu', 'cpu']);
  oneOf('kernels', kernels, ['auto', 'gpu', 'soft']);
  oneOf('cache', cache, ['auto', 'opfs', 'none']);
  signal?.throwIfAborted();
  if (device !== 'cpu') await requireGpu();
  const source = await resolveModel(options.model ?? 'flipbook', signal, cache !== 'none');
  // The model of the package is on the page's own server, whose files the browser caches like the page itself.
  const keeps = cache === 'opfs' || (cache === 'auto' && source !== flipbook);
  const wasm = String(options.wasm ?? new URL('./wasm/core_bg.wasm', import.meta.url));
  const client = await Client.start(worker);
  try {
    const parameters = { wasm, source, device: device === 'cpu' ? device : kernels, f32: dtype === 'f32', cache: keeps };
    const info = await client.call('load', parameters, { signal, onEvent: onProgress });
    return new VideoModel(client, info, { worker, wasm });
  } catch (error) {
    client.close(new KinoraError('disposed', 'the model could not be loaded'));
    throw error;
  }
}

/** Fails before anything is downloaded for nothing. */
async function requireGpu(): Promise<void> {
  const { ok, code, message, help } = await checkSupport();
  if (ok || code === 'ok' || code === 'software-adapter') return;
  throw new KinoraError(code === 'limits-too-small' ? 'limit' : code, message, { hint: help.map(({ text, url }) => `${text}: ${url}`).join('; ') });
}

/** A loaded model. Generations run one after another. */
export class VideoModel implements AsyncDisposable {
  /** What the model is and does by default. */
  readonly info: ModelInfo;
  readonly #client: Client;
  readonly #setup: EncoderSetup;

  /** @internal */
  constructor(client: Client, info: ModelInfo, setup: EncoderSetup) {
    this.#client = client;
    this.info = info;
    this.#setup = setup;
  }

  /** Starts a generation at once, or queues it behind the one that runs. */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    const abort = new AbortController();
    const seed = options.seed ?? randomSeed();
    return new Generation(seed, abort, async (emit) => {
      const call = this.#call(prompt, options, seed);
      const signal = options.signal ? AbortSignal.any([options.signal, abort.signal]) : abort.signal;
      const { info } = this;
      const { width = info.width, height = info.height, frames = info.frames, steps = info.steps, guidance = info.guidance } = call;
      const fps = options.fps ?? info.fps;
      const onEvent = (event: GenerationEvent) => {
        emit(event);
        options.onEvent?.(event);
      };
      // The caller gets the generation before its first event.
      await Promise.resolve();
      onEvent({ type: 'start', seed, width, height, frames, fps, steps });
      const clip = await this.#client.call('generate', call, { signal, onEvent });
      const { negative, prompt: text } = call;
      const metadata: GenerationMetadata =
        { prompt: text, negative, seed, model: info.name, width, height, frames, fps, steps, guidance, kinora: VERSION };
      return new Video({ ...clip, fps }, metadata, this.#setup);
    });
  }

  /** Ends what runs and frees the GPU. Clips stay usable. */
  async dispose(): Promise<void> {
    this.#client.close(new KinoraError('disposed', 'the model was disposed', { hint: 'load it again' }));
  }

  /** As {@link dispose}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** The nearest number of frames that the model can make. */
  #framesFor(wanted: number): number {
    const { framesPerLatent } = this.info;
    return 1 + framesPerLatent * Math.max(0, Math.round((wanted - 1) / framesPerLatent));
  }

  #call(prompt: Prompt, options: GenerateOptions, seed: number): GenerateCall {
    const { text, negative = '' } = typeof prompt === 'string' ? { text: prompt } : (prompt ?? { text: prompt });
    if (typeof text !== 'string' || typeof negative !== 'string') throw invalid('prompt', typeof text, 'a text, or `{ text, negative }`');
    const { width, height, steps, guidance, fps, durationSeconds, preview } = options;
    for (const [name, value] of Object.entries({ width, height, frames: options.frames, steps })) count(name, value, 1);
    count('seed', seed, 0);
    for (const [name, value] of Object.entries({ fps, durationSeconds })) positive(name, value);
    if (guidance !== undefined && !Number.isFinite(guidance)) throw invalid('guidance', guidance, 'a finite number, 1 for none');
    const everySteps = preview === false ? 0 : (preview?.everySteps ?? 2);
    count('preview.everySteps', everySteps, 0);
    const frames = options.frames ?? (durationSeconds === undefined ? undefined : this.#framesFor(durationSeconds * (fps ?? this.info.fps)));
    return { prompt: text, negative, seed, previewEvery: everySteps, ...defined({ width, height, frames, steps, guidance }) };
  }
}

/** Loads a model, makes one clip and disposes the model. */
export async function generateVideo(
  options: GenerateOptions & LoadOptions & { prompt: Prompt; abortSignal?: AbortSignal },
): Promise<{ video: Video }> {
  const signal = options.signal ?? options.abortSignal;
  const model = await loadModel({ ...options, ...defined({ signal }) });
  try {
    return { video: await model.generate(options.prompt, { ...options, ...defined({ signal }) }) };
  } finally {
    await model.dispose();
  }
}

/** 32 bits: exact in JavaScript and short enough to be typed again. */
function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}

function invalid(name: string, found: unknown, expected: string): KinoraError {
  return new KinoraError('invalid-request', `invalid ${name}: found ${String(found)}, expected ${expected}`);
}

function count(name: string, value: unknown, least: number): void {
  if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= least)) {
    throw invalid(name, value, `a whole number from ${least}`);
  }
}

function positive(name: string, value: unknown): void {
  if (value !== undefined && !(typeof value === 'number' && value > 0 && Number.isFinite(value))) throw invalid(name, value, 'a number above 0');
}

function oneOf(name: string, value: unknown, allowed: string[]): void {
  if (!allowed.includes(value as string)) throw invalid(name, value, allowed.join(', '));
}
