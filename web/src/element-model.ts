/** The model of a `<kinora-video>`: looked for, loaded together with other elements of the page, given back. */

import { KinoraError } from './errors.js';
import type { VideoModel } from './model.js';
import type { LoadProgress } from './options.js';
import { leaseModel, type Lease } from './shared-model.js';
import { checkSupport, isLeftToProcessor, supportError, type SupportReport } from './support.js';

/** Hears of what happens before there is a model. */
export interface ModelListener {
  support(report: SupportReport): void;
  progress(progress: LoadProgress): void;
}

/** One model at a time. */
export class ModelUse {
  #lease: Lease | undefined;
  #early: AbortController | undefined;
  /** Where to read on if nothing can be made here. */
  help: SupportReport['help'] = [];

  constructor(readonly listener: ModelListener) {}

  /** The model, once it is loaded. */
  get model(): VideoModel | undefined {
    return this.#lease?.model;
  }

  /** Loads the model, unless it is here. */
  async acquire(name: string, signal: AbortSignal): Promise<VideoModel> {
    if (this.#lease) return this.#lease.model;
    const report = await checkSupport();
    signal.throwIfAborted();
    this.listener.support(report);
    const isUsable = report.ok || isLeftToProcessor(report, name);
    this.help = isUsable ? [] : report.help;
    const error = isUsable ? undefined : supportError(report);
    // The help is shown as links.
    if (error) throw new KinoraError(error.code, error.message);
    const lease = await leaseModel(name, (progress) => this.listener.progress(progress), signal);
    // Two calls may have waited for the model.
    if (this.#lease) lease.release();
    return (this.#lease ??= lease).model;
  }

  /** Loads the model before it is needed. If that fails, so will the generation, which says why. */
  preload(name: string): void {
    this.#early = new AbortController();
    this.acquire(name, this.#early.signal).catch(() => undefined);
  }

  /** Gives the model back. */
  release(): void {
    this.#early?.abort();
    this.#lease?.release();
    this.#lease = undefined;
  }

  /** Gives the model back, and lets nobody else have it: it is broken. */
  discard(): void {
    this.#lease?.discard();
    this.#lease = undefined;
  }
}
