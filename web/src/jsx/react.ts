/** `import type {} from 'kinora/jsx/react'`: `<kinora-video>` in React 19. Types only. */

import type * as React from 'react';
import type { KinoraVideo } from '../element.js';
import type { KinoraVideoHandlers, KinoraVideoProps } from './props.js';

type Names = keyof KinoraVideoProps | keyof KinoraVideoHandlers<'on'>;

declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      /** A prompt in, a clip on show. */
      'kinora-video': Omit<React.HTMLAttributes<KinoraVideo>, Names> & React.RefAttributes<KinoraVideo> & KinoraVideoProps & KinoraVideoHandlers<'on'>;
    }
  }
}
