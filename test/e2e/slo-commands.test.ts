/** Objectives of a file in a real daemon, and the commands that read and correct its budgets. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { TestDaemon, unableTo } from '../fixtures/daemon.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const TOKEN = 'a-token-of-the-test-that-is-long-enough';
const FILE = `
apiVersion: cooper/v1
kind: Objectives
objectives:
  - name: site-builds
    title: Builds of the site
    target: 0.95
    period: 7d
    indicator: {kind: failures, bad: 'cooper_builds_total{result="error"}', total: cooper_builds_total}
    policy:
      - {budgetBelow: 0, consequence: Fix the builders first., blocks: [release]}
`;

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
/** Not spawnSync: the daemon's output is read by this process. */
async function cooper(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
  const [stdout, stderr] = await Promise.all([child.stdout.toArray(), child.stderr.toArray()]);
  if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
  return { status: child.exitCode, stdout: stdout.join(''), stderr: stderr.join('') };
}

/** Ten bad events of twenty, an hour ago: ten times the budget. */
function spendBudget(root: string): number {
  const hourAgo = Math.floor(Date.now() / 30_000) * 30 - 3600;
  const database = new DatabaseSync(join(root, 'cooper.sqlite'));
  database.prepare('insert into slo_counts (slo, slot_s, good, total) values (?, ?, ?, ?)').run('site-builds', hourAgo, 10, 20);
  database.close();
  return hourAgo;
}

test('an objective of a file is judged, gates a release, is reported, and a correction with author and reason opens the gate', {
  skip: unableTo('runc'),
  timeout: 120_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-slo-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [file, tokens, root] = [join(dir, 'slo.yaml'), join(dir, 'tokens'), join(dir, 'root')];
  writeFileSync(file, FILE);
  writeFileSync(tokens, `ana ${TOKEN}\n`, { mode: 0o600 });
  const toml = `[cooper.slo]\nfile = "${file}"\n[cooper.ops]\ntoken-file = "${tokens}"\n`;
  await (await TestDaemon.start({ root, toml }))[Symbol.asyncDispose]();
  const badS = spendBudget(root);
  await using daemon = await TestDaemon.start({ root, toml });
  const slo = (...args: string[]): Promise<Ended> =>
    cooper(['slo', ...args, '--ops-addr', new URL(daemon.opsUrl).host], { COOPER_OPS_TOKEN: TOKEN });

  const status = JSON.parse((await slo('status', '--json')).stdout);
  const names = status.objectives.map(({ name }: { name: string }) => name);
  assert.ok(names.includes('site-builds') && names.includes('build-success'), names.join());
  assert.match((await daemon.ops('/metrics')).body, /^cooper_slo_events\{slo="site-builds"\} 20$/m);

  const refused = await slo('gate', '--for', 'release');
  assert.equal(refused.status, 1, refused.stderr);
  assert.match(
    refused.stdout,
    /^release: refused .*\n {2}Builds of the site: -900 % of the error budget of 7d is left: Fix the builders first\.$/m,
  );
  assert.equal((await slo('gate', '--for', 'game-day')).status, 0, 'its own policy blocks releases only');
  assert.equal((await slo('gate', '--for', 'holiday')).status, 2);

  const report = await slo('report', '--slo', 'site-builds');
  assert.match(report.stdout, /^\| Builds of the site \| 95 % \| 50 % \| 10\/20 events \| -900 % \| -9 of 1 \|/m, report.stderr);
  const tested = await slo('backtest', '--slo', 'site-builds', '--from', '1d', '--json');
  assert.equal(JSON.parse(tested.stdout).results[0].incidents[0].fromS, badS, tested.stderr);

  const from = new Date((badS - 60) * 1000).toISOString();
  const add = ['adjust', 'add', '--slo', 'site-builds', '--from', from, '--for', '10m', '--author', 'ana'];
  assert.equal((await slo(...add)).status, 2, 'a reason is needed');
  const added = await slo(...add, '--forgive', '10', '--reason', 'the registry of others was down', '--json');
  assert.equal(added.status, 0, added.stderr);
  const [{ id }] = JSON.parse(added.stdout);
  const open = await slo('gate', '--for', 'release');
  assert.equal(open.status, 0, open.stdout);
  const table = (await slo('status')).stdout;
  assert.match(table, /Builds of the site: correction .* by ana: the registry of others was down/);
  assert.match(table, /Builds of the site: without adjustments: 10\/20, -900% of the budget left/);
  assert.match((await slo('report', '--slo', 'site-builds')).stdout, /Without them: 10\/20, 50 %, -900 % of the budget left\./);

  const removed = await slo('adjust', 'remove', id, '--reason', 'it was ours', '--author', 'ben');
  assert.equal(removed.status, 0, removed.stderr);
  assert.equal((await slo('gate', '--for', 'release')).status, 1);
  assert.match((await slo('adjust', 'list')).stdout, /the registry of others was down \(removed .* by ben: it was ours\)/);
  assert.equal((await slo('adjust', 'remove', id, '--reason', 'again')).status, 3);
  const stranger = await cooper(['slo', 'adjust', 'remove', id, '--reason', 'x', '--ops-addr', new URL(daemon.opsUrl).host], {
    COOPER_OPS_TOKEN: 'x'.repeat(30),
  });
  assert.equal(stranger.status, 5, stranger.stderr);

  const audited = (await cooper(['audit', '--root', root, '--type', 'slo-adjustment', '--json'])).stdout;
  const records = audited
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    records.map(({ what, outcome, who }) => [what, outcome, who.identity]),
    [
      ['slo.adjust site-builds', 'ok', 'ana'],
      [`slo.unadjust ${id}`, 'ok', 'ana'],
      [`slo.unadjust ${id}`, 'failed', 'ana'],
    ],
  );
});

test('a daemon does not start with a file of objectives that has errors, and says all of them', {
  skip: unableTo('runc'),
  timeout: 60_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-slo-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [file, config] = [join(dir, 'slo.yaml'), join(dir, 'cooperd.toml')];
  writeFileSync(file, FILE.replace('0.95', '9').replace('result="error"', 'result="none"'));
  writeFileSync(config, `root = "${join(dir, 'root')}"\n[cooper.slo]\nfile = "${file}"\n`);
  const { status, stderr } = await cooper([
    'daemon',
    '--config',
    config,
    '--addr',
    `unix://${join(dir, 'd.sock')}`,
    '--ops-addr',
    '',
  ]);
  assert.equal(status, 2, stderr);
  assert.match(stderr, /slo\.yaml:7:13: error: objectives\[0\]\.target: .* \[target\]/);
  assert.match(stderr, /slo\.yaml:9:\d+: error: objectives\[0\]\.indicator\.bad: .* \[unknown-label\]/);
});
