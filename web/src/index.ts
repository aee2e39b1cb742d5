/** Text to video in the browser. */

export type { EncodeOptions, StreamOptions, VideoCodec, VideoType } from './encode.js';
export { KinoraError, type ErrorCode } from './errors.js';
export type { ExpandFunction } from './expand.js';
export { Generation, type Latents } from './generation.js';
export { generateVideo, loadModel, VideoModel } from './model.js';
export { models, type CachedModel, type ModelEntry, type ModelPlan } from './models.js';
export { VERSION } from './options.js';
export type {
  CacheAdapter, DType, Estimate, FileEntry, GenerateOptions, GenerationEvent, GenerationMetadata, LoadOptions, LoadProgress, LogRecord, LoraSource, ModelInfo, ImageSource, ModelSource, ProgressPhase,
  Prompt, PromptParts, UnknownWord, VideoSource, Vocabulary,
} from './options.js';
export { checkSupport, type LanguageModelAvailability, type SupportCode, type SupportReport } from './support.js';
export { Video } from './video.js';
