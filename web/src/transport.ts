/** Fetching an address, where the platform's `fetch` cannot. */

/** Fetchers by protocol, e.g. `file:`. */
const FETCHERS = new Map<string, (url: string) => Promise<Response>>();

/** Makes addresses with `protocol` go to `fetcher`. */
export function addTransport(protocol: string, fetcher: (url: string) => Promise<Response>): void {
  FETCHERS.set(protocol, fetcher);
}

/** As `fetch`. */
export function fetchAddress(url: string, init?: RequestInit): Promise<Response> {
  const protocol = /^[a-z]+:/i.exec(url)?.[0] ?? '';
  return FETCHERS.get(protocol)?.(url) ?? fetch(url, init);
}
