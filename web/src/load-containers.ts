/** mediabunny, fetched when it is first needed. Apart, so that its types are no part of this package's. */

import { KinoraError } from './errors.js';

/** What reads and writes films, fetched when it is first needed. */
export async function containers(): Promise<typeof import('./containers.js')> {
  try {
    return await import('./containers.js');
  } catch (cause) {
    const hint = 'without a bundler put it into the import map, as the README shows, or use `kinora/cdn`, which needs none';
    throw new KinoraError('missing-package', `the package mediabunny cannot be imported: ${String(cause)}`, { cause, hint });
  }
}

/** What {@link containers} writes, and where to. */
export type { OutputFormat, Target } from 'mediabunny';
