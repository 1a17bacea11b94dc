/** Runbooks are true: what they name exists, and their blocks run against a real daemon and a real Prometheus. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { RULE_GROUPS } from '../../alerts/rules.ts';
import type { RunbookReport, Step } from '../../src/operate/runbook/run.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { type Prometheus, startPrometheus } from '../prometheus.ts';
import { runbookProblems } from './runbook-lint.ts';

const RECORDS = new Set(RULE_GROUPS.flatMap(({ rules }) => rules.flatMap((rule) => ('record' in rule ? [rule.record] : []))));
const NAMES = readdirSync('runbooks')
  .filter((name) => name.endsWith('.md') && name !== 'README.md')
  .map((name) => name.slice(0, -3));
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const skip = unableTo('buildctl', 'runc', 'prometheus');

for (const name of NAMES)
  test(`${name} names only what exists`, () => {
    assert.deepEqual(runbookProblems(name, readFileSync(join('runbooks', `${name}.md`), 'utf8'), RECORDS, 'runbooks'), []);
  });

const page = (body: string, stamp = 'never'): string =>
  `---\nalert: Page\nseverity: warning\nowner: x\nslo: -\nfailure_mode: -\nlast_drilled: ${stamp}\n---\n\n# Page\n\n## Triage\n\n${body}`;
const sh = (kind: string, ...lines: string[]): string => `\`\`\`sh ${kind}\n${lines.join('\n')}\n\`\`\`\n\n`;
const promql = (query: string): string => `\`\`\`promql\n${query}\n\`\`\`\n\n`;

test('the lint finds each kind of untruth', () => {
  for (const [body, said] of [
    [promql('sum(rate(cooper_buidls_total[5m]))'), 'cooper_buidls_total is not in the catalogue'],
    [
      promql('sum by (backend) (cooper_builds_total)'),
      'no metric of "sum by (backend) (cooper_builds_total)" has a label backend',
    ],
    [sh('check', 'cooper docter'), 'cooper docter is no command'],
    [sh('check', 'cooper gc collect'), 'cooper gc collect is no command'],
    [sh('mitigate', 'cooper prune --keep-days 3'), 'cooper prune has no flag --keep-days'],
    ['Run `cooper builds --everything`.\n', 'cooper builds has no flag --everything'],
    [sh('check', 'cooper trace BUILD'), 'BUILD in "cooper trace BUILD" is no word that can be filled in'],
    ['See [CooperDiskFool](CooperDiskFool.md).\n', 'there is no alert CooperDiskFool'],
    ['Raise `worker.oci.max-paralelism`.\n', 'there is no setting worker.oci.max-paralelism'],
  ] as const)
    assert.ok(
      runbookProblems('Page', page(body), RECORDS, '.').includes(said),
      JSON.stringify(runbookProblems('Page', page(body), RECORDS, '.')),
    );
  assert.match(runbookProblems('Page', page('', '2026-01-01'), RECORDS, '.').join(), /neither never nor a day and a record/);
  assert.match(runbookProblems('Page', page('', '2026-01-01 drills/none.json'), RECORDS, '.').join(), /cannot be read/);
  assert.deepEqual(
    runbookProblems('Page', page(sh('check', 'cooper trace REF', 'cooper gc plan --all --keep-duration 72h')), RECORDS, '.'),
    [],
  );
});

let daemon: TestDaemon;
let prometheus: Prometheus;
before(async () => {
  if (skip !== false) return;
  daemon = await TestDaemon.start();
  prometheus = await startPrometheus({ targets: [new URL(daemon.opsUrl).host] });
});
after(async () => {
  await prometheus?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

/** `cooper runbook test` with pages of its own, against the stand. */
async function drill(pages: Readonly<Record<string, string>>, args: readonly string[]) {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-runbooks-'));
  mkdirSync(join(dir, 'runbooks'));
  for (const [name, text] of Object.entries(pages)) writeFileSync(join(dir, 'runbooks', `${name}.md`), text);
  const again = (more: readonly string[]) => {
    const stand = [
      '--dir',
      join(dir, 'runbooks'),
      '--addr',
      daemon.address,
      '--ops-addr',
      new URL(daemon.opsUrl).host,
      '--root',
      daemon.root,
    ];
    return run(process.execPath, [MAIN, 'runbook', ...more, ...(more[0] === 'test' ? [...stand, '--json'] : stand.slice(0, 2))]);
  };
  const { status, stdout, stderr } = await again(['test', ...Object.keys(pages), ...args]);
  const reports = stdout.startsWith('[') ? (JSON.parse(stdout) as RunbookReport[]) : [];
  return {
    dir,
    status,
    stderr,
    again,
    reports,
    steps: reports.flatMap(({ steps }) => steps),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}
const outcomes = (steps: readonly Step[]): string[] =>
  steps.map(({ command, outcome }) => `${outcome}: ${command.split('\n')[0]}`);

test('before anything was built, REF is named as unfilled and the run does not pass', { skip }, async () => {
  await using run = await drill({ Page: page(sh('check', 'cooper trace REF', 'cooper builds')) }, []);
  assert.deepEqual(outcomes(run.steps), ['unfilled: cooper trace REF', 'passed: cooper builds']);
  assert.match(run.steps[0]?.reason ?? '', /REF has no value here: the newest finished build/);
  assert.equal(run.status, 1);
});

test('each kind of block is run as it says, and what is not run is said to be', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY file /file\n', file: 'x' });
  assert.equal((await buildDir(daemon, context.dir)).status, 0);
  await prometheus.until('sum(cooper_builds_total) > 0', (samples) => samples.length > 0);
  const body = [
    sh(
      'check',
      'cooper trace REF | head -1',
      'test -d /var/lib/cooper',
      'curl -fsS http://127.0.0.1:8470/livez',
      'false',
      'no-such-command',
      'cooper builds --no-such-flag',
    ),
    promql('sum by (result) (cooper_builds_total)'),
    promql('sum('),
    sh('mitigate', 'touch mitigated'),
    '## Verify\n\n',
    sh('verify', 'cooper builds', 'false'),
    promql('up == 1'),
    promql('up == 0'),
    promql('cooper_canary_last_success_timestamp_seconds > 0'),
  ].join('');
  await using first = await drill({ Page: page(body) }, ['--prometheus', prometheus.url, '--wait', '0']);
  const said = first.steps.map(({ kind, outcome, reason }) => `${kind} ${outcome} ${reason.split(':')[0]}`);
  assert.deepEqual(said, [
    'check passed exit 0',
    'check passed exit 0',
    'check passed exit 0',
    'check passed exit 1',
    'check failed there is no such command',
    'check failed cooper was misused or broke',
    `promql passed ${first.steps[6]?.reason}`,
    'promql failed Prometheus refuses it',
    'mitigate skipped it changes something',
    'verify passed exit 0',
    'verify failed exit 1, expected 0',
    'promql passed holds for 1 series',
    'promql failed does not hold for 1 of 1 series',
    'promql no-data no series',
  ]);
  assert.deepEqual([first.status, existsSync(join(first.dir, 'mitigated'))], [1, false]);
  await using second = await drill({ Page: page(sh('mitigate', 'touch mitigated') + promql('up')) }, ['--mitigate']);
  assert.deepEqual(outcomes(second.steps), ['passed: touch mitigated', 'skipped: up']);
  assert.deepEqual([second.status, existsSync(join(second.dir, 'mitigated'))], [0, true]);
});

test('a complete run is recorded, and only it stamps the page; a stamp is worth its record', { skip }, async () => {
  const good = page(`${sh('check', 'cooper builds')}## Verify\n\n${promql('up == 1')}`);
  const bad = page(`## Verify\n\n${promql('up == 0')}`);
  await using done = await drill(
    { Good: good, Bad: bad },
    ['--prometheus', prometheus.url, '--wait', '5', '--record', join(tmpdir(), 'unused')].slice(0, 4),
  );
  assert.equal(done.status, 1);
  const at = (name: string): string => readFileSync(join(done.dir, 'runbooks', `${name}.md`), 'utf8');
  assert.deepEqual([at('Good'), at('Bad')], [good, bad], 'without --record nothing is stamped');
  const without = await done.again(['test', 'Good', '--record', join(done.dir, 'drills')]);
  assert.match(without.stderr, /--record needs --prometheus/);
  const recorded = await done.again([
    'test',
    'Good',
    'Bad',
    '--prometheus',
    prometheus.url,
    '--wait',
    '0',
    '--record',
    join(done.dir, 'drills'),
    '--report',
    join(done.dir, 'out'),
  ]);
  assert.match(recorded.stderr, /not passed: Bad \(not recorded\)/);
  const day = new Date().toISOString().slice(0, 10);
  assert.match(at('Good'), new RegExp(`^last_drilled: ${day} \\.\\./drills/${day}-Good\\.json$`, 'm'));
  assert.equal(at('Bad'), bad);
  const junit = readFileSync(join(done.dir, 'out', 'runbooks.junit.xml'), 'utf8');
  assert.match(junit, /<testsuite name="Bad" tests="1" failures="1" skipped="0"/);
  assert.match(readFileSync(join(done.dir, 'out', 'Bad.md'), 'utf8'), /^# Bad: not passed/);
  const listed = async (): Promise<string> => (await done.again(['list'])).stdout;
  assert.match(await listed(), new RegExp(`Good .*${day}\n?`));
  writeFileSync(join(done.dir, 'runbooks', 'Good.md'), `${at('Good')}\nAnother thought.\n`);
  assert.match(await listed(), /Good .*changed since/);
  await rm(join(done.dir, 'drills'), { recursive: true });
  assert.match(await listed(), /Good .*not valid: the record .* cannot be read/);
});

test('every block of every shipped runbook that only looks runs against a daemon, and Prometheus takes every query', {
  skip,
  timeout: 240_000,
}, async () => {
  const blocks = new Map<string, string>(); // the same command stands in many pages
  for (const name of NAMES) {
    const text = readFileSync(join('runbooks', `${name}.md`), 'utf8');
    for (const [, tag = '', block = ''] of text.matchAll(/^```(sh check|promql)\n([\s\S]*?)\n```/gm)) {
      for (const command of tag === 'promql' ? [block] : block.split('\n')) blocks.set(command, tag);
    }
  }
  const body = [...blocks].map(([command, tag]) => `\`\`\`${tag}\n${command}\n\`\`\`\n\n`).join('');
  await using all = await drill({ All: page(body) }, ['--prometheus', prometheus.url, '--set', `REGISTRY=127.0.0.1:1`]);
  // Tools of the host that a machine may lack are no fault of the page.
  const wrong = all.steps.filter(
    ({ outcome, exit, command }) => outcome !== 'passed' && !(exit === 127 && !command.includes('cooper')),
  );
  assert.deepEqual(
    wrong.map(({ command, reason, output }) => ({ command, reason, output })),
    [],
  );
  assert.ok(all.steps.length > 80, `${all.steps.length}`);
});
