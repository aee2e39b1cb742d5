// The list of error codes is the union of what can reach a page.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { web } from './harness.mjs';

/** Codes of files, programs and bounds of memory, which a page has none of, and of aborts, which have their own reason. */
const NATIVE = new Set(['cancelled', 'encoder-failed', 'interrupted', 'io', 'memory', 'needs-file', 'unknown-format']);

test('every code of the runtime and the encoders is in the type', () => {
  const listed = new Set(readFileSync(join(web, 'src/errors.ts'), 'utf8').match(/(?<=\| ')[a-z0-9-]+(?=')/g));
  const codes = ['kernels', 'runtime', 'media'].flatMap((name) => {
    const source = readFileSync(join(web, `../crates/${name}/src/error.rs`), 'utf8');
    return source.match(/(?<==> ")[a-z0-9-]+(?=")/g) ?? [];
  });
  assert.ok(codes.length > 20, `${codes.length} codes found`);
  const missing = codes.filter((code) => !listed.has(code) && !NATIVE.has(code) && !/^(in|out)put-|unknown-input/.test(code));
  assert.deepEqual([...new Set(missing)], []);
});
