/** The worker's side of the protocol: owns the WASM instance and the model, one generation at a time. */

import { KeptModel } from './cache.js';
import { compile, type KernelSource } from './compile.js';
import { DOWNLOADED, ENGINE, download } from './download.js';
import { startEngine } from './engine.js';
import { blamesFiles, errorData, fetched, KinoraError, type ErrorData } from './errors.js';
import { Frames } from './frames.js';
import type { GenerationEvent, LogRecord, ModelInfo } from './options.js';
import type { Calls, FromWorker, Port, ToWorker } from './protocol.js';
import { Cancel, Files, Model, attach, encode } from './wasm/core.js';

/** What the WASM reports while it generates. */
type EngineEvent =
  | Extract<GenerationEvent, { type: 'start' | 'prompt' | 'note' | 'text' }>
  | { type: 'step'; step: number; steps: number; preview?: Uint8Array<ArrayBuffer> }
  | { type: 'decode'; frames: number }
  | Omit<Extract<GenerationEvent, { type: 'refine' }>, 'fraction'>;

type Call = { [K in keyof Calls]: { id: number; type: K; parameters: Calls[K]['parameters'] } }[keyof Calls];

/** How long the news of a lost device may take, after its first symptom. */
const LOSS_NEWS_MS = 200;

/** Share of a generation before decoding, by time with the default model. */
const DENOISING = 0.7;

/** The same before a clip's frames are doubled, and its pixels. */
const REFINING = { interpolate: 0.8, upscale: 0.85 };

/** Answers calls that arrive at `port`; returns how to stop and free everything. */
export function serve(port: Port): () => void {
  const session = new Session(port);
  port.addEventListener('message', ({ data }) => session.receive(data as ToWorker));
  port.postMessage({ type: 'ready' } satisfies FromWorker);
  return () => session.close();
}

/** As the engine reads it. What JSON has no number for is a word there, and so of the wrong type. */
function json(value: unknown): string {
  const plain = (_: string, v: unknown) => (typeof v === 'bigint' || (typeof v === 'number' && !Number.isFinite(v)) ? String(v) : v);
  return JSON.stringify(value, plain);
}

/** The frames of a preview. Platforms without pictures, such as Node, get none. */
async function bitmaps(rgba: Uint8Array<ArrayBuffer>, width: number, height: number): Promise<ImageBitmap[]> {
  if (typeof createImageBitmap === 'undefined') return [];
  const strip = new ImageData(new Uint8ClampedArray(rgba.buffer), width);
  return Promise.all(Array.from({ length: strip.height / height }, (_, at) => createImageBitmap(strip, 0, at * height, width, height)));
}

class Session {
  readonly #port: Port;
  readonly #aborts = new Map<number, AbortController>();
  /** Of generations that run or wait. */
  readonly #frames = new Map<number, Frames>();
  #model: Model | undefined;
  #deviceLost = false;
  /** Only kept alive; see {@link compile}. */
  readonly #pipelines: GPUComputePipeline[] = [];
  /** The end of the queue: calls run one after another. */
  #tail: Promise<void> = Promise.resolve();

  constructor(port: Port) {
    this.#port = port;
  }

  receive(message: ToWorker): void {
    if (message.type === 'abort') {
      this.#aborts.get(message.id)?.abort();
      return;
    }
    if (!('parameters' in message)) return this.#frames.get(message.id)?.[message.type]();
    const abort = new AbortController();
    const { id } = message;
    this.#aborts.set(id, abort);
    if (message.type === 'generate') {
      const send: Frames['send'] = (answer) =>
        this.#send({ id, ...answer }, [(answer.type === 'frame' ? answer.value : answer.value.values).buffer as ArrayBuffer]);
      const { requests, holds } = message.parameters;
      const frames = new Frames(send, requests.some(({ options }) => options.frames === 0));
      if (holds) frames.hold();
      this.#frames.set(id, frames);
      abort.signal.addEventListener('abort', () => frames.drop());
    }
    const forget = () => (this.#aborts.delete(id), this.#frames.delete(id));
    this.#tail = this.#tail.then(() => this.#answer(message, abort.signal)).finally(forget);
  }

  /** What ending a worker does at once. */
  close(): void {
    for (const abort of this.#aborts.values()) abort.abort();
    void this.#tail.then(() => {
      (this.#model?.device() as GPUDevice | undefined)?.destroy();
      this.#model?.free();
      this.#model = undefined;
    });
  }

  async #answer(call: Call, signal: AbortSignal): Promise<void> {
    const { id } = call;
    try {
      signal.throwIfAborted();
      const [result, transfer] = await this.#run(call, signal);
      // A clip without an end has its end there.
      signal.throwIfAborted();
      this.#send({ id, type: 'result', result }, transfer);
    } catch (thrown) {
      if (signal.aborted) return this.#send({ id, type: 'aborted' });
      const error = await this.#explain(errorData(thrown));
      this.#send({ id, type: 'error', error });
    }
  }

  /** A lost device shows first as one refused command or another. */
  async #explain(error: ErrorData): Promise<ErrorData> {
    if (error.code !== 'device' && error.code !== 'device-lost') return error;
    const device = this.#model?.device() as GPUDevice | undefined;
    const settle = new Promise<undefined>((resolve) => setTimeout(resolve, LOSS_NEWS_MS));
    const lost = await Promise.race([device?.lost, settle]);
    if (!lost) return error;
    this.#deviceLost = true;
    this.#log('warn', `the GPU device was lost: ${lost.reason}`);
    const message = `the GPU device was lost: ${lost.message || lost.reason}`;
    return { code: 'device-lost', message, hint: 'try again: the next generation opens it again' };
  }

  async #run(call: Call, signal: AbortSignal): Promise<[unknown, Transferable[]]> {
    switch (call.type) {
      case 'load':
        return [await this.#load(call.id, call.parameters, signal), []];
      case 'generate': {
        const clips = await this.#generate(call.id, call.parameters, signal);
        return [clips, clips.flatMap((clip) => ('frames' in clip ? clip.frames.map((frame) => frame.buffer as ArrayBuffer) : []))];
      }
      case 'estimate':
        return [await this.#work(signal, (model, cancel) => model.estimate(json(call.parameters), cancel, () => performance.now())), []];
      case 'understand':
        return [await this.#work(signal, (model, cancel) => model.understand(call.parameters, cancel)), []];
      case 'states':
        return [await this.#work(signal, async (model) => model.textStates()), []];
      case 'encode': {
        const { wasm, frames, ...settings } = call.parameters;
        await this.#start(wasm, signal);
        const file = encode(frames, json(settings));
        return [file, [file.buffer as ArrayBuffer]];
      }
    }
  }

  async #start(wasm: string, signal: AbortSignal, onProgress?: (share: number) => void, by?: typeof fetch): Promise<void> {
    await startEngine(wasm, signal, onProgress, by);
    attach((message?: string) => (message === undefined ? new Promise((resolve) => setTimeout(resolve)) : this.#send({ type: 'panic', message })));
  }

  async #load(id: number, parameters: Calls['load']['parameters'], signal: AbortSignal): Promise<Calls['load']['result']> {
    const { wasm, source, loras, device, f32, cache, fetcher } = parameters;
    const by = fetcher && (await fetched(import('./bridge.js'))).fetchBy(fetcher);
    const begun = performance.now();
    const passed = (what: string) => this.#log('info', `${what} after ${Math.round(performance.now() - begun)} ms`);
    const report = (event: Calls['load']['event']) => this.#send({ id, type: 'event', event });
    const nothing = { phase: 'plan', loadedBytes: 0, totalBytes: 0, cachedBytes: 0, message: 'downloading the engine' } as const;
    report({ ...nothing, fraction: 0 });
    await this.#start(wasm, signal, (share) => report({ ...nothing, fraction: ENGINE * share }), by);
    passed('engine started');
    const files = new Files();
    const kept = cache ? await KeptModel.open(source) : undefined;
    const progress = await download(source, files, { kept, fetch: by, signal, onProgress: report });
    passed(`${progress.loadedBytes} bytes of ${source.name} here, ${progress.cachedBytes} of them kept before,`);
    report({ ...progress, phase: 'upload', fraction: DOWNLOADED, message: 'preparing the model' });
    // `load` takes `files` over and frees it.
    const settings = json({ label: source.name.replace(/\/$/, ''), device, f32, loras });
    const model = (this.#model = await Model.load(files, settings).catch(async (thrown: unknown) => {
      if (blamesFiles(thrown)) await kept?.drop();
      throw thrown;
    }));
    await kept?.loaded();
    signal.throwIfAborted();
    await this.#compile(model, signal, (done, total) => {
      const fraction = DOWNLOADED + (1 - DOWNLOADED) * (done / total);
      report({ ...progress, phase: 'compile', fraction, message: `compiling ${total} kernels` });
    });
    report({ ...progress, phase: 'ready', fraction: 1, message: 'ready' });
    const info = model.info() as ModelInfo;
    passed(`ready on ${info.device}`);
    return { info, expansionTask: model.expansionTask(), vocabulary: model.vocabulary() };
  }

  async #compile(model: Model, signal: AbortSignal, onCompiled?: (done: number, total: number) => void): Promise<void> {
    const device = model.device() as GPUDevice | undefined;
    if (!device) return;
    const kernels = model.kernels() as KernelSource[];
    onCompiled?.(0, kernels.length);
    this.#pipelines.push(...(await compile(device, kernels, signal, (done) => onCompiled?.(done, kernels.length))));
  }

  async #generate(id: number, { requests, arrays }: Calls['generate']['parameters'], signal: AbortSignal): Promise<Calls['generate']['result']> {
    const begun = performance.now();
    let denoisingFrom = begun;
    const starts: Extract<GenerationEvent, { type: 'start' }>[] = [];
    let events = Promise.resolve();
    const onEvent = (index: number, event: EngineEvent) => {
      const send = (event: GenerationEvent, transfer: Transferable[] = []) => this.#send({ id, type: 'event', event: [index, event] }, transfer);
      if (event.type === 'start') starts[index] = event;
      if (event.type === 'text') denoisingFrom = performance.now();
      const { width = 0, height = 0, frames = 0, windows = 1, upscale = 1 } = starts[index] ?? {};
      if (event.type === 'decode') {
        events = events.then(() => send({ ...event, fraction: (windows - 1 + DENOISING) / windows }));
      } else if (event.type === 'refine') {
        events = events.then(() => send({ ...event, fraction: REFINING[event.stage] }));
      } else if (event.type !== 'step') {
        send(event);
      } else {
        const { step, steps, preview } = event;
        // Windows that are done were decoded too.
        const each = steps / windows;
        const window = Math.ceil(step / each) - 1;
        // Of a clip without an end nothing is done, and all of it is left.
        const fraction = frames && (window + DENOISING * (step / each - window)) / windows;
        const elapsed = performance.now() - denoisingFrom;
        const plain = { type: 'step' as const, step, steps, fraction, etaMs: elapsed / fraction - elapsed };
        const pictures = preview ? bitmaps(preview, width / upscale, height / upscale) : [];
        // Still in order: each event waits for those before it.
        events = events.then(async () => {
          const previews = await pictures;
          send({ ...plain, ...(previews[0] && { preview: previews[0] }), previews }, previews);
        });
      }
    };
    const frames = this.#frames.get(id)!;
    const onLatents: Frames['latents'] = (values, shape) => frames.latents(values, shape);
    const onFrame: Frames['add'] = (frame) => frames.add(frame);
    const made = await this.#work(signal, (model, cancel) => model.generate(requests.map(json), arrays, cancel, onEvent, onLatents, onFrame));
    const clips = await Promise.all((made as Calls['generate']['result']).map((clip) => ('code' in clip ? this.#explain(clip) : clip)));
    const [only] = clips;
    // Of several the frames came with them.
    if (clips.length === 1 && only && 'frames' in only) only.frames = frames.drop();
    await events;
    const done: GenerationEvent = { type: 'done', ms: performance.now() - begun };
    clips.forEach((_, index) => this.#send({ id, type: 'event', event: [index, done] }));
    return clips;
  }

  /** Lets the model work until the signal says no, on a new device if the last one was lost. */
  async #work<T>(signal: AbortSignal, work: (model: Model, cancel: Cancel) => Promise<T>): Promise<T> {
    const model = this.#model;
    if (!model) throw new KinoraError('internal', 'a generation before a model');
    if (this.#deviceLost) {
      await model.reopen();
      this.#deviceLost = false;
      await this.#compile(model, signal);
    }
    const cancel = new Cancel();
    signal.addEventListener('abort', () => cancel.cancel());
    try {
      return await work(model, cancel);
    } finally {
      cancel.free();
    }
  }

  #log(level: LogRecord['level'], message: string): void {
    this.#send({ type: 'log', record: { level, message } });
  }

  #send(message: FromWorker, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer);
  }
}
