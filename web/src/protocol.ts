/** The messages between the page and the worker. Types only. */

import type { ErrorData } from './errors.js';
import type { GenerationEvent, LoadProgress, ModelInfo, ModelSource } from './options.js';

/** A request to generate, resolved and checked. */
export interface GenerateCall {
  prompt: string;
  negative: string;
  seed: number;
  width?: number;
  height?: number;
  frames?: number;
  steps?: number;
  guidance?: number;
  /** 0 for none. */
  previewEvery: number;
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
    parameters: { wasm: string; source: ModelSource; device: 'auto' | 'gpu' | 'soft' | 'cpu'; f32: boolean; cache: boolean };
    result: ModelInfo;
    event: LoadProgress;
  };
  generate: { parameters: GenerateCall; result: GeneratedClip; event: GenerationEvent };
  encode: { parameters: EncodeCall & { wasm: string }; result: Uint8Array; event: never };
}

/** Page to worker. */
export type ToWorker =
  | { [K in keyof Calls]: { id: number; type: K; parameters: Calls[K]['parameters'] } }[keyof Calls]
  /** End the call with this id. It still answers, with `aborted`. */
  | { id: number; type: 'abort' };

/** Worker to page. */
export type FromWorker =
  /** The first message: calls sent before it could be lost while the worker's script is still loading. */
  | { type: 'ready' }
  | { id: number; type: 'result'; result: unknown }
  | { id: number; type: 'event'; event: unknown }
  | { id: number; type: 'aborted' }
  | { id: number; type: 'error'; error: ErrorData }
  /** The worker is unusable from now on. */
  | { type: 'panic'; message: string };

/** A worker, or a port to one. */
export interface Port {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
}
