/** Which models there are and of which files they consist. */

import { KinoraError } from './errors.js';
import { flipbook } from './models/flipbook.js';
import type { LoadOptions, ModelSource } from './options.js';

/** The files of the model that `model` names. */
export async function resolveModel(model: NonNullable<LoadOptions['model']>, _signal?: AbortSignal): Promise<ModelSource> {
  if (model === 'flipbook') return flipbook;
  if (typeof model === 'object' && !(model instanceof URL)) return model;
  throw new KinoraError('unknown-model', `unknown model \`${String(model)}\``, { hint: 'flipbook comes with the package' });
}
