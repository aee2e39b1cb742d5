/** What a file is, by its first bytes: types are what file names say, and downloads have none. */

/** Kinds of files that pictures and clips come in. */
export type FileKind = 'gif' | 'png' | 'y4m' | 'jpeg' | 'webp' | 'avif' | 'bmp' | 'svg' | 'mp4' | 'webm' | 'unknown';

/** In bytes: comments may stand before the picture of an SVG. */
const LOOK_BYTES = 1024;

/** Signatures at the start of a file; a dot is any byte. */
const SIGNATURES: [FileKind, RegExp][] = [
  ['gif', /^GIF8[79]a/],
  ['png', /^\x89PNG\r\n\x1a\n/],
  ['y4m', /^YUV4MPEG2 /],
  ['jpeg', /^\xff\xd8\xff/],
  ['webp', /^RIFF....WEBP/s],
  ['avif', /^....ftypavi[fs]/s],
  // Pictures of cameras: an image, and no film for all that it is boxes.
  ['unknown', /^....ftyp(hei|hev|mif|msf)/s],
  ['mp4', /^....(ftyp|moov|mdat|wide|free)/s],
  ['webm', /^\x1a\x45\xdf\xa3/],
  ['bmp', /^BM.{4}\0\0\0\0/s],
  ['svg', /^(\xef\xbb\xbf)?\s*(<\?xml.*?|<!--.*?|<!DOCTYPE svg.*?)*<svg[\s>]/is],
];

/** What `file` is. */
export async function fileKind(file: Blob): Promise<FileKind> {
  const start = Array.from(new Uint8Array(await file.slice(0, LOOK_BYTES).arrayBuffer()), (byte) => String.fromCharCode(byte)).join('');
  return SIGNATURES.find(([, signature]) => signature.test(start))?.[0] ?? 'unknown';
}
