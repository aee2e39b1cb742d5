// The documentation as a static site: the README, the guides, and the reference of every entry from the sources. `docs.mjs FOLDER`.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, LogLevel } from 'typedoc';

const web = dirname(dirname(fileURLToPath(import.meta.url)));

/** Converts the sources; returns what TypeDoc complains of besides. */
export async function writeSite(folder) {
  const entries = ['index', 'element', 'react', 'ai-sdk', 'offline', 'node'];
  const app = await Application.bootstrap({
    name: 'kinora',
    entryPoints: entries.map((name) => join(web, `src/${name}.ts`)),
    tsconfig: join(web, 'tsconfig.json'),
    readme: join(web, 'README.md'),
    projectDocuments: ['first-clip', 'frames-and-files', 'models', 'offline', 'hosting', 'node'].map((name) => join(web, `guides/${name}.md`)),
    excludeInternal: true,
    excludePrivate: true,
    excludeExternals: true,
    // Links to the sources need a remote, which not every checkout has.
    disableSources: true,
    sortEntryPoints: false,
    validation: { notExported: true, invalidLink: true, notDocumented: true },
    requiredToBeDocumented: ['Class', 'Interface', 'TypeAlias', 'Function', 'Variable', 'Method', 'Accessor', 'Constructor'],
    // What belongs to the language.
    externalSymbolLinkMappings: { typescript: { 'Promise.then': '#', 'Promise.catch': '#', 'Promise.finally': '#' } },
  });
  const warnings = [];
  app.logger.log = (message, level) => level >= LogLevel.Warn && warnings.push(message);
  const project = await app.convert();
  if (!project) return warnings.length > 0 ? warnings : ['the sources do not compile'];
  app.validate(project);
  await app.generateDocs(project, folder);
  return warnings;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [folder] = process.argv.slice(2);
  if (!folder) throw new Error('usage: docs.mjs FOLDER');
  const warnings = await writeSite(folder);
  if (warnings.length > 0) {
    console.error(warnings.join('\n'));
    process.exit(1);
  }
}
