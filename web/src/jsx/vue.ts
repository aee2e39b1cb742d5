/** `import type {} from 'kinora/jsx/vue'`: `<kinora-video>` in the templates of Vue. Types only. */

import type { DefineComponent } from 'vue';
import type { KinoraVideoHandlers, KinoraVideoProps } from './props.js';

type Capitals<T> = { [K in keyof T as K extends `on${infer Event}` ? `on${Capitalize<Event>}` : never]: T[K] };

declare module 'vue' {
  interface GlobalComponents {
    /** A prompt in, a clip on show. */
    'kinora-video': DefineComponent<KinoraVideoProps & Capitals<KinoraVideoHandlers<'on'>>>;
  }
}
