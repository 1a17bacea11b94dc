import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { boundaryTestsOf, RULE_TEST_FILES } from '../../alerts/rule-tests.ts';
import { ALERTS, RULE_GROUPS } from '../../alerts/rules.ts';
import type { RuleGroup } from '../../src/slo/rules.ts';
import { toYaml, type YamlValue } from '../../src/slo/yaml.ts';
import { missing } from '../prometheus.ts';

const skip = missing('promtool') ?? false;
const skipRoutes = missing('amtool') ?? false;

function run(program: string, args: readonly string[], cwd = '.'): { readonly ok: boolean; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8' });
  return { ok: status === 0, output: stdout + stderr };
}

for (const file of ['rules.yaml', 'symptoms.yaml', 'sloth-records.yaml']) {
  test(`promtool accepts ${file}`, { skip }, () => {
    const { ok, output } = run('promtool', ['check', 'rules', `alerts/${file}`]);
    assert.ok(ok, output);
    assert.match(output, /SUCCESS: \d+ rules found/);
  });
}

/** The groups cut down to the rules of some objectives, or to those of none: promtool evaluates every rule in every test. */
const rulesOf = (slos: readonly string[]): string =>
  toYaml({
    groups: RULE_GROUPS.map((group: RuleGroup) => ({
      ...group,
      rules: group.rules.filter(({ labels }) =>
        slos.length === 0 ? labels?.slo === undefined : slos.includes(labels?.slo ?? ''),
      ),
    })) as unknown as YamlValue,
  });

/** Runs a test file against rules, in a folder of their own. */
function promtoolTests(rules: string, tests: YamlValue): { readonly ok: boolean; readonly output: string } {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-rules-'));
  try {
    writeFileSync(join(dir, 'rules.yaml'), rules);
    writeFileSync(join(dir, 'rules.test.yaml'), toYaml(tests));
    return run('promtool', ['test', 'rules', 'rules.test.yaml'], dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

for (const [file, tests] of Object.entries(RULE_TEST_FILES)) {
  test(`promtool passes ${file}`, { skip }, () => {
    if (toYaml(tests).includes('symptoms.yaml')) {
      const { ok, output } = run('promtool', ['test', 'rules', file], 'alerts'); // these rules are few: as they are shipped
      assert.ok(ok, output);
      return;
    }
    const asked = [...toYaml(tests).matchAll(/slo="([\w-]+)"/g)].map((match) => match[1] ?? '');
    const { ok, output } = promtoolTests(rulesOf([...new Set(asked)]), tests);
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
  test(`the rule tests notice a rule that ${what}`, { skip }, () => {
    const rules = rulesOf(['build-success']);
    const mutated = rules.replaceAll(from, to);
    assert.notEqual(mutated, rules);
    const { ok, output } = promtoolTests(mutated, boundaryTestsOf('build-success'));
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
