/** What this browser and machine can do, as data. */

import { KinoraError } from './errors.js';
import { flipbookNeeds } from './models/flipbook.js';

/** Whether the browser's language model is there; `unavailable` also in browsers that have none. */
export type LanguageModelAvailability = 'unavailable' | 'downloadable' | 'downloading' | 'available';

/** What is used of the Prompt API (webmachinelearning.github.io/prompt-api), which only windows have. */
interface PromptApi {
  availability(options: object): Promise<LanguageModelAvailability>;
  create(options: object): Promise<{ prompt(text: string, options: object): Promise<string>; destroy(): void }>;
}

const ENGLISH_TEXT = [{ type: 'text', languages: ['en'] }];
/** The same wherever the API is asked, because its answers depend on them. */
export const LANGUAGES = { expectedInputs: ENGLISH_TEXT, expectedOutputs: ENGLISH_TEXT };

export const promptApi = () => (globalThis as { LanguageModel?: PromptApi }).LanguageModel;

/** Never throws and downloads nothing. */
export async function languageModelAvailability(): Promise<LanguageModelAvailability> {
  try {
    return (await promptApi()?.availability(LANGUAGES)) ?? 'unavailable';
  } catch {
    // Forbidden to this frame.
    return 'unavailable';
  }
}

/** Why generation works or does not. */
export type SupportCode = 'ok' | 'software-adapter' | 'insecure-context' | 'no-webgpu' | 'no-adapter' | 'limits-too-small';

/** The answer of {@link checkSupport}. */
export interface SupportReport {
  /** Whether a clip can be made on a GPU, be it a slow one. */
  ok: boolean;
  /** Whether the model that comes with the package can be run by the processor instead, as `device: 'auto'` does. */
  processor: boolean;
  code: SupportCode;
  /** One sentence for people. */
  message: string;
  /** What can be done about it. */
  help: { text: string; url: string }[];
  adapter?: { vendor: string; architecture: string; fallback: boolean };
  limits?: Record<string, number>;
  features: string[];
  /** Video codecs that this browser encodes; without any, MP4 is written uncompressed. */
  encoders: string[];
  /** The browser's own language model, for `expand: 'browser'`. */
  languageModel: LanguageModelAvailability;
  storage?: { quota: number; usage: number; persisted: boolean };
}

/** Of the model that comes with the package at its default size. */
const NEEDED_BINDING_BYTES = flipbookNeeds.needs.bufferBytes;

const HELP = {
  browsers: { text: 'Which browsers have WebGPU', url: 'https://caniuse.com/webgpu' },
  troubleshooting: { text: 'Chrome: why is there no adapter?', url: 'https://developer.chrome.com/docs/web-platform/webgpu/troubleshooting-tips' },
  node: { text: 'WebGPU in Node, by Dawn', url: 'https://github.com/dawn-gpu/node-webgpu' },
  secure: { text: 'Secure contexts', url: 'https://developer.mozilla.org/docs/Web/Security/Secure_Contexts' },
};

/** A common profile of each codec that containers take. */
const CODECS = { avc: 'avc1.42001f', vp9: 'vp09.00.10.08', av1: 'av01.0.04M.08', vp8: 'vp8' };

/** Looks at this browser. Never throws and downloads nothing. */
export async function checkSupport(): Promise<SupportReport> {
  const [encoders, languageModel] = await Promise.all([usableEncoders(), languageModelAvailability()]);
  const report = (code: SupportCode, message: string, help: SupportReport['help'] = []): SupportReport =>
    ({ ok: code === 'ok' || code === 'software-adapter', processor: code !== 'insecure-context', code, message, help, features: [], encoders, languageModel });
  if (globalThis.isSecureContext === false) {
    return report('insecure-context', 'WebGPU needs a page served over HTTPS or from localhost.', [HELP.secure]);
  }
  const gpu = globalThis.navigator?.gpu;
  const inNode = Boolean(globalThis.process?.versions?.node);
  if (!gpu && inNode) return report('no-webgpu', 'Node has no WebGPU of its own: import `kinora/node` and install the package `webgpu`.', [HELP.node]);
  if (!gpu) return report('no-webgpu', 'This browser has no WebGPU, or it is switched off.', [HELP.browsers]);
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter && inNode) {
    return report('no-adapter', 'Node found no graphics adapter: Dawn needs a Vulkan driver that it accepts; that of Chromium (SwiftShader) needs no GPU.', [HELP.node]);
  }
  if (!adapter) {
    return report('no-adapter', 'This browser has WebGPU but found no graphics adapter it trusts.', [HELP.troubleshooting, HELP.browsers]);
  }
  const info = adapter.info;
  const fallback = info?.isFallbackAdapter ?? false;
  const binding = adapter.limits.maxStorageBufferBindingSize;
  const verdict =
    binding < NEEDED_BINDING_BYTES
      ? report('limits-too-small', `This adapter binds at most ${binding} bytes at once; ${NEEDED_BINDING_BYTES} are needed.`, [HELP.troubleshooting])
      : fallback
        ? report('software-adapter', 'This machine has no GPU the browser can use; clips are made by the processor.', [HELP.troubleshooting])
        : report('ok', 'This browser can make clips.');
  const limits: Record<string, number> = {};
  for (const name of ['maxStorageBufferBindingSize', 'maxBufferSize', 'maxComputeInvocationsPerWorkgroup'] as const) limits[name] = adapter.limits[name];
  const storage = await storageReport();
  return {
    ...verdict,
    adapter: { vendor: info?.vendor ?? '', architecture: info?.architecture ?? '', fallback },
    limits,
    features: [...adapter.features],
    ...(storage && { storage }),
  };
}

/** Whether a model is left to the processor: the one of the package is small enough, and there is no GPU or only software in its place. */
export function isLeftToProcessor({ code, processor }: SupportReport, model: unknown): boolean {
  return code !== 'ok' && processor && model === 'flipbook';
}

/** Why nothing can be generated here, where that is so. */
export function supportError({ ok, code, message, help }: SupportReport): KinoraError | undefined {
  if (ok || code === 'ok' || code === 'software-adapter') return undefined;
  return new KinoraError(code === 'limits-too-small' ? 'limit' : code, message, { hint: help.map(({ text, url }) => `${text}: ${url}`).join('; ') });
}

async function usableEncoders(): Promise<string[]> {
  const supported = async (codec: string) => {
    try {
      return (await VideoEncoder.isConfigSupported({ codec, width: 128, height: 128 })).supported;
    } catch {
      // No WebCodecs, or a codec that it never heard of.
      return false;
    }
  };
  const names = await Promise.all(Object.entries(CODECS).map(async ([name, codec]) => ((await supported(codec)) ? [name] : [])));
  return names.flat();
}

async function storageReport(): Promise<SupportReport['storage']> {
  try {
    const { quota = 0, usage = 0 } = await navigator.storage.estimate();
    return { quota, usage, persisted: await navigator.storage.persisted() };
  } catch {
    // Opaque origins and some private windows have no storage; that is the report.
    return undefined;
  }
}
