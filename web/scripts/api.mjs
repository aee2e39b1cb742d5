// The public interface as text, from the types in dist/: api.txt is what it was when last accepted. `--accept` writes it.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const SNAPSHOT = join(web, 'api.txt');

/** Every export of every entry, without comments and without what is marked as internal. */
export function publicApi() {
  const { exports } = JSON.parse(readFileSync(join(web, 'package.json'), 'utf8'));
  const entries = Object.entries(exports).flatMap(([name, { types }]) => (types ? [[name, join(web, types)]] : []));
  const others = Object.entries(exports).flatMap(([name, target]) => (typeof target === 'string' ? [`${name}: ${target}`] : []));
  const program = ts.createProgram(entries.map(([, path]) => path), { noEmit: true, skipLibCheck: true, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, types: ['@webgpu/types'] });
  const checker = program.getTypeChecker();
  const printer = ts.createPrinter({ removeComments: true });
  const isInternal = (node) => ts.getJSDocTags(node).some(({ tagName }) => tagName.text === 'internal');
  const isHidden = (node) => isInternal(node) || (node.name && ts.isPrivateIdentifier(node.name)) || node.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword);
  const prune = (context) => (node) => {
    const visit = (child) => (isHidden(child) ? undefined : ts.visitEachChild(child, visit, context));
    return ts.visitEachChild(node, visit, context);
  };
  const seen = new Map();
  const text = ([entry, path]) => {
    const module = checker.getSymbolAtLocation(program.getSourceFile(path));
    const lines = (module ? checker.getExportsOfModule(module) : []).flatMap((symbol) => {
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      const declarations = (target.declarations ?? []).filter((node) => !isInternal(node) && !isInternal(node.parent?.parent ?? node));
      // What another entry has is named, not repeated.
      const before = seen.get(target);
      if (before) return [`${symbol.name} as in ${before}`];
      seen.set(target, `${entry} ${symbol.name}`);
      return declarations.map((node) => {
        const statement = ts.isVariableDeclaration(node) ? node.parent.parent : node;
        const { transformed } = ts.transform(statement, [prune]);
        return printer.printNode(ts.EmitHint.Unspecified, transformed[0], node.getSourceFile()).replace(/^export (declare )?/, '').replace(/^declare /, '');
      });
    });
    return `## ${entry}\n\n${lines.sort().join('\n')}\n`;
  };
  return `${entries.map(text).join('\n')}\n## files\n\n${others.join('\n')}\n`;
}

/** The lines in which `found` and what was accepted differ. */
export function apiDifferences(found = publicApi()) {
  const accepted = readFileSync(SNAPSHOT, 'utf8');
  const [now, before] = [found, accepted].map((text) => new Set(text.split('\n')));
  const only = (a, b, sign) => [...a].filter((line) => !b.has(line)).map((line) => `${sign} ${line}`);
  const differences = [...only(before, now, '-'), ...only(now, before, '+')];
  return differences.length === 0 && found !== accepted ? ['the order'] : differences;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === '--accept') writeFileSync(SNAPSHOT, publicApi());
  const differences = apiDifferences();
  if (differences.length > 0) {
    console.error(`the public interface has changed:\n${differences.join('\n')}\nwrite it into CHANGELOG.md and accept it with \`node scripts/api.mjs --accept\``);
    process.exit(1);
  }
}
