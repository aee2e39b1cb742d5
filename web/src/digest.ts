/** Checksums. */

/** Hexadecimal SHA-256; nothing where a page without HTTPS has no digests, and no storage either. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string | undefined> {
  if (!globalThis.crypto?.subtle) return undefined;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The same of a text. */
export function digestOf(text: string): Promise<string | undefined> {
  return sha256(new TextEncoder().encode(text));
}
