/** `import type {} from 'kinora/jsx/svelte'`: `<kinora-video>` in Svelte 5. Types only. */

import type {} from 'svelte/elements';
import type { KinoraVideo } from '../element.js';
import type { KinoraVideoHandlers, KinoraVideoProps } from './props.js';

type Names = keyof KinoraVideoProps | keyof KinoraVideoHandlers<'on'>;

declare module 'svelte/elements' {
  interface SvelteHTMLElements {
    /** A prompt in, a clip on show. */
    'kinora-video': Omit<HTMLAttributes<KinoraVideo>, Names> & KinoraVideoProps & KinoraVideoHandlers<'on'>;
  }
}
