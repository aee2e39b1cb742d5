/** `import type {} from 'kinora/jsx/solid'`: `<kinora-video>` in Solid. Types only. */

import type {} from 'solid-js/jsx-runtime';
import type { KinoraVideo } from '../element.js';
import type { KinoraVideoHandlers, KinoraVideoProps } from './props.js';

/** Solid sets properties only where it is told to. */
type Props = { [K in keyof KinoraVideoProps as `prop:${K}`]?: KinoraVideoProps[K] };

declare module 'solid-js/jsx-runtime' {
  namespace JSX {
    interface IntrinsicElements {
      /** A prompt in, a clip on show. */
      'kinora-video': Omit<JSX.HTMLAttributes<KinoraVideo>, keyof KinoraVideoProps> & KinoraVideoProps & Props & KinoraVideoHandlers<'on:'>;
    }
  }
}
