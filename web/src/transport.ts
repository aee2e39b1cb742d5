/** Fetching an address, where the platform's `fetch` cannot or may not, and naming it in messages. */

import { KinoraError, type ErrorCode } from './errors.js';

/** In characters. */
const LONGEST_SHOWN = 160;

/** Fetchers by protocol. */
const FETCHERS = new Map<string, (url: string) => Promise<Response>>([['data:', fromData]]);

/** Makes addresses with `protocol`, e.g. `file:`, go to `fetcher`. */
export function addTransport(protocol: string, fetcher: (url: string) => Promise<Response>): void {
  FETCHERS.set(protocol, fetcher);
}

/** As `fetch`, or as what stands in for it. */
export function fetchAddress(url: string, init?: RequestInit, by: typeof fetch = fetch): Promise<Response> {
  const protocol = /^[a-z]+:/i.exec(url)?.[0].toLowerCase() ?? '';
  return FETCHERS.get(protocol)?.(url) ?? by(url, init);
}

/**
 * Bundlers turn small files into `data:` addresses, and strict policies keep `fetch` from these: what is in the address already
 * needs no connection.
 */
async function fromData(url: string): Promise<Response> {
  const comma = url.indexOf(',');
  const [type = ''] = url.slice('data:'.length, comma).split(/;base64$/i);
  const text = decodeURIComponent(url.slice(comma + 1));
  const bytes = /;base64$/i.test(url.slice(0, comma)) ? Uint8Array.from(atob(text), (char) => char.charCodeAt(0)) : new TextEncoder().encode(text);
  return new Response(bytes, { headers: { 'content-type': type || 'text/plain', 'content-length': String(bytes.byteLength) } });
}

/** An address as messages show it: without a file that may be inside of it. */
export function shown(url: string | URL): string {
  const text = String(url);
  if (text.length <= LONGEST_SHOWN) return text;
  const head = text.startsWith('data:') ? text.slice(0, Math.min(text.indexOf(',') + 1, LONGEST_SHOWN)) : text.slice(0, LONGEST_SHOWN);
  return `${head}… (${text.length} characters)`;
}

/** Whether the server sends a page for people. */
export const isPage = ({ headers }: Response): boolean => /^text\/html\b/i.test(headers.get('content-type') ?? '');

/** Throws if what the server sends is a page for people: many do so for whatever they do not have. */
export function refusePages(response: Response, url: string | URL, code: ErrorCode): void {
  if (!isPage(response)) return;
  void response.body?.cancel();
  const hint = 'the server sends its page for missing files, perhaps with status 200: put the file there';
  throw new KinoraError(code, `${shown(url)} is a web page (text/html), expected a file`, { hint });
}
