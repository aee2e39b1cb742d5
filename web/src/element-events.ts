/** The events of `<kinora-video>`. Types only. */

import type { KinoraError } from './errors.js';
import type { GenerationEvent, LoadProgress } from './options.js';
import type { SupportReport } from './support.js';
import type { Video } from './video.js';

/** What the element is doing: also its custom state, as in `kinora-video:state(generating)`. */
export type KinoraVideoState = 'empty' | 'loading' | 'generating' | 'ready' | 'error';

/** A step with its picture. The element closes the picture when the event is over: copy what you keep. */
export interface PreviewDetail {
  step: number;
  steps: number;
  preview: ImageBitmap;
}

/** The events of the element. None bubbles. */
export interface KinoraVideoEventMap {
  /** What this browser can do, before anything is downloaded. */
  support: CustomEvent<SupportReport>;
  'load-progress': CustomEvent<LoadProgress>;
  /** The size and the seed are known, the work begins. */
  start: CustomEvent<Extract<GenerationEvent, { type: 'start' }>>;
  /** What the prompt was taken for. */
  prompt: CustomEvent<Extract<GenerationEvent, { type: 'prompt' }>>;
  /** Something that may surprise. */
  note: CustomEvent<Extract<GenerationEvent, { type: 'note' }>>;
  step: CustomEvent<{ step: number; steps: number; fraction: number; etaMs: number }>;
  preview: CustomEvent<PreviewDetail>;
  /** The clip is on show. */
  done: CustomEvent<Video>;
  /** In a form: the file is there, see {@link KinoraVideo.value}. */
  change: Event;
  error: CustomEvent<KinoraError>;
  cancel: CustomEvent<undefined>;
}

/** What can be listened to: {@link KinoraVideoEventMap} beside the events of every element. */
export type KinoraVideoEvents = Omit<HTMLElementEventMap, keyof KinoraVideoEventMap> & KinoraVideoEventMap;
