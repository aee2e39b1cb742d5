/** `import type {} from 'kinora/jsx/preact'`: `<kinora-video>` in Preact. Types only. */

import type { HTMLAttributes } from 'preact';
import type { KinoraVideo } from '../element.js';
import type { KinoraVideoHandlers, KinoraVideoProps } from './props.js';

type Names = keyof KinoraVideoProps | keyof KinoraVideoHandlers<'on'>;

declare module 'preact' {
  namespace JSX {
    interface IntrinsicElements {
      /** A prompt in, a clip on show. */
      'kinora-video': Omit<HTMLAttributes<KinoraVideo>, Names> & ClassAttributes<KinoraVideo> & KinoraVideoProps & KinoraVideoHandlers<'on'>;
    }
  }
}
