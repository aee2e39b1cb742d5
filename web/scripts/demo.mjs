// Builds the demo page of www-demo/ into www-demo/dist, from the package in dist/.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { build } from 'vite';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const root = join(web, '../www-demo');
const out = join(root, 'dist');
const ALIAS = { ...Object.fromEntries(['element', 'offline'].map((name) => [`kinora/${name}`, join(web, `dist/${name}.js`)])), kinora: join(web, 'dist/index.js') };

execFileSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', root], { stdio: 'inherit' });
const { output } = await build({
  root,
  configFile: false,
  logLevel: 'warn',
  // Relative addresses: the page can live in any folder of any static host.
  base: './',
  resolve: { alias: ALIAS },
  worker: { format: 'es' },
  build: {
    outDir: out,
    emptyOutDir: true,
    target: 'es2022',
    // `data:` addresses would need a weaker Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { checks: { pluginTimings: false } },
    // The model is as large as it is.
    chunkSizeWarningLimit: 1000,
  },
});

// The service worker stores what the page begins with on the first visit, and what generating needs when it is used.
const chunks = new Map(output.filter(({ type }) => type === 'chunk').map((chunk) => [chunk.fileName, chunk]));
const begun = new Set();
const begin = (name) => {
  if (begun.has(name)) return;
  begun.add(name);
  chunks.get(name).imports.filter((path) => chunks.has(path)).forEach(begin);
};
for (const { fileName, isEntry } of chunks.values()) if (isEntry) begin(fileName);
const walk = (path) => (statSync(path).isDirectory() ? readdirSync(path).sort().flatMap((name) => walk(join(path, name))) : [path]);
const files = walk(out).map((path) => ({ path: `./${relative(out, path).replaceAll('\\', '/')}`, bytes: readFileSync(path) }));
const version = files.reduce((hash, { path, bytes }) => hash.update(path).update(bytes), createHash('sha256')).digest('hex').slice(0, 12);
const paths = files.map(({ path }) => path).filter((path) => path !== './index.html');
// Thumbnails are for those who open the list.
const isPage = (path) => (path.endsWith('.js') ? begun.has(path.slice(2)) : !/\.(wasm|safetensors|json)$|\/things-/.test(path));
const constants = { __PAGE_FILES__: ['./', ...paths.filter(isPage)], __USED_FILES__: paths.filter((path) => !isPage(path)), __VERSION__: version };
const define = Object.fromEntries(Object.entries(constants).map(([name, value]) => [name, JSON.stringify(value)]));
buildSync({ entryPoints: [join(root, 'sw.js')], alias: ALIAS, define, bundle: true, minify: true, outfile: join(out, 'sw.js'), format: 'iife', legalComments: 'none' });
