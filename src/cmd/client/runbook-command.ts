/** `cooper runbook list|show|test`: the runbooks of this version, and running one against a stand. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import { drillStateOf, recordDrill } from '../../operate/runbook/record.ts';
import { junitOf, markdownOf } from '../../operate/runbook/reports.ts';
import { type RunbookReport, runRunbook } from '../../operate/runbook/run.ts';
import { parseRunbook, type Runbook } from '../../operate/runbook/runbook.ts';
import { newestBuild, PLACEHOLDERS, type Stand } from '../../operate/runbook/stand.ts';
import { type Arguments, formatFlags, isOn, parseArguments, splitOnce, textOf, textsOf } from '../args.ts';
import { defaultsFor } from '../defaults.ts';
import { daemonOfRoot } from './daemon-of-root.ts';
import { addressOf, ENDPOINT_FLAGS } from './endpoint.ts';
import { formatTable } from './table.ts';

const SHIPPED = join(import.meta.dirname, '..', '..', '..', 'runbooks');
const FLAGS = [
  ...ENDPOINT_FLAGS,
  { name: 'dir', kind: 'text', value: 'DIR', doc: 'folder of the runbooks (those shipped with this version)' },
  { name: 'root', kind: 'text', value: 'DIR', doc: 'state folder of the stand’s daemon' },
  {
    name: 'prometheus',
    kind: 'text',
    value: 'URL',
    doc: 'Prometheus that scrapes the stand; without it queries are skipped, and said to be',
  },
  { name: 'set', kind: 'texts', value: 'WORD=VALUE', doc: `fills in a word: ${Object.keys(PLACEHOLDERS).join(', ')}` },
  { name: 'all', kind: 'switch', doc: 'test every runbook' },
  { name: 'mitigate', kind: 'switch', doc: 'also run the blocks that change something (sh mitigate, sh rollback)' },
  { name: 'wait', kind: 'text', value: 'SECONDS', doc: 'how long a query of Verify may take to hold (30)' },
  { name: 'timeout', kind: 'text', value: 'SECONDS', doc: 'how long one command may take (60)' },
  { name: 'report', kind: 'text', value: 'DIR', doc: 'write NAME.md, NAME.json and runbooks.junit.xml here' },
  { name: 'record', kind: 'text', value: 'DIR', doc: 'record a complete run as a drill here and stamp the page with it' },
  { name: 'json', kind: 'switch', doc: 'print JSON' },
  { name: 'help', short: 'h', kind: 'switch', doc: 'show this text' },
] as const;
const USAGE = `Usage: cooper runbook COMMAND [flags]

  list        the runbooks, and when each was drilled
  show NAME   one of them
  test NAME   run its tagged blocks against a daemon, and its queries against Prometheus

Exit status of test: 0 everything that was run passed, 1 something did not.`;

/** Exit status: 0; of `test` 1 when something did not pass. */
export async function run(argv: readonly string[]): Promise<number> {
  const args = parseArguments(argv, FLAGS);
  const [act, ...names] = args.operands;
  if (isOn(args, 'help') || act === undefined) {
    console.log(`${USAGE}\n\n${formatFlags(FLAGS)}`);
    return isOn(args, 'help') ? 0 : 2;
  }
  const dir = resolve(textOf(args, 'dir') ?? SHIPPED);
  if (act === 'list') return list(dir, isOn(args, 'json'));
  if (act === 'show') {
    console.log(read(dir, names[0]).text.trimEnd());
    return 0;
  }
  if (act === 'test') return await test(args, dir, isOn(args, 'all') ? namesIn(dir) : names);
  throw new BuildError('invalid-input', `unknown command "runbook ${act}"`, { hint: 'cooper runbook --help lists the commands' });
}

function namesIn(dir: string): string[] {
  if (!existsSync(dir))
    throw new BuildError('not-found', `there is no folder ${dir}`, { hint: 'name the folder of the runbooks with --dir' });
  return readdirSync(dir)
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .map((name) => name.slice(0, -'.md'.length))
    .sort();
}

function read(dir: string, name: string | undefined): Runbook {
  if (name === undefined) throw new BuildError('invalid-input', 'which runbook?', { hint: 'cooper runbook list names them' });
  const names = namesIn(dir);
  if (names.includes(name)) return parseRunbook(name, readFileSync(join(dir, `${name}.md`), 'utf8'));
  const near = nearest(name, names);
  throw new BuildError('not-found', `there is no runbook ${name} in ${dir}`, {
    hint: near === undefined ? 'runbooks are named as their alert; cooper runbook list' : `did you mean ${near}?`,
  });
}

function list(dir: string, json: boolean): number {
  const all = namesIn(dir).map((name) => {
    const runbook = read(dir, name);
    return { name, severity: runbook.facts.severity ?? '', owner: runbook.facts.owner ?? '', drill: drillStateOf(runbook, dir) };
  });
  if (json) console.log(JSON.stringify(all, null, 2));
  else
    console.log(
      formatTable(
        ['NAME', 'SEVERITY', 'OWNER', 'LAST DRILLED'],
        all.map(({ name, severity, owner, drill }) => [
          name,
          severity,
          owner,
          drill.state === 'never'
            ? 'never'
            : drill.state === 'broken'
              ? `not valid: ${drill.why}`
              : `${drill.day}${drill.state === 'drilled' ? '' : ', changed since'}`,
        ]),
      ),
    );
  return 0;
}

async function test(args: Arguments, dir: string, names: readonly string[]): Promise<number> {
  if (names.length === 0) throw new BuildError('invalid-input', 'which runbook?', { hint: 'cooper runbook test NAME, or --all' });
  const runbooks = names.map((name) => read(dir, name));
  const record = textOf(args, 'record');
  if (record !== undefined && textOf(args, 'prometheus') === undefined)
    throw new BuildError('invalid-input', '--record needs --prometheus: a drill asks the queries too');
  const binDir = mkdtempSync(join(tmpdir(), 'cooper-runbook-'));
  try {
    const stand = await standOf(args, dir, binDir);
    const options = {
      mitigate: isOn(args, 'mitigate'),
      waitMs: secondsOf(args, 'wait', 30) * 1000,
      timeoutMs: secondsOf(args, 'timeout', 60) * 1000,
    };
    const reports: RunbookReport[] = [];
    for (const runbook of runbooks) {
      const report = await runRunbook(runbook, stand, options);
      reports.push(report);
      if (!isOn(args, 'json')) console.log(markdownOf(report));
      if (record !== undefined && report.complete)
        console.error(`recorded as a drill: ${recordDrill(report, runbook, join(dir, `${runbook.name}.md`), resolve(record))}`);
    }
    if (isOn(args, 'json')) console.log(JSON.stringify(reports, null, 2));
    const target = textOf(args, 'report');
    if (target !== undefined) writeReports(target, reports);
    const bad = reports.filter(({ passed }) => !passed).map(({ name }) => name);
    if (bad.length > 0) console.error(`cooper: not passed: ${bad.join(', ')}${record === undefined ? '' : ' (not recorded)'}`);
    return bad.length === 0 ? 0 : 1;
  } finally {
    rmSync(binDir, { recursive: true, force: true });
  }
}

/** `cooper` in runbooks is this very program. */
async function standOf(args: Arguments, dir: string, binDir: string): Promise<Stand> {
  const self = [process.execPath, ...process.execArgv, process.argv[1] ?? '']
    .map((word) => `'${word.replaceAll("'", "'\\''")}'`)
    .join(' ');
  writeFileSync(join(binDir, 'cooper'), `#!/bin/sh\nexec ${self} "$@"\n`, { mode: 0o755 });
  const defaults = defaultsFor(process.getuid?.() ?? -1, process.env);
  const opsAddress = textOf(args, 'ops-addr') ?? process.env.COOPER_OPS_ADDR ?? defaults.opsAddress;
  const given = Object.fromEntries(textsOf(args, 'set').map((pair) => splitOnce(pair, '=')));
  for (const [word, value] of Object.entries(given))
    if (!(word in PLACEHOLDERS) || value === undefined)
      throw new BuildError(
        'invalid-input',
        `--set ${word}: expected WORD=VALUE with a word of ${Object.keys(PLACEHOLDERS).join(', ')}`,
      );
  const root = textOf(args, 'root') ?? defaults.root;
  const ref = await newestBuild(opsAddress);
  const running = daemonOfRoot(root);
  return {
    address: addressOf(args),
    opsAddress,
    root,
    prometheus: textOf(args, 'prometheus'),
    cwd: dirname(dir),
    binDir,
    values: {
      ...(ref === undefined ? {} : { REF: ref }),
      ...(running === undefined ? {} : { PID: String(running.pid) }),
      ...(given as Record<string, string>),
    },
  };
}

function secondsOf(args: Arguments, flag: string, otherwise: number): number {
  const text = textOf(args, flag);
  const seconds = text === undefined ? otherwise : Number(text);
  if (Number.isFinite(seconds) && seconds >= 0 && seconds <= 3600) return seconds;
  throw new BuildError('invalid-input', `--${flag}: "${text}" is no number of seconds up to 3600`);
}

function writeReports(target: string, reports: readonly RunbookReport[]): void {
  mkdirSync(target, { recursive: true });
  for (const report of reports) {
    writeFileSync(join(target, `${report.name}.md`), markdownOf(report));
    writeFileSync(join(target, `${report.name}.json`), `${JSON.stringify(report, null, 2)}\n`);
  }
  writeFileSync(join(target, 'runbooks.junit.xml'), junitOf(reports));
}
