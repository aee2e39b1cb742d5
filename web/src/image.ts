/** Given pictures as the model takes them. */

import { KinoraError } from './errors.js';
import type { ImageSource } from './options.js';

/** RGBA bytes of the middle of `image`, scaled to cover `width` × `height` pixels; on white where it is transparent. */
export async function imagePixels(image: ImageSource, width: number, height: number): Promise<Uint8Array<ArrayBuffer>> {
  if (typeof createImageBitmap === 'undefined') {
    throw new KinoraError('invalid-request', 'images cannot be read here', { hint: 'this platform has no pictures; use a text prompt' });
  }
  const bitmap = await createImageBitmap(image).catch((cause: unknown) => {
    const hint = 'give a Blob, an image, a canvas or ImageData that is complete and not empty';
    throw new KinoraError('invalid-request', `invalid image: ${String(cause)}`, { cause, hint });
  });
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw new KinoraError('internal', 'no 2D context for an image');
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.fillStyle = 'white';
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
  return new Uint8Array(context.getImageData(0, 0, width, height).data.buffer);
}
