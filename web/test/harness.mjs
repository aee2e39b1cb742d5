// A page in headless Chromium that sees the package as a site would: over HTTP, through an import map.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { after, before } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const web = dirname(dirname(fileURLToPath(import.meta.url)));
/** The bars are those of a machine with two free cores; one that does other things at the same time gets this much more. */
export const SLOWNESS = Number(process.env.KINORA_TEST_SLOWNESS ?? 1);

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm', '.css': 'text/css', '.png': 'image/png' };
const PAGE = `<!doctype html><meta charset="utf-8"><title>kinora</title><link rel="icon" href="data:,">
<script type="importmap">{"imports":{"kinora":"/dist/index.js","mediabunny":"/node_modules/mediabunny/dist/bundles/mediabunny.min.mjs"}}</script>
<canvas></canvas>`;

/** Serves `folder`, with `/` an empty page that can import `kinora`. `intercept(request, response)` may answer first. */
export async function serve(folder = web, intercept = () => false) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    if (intercept(request, response, path)) return;
    if (path === '/' && folder === web) return void response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE);
    const file = join(folder, path.endsWith('/') ? `${path}index.html` : path);
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) return void response.writeHead(404).end('not found');
    const { size, mtimeMs } = statSync(file);
    const headers = { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', etag: `"${size}-${Math.round(mtimeMs)}"` };
    const [asked, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const [start, end] = [Number(first ?? 0), last ? Math.min(Number(last), size - 1) : size - 1];
    const range = asked ? { 'content-range': `bytes ${start}-${end}/${size}` } : {};
    response.writeHead(asked ? 206 : 200, { ...headers, ...range, 'accept-ranges': 'bytes', 'content-length': end - start + 1 });
    if (request.method === 'HEAD') response.end();
    else if (size === 0) response.end();
    else createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, close: () => (server.closeAllConnections(), new Promise((closed) => server.close(closed))) };
}

export const EXECUTABLES = [process.env.KINORA_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export const FLAGS = ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run'];

/** Headless Chromium; with `webgpu` on its software adapter. */
export function launch({ webgpu = true, args = [] } = {}) {
  const executablePath = EXECUTABLES.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: install it or set KINORA_CHROMIUM');
  return chromium.launch({ executablePath, args: [...FLAGS, ...(webgpu ? ['--enable-unsafe-webgpu'] : []), ...args] });
}

/** Opens `address` and fails the test on anything the page complains about. */
export async function open(browser, address) {
  const page = await browser.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.problems.push(`${message.text()} ${message.location().url}`));
  await page.goto(address);
  return page;
}

/** A page in a browser of its own for all tests of a file; `prepare` runs in it first. */
export function ownPage(prepare, { timeout = 120_000 } = {}) {
  let server, browser, page;
  before(async () => {
    server = await serve();
    browser = await launch();
    page = await open(browser, server.origin);
    await page.evaluate(prepare);
  }, { timeout });
  after(async () => {
    await browser?.close();
    await server?.close();
  });
  return { evaluate: (...given) => page.evaluate(...given), get problems() { return page.problems; } };
}
