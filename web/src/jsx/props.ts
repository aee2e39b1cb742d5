/** What `<kinora-video>` takes in templates, whichever framework they are for. Types only. */

import type { KinoraVideo, KinoraVideoAttributes, KinoraVideoEventMap } from '../element.js';

/** Attributes and properties of the element. */
export type KinoraVideoProps = { [K in keyof KinoraVideoAttributes]?: KinoraVideoAttributes[K] | undefined } & {
  given?: KinoraVideo['given'] | undefined;
  expand?: KinoraVideo['expand'] | undefined;
  video?: KinoraVideo['video'] | undefined;
};

/** Its events as attributes with this prefix. */
export type KinoraVideoHandlers<Prefix extends string> = {
  [K in keyof KinoraVideoEventMap as `${Prefix}${K}`]?: ((event: KinoraVideoEventMap[K]) => void) | undefined;
};
