/** What callers pass in and get told: options, prompts, events and progress, with units. */

import type { ExpandFunction } from './expand.js';
import type { Video } from './video.js';

/** Storage of weights on the GPU: `auto` is `f16`, which needs no GPU feature. Everything is computed in f32. */
export type DType = 'auto' | 'f16' | 'f32';

/** Stages of loading, in this order. */
export type ProgressPhase = 'plan' | 'download' | 'upload' | 'compile' | 'ready';

/** How far loading is. */
export interface LoadProgress {
  phase: ProgressPhase;
  /** 0 to 1 over all phases; never falls. */
  fraction: number;
  loadedBytes: number;
  totalBytes: number;
  /** Of the loaded bytes, those that came from this browser's own storage. */
  cachedBytes: number;
  /** Over the whole download so far. */
  bytesPerSecond?: number;
  /** Of the download. */
  etaSeconds?: number;
  /** The file in work. */
  file?: string;
  /** One line for people. */
  message: string;
}

/** One file of a model. */
export interface FileEntry {
  /** Path below the model's folder, e.g. `vae/config.json`. */
  path: string;
  /** Size; unknown until the server says it. */
  bytes?: number;
  /** SHA-256 of each 4 MiB of the file, as hexadecimal text. */
  sha256?: string[];
  /** Where to fetch it. */
  url: string;
}

/** A model as a list of files. */
export interface ModelSource {
  /** The name in messages and metadata. */
  name: string;
  /** Files that this browser keeps of another version are fetched again. */
  version?: string;
  /** `_class_name` of its `model_index.json`: the smaller WASM module runs the model if this is a class it has. */
  pipeline?: string;
  files: FileEntry[];
}

/** Bytes covered by one checksum. */
export const CHUNK_BYTES = 4 * 1024 * 1024;

/** The words of a model that lists them. */
export interface Vocabulary {
  /** What it can draw, each with its other names and what it does, as in "flying". */
  objects: { name: string; synonyms: string[]; motions: string[] }[];
  /** Backgrounds; the first stands where a prompt names none. */
  colors: string[];
}

/** Where files of models are kept instead of this origin's file system; a `Cache` of the browser is one. */
export interface CacheAdapter {
  /** The whole file at this address, if it is kept. */
  match(url: string): Promise<Response | undefined>;
  /** Keeps the file. */
  put(url: string, response: Response): Promise<unknown>;
  /** Forgets it: no model could be loaded from it. */
  delete(url: string): Promise<unknown>;
}

/** Something that may help to find out why a model behaves as it does. */
export interface LogRecord {
  level: 'info' | 'warn';
  /** One line for developers. */
  message: string;
}

/** An adaptation of a model: a LoRA file, in safetensors or GGUF. */
export interface LoraSource extends Omit<FileEntry, 'path' | 'url'> {
  url: string | URL;
  /** How much of it; default 1. */
  strength?: number;
  /** The alpha of a file that has none; default: its rank, which makes the scale 1. */
  alpha?: number;
}

/** How to load a model. */
export interface LoadOptions {
  /** `flipbook` comes with the package; else the address of a folder in diffusers layout, or files: those of such a folder, or weight files alone. */
  model?: 'flipbook' | (string & {}) | URL | ModelSource;
  /** Adaptations, which add up; {@link ModelInfo.loras} says what came of them. */
  lora?: LoraSource | readonly LoraSource[];
  dtype?: DType;
  /** `cpu` is the processor. `auto` takes it for the model that comes with the package where there is no GPU. */
  device?: 'auto' | 'webgpu' | 'cpu';
  /** Which kernels run on WebGPU, for measurements: those for GPUs (`gpu`) and for software adapters (`soft`) run anywhere. */
  kernels?: 'auto' | 'gpu' | 'soft';
  /** Default: true where the platform has workers. `false` blocks the thread in parts of up to some 100 ms. */
  worker?: boolean | (() => Worker);
  /** Replaces the WASM module that comes with the package. */
  wasm?: URL | string;
  /** Where files from other origins are kept; an adapter keeps all files of the model. */
  cache?: 'auto' | 'opfs' | 'none' | CacheAdapter;
  /** Fetches the model and the WASM, for example with headers of its own. Default: that of the platform. */
  fetch?: typeof fetch;
  /** Called with what happens inside; nothing is logged elsewhere. */
  onLog?(record: LogRecord): void;
  signal?: AbortSignal;
  /** Called often while loading. */
  onProgress?(progress: LoadProgress): void;
}

/** A picture of any size, or its address; the middle of it is used where its shape is another than the clip's. */
export type ImageSource = ImageBitmapSource | string | URL;

/**
 * A clip of any size: a GIF, APNG, WebP, MP4 or WebM file or its address, an element, one that was generated, or its pictures in
 * order. Other origins must allow it (CORS).
 */
export type VideoSource = Blob | string | URL | HTMLVideoElement | Video | readonly ImageSource[];

/** What the clip shows. */
export type Prompt = string | PromptParts;

/** A prompt of more than one part. */
export interface PromptParts {
  text?: string;
  /** What the clip must not show; works with `guidance` above 1. */
  negative?: string;
  /** The first frame. */
  image?: ImageSource;
  /** The last frame. */
  lastImage?: ImageSource;
  /** Pictures at frames of the clip, from 0. */
  keyframes?: Record<number, ImageSource>;
  /** A clip to change as the text says, or to extend, connect or loop; sampled at the model's frame rate. */
  video?: VideoSource | ImageSource;
  /** Make what comes after {@link video}, or what came before it. */
  extend?: 'forward' | 'backward';
  /** Make what lies between {@link video} and this clip. */
  connect?: VideoSource | ImageSource;
  /** Make what leads from the end of {@link video} to its start, so that it repeats without a cut. */
  loop?: boolean;
  /** What is to appear in the clip, for models that look at references (VACE). Taken whole, with margins. */
  references?: readonly ImageSource[];
  /** White where {@link video} may change; grows to the model's tokens. */
  mask?: VideoSource | ImageSource;
  /** How much of what is given stays: 1 all, 0 nothing. Default: 1, where a clip is changed 0.4, inside a mask 0. */
  strength?: number;
  /** Frames that new frames have in common with what they follow or lead to, rounded up to whole latent frames. Default: 5. */
  overlap?: number;
  /** What happens next, in order: texts that go on where the one before ends. */
  then?: readonly string[];
}

/** What to generate. Whatever is absent gets the model's default. */
export interface GenerateOptions {
  /** Pixels. */
  width?: number;
  /** Pixels. */
  height?: number;
  /** Shape of the picture, at the model's usual number of pixels, instead of `width` and `height`. */
  aspect?: '16:9' | '9:16' | '1:1' | '4:3' | '3:4' | '21:9';
  /** With `window` those of the whole clip, which then may be any number; 0 goes on until it is cancelled, for `frames()` of the generation. */
  frames?: number;
  /** Makes a long clip from windows of so many frames, each going on where the last one ended. */
  window?: number;
  /** 2 doubles width and height of the finished clip, by the model's own stage or else by Catmull-Rom. Default: 1. */
  upscale?: 1 | 2;
  /** 2 makes frames between those of the clip, by the model's own stage or else of pixels that match. `frames` counts those before. Default: 1. */
  interpolate?: 1 | 2;
  /** Seconds; chooses the nearest number of frames that can be made. Ignored if `frames` is given. */
  durationSeconds?: number;
  /** Frames per second of the finished clip; the motion is the model's own. */
  fps?: number;
  /** Denoising steps: more take longer and look better. */
  steps?: number;
  /** What leads from one noise level to the next: `euler`, `unipc`, `dpm++` … Default: the model's. */
  sampler?: string;
  /** Noise levels to start each step from, falling from 1, instead of `steps`. */
  sigmas?: readonly number[];
  /** Moves the noise schedule towards high noise, 0.01 to 100. */
  shift?: number;
  /** Above 1 follows the prompt more closely, at twice the work. */
  guidance?: number;
  /** How guidance grows while noise falls. Default: `constant`. */
  guidanceCurve?: 'constant' | 'linear' | 'power-cosine';
  /** Of the curve `power-cosine`: higher is later. Default: 4. */
  guidancePower?: number;
  /** Noise levels that are guided, from 0 (clip) to 1 (noise). Default: all. */
  guidanceInterval?: readonly [number, number];
  /** How strongly {@link PromptParts.references} and what else goes through a branch of its own steer, 0 to 10. Default: the model's. */
  conditioningScale?: number;
  /** Guides the first so many latent channels alone. Default: all. */
  guidanceChannels?: number;
  /**
   * Makes steps in which the model would change its prediction by less than this share (0.05 suits most models) from the step
   * before: faster, and a little different. Takes 8 steps or more. Default: all are computed.
   */
  stepCache?: number;
  /** How far guided steps get back the contrast they would have without guidance, 0 to 1. Default: 0. */
  guidanceRescale?: number;
  /** Colour behind transparent pictures, as `RRGGBB`. Default: white. */
  background?: string;
  /** 0 to 2^53 − 1; the same seed gives the same clip. Default: random. */
  seed?: number;
  /**
   * How the text is worded for a model that lists its words. By default they are found for what is written, and the event `prompt`
   * tells which. `false` takes the text as it is; `true` lets the seed choose the motion and the background that it leaves open;
   * `'browser'` asks the browser's own language model first, see `languageModel` of the support report; a function does as it likes.
   */
  expand?: boolean | 'browser' | ExpandFunction;
  /**
   * Show the clip as it is predicted after every so many steps, by default every second one: so many frames from the first to the last, of
   * which the first is decoded and the others are guessed. Default: the first alone.
   */
  preview?: false | { everySteps?: number; frames?: number };
  signal?: AbortSignal;
  /** Called with every event, for callers who do not loop over the generation. */
  onEvent?(event: GenerationEvent): void;
}

/** What happens during a generation. */
export type GenerationEvent =
  /** It begins; this is what the clip will be made from. */
  | ({ type: 'start' } & GenerationMetadata)
  /** Something that may surprise, such as a picture that had to be enlarged. */
  | { type: 'note'; text: string }
  /**
   * What the text was taken for, where the model lists its words: those used, as in "cat face, nodding, white", what it does not
   * know with what it draws instead, and what of the text it leaves out.
   */
  | { type: 'prompt'; used: string; unknown: UnknownWord[]; ignored: string[] }
  /** The prompt was read; `truncated` if it was longer than the model reads. */
  | { type: 'text'; tokens: number; truncated: boolean }
  /**
   * A step is done. The receiver owns the previews, of which `preview` is the first, and should `close()` each. Of a clip without an end
   * `fraction` stays 0, and `etaMs` infinite.
   */
  | { type: 'step'; step: number; steps: number; fraction: number; etaMs: number; preview?: ImageBitmap; previews: ImageBitmap[] }
  /** Denoising is done, pictures are being made. */
  | { type: 'decode'; frames: number; fraction: number }
  /** Pictures are being refined to so many, by the model's own stage or by what stands in for one. */
  | { type: 'refine'; stage: 'interpolate' | 'upscale'; by: 'model' | 'matching' | 'catmull-rom'; frames: number; fraction: number }
  | { type: 'done'; ms: number };

/** Something asked for that a model does not know, and the nearest that it does. */
export interface UnknownWord {
  word: string;
  nearest: string;
}

/** What a generation will take. */
export interface Estimate {
  /** From the text to the last frame, once kernels are compiled. */
  ms: number;
  /** On the GPU, the model included. */
  gpuBytes: number;
}

/** What a clip was made from; also written into files. */
export interface GenerationMetadata {
  /** As it was given to the model. */
  prompt: string;
  /** As it was written, where that is something else. */
  originalPrompt?: string;
  /** As in the event `prompt`, where there was one. */
  used?: string;
  unknown?: UnknownWord[];
  ignored?: string[];
  /** The parts of the prompt besides text; images and clips by their file names. */
  given?: Record<string, unknown>;
  negative: string;
  seed: number;
  model: string;
  /** Of the finished clip. */
  width: number;
  height: number;
  /** That were made, in all windows; a clip that continues another has more. */
  frames: number;
  /** Only where it is 2, and what did it. */
  upscale?: 2;
  upscaledBy?: 'model' | 'catmull-rom';
  interpolate?: 2;
  interpolatedBy?: 'model' | 'matching';
  /** Frames of each window, and how many there are, where the clip is made of windows. */
  window?: number;
  windows?: number;
  fps: number;
  steps: number;
  guidance: number;
  /** This and the following only where they are not the default. */
  sampler?: string;
  sigmas?: readonly number[];
  shift?: number;
  guidanceCurve?: GenerateOptions['guidanceCurve'];
  guidancePower?: number;
  guidanceInterval?: readonly [number, number];
  guidanceChannels?: number;
  stepCache?: number;
  guidanceRescale?: number;
  /** Version of this package. */
  kinora: string;
}

/** What a model is and what it does by default. */
export interface ModelInfo {
  name: string;
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
  frames: number;
  /** Frames per second. */
  fps: number;
  /** Possible numbers of frames are 1 more than multiples of this. */
  framesPerLatent: number;
  /** Width and height must be multiples of this, in pixels. */
  sizeMultiple: number;
  steps: number;
  guidance: number;
  /** Adapter and kernels in use. */
  device: string;
  /** Floating-point operations of one step of such a clip. */
  stepFlops: number;
  /** What came of each adaptation: tensors applied of those in the file, and names of those that were not. */
  loras: string[];
}

/** Version of this package. */
export const VERSION = '0.1.0';
