// The WASM on its way: what is told meanwhile, how it ends early, and what is said where it cannot come.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { launch, open, serve, web } from './harness.mjs';

const WASM = '/dist/wasm/core_bg.wasm';

let server, browser, page;
/** How the server answers for the WASM, and with which policy for the page. */
let answer, policy;
before(async () => {
  server = await serve(undefined, (_, response, path) => {
    if (path === WASM && answer) return answer(response) ?? true;
    if (policy && (path === '/' || path.endsWith('.js'))) response.setHeader('content-security-policy', policy);
    return false;
  });
  browser = await launch({ webgpu: false });
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  answer = policy = undefined;
  page = await open(browser, server.origin);
});

/** How loading fails, and after how long. */
function failure() {
  return page.evaluate(async () => {
    const { loadModel } = await import('kinora');
    return loadModel({ device: 'cpu' }).then(() => [], ({ code, message, hint }) => [code, message, hint]);
  });
}

test('progress is told while the WASM arrives, and an abort does not wait for it', { timeout: 60_000 }, async () => {
  const bytes = readFileSync(join(web, WASM));
  answer = (response) => {
    response.writeHead(200, { 'content-type': 'application/wasm', 'content-length': bytes.length });
    response.write(bytes.subarray(0, bytes.length / 2));
    // The rest never comes.
  };
  const { waited, name, seen } = await page.evaluate(async () => {
    const { loadModel } = await import('kinora');
    const abort = new AbortController();
    const seen = [];
    let aborted;
    const onProgress = ({ phase, fraction, message }) => {
      seen.push([phase, fraction, message]);
      if (fraction > 0.02 && !aborted) setTimeout(() => ((aborted = performance.now()), abort.abort()), 100);
    };
    const { name } = await loadModel({ device: 'cpu', signal: abort.signal, onProgress }).catch((error) => error);
    return { waited: performance.now() - aborted, name, seen };
  });
  assert.equal(name, 'AbortError');
  assert.ok(waited < 1000, `${waited} ms`);
  assert.deepEqual(seen[0].slice(0, 2), ['plan', 0]);
  const fractions = seen.map(([, fraction]) => fraction);
  assert.ok(fractions.every((fraction, index) => index === 0 || fraction >= fractions[index - 1]) && fractions.at(-1) < 0.05, String(fractions));
});

test('a missing, a wrong and a forbidden module have a code and a hint', { timeout: 60_000 }, async () => {
  answer = (response) => response.writeHead(404).end();
  assert.match(String(await failure()), /^wasm,the WASM module at http.* the server answered 404,serve dist\/wasm/);
  answer = (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>');
  assert.match(String(await failure()), /^wasm,.*is a web page/);
  answer = (response) => response.writeHead(200, { 'content-type': 'application/wasm' }).end('no module');
  assert.match(String(await failure()), /^wasm,the WASM module cannot be started: .*,.*a module of this version/);
  answer = undefined;
  policy = "script-src 'self' 'unsafe-inline'";
  page = await open(browser, server.origin);
  assert.match(String(await failure()), /^wasm,.*,the page's policy must allow it: script-src 'wasm-unsafe-eval'/);
  policy = "require-trusted-types-for 'script'";
  page = await open(browser, server.origin);
  assert.match(String(await failure()), /^worker,.*,the page asks for trusted types: pass `worker/);
});
