// Builds sites from the packed package as strangers do, each with an install of its own, and makes a clip with each in Chromium.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { launch, open, serve, web } from '../test/harness.mjs';

const STRICT = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'";
const PAGE = '<!doctype html><title>site</title><link rel="icon" href="data:,"><canvas></canvas><button>Generate</button><p role="status"></p>';
const SITE = `
import { generateVideo } from 'kinora';

const status = document.querySelector('[role=status]');
document.querySelector('button').addEventListener('click', async () => {
  status.textContent = 'generating';
  try {
    const { video } = await generateVideo({ prompt: 'a rocket flying on a blue background' });
    video.play(document.querySelector('canvas'));
    status.textContent = 'ready';
  } catch (error) {
    status.textContent = error.message;
  }
});
`;
const IMPORTS = { kinora: './node_modules/kinora/dist/index.js', mediabunny: './node_modules/mediabunny/dist/bundles/mediabunny.min.mjs' };
const WEBPACK = `export default { mode: 'production', entry: './main.js', output: { publicPath: 'auto' }, performance: { hints: false } };`;
const COPIED = `import { cpSync } from 'node:fs';
const dist = 'node_modules/kinora/dist';
cpSync(dist + '/wasm', 'dist/wasm', { recursive: true });
cpSync(dist + '/models/flipbook', 'dist/flipbook', { recursive: true });`;

/** Packages besides kinora, files, how to build, and what is served with which policy. */
const SITES = {
  'vite-react': { example: 'vite-react', build: ['npm', 'run', 'build'], out: 'dist', policy: STRICT },
  'vite dev': { example: 'vite-react', start: (port) => ['npx', 'vite', '--port', port, '--strictPort'] },
  webpack: {
    packages: ['webpack@5', 'webpack-cli@6'],
    files: { 'main.js': SITE, 'webpack.config.mjs': WEBPACK, 'dist/index.html': `${PAGE}<script type="module" src="main.js"></script>` },
    build: ['npx', 'webpack'],
    out: 'dist',
    policy: STRICT,
  },
  next: { example: 'next', build: ['npm', 'run', 'build'], start: (port) => ['npx', 'next', 'start', '-p', port], out: '.next/static', policy: 'its own' },
  esbuild: {
    packages: ['esbuild'],
    files: { 'main.js': SITE, 'copy.mjs': COPIED, 'dist/index.html': `${PAGE}<script type="module" src="main.js"></script>` },
    build: ['sh', '-c', 'npx esbuild main.js worker=kinora/worker --bundle --splitting --minify --format=esm --outdir=dist && node copy.mjs'],
    out: 'dist',
  },
  'import map': { files: { 'main.js': SITE, 'index.html': `${PAGE}<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script><script type="module" src="main.js"></script>` }, out: '.' },
  html: { example: 'html', cdn: true, out: '.' },
};

const asked = process.argv.slice(2);
const names = asked.length > 0 ? asked : Object.keys(SITES);
const unknown = names.filter((name) => !(name in SITES));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(', ')}; there are ${Object.keys(SITES).join(', ')}`);
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), 'kinora-consumers-'));
/** Says what a program said only if it failed. */
const run = ([program, ...arguments_], cwd) => {
  const { status, stdout, stderr } = spawnSync(program, arguments_, { cwd, encoding: 'utf8', env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' } });
  if (status !== 0) throw new Error(`${[program, ...arguments_].join(' ')}: ${stdout}${stderr}`);
};
const seconds = (work) => {
  const begun = performance.now();
  work();
  return ((performance.now() - begun) / 1e3).toFixed(1);
};
const walk = (path) => (statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => walk(join(path, name))) : [path]);

const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: web }));
const tarball = join(folder, packed.filename);
const browser = await launch();
let failed = 0;
try {
  for (const name of names) {
    try {
      console.log(await consume(name, SITES[name]));
    } catch (error) {
      failed++;
      console.log(`${name.padEnd(10)} FAILED: ${error.message}`);
    }
  }
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed === 0 ? 0 : 1);

async function consume(name, { example, packages = [], files = {}, build, start, out, policy, cdn }) {
  const root = join(folder, name.replace(' ', '-'));
  mkdirSync(root);
  if (example) cpSync(join(web, '../examples', example), root, { recursive: true, filter: (path) => !/node_modules|[/\\](dist|\.next)$/.test(path) });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  const manifest = join(root, 'package.json');
  const own = example && !cdn ? JSON.parse(readFileSync(manifest, 'utf8')) : { private: true, type: 'module', dependencies: {} };
  own.dependencies.kinora = `file:${tarball}`;
  writeFileSync(manifest, JSON.stringify(own));
  const install = seconds(() => run(['npm', 'install', '--no-audit', '--no-fund', '--loglevel=error', ...packages], root));
  const built = build ? seconds(() => run(build, root)) : '0.0';
  const bytes = build ? walk(join(root, out)).filter((path) => path.endsWith('.js')).reduce((sum, path) => sum + gzipSync(readFileSync(path)).length, 0) : 0;

  let server, process_, other;
  if (start) {
    const port = String(20_000 + Math.floor(Math.random() * 10_000));
    const [program, ...arguments_] = start(port);
    process_ = spawn(program, arguments_, { cwd: root, stdio: 'ignore', detached: true });
    server = { origin: `http://localhost:${port}`, close: async () => process.kill(-process_.pid) };
    for (let tries = 0; tries < 100 && !(await fetch(server.origin).catch(() => undefined)); tries++) await new Promise((resolve) => setTimeout(resolve, 200));
  } else {
    server = await serve(join(root, out), (_, response) => (policy && response.setHeader('content-security-policy', policy), false));
  }
  if (cdn) {
    other = await serve(join(root, 'node_modules'), (_, response) => (response.setHeader('access-control-allow-origin', '*'), false));
    const page = join(root, 'index.html');
    const address = /https:\/\/cdn\.jsdelivr\.net\/npm\/kinora@[^/]*/;
    if (!address.test(readFileSync(page, 'utf8'))) throw new Error('the example names no CDN');
    writeFileSync(page, readFileSync(page, 'utf8').replace(address, `${other.origin}/kinora`));
  }
  try {
    const page = await open(browser, `${server.origin}/`);
    const begun = performance.now();
    await page.click('button');
    await page.waitForFunction(() => document.querySelector('[role=status]').textContent === 'ready', null, { timeout: 240_000 }).catch(async () => {
      throw new Error(`${await page.textContent('[role=status]')}; ${page.problems.join('; ')}`);
    });
    const clip = ((performance.now() - begun) / 1e3).toFixed(1);
    const problems = page.problems.filter((problem) => !problem.includes('favicon'));
    if (problems.length > 0) throw new Error(problems.join('; '));
    await page.close();
    return `${name.padEnd(10)} install ${install} s, build ${built} s, ${bytes ? `${bytes} bytes of scripts gzip, ` : ''}first clip ${clip} s${policy ? ', strict policy' : ''}`;
  } finally {
    await server.close();
    await other?.close();
  }
}
