/**
 * Import arrows and cycles: who may import whom (docs/ARCHITECTURE.md). Prints every violation with the reason and exits 1.
 * Type-only imports count too: knowing a type is knowing the room.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

interface Rule {
  readonly from: string;
  readonly may: readonly string[];
  readonly why: string;
}
/** Names and units of metrics; everybody who shows or judges numbers reads them. */
const CATALOG = ['src/telemetry/catalog.ts', 'src/telemetry/catalog-service.ts', 'src/telemetry/catalog-slo.ts'];
const B = 'src/builder';
/** First matching prefix decides. `may` lists prefixes; a room may always import itself. */
const RULES: readonly Rule[] = [
  { from: 'src/core', may: [], why: 'core holds words that every part shares and imports node: built-ins only' },
  { from: `${B}/events.ts`, may: ['src/core'], why: 'events are facts, not behaviour' },
  { from: `${B}/proto`, may: ['src/core'], why: 'the wire contract depends on nothing' },
  { from: `${B}/metadata`, may: ['src/core'], why: 'the metadata store knows no room that uses it' },
  { from: `${B}/llb`, may: ['src/core', `${B}/proto`], why: 'the graph knows nothing of frontends or solvers' },
  { from: `${B}/rpc`, may: ['src/core', `${B}/proto`], why: 'rpc moves messages and knows no build' },
  {
    from: `${B}/session`,
    may: ['src/core', `${B}/rpc`, `${B}/proto`, `${B}/worker/sys`],
    why: 'a session is a connection, not a build; files that arrive need the native calls for owners, attributes and times',
  },
  {
    from: `${B}/frontend`,
    // Of the registry it knows the grammar of names and Go's JSON, both plain text.
    may: ['src/core', `${B}/llb`, `${B}/proto`, `${B}/registry/reference.ts`, `${B}/registry/go-json.ts`],
    why: 'a frontend turns text into a graph; it has never heard of a worker',
  },
  {
    from: `${B}/solver`,
    may: ['src/core', `${B}/llb`, `${B}/proto`, `${B}/events.ts`],
    why: 'the solver declares the ports it needs and knows no containers',
  },
  { from: `${B}/content`, may: ['src/core', `${B}/metadata`], why: 'content is blobs by digest' },
  {
    from: `${B}/snapshot`,
    may: ['src/core', `${B}/metadata`, `${B}/content`, `${B}/solver/ports.ts`, `${B}/worker/sys`],
    why: 'snapshots turn layers into trees and back',
  },
  { from: `${B}/registry`, may: ['src/core', `${B}/content`], why: 'the distribution protocol knows blobs only' },
  { from: `${B}/worker/sys`, may: ['src/core'], why: 'native calls serve everyone and know no one' },
  {
    from: `${B}/worker`,
    may: ['src/core', `${B}/events.ts`, `${B}/snapshot`, `${B}/content`, `${B}/solver/ports.ts`],
    why: 'the worker runs processes; it never reaches into sources or caches',
  },
  {
    from: `${B}/source`,
    may: [
      'src/core',
      `${B}/proto`,
      `${B}/llb`,
      `${B}/metadata/ports.ts`,
      `${B}/solver/ports.ts`,
      `${B}/snapshot`,
      `${B}/content`,
      `${B}/registry`,
      `${B}/session`,
    ],
    why: 'a source fetches; it never runs or caches',
  },
  {
    from: `${B}/cache`,
    may: [
      'src/core',
      `${B}/proto`,
      `${B}/metadata`,
      `${B}/solver/ports.ts`,
      `${B}/snapshot`,
      `${B}/content`,
      `${B}/registry`,
      `${B}/session`,
      // A result of a remote cache is pulled and unpacked as an image's layers are; a client's folder is read as its layouts are.
      `${B}/source/pull-layers.ts`,
      `${B}/source/session-content.ts`,
    ],
    why: 'caches serve the solver through its ports',
  },
  {
    from: `${B}/ops`,
    may: [
      'src/core',
      `${B}/proto`,
      `${B}/llb`,
      `${B}/solver/ports.ts`,
      `${B}/worker`,
      `${B}/source`,
      `${B}/snapshot`,
      `${B}/session`,
      `${B}/events.ts`,
    ],
    why: 'an op says what it does, never when',
  },
  {
    from: `${B}/exporter`,
    may: [
      'src/core',
      `${B}/llb/platform.ts`,
      `${B}/metadata/ports.ts`,
      `${B}/snapshot`,
      `${B}/content`,
      `${B}/registry`,
      `${B}/session`,
      `${B}/source`,
      `${B}/solver/ports.ts`,
      `${B}/worker/sys`,
    ],
    why: 'an exporter writes results and builds nothing',
  },
  {
    from: `${B}/gc`,
    may: ['src/core', `${B}/cache`, `${B}/content`, `${B}/snapshot`, `${B}/history`, `${B}/metadata`, `${B}/solver/ports.ts`],
    why: 'gc decides what may go',
  },
  {
    from: `${B}/history`,
    may: ['src/core', `${B}/proto`, `${B}/metadata`, `${B}/content`, `${B}/events.ts`],
    why: 'history records what happened',
  },
  {
    from: `${B}/explain`,
    may: ['src/core', `${B}/events.ts`, `${B}/llb`, `${B}/proto`, `${B}/metadata/ports.ts`, `${B}/snapshot/digest-lists.ts`],
    why: 'an explanation compares what was noted; it looks nothing up and changes nothing',
  },
  {
    from: `${B}/reproduce`,
    may: ['src/core', B],
    why: 'repeating a build needs its parts; what it says is for the wiring to show',
  },
  { from: `${B}/build`, may: ['src/core', B], why: 'a build ties the parts of the builder together' },
  { from: `${B}/control`, may: ['src/core', B], why: 'control turns messages into builds' },
  {
    from: 'src/telemetry',
    may: ['src/core', `${B}/events.ts`],
    why: 'telemetry subscribes to events and knows nothing else of the builder',
  },
  { from: 'src/slo', may: ['src/core', ...CATALOG], why: 'slo knows metric names and units, never the builder' },
  {
    from: 'src/operate',
    may: ['src/core', 'src/slo', ...CATALOG],
    why: 'operators reach the daemon through its public APIs',
  },
  {
    from: 'src/web',
    may: ['src/core', 'src/slo', ...CATALOG],
    why: 'the web UI reaches the daemon through its public APIs',
  },
  { from: 'src/cmd', may: ['src', 'loadtest'], why: 'cmd wires everything' },
];

function* filesBelow(dir: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (/\.tsx?$/.test(entry.name) && !/\.test(-[a-z]+)?\.ts$/.test(entry.name)) yield path;
  }
}

/** Relative imports of a module, resolved to repository paths. */
function importsOf(file: string, text: string): string[] {
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^;'"]*?from\s*['"](\.[^'"]+)['"]|import\(\s*['"](\.[^'"]+)['"]\s*\)|(?:^|\n)import\s*['"](\.[^'"]+)['"]/g,
  );
  return [...found].map((match) => relative('.', resolve(dirname(file), match[1] ?? match[2] ?? match[3] ?? '')));
}

const graph = new Map<string, string[]>();
const problems: string[] = [];
for (const file of filesBelow('src')) {
  const text = readFileSync(file, 'utf8');
  const imports = importsOf(file, text);
  graph.set(file, imports);
  const rule = RULES.find(({ from }) => file === from || file.startsWith(`${from}/`));
  if (rule === undefined) {
    problems.push(`${file}: belongs to no room of scripts/check-arrows.ts`);
    continue;
  }
  const allowed = [rule.from, ...rule.may];
  for (const target of imports) {
    if (!allowed.some((prefix) => target === prefix || target.startsWith(`${prefix}/`)))
      problems.push(`${file}: must not import ${target}: ${rule.why}`);
  }
  if (rule.from === 'src/core' && /from\s*['"](?!\.|node:)/.test(text)) problems.push(`${file}: ${rule.why}`);
}

/** Depth-first search; a module met again while it is open closes a cycle. */
const state = new Map<string, 'open' | 'done'>();
function visit(file: string, path: readonly string[]): void {
  if (state.get(file) === 'done') return;
  if (state.get(file) === 'open') {
    problems.push(`import cycle: ${[...path.slice(path.indexOf(file)), file].join(' -> ')}`);
    return;
  }
  state.set(file, 'open');
  for (const target of graph.get(file) ?? []) if (graph.has(target)) visit(target, [...path, file]);
  state.set(file, 'done');
}
for (const file of graph.keys()) visit(file, []);

for (const problem of problems) console.error(problem);
console.log(`${graph.size} modules, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
