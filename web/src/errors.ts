/** The one error class of the package and its codes. */

/** What kind of failure it is. Codes never change; messages may. */
export type ErrorCode =
  /** The browser has no WebGPU. */
  | 'no-webgpu'
  /** WebGPU is there but no graphics adapter. */
  | 'no-adapter'
  /** The page was not loaded over HTTPS or from this machine. */
  | 'insecure-context'
  /** The GPU failed or refused a command. */
  | 'device'
  /** The GPU was reset or taken away; the next generation opens it again. */
  | 'device-lost'
  /** The GPU cannot hold it. */
  | 'out-of-memory'
  /** One buffer would be larger than the GPU allows. */
  | 'limit'
  /** An option has a wrong type or an impossible value. */
  | 'invalid-request'
  /** Images and clips that contradict each other or cannot be placed as asked. */
  | 'invalid-conditioning'
  /** An image or a clip is in no format that can be read, or damaged, or too large. */
  | 'unknown-input'
  | 'input-unreadable'
  | 'input-too-large'
  /** A clip where an image is needed. */
  | 'not-an-image'
  /** The model has no vocabulary to expand prompts with. */
  | 'expand-failed'
  /** The adapter cannot run the kernels that were asked for. */
  | 'unsupported-kernels'
  /** No model of this name. */
  | 'unknown-model'
  /** The model is in use, so that its files cannot be deleted. */
  | 'busy'
  /** A file of the model is missing. */
  | 'not-found'
  /** A file could not be downloaded. */
  | 'download'
  /** A file arrived incomplete or changed. */
  | 'corrupt-download'
  /** A weight file breaks the rules of its format. */
  | 'corrupt-weights'
  | 'unreadable-weight'
  /** The weights are a Python pickle, which this package does not read. */
  | 'pickle'
  /** A configuration file cannot be used. */
  | 'invalid-config'
  /** The model has a class that is not implemented. */
  | 'unknown-class'
  /** The weights and the configuration do not belong together. */
  | 'missing-tensor'
  | 'unexpected-tensors'
  | 'wrong-shape'
  | 'wrong-dtype'
  /** The tokenizer cannot be used. */
  | 'invalid-tokenizer'
  /** The computation produced NaN or infinity. */
  | 'non-finite'
  /** A weight is too large for f16: load it with `dtype: 'f32'`. */
  | 'weight-overflow'
  /** Kernels of a name that does not exist were asked for. */
  | 'unknown-kernels'
  /** No encoder of this browser writes the format. */
  | 'no-encoder'
  /** Encoding failed. */
  | 'encode'
  /** The format cannot hold the clip: its size, its rate, or nothing at all. */
  | 'bad-clip'
  | 'format-limit'
  /** The model or the clip was disposed before. */
  | 'disposed'
  /** The worker could not be started. */
  | 'worker'
  /** The WASM module could not be fetched, or the page's policy forbids it. */
  | 'wasm'
  /** A package that this one needs could not be imported. */
  | 'missing-package'
  /** A defect of this package: in its plans, in their data, or elsewhere. */
  | 'shape'
  | 'data'
  | 'internal';

/** How a {@link KinoraError} crosses from the worker. */
export interface ErrorData {
  code: ErrorCode;
  message: string;
  hint?: string | null;
}

/** Codes after which the same call may succeed. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set(['device-lost', 'download', 'corrupt-download', 'out-of-memory']);

/** Failures of the machine. Whatever else keeps a model from loading, its files are at fault. */
const NOT_THE_FILES: ReadonlySet<ErrorCode> = new Set(
  ['device', 'device-lost', 'out-of-memory', 'limit', 'no-adapter', 'no-webgpu', 'insecure-context', 'unsupported-kernels', 'internal'],
);

/** Whether a model with this failure should not be loaded from the same files again. */
export function blamesFiles(thrown: unknown): boolean {
  return !NOT_THE_FILES.has(errorData(thrown).code);
}

/** Every failure of this package, except aborts, which throw the reason of their signal. */
export class KinoraError extends Error {
  /** As in the sources, whatever minifiers make of it. */
  static override readonly name = 'KinoraError';
  override readonly name = 'KinoraError';
  /** What kind of failure, for programs. */
  readonly code: ErrorCode;
  /** What the user or developer can do about it. */
  readonly hint?: string;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;

  /** An error of the kind `code`. */
  constructor(code: ErrorCode, message: string, options: { hint?: string | null | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    if (options.hint) this.hint = options.hint;
    this.retryable = RETRYABLE.has(code);
  }
}

/** Anything that was thrown as an error of this package. */
export function kinoraError(thrown: unknown): KinoraError {
  return thrown instanceof KinoraError ? thrown : new KinoraError('internal', String(thrown), { cause: thrown });
}

/** What to send of anything that was thrown. */
export function errorData(thrown: unknown): ErrorData {
  if (thrown instanceof KinoraError) return { code: thrown.code, message: thrown.message, hint: thrown.hint ?? null };
  if (typeof thrown === 'object' && thrown !== null && 'code' in thrown && 'message' in thrown && typeof thrown.code === 'string') {
    return thrown as ErrorData;
  }
  return { code: 'internal', message: thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown) };
}

/** The error that {@link errorData} described. */
export function errorFromData({ code, message, hint }: ErrorData): KinoraError {
  // What reads JSON in the engine names the types of its language.
  const plain = message.replace(/\bexpected [iu](8|16|32|64|size)\b/g, 'expected a whole number').replace(/\bexpected f(32|64)\b/g, 'expected a number');
  return new KinoraError(code, plain, { hint });
}

/** A part of this package that few need, fetched when it is first needed. */
export function fetched<T>(part: Promise<T>): Promise<T> {
  return part.catch((cause: unknown) => {
    throw new KinoraError('download', `a part of this package cannot be fetched: ${String(cause)}`, { cause, hint: 'check the network' });
  });
}
