/** Adaptations as files of the model that they adapt; imported by those that have some. */

import { KinoraError } from './errors.js';
import type { LoraSource, ModelSource } from './options.js';

/** How a file adapts the model. */
export interface LoraSetting {
  path: string;
  strength: number;
  alpha?: number;
}

/** The model with its adaptations among its files. */
export function withLoras(source: ModelSource, given: LoraSource | readonly LoraSource[] = []): { source: ModelSource; loras: LoraSetting[] } {
  const list = (Array.isArray as (value: unknown) => value is readonly LoraSource[])(given) ? given : [given];
  const loras: LoraSetting[] = [];
  const files = list.map((lora) => {
    const { url, strength = 1, alpha, ...rest } = lora ?? {};
    const usable = (typeof url === 'string' || (url as unknown) instanceof URL) && Number.isFinite(strength) && (alpha === undefined || alpha > 0);
    if (!usable) throw new KinoraError('invalid-request', 'invalid lora: expected `{ url, strength?, alpha? }` with a number and one above 0');
    // The address is in the path, so that another file is never taken for the one that this browser keeps.
    const path = `lora/${encodeURIComponent(String(url))}`;
    loras.push({ path, strength, ...(alpha !== undefined && { alpha }) });
    return { ...rest, path, url: String(url) };
  });
  return { source: files.length ? { ...source, files: [...source.files, ...files] } : source, loras };
}
