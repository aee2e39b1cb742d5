/** `kinora/react`: clips as state of a component. */

import { useCallback, useEffect, useRef, useState } from 'react';

import { checkEnd } from './check.js';
import { kinoraError, type KinoraError } from './errors.js';
import { closePreviews } from './generation.js';
import type { GenerateOptions, Prompt } from './options.js';
import { leaseModel, type Lease } from './shared-model.js';
import type { Video } from './video.js';

/** How to make clips. */
export interface UseVideoOptions {
  /** `flipbook`, which comes with the package, or the address of a folder in diffusers layout. All who name the same share it. */
  model?: string;
}

/** What a component knows of its clip. */
export interface VideoState {
  status: 'idle' | 'loading' | 'generating' | 'ready' | 'error';
  /** 0 to 1, of loading and generating together. */
  progress: number;
  /** The last clip; it stays while the next one is made. */
  video: Video | undefined;
  /** Of the last generation. */
  error: KinoraError | undefined;
}

/** The state of a clip, and how to change it. */
export interface UseVideo extends VideoState {
  /** Makes a clip; what runs is cancelled. Never rejects: without a clip the state says why. */
  generate(prompt: Prompt, options?: Omit<GenerateOptions, 'signal'>): Promise<Video | undefined>;
  /** Ends what runs. */
  cancel(): void;
}

/** Share of the progress that loading takes, where a model has to be loaded. */
const LOADING = 0.25;
const IDLE: VideoState = { status: 'idle', progress: 0, video: undefined, error: undefined };

/** A clip, made when `generate` is called. The model is loaded by then and freed with the last component that uses it. */
export function useVideo({ model = 'flipbook' }: UseVideoOptions = {}): UseVideo {
  const [state, setState] = useState(IDLE);
  const running = useRef<AbortController>(undefined);
  const lease = useRef<Lease>(undefined);

  const cancel = useCallback(() => running.current?.abort(new DOMException('the generation was cancelled', 'AbortError')), []);
  const release = useCallback(() => {
    cancel();
    lease.current?.release();
    lease.current = undefined;
  }, [cancel]);
  useEffect(() => release, [model, release]);

  const generate = useCallback<UseVideo['generate']>(
    async (prompt, options = {}) => {
      cancel();
      const abort = (running.current = new AbortController());
      const { signal } = abort;
      const change = (now: Partial<VideoState>) => {
        if (running.current === abort) setState((before) => ({ ...before, ...now }));
      };
      try {
        const from = lease.current ? 0 : LOADING;
        change({ status: 'loading', progress: 0, error: undefined });
        if (!lease.current) {
          const held = await leaseModel(model, ({ fraction }) => change({ progress: LOADING * fraction }), signal);
          // Two calls may have waited for it.
          if (lease.current) held.release();
          lease.current ??= held;
        }
        change({ status: 'generating', progress: from });
        const onEvent: GenerateOptions['onEvent'] = (event) => {
          if (event.type === 'step' || event.type === 'decode' || event.type === 'refine') change({ progress: from + (1 - from) * event.fraction });
          if (options.onEvent) options.onEvent(event);
          // Nobody else has it.
          else closePreviews(event);
        };
        checkEnd(options);
        const video = await lease.current.model.generate(prompt, { ...options, preview: options.onEvent ? (options.preview ?? {}) : false, signal, onEvent });
        change({ status: 'ready', progress: 1, video });
        return video;
      } catch (thrown) {
        if (signal.aborted) {
          setState((before) => (running.current === abort ? { ...before, status: before.video ? 'ready' : 'idle', progress: 0 } : before));
        } else {
          change({ status: 'error', error: kinoraError(thrown) });
        }
        return undefined;
      }
    },
    [model, cancel],
  );
  return { ...state, generate, cancel };
}
