/**
 * `kinora/ai-sdk`: the models of this package as video models of the AI SDK, for its `experimental_generateVideo`. The interface is
 * that of version 4 of its specification, which `ai` 7 uses and still calls experimental; nothing of it is imported.
 */

import { orAborted } from './abort.js';
import { checkEnd } from './check.js';
import { KinoraError } from './errors.js';
import { loadModel, type VideoModel } from './model.js';
import type { GenerateOptions, ImageSource, LoadOptions, ModelInfo, PromptParts } from './options.js';

/** A file as the AI SDK hands it over. */
export type AiFile = { type: 'file'; mediaType: string; data: string | Uint8Array } | { type: 'url'; url: string };

/** What the AI SDK asks for. */
export interface AiVideoCall {
  prompt: string | undefined;
  n: number;
  aspectRatio: `${number}:${number}` | 'adaptive' | undefined;
  resolution: `${number}x${number}` | undefined;
  duration: number | undefined;
  fps: number | undefined;
  seed: number | undefined;
  image: AiFile | undefined;
  frameImages: { image: AiFile; frameType: 'first_frame' | 'last_frame' }[] | undefined;
  inputReferences: AiFile[] | undefined;
  generateAudio: boolean | undefined;
  /** Under `kinora` what {@link GenerateOptions} and {@link PromptParts} have besides. */
  providerOptions: Record<string, Record<string, unknown>>;
  abortSignal?: AbortSignal;
}

/** What cannot be done as asked. */
export type AiWarning = { type: 'unsupported' | 'compatibility'; feature: string; details: string };

/** What the AI SDK gets. */
export interface AiVideoResult {
  videos: { type: 'binary'; data: Uint8Array; mediaType: string }[];
  warnings: AiWarning[];
  /** Under `kinora.videos` what each clip was made from. */
  providerMetadata: { kinora: { videos: Record<string, never>[] } };
  response: { timestamp: Date; modelId: string; headers: undefined };
}

/** A video model of the AI SDK. */
export interface AiVideoModel {
  readonly specificationVersion: 'v4';
  readonly provider: 'kinora';
  readonly modelId: string;
  /** Made side by side. */
  readonly maxVideosPerCall: number;
  /** Makes `n` clips side by side. */
  doGenerate(call: AiVideoCall): Promise<AiVideoResult>;
}

/** Models by name; each is loaded once, when it is first used. */
export interface KinoraProvider {
  /** `flipbook`, which comes with the package, or the address of a folder in diffusers layout. */
  video(modelId?: string): AiVideoModel;
  /** Frees the GPU. */
  dispose(): Promise<void>;
}

/** More at once take more memory than they save time. */
const MOST_AT_ONCE = 4;

/** A provider whose models are loaded with `options`. */
export function createKinora(options: Omit<LoadOptions, 'model' | 'signal'> = {}): KinoraProvider {
  const loaded = new Map<string, Promise<VideoModel>>();
  const load = (modelId: string) => {
    const model = loaded.get(modelId) ?? loadModel({ ...options, model: modelId });
    loaded.set(modelId, model);
    // The next call gets a new try.
    model.catch(() => loaded.delete(modelId));
    return model;
  };
  return {
    video: (modelId = 'flipbook') => ({
      specificationVersion: 'v4',
      provider: 'kinora',
      modelId,
      maxVideosPerCall: MOST_AT_ONCE,
      doGenerate: async (call) => {
        // Nothing is loaded for nothing.
        call.abortSignal?.throwIfAborted();
        return generate(await orAborted(load(modelId), call.abortSignal), modelId, call);
      },
    }),
    async dispose() {
      const models = [...loaded.values()];
      loaded.clear();
      for (const model of models) await model.then((loaded) => loaded.dispose(), () => undefined);
    },
  };
}

/** The provider with default options. */
export const kinora: KinoraProvider = createKinora();

async function generate(model: VideoModel, modelId: string, call: AiVideoCall): Promise<AiVideoResult> {
  const warnings: AiWarning[] = [];
  const unsupported = (feature: string, details: string) => warnings.push({ type: 'unsupported', feature, details });
  if (call.generateAudio) unsupported('generateAudio', 'clips have no sound');
  if (call.inputReferences?.length) unsupported('inputReferences', 'give `image` or `frameImages`');
  const own: GenerateOptions & PromptParts = { ...call.providerOptions['kinora'] };
  const { text = call.prompt, negative, lastImage, keyframes, references, video, extend, connect, loop, mask, strength, overlap, then, ...more } = own;
  const frame = (type: string) => call.frameImages?.find(({ frameType }) => frameType === type)?.image;
  const parts: PromptParts = defined({
    ...{ text, negative, keyframes, references, video, extend, connect, loop, mask, strength, overlap, then },
    image: own.image ?? picture(call.image ?? frame('first_frame')),
    lastImage: lastImage ?? picture(frame('last_frame')),
  });
  const { image, ...rest } = more as GenerateOptions & PromptParts;
  const options: GenerateOptions = defined({
    ...size(call, model.info, warnings),
    ...{ durationSeconds: call.duration, fps: call.fps, preview: false as const, signal: call.abortSignal },
    ...rest,
  });
  checkEnd(options);
  const seed = call.seed ?? Math.floor(Math.random() * 2 ** 32);
  const jobs = Array.from({ length: call.n }, (_, index) => ({ ...options, prompt: parts, seed: seed + index }));
  const clips = await Promise.all(model.generateMany(jobs));
  const videos = [];
  for (const clip of clips) {
    const file = await clip.toBlob({ ...(call.abortSignal && { signal: call.abortSignal }) });
    videos.push({ type: 'binary' as const, data: new Uint8Array(await file.arrayBuffer()), mediaType: file.type });
  }
  const metadata = clips.map((clip) => JSON.parse(JSON.stringify(clip.metadata)) as Record<string, never>);
  return { videos, warnings, providerMetadata: { kinora: { videos: metadata } }, response: { timestamp: new Date(), modelId, headers: undefined } };
}

/** The nearest size that the model can make: of the resolution, or of the ratio at as many pixels as the model's own size has. */
function size(call: AiVideoCall, info: ModelInfo, warnings: AiWarning[]): { width: number; height: number } | undefined {
  const { resolution, aspectRatio } = call;
  if (!resolution && (!aspectRatio || aspectRatio === 'adaptive')) return undefined;
  const [across, down] = (resolution ?? aspectRatio!).split(/[x:]/).map(Number) as [number, number];
  if (!(across > 0 && down > 0)) throw new KinoraError('invalid-request', `invalid size: found ${resolution ?? aspectRatio}, expected 1280x720 or 16:9`);
  const scale = resolution ? 1 : Math.sqrt((info.width * info.height) / (across * down));
  const side = (wanted: number) => Math.max(1, Math.round((wanted * scale) / info.sizeMultiple)) * info.sizeMultiple;
  const [width, height] = [side(across), side(down)];
  const exact = resolution ? width === across && height === down : width * down === height * across;
  if (!exact) {
    const details = `${width}x${height}: sides are multiples of ${info.sizeMultiple}`;
    warnings.push({ type: 'compatibility', feature: resolution ? 'resolution' : 'aspectRatio', details });
  }
  return { width, height };
}

function picture(file: AiFile | undefined): ImageSource | undefined {
  if (!file) return undefined;
  if (file.type === 'url') return file.url;
  const bytes = typeof file.data === 'string' ? Uint8Array.from(atob(file.data), (char) => char.charCodeAt(0)) : file.data;
  return new Blob([bytes as Uint8Array<ArrayBuffer>], { type: file.mediaType });
}

function defined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as never;
}
