/** The messages between the page and the worker. Types only. */

import type { ErrorData } from './errors.js';
import type { Latents } from './generation.js';
import type { LoraSetting } from './lora.js';
import type { Estimate, GenerateOptions, GenerationEvent, LoadProgress, LogRecord, ModelInfo, ModelSource, PromptParts, Vocabulary } from './options.js';

/** An image or a clip of a request. */
export interface SourceCall {
  /** Which part of the prompt it is. */
  part: string;
  /** As metadata call it. */
  name: string;
  /** Of a keyframe. */
  frame?: number;
  /** Pixels; without a size the bytes are a file. */
  width?: number | undefined;
  height?: number | undefined;
  /** Default: the model's. */
  fps?: number;
  /** How many of {@link Calls.generate}'s arrays are its own: one for each frame, or one file. */
  arrays: number;
}

/** Options as the engine knows them, which checks them and decides what is absent. */
export interface EngineOptions
  extends Omit<PromptParts, 'text' | 'image' | 'lastImage' | 'keyframes' | 'references' | 'video' | 'connect' | 'mask'>,
    Omit<GenerateOptions, 'preview' | 'signal' | 'onEvent' | 'expand'> {
  prompt?: string;
  /** The prompt before it was expanded on the page. */
  originalPrompt?: string;
  seed: number;
  /** By the model's vocabulary; everything else is done before. */
  expand?: boolean;
  /** 0 for none. */
  previewEvery?: number;
  previewFrames?: number;
}

/** A request to generate. */
export interface GenerateCall {
  options: EngineOptions;
  sources: SourceCall[];
}

/** What a generation made. */
export interface GeneratedClip {
  width: number;
  height: number;
  fps: number;
  frames: Uint8Array[];
}

/** A clip to write as a file. */
export interface EncodeCall {
  format: 'gif' | 'apng' | 'mp4';
  width: number;
  height: number;
  fps: number;
  frames: Uint8Array[];
  description: string;
  software: string;
  comment: string;
}

/** What the worker can be asked: parameters, result, and what it reports meanwhile. */
export interface Calls {
  load: {
    parameters: {
      wasm: string;
      source: ModelSource;
      loras: LoraSetting[];
      device: 'auto' | 'gpu' | 'soft' | 'cpu';
      f32: boolean;
      cache: boolean;
      /** Leads to what fetches in place of the worker, see bridge.ts. */
      fetcher?: MessagePort;
    };
    /** And what to tell language models that expand prompts. */
    result: { info: ModelInfo; expansionTask: string; vocabulary: Vocabulary | null };
    event: LoadProgress;
  };
  /** Clips side by side; events say which one they are about. */
  generate: {
    parameters: { requests: GenerateCall[]; arrays: Uint8Array<ArrayBuffer>[]; holds: boolean };
    result: (GeneratedClip | ErrorData)[];
    event: [number, GenerationEvent];
  };
  understand: { parameters: string; result: Extract<GenerationEvent, { type: 'prompt' }> | null; event: never };
  states: { parameters: 0; result: Uint8Array<ArrayBuffer>; event: never };
  estimate: { parameters: GenerateCall; result: Estimate; event: never };
  encode: { parameters: EncodeCall & { wasm: string }; result: Uint8Array; event: never };
}

/** Page to worker. */
export type ToWorker =
  | { [K in keyof Calls]: { id: number; type: K; parameters: Calls[K]['parameters'] } }[keyof Calls]
  /** End the call with this id. It still answers, with `aborted`. */
  | { id: number; type: 'abort' }
  /**
   * Of the call's one clip: send the next frame by itself, and decode no further than that before another is asked for; send the latents,
   * and decode nothing; decode them.
   */
  | { id: number; type: 'more' | 'hold' | 'decode' };

/** Worker to page. */
export type FromWorker =
  /** The first message: calls sent before it could be lost while the worker's script is still loading. */
  | { type: 'ready' }
  | { id: number; type: 'result'; result: unknown }
  | { id: number; type: 'event'; event: unknown }
  /** What `more` asked for, which the result lacks, and what `hold` did. */
  | { id: number; type: 'frame'; value: Uint8Array }
  | { id: number; type: 'latents'; value: Latents }
  | { type: 'log'; record: LogRecord }
  | { id: number; type: 'aborted' }
  | { id: number; type: 'error'; error: ErrorData }
  /** The worker is unusable from now on. */
  | { type: 'panic'; message: string };

/** A worker, or a port to one. */
export interface Port {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
}
