import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { RULE_TEST_FILES } from '../../alerts/rule-tests.ts';
import { ALERTS } from '../../alerts/rules.ts';
import { missing } from '../prometheus.ts';

const skip = missing('promtool') ?? false;
const skipRoutes = missing('amtool') ?? false;

function run(program: string, args: readonly string[], cwd = '.'): { readonly ok: boolean; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8' });
  return { ok: status === 0, output: stdout + stderr };
}

test('promtool accepts the rules', { skip }, () => {
  const { ok, output } = run('promtool', ['check', 'rules', 'alerts/rules.yaml']);
  assert.ok(ok, output);
  assert.match(output, /SUCCESS: \d+ rules found/);
});

for (const file of Object.keys(RULE_TEST_FILES)) {
  test(`promtool passes ${file}`, { skip }, () => {
    const { ok, output } = run('promtool', ['test', 'rules', file], 'alerts');
    assert.ok(ok, output);
  });
}

// A test of the tests: rules that are wrong in one place must not pass.
for (const [what, from, to] of [
  ['counts user failures as bad', '"success|failure"', '"success"'],
  ['needs one failure more', 'wilson1h{slo="build-success"} > 0.1344', 'wilson1h{slo="build-success"} > 0.15'],
  [
    'does not ask whether it still burns',
    '/ cooper:slo_events:increase5m{slo="build-success"} > 0.1344',
    '/ cooper:slo_events:increase5m{slo="build-success"} > -1',
  ],
] as const) {
  test(`the rule tests notice a rule that ${what}`, { skip }, (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'cooper-rules-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const rules = readFileSync('alerts/rules.yaml', 'utf8');
    const mutated = rules.replaceAll(from, to);
    assert.notEqual(mutated, rules);
    writeFileSync(join(dir, 'rules.yaml'), mutated);
    copyFileSync('alerts/rules.test.yaml', join(dir, 'rules.test.yaml'));
    const { ok, output } = run('promtool', ['test', 'rules', 'rules.test.yaml'], dir);
    assert.equal(ok, false);
    assert.match(output, /FAILED/);
  });
}

test('amtool accepts the routes', { skip: skipRoutes }, () => {
  const { ok, output } = run('amtool', ['check-config', 'alerts/alertmanager.yml']);
  assert.ok(ok, output);
});

const RECEIVER: Readonly<Record<string, string>> = { critical: 'page', warning: 'ticket', info: 'shown-only', none: 'heartbeat' };
test('every alert reaches the receiver of its severity', { skip: skipRoutes }, () => {
  for (const { alert, labels } of ALERTS) {
    const pairs = Object.entries({ ...labels, alertname: alert }).map(([name, value]) => `${name}=${value}`);
    const { ok, output } = run('amtool', [
      'config',
      'routes',
      'test',
      '--config.file=alerts/alertmanager.yml',
      `--verify.receivers=${labels.root_cause === 'security' ? 'security' : RECEIVER[labels.severity ?? '']}`,
      ...pairs,
    ]);
    assert.ok(ok, `${alert}: ${output}`);
  }
});
