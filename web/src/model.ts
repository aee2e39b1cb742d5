/// <reference lib="esnext.disposable" preserve="true" />
/** Loading a model and generating with it. */

import { anObject, checkEnd, checkFunction, checkJob, checkNumbers, checkSignal, oneOf } from './check.js';
import { type Ask, Client, hasThread } from './client.js';
import { blamesFiles, errorFromData, fetched, KinoraError } from './errors.js';
import { type Asks, Generation } from './generation.js';
import { resolveModel } from './models.js';
import { flipbook } from './models/flipbook.js';
import type {
  Estimate, GenerateOptions, GenerationEvent, GenerationMetadata, ImageSource, LoadOptions, ModelInfo, ModelSource, Prompt, PromptParts, VideoSource, Vocabulary,
} from './options.js';
import type { Calls, GenerateCall, SourceCall } from './protocol.js';
import { checkSupport, isLeftToProcessor, supportError } from './support.js';
import { shown } from './transport.js';
import { Video, videoFrame, type EncoderSetup } from './video.js';
import { pipelines } from './wasm/pipelines.js';

/** The parts of a prompt that are one image or clip. */
const PARTS = ['image', 'lastImage', 'video', 'connect', 'mask'] as const;

/** Loads a model, by its name or with options, into a worker of its own. */
export async function loadModel(given: LoadOptions | string | URL = {}): Promise<VideoModel> {
  const options: LoadOptions = typeof given === 'string' || given instanceof URL ? { model: given } : anObject('options', given);
  const { model: asked = 'flipbook', dtype = 'auto', device = 'auto', kernels = 'auto', cache = 'auto', signal, onProgress, onLog, worker } = options;
  oneOf('dtype', dtype, ['auto', 'f16', 'f32']);
  oneOf('device', device, ['auto', 'webgpu', 'cpu']);
  oneOf('kernels', kernels, ['auto', 'gpu', 'soft']);
  if (typeof cache === 'string') oneOf('cache', cache, ['auto', 'opfs', 'none']);
  for (const name of ['fetch', 'onLog', 'onProgress'] as const) checkFunction(name, options[name]);
  checkSignal(signal);
  signal?.throwIfAborted();
  const report = device === 'cpu' ? undefined : await checkSupport();
  const byProcessor = !report || (device === 'auto' && kernels === 'auto' && isLeftToProcessor(report, asked));
  // Nothing is downloaded for nothing.
  const unsupported = byProcessor ? undefined : supportError(report);
  if (unsupported) throw unsupported;
  const adapter = typeof cache === 'string' ? undefined : cache;
  // What few bring is loaded for them alone.
  const bridge = adapter || options.fetch ? await fetched(import('./bridge.js')) : undefined;
  if (adapter) bridge?.checkCache(adapter);
  const keeper = adapter && bridge?.withCache(adapter, options.fetch ?? fetch);
  const by = keeper?.fetch ?? options.fetch;
  const model = await resolveModel(asked, signal, cache !== 'none' && !adapter, by);
  const { source, loras } = options.lora ? (await fetched(import('./lora.js'))).withLoras(model, options.lora) : { source: model, loras: [] };
  // The model of the package is on the page's own server, whose files the browser caches like the page itself.
  const keeps = cache === 'opfs' || (cache === 'auto' && model !== flipbook);
  const wasm = String(options.wasm ?? moduleFor(source, worker, loras.length > 0));
  const client = await Client.start(worker, onLog);
  const { port1, port2 } = new MessageChannel();
  try {
    const parameters = { wasm, source, loras, device: byProcessor ? 'cpu' as const : kernels, f32: dtype === 'f32', cache: keeps, ...(by && { fetcher: port2 }) };
    if (by) bridge?.serveFetch(port1, by);
    const loaded = await client.call('load', parameters, { signal, onEvent: onProgress, transfer: by ? [port2] : [] });
    return new VideoModel(client, loaded, { worker, wasm });
  } catch (error) {
    if (!signal?.aborted && blamesFiles(error)) await keeper?.forget(source.files.map(({ url }) => url));
    client.close(new KinoraError('disposed', 'the model could not be loaded'));
    throw error;
  } finally {
    port1.close();
  }
}

/** The smaller WASM module if it runs the model. A thread starts one module only, so that the page's own takes that for all models. */
function moduleFor({ pipeline = '', files }: ModelSource, worker: LoadOptions['worker'], isAdapted: boolean): URL {
  const isPlain = !isAdapted && files.every(({ path }) => !path.endsWith('.gguf'));
  const small = hasThread(worker) && pipelines.includes(pipeline) && isPlain;
  return small ? new URL('./wasm/core_bg.wasm', import.meta.url) : new URL('./wasm/families_bg.wasm', import.meta.url);
}

/** A loaded model. Generations run one after another. */
export class VideoModel implements AsyncDisposable {
  /** As in the sources, whatever minifiers make of it. */
  static readonly name = 'VideoModel';
  /** What the model is and does by default. */
  readonly info: ModelInfo;
  /** The words that the model knows, if it lists them. */
  readonly vocabulary: Vocabulary | undefined;
  readonly #client: Client;
  readonly #expansionTask: string;
  readonly #setup: EncoderSetup;

  /** @internal */
  constructor(client: Client, { info, expansionTask, vocabulary }: Calls['load']['result'], setup: EncoderSetup) {
    this.vocabulary = vocabulary ?? undefined;
    this.#client = client;
    this.info = info;
    this.#expansionTask = expansionTask;
    this.#setup = setup;
  }

  /** Starts a generation at once, or queues it behind the one that runs. */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    // What is no object is refused there, in the words of the promise.
    return this.generateMany([typeof options === 'object' ? { ...options, prompt } : (options as never)])[0]!;
  }

  /**
   * Several generations side by side, of any shapes, each what it would be alone. That is quicker than one after another where one
   * clip leaves the GPU idle, as small ones do on large GPUs; elsewhere it takes as long, and more memory. Those of windows come
   * last; only they have previews. Cancelling one cancels all.
   */
  generateMany(jobs: readonly (GenerateOptions & { prompt: Prompt })[]): Generation[] {
    const abort = new AbortController();
    try {
      jobs.forEach(checkJob);
    } catch (problem) {
      return jobs.map((job) => new Generation(job?.seed ?? 0, abort, () => Promise.reject(problem)));
    }
    const signal = AbortSignal.any([abort.signal, ...jobs.flatMap((job) => job.signal ?? [])]);
    const seeds = jobs.map(({ seed }) => seed ?? randomSeed());
    const listeners: ((event: GenerationEvent) => void)[] = [];
    // Asked for at once, latents cannot be missed.
    let holds = false;
    let start!: (ask: Ask) => void;
    const started = new Promise<Ask>((resolve) => (start = resolve));
    const call = async () => {
      const read = await Promise.all(jobs.map((job, index) => this.#expanded(job, seeds[index]!, signal, (text) => listeners[index]?.({ type: 'note', text }))));
      const parameters = { requests: read.map(([request]) => request), arrays: read.flatMap(([, arrays]) => arrays), holds };
      return this.#client.call('generate', parameters, { signal, onStart: start, onEvent: ([index, event]) => listeners[index]?.(event) });
    };
    const made = call();
    made.catch(() => start(async () => undefined));
    return jobs.map(({ onEvent }, index) => {
      let metadata: GenerationMetadata | undefined;
      let taken = 0;
      let before: Promise<unknown> = started;
      const asks: Asks = {
        more: () => {
          const next = before.then(async () => (await started)('more', 'frame'));
          before = next;
          return next.then((frame) => frame && videoFrame(frame, taken++, metadata!));
        },
        hold: async () => {
          holds = true;
          return (await started)('hold', 'latents');
        },
        decode: () => void started.then((ask) => ask('decode', 'latents')),
      };
      const run = async (emit: (event: GenerationEvent) => void) => {
        listeners[index] = (event) => {
          if (event.type === 'start') {
            const { type, ...rest } = event;
            metadata = rest;
          }
          emit(event);
          onEvent?.(event);
        };
        const clip = (await made)[index]!;
        if ('code' in clip) throw errorFromData(clip);
        // The first event of every generation.
        return new Video({ ...clip, fps: metadata!.fps }, metadata!, this.#setup, taken);
      };
      // Several clips come all at once.
      return new Generation(seeds[index]!, abort, run, jobs.length > 1 ? undefined : asks);
    });
  }

  /** What a generation will take here, measured by one step of it. Of the prompt only the number of texts counts. */
  async estimate(given: GenerateOptions & { prompt?: Prompt } = {}): Promise<Estimate> {
    const { expand, prompt, ...options } = anObject('options', given);
    checkNumbers(options);
    const then = typeof prompt === 'object' ? prompt.then : undefined;
    const [request] = await this.#request({ ...options, prompt: { text: '', ...defined({ then }) } }, 0, options.signal);
    return this.#client.call('estimate', request, { signal: options.signal });
  }

  /**
   * What a text means in the words of the model, as the event `prompt` tells it; nothing where it lists none. Waits for generations
   * that run.
   */
  async understand(text: string, { signal }: { signal?: AbortSignal } = {}): Promise<Extract<GenerationEvent, { type: 'prompt' }> | undefined> {
    return (await this.#client.call('understand', text, { signal })) ?? undefined;
  }

  /**
   * What the text encoder made of all texts that came lately, as a file: in a model's folder, as `text_states.safetensors`, it stands in
   * for the encoder. Waits for generations that run.
   */
  async textStates(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#client.call('states', 0);
  }

  /** Ends what runs and frees the GPU. Clips stay usable. */
  async dispose(): Promise<void> {
    this.#client.close(new KinoraError('disposed', 'the model was disposed', { hint: 'load it again' }));
  }

  /** As {@link dispose}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** {@link #request}, with the text that another writes instead of the model's vocabulary. */
  async #expanded(job: GenerateOptions & { prompt: Prompt }, seed: number, signal: AbortSignal, note: (text: string) => void) {
    const { prompt, expand, ...options } = job;
    if (expand !== 'browser' && typeof expand !== 'function') return this.#request(job, seed, signal);
    const parts: PromptParts = typeof prompt === 'string' ? { text: prompt } : prompt;
    const original = parts.text ?? '';
    const { expandPrompt } = await fetched(import('./expand.js'));
    const text = await expandPrompt(expand, [original, seed], this.#expansionTask, signal, note);
    // A function has the last word, a language model may use other words than the model's.
    const literal = typeof expand === 'function' ? { expand: false } : {};
    const [request, arrays] = await this.#request({ ...options, ...literal, prompt: { ...parts, text } }, seed, signal);
    return [{ ...request, options: { ...request.options, originalPrompt: original } }, arrays] as const;
  }

  /** What is asked for, and the bytes of its images and clips. */
  async #request(
    { prompt, preview, ...options }: GenerateOptions & { prompt: Prompt },
    seed: number,
    signal: AbortSignal | undefined,
  ): Promise<[GenerateCall, Uint8Array<ArrayBuffer>[]]> {
    const parts: PromptParts = typeof prompt === 'string' ? { text: prompt } : { ...prompt };
    const { text, negative, extend, loop, strength, overlap, then, keyframes, references = [] } = parts;
    const { width, height } = options;
    // What is left are options of the engine, which refuses what it does not know.
    const { expand, signal: _signal, onEvent: _onEvent, ...rest } = options;
    const sources: SourceCall[] = [];
    const arrays: Uint8Array<ArrayBuffer>[] = [];
    const add = async (part: string, source: ImageSource | VideoSource, isClip: boolean, frame?: number) => {
      const size = { width: width ?? this.info.width, height: height ?? this.info.height };
      const { readSource } = await fetched(import('./sources.js'));
      const [call, own] = await readSource(source, { part, ...size, fps: isClip ? this.info.fps : 0, signal });
      sources.push({ part, name: nameOf(source), ...call, ...defined({ frame }) });
      arrays.push(...own);
    };
    for (const part of PARTS) if (parts[part]) await add(part, parts[part], !/image/i.test(part));
    for (const [frame, image] of Object.entries(keyframes ?? {})) {
      if (!/^\d+$/.test(frame)) throw new KinoraError('invalid-request', `keyframes: found frame \`${frame}\`, expected whole numbers`);
      await add('keyframes', image, false, Number(frame));
    }
    for (const reference of references) await add('references', reference, false);
    const [previewEvery, previewFrames] = preview === false ? [0] : [preview?.everySteps, preview?.frames];
    const plain = { prompt: text, negative, extend, loop, strength, overlap, then, ...rest, seed, expand: expand as boolean | undefined, previewEvery, previewFrames };
    return [{ options: defined(plain), sources }, arrays];
  }
}

/** A picture or clip in metadata. */
function nameOf(source: ImageSource | VideoSource): string {
  if (typeof source === 'string' || source instanceof URL) return shown(String(source));
  const { name } = source as { name?: unknown };
  return typeof name === 'string' ? name : 'pixels';
}

/** Loads a model, makes one clip of a text or of what the options say, and disposes the model. */
export async function generateVideo(
  given: string | (GenerateOptions & LoadOptions & { prompt: Prompt; abortSignal?: AbortSignal }),
): Promise<{ video: Video }> {
  const options = typeof given === 'string' ? { prompt: given } : anObject('options', given);
  const { model: name, lora, dtype, device, kernels, worker, wasm, cache, fetch, onProgress, onLog, abortSignal, prompt, ...own } = options;
  const signal = own.signal ?? abortSignal;
  // Nobody waits for a model to hear of a slip of the pen.
  checkJob({ ...own, prompt, ...defined({ signal }) });
  checkEnd(own);
  const model = await loadModel(defined({ model: name, lora, dtype, device, kernels, worker, wasm, cache, fetch, onProgress, onLog, signal }));
  try {
    return { video: await model.generate(prompt, { ...own, ...defined({ signal }) }) };
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
