// Serves the built demo page as a static host would, with the strict Content-Security-Policy as a header too.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'www-demo', 'dist');
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.webp': 'image/webp',
  '.mp4': 'video/mp4',
};
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/** Serves `folder` on this machine only; port 0 chooses a free one. `intercept(path, response)` may answer first. */
export async function serveDemo({ port = 0, folder = DIST, intercept = () => false } = {}) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    if (intercept(path, response)) return;
    const file = join(folder, path.endsWith(sep) ? `${path}index.html` : path);
    if (!file.startsWith(folder + sep) || !existsSync(file) || !statSync(file).isFile()) {
      return void response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
    }
    const hashed = path.startsWith(`${sep}assets${sep}`);
    response.writeHead(200, {
      'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
      'content-length': statSync(file).size,
      'content-security-policy': POLICY,
      'x-content-type-options': 'nosniff',
      'cache-control': hashed ? 'public, max-age=31536000, immutable' : 'no-cache',
    });
    createReadStream(file).pipe(response);
  });
  await new Promise((listening, failed) => server.once('error', failed).listen(port, '127.0.0.1', listening));
  const close = () => (server.closeAllConnections(), new Promise((closed) => server.close(closed)));
  return { origin: `http://localhost:${server.address().port}`, close };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.env.PORT ?? 8080);
  const taken = (error) => {
    console.error(`port ${port} cannot be used (${error.code}); choose another, for example PORT=${port + 1}`);
    process.exit(1);
  };
  const { origin } = await serveDemo({ port }).catch(taken);
  console.log(`the demo page is at ${origin}/ (Ctrl-C ends it)`);
}
