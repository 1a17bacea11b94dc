import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILDS } from '../telemetry/catalog.ts';
import { OBJECTIVES } from './objectives.ts';
import { selectorOf } from './promql.ts';
import { sloRuleGroups } from './rules.ts';
import { windowsOf } from './spec.ts';
import { toYaml } from './yaml.ts';

const groups = sloRuleGroups(OBJECTIVES, { job: 'cooper', links: (name) => ({ runbook_url: `/${name}` }) });
const rules = groups.flatMap((group) => group.rules);

test('numerator and denominator are recorded for every objective and window, and every pair has its alert', () => {
  for (const objective of OBJECTIVES) {
    const { name, pairs } = objective;
    const records = rules
      .filter((rule) => 'record' in rule && rule.labels?.slo === name)
      .map((rule) => ('record' in rule ? rule.record : ''));
    for (const window of windowsOf(objective)) {
      for (const what of ['good', 'events', 'bad'])
        assert.ok(records.includes(`cooper:slo_${what}:increase${window}`), `${name} ${what} ${window}`);
    }
    const alerts = rules.filter((rule) => 'alert' in rule && rule.labels.slo === name);
    assert.deepEqual(
      alerts.map((rule) => [rule.labels?.long, rule.labels?.short]),
      pairs.map(({ long, short }) => [long, short]),
    );
  }
});

test('no rule averages a ratio', () => {
  for (const rule of rules) assert.doesNotMatch(rule.expr, /avg_over_time|avg by|avg\(/);
});

test('a selector matches the bucket edge however the server spells it', () => {
  const selector = selectorOf({ metric: 'cooper_build_duration_seconds', where: { phase: ['total'] }, le: 600 }, 'cooper');
  assert.equal(selector, 'cooper_build_duration_seconds_bucket{job="cooper",phase="total",le=~"600(\\\\.0)?"}');
  assert.equal(
    selectorOf({ metric: BUILDS.name, where: { result: ['a', 'b'] } }, 'x'),
    'cooper_builds_total{job="x",result=~"a|b"}',
  );
});

test('YAML quotes what it could read as something else', () => {
  const written = toYaml({
    yes: 'no',
    number: '12',
    text: 'plain words',
    empty: '',
    time: '30s',
    list: ['a: b', { k: '{x}' }],
    none: [],
    block: 'a\n"b"',
  });
  assert.equal(
    written,
    [
      '"yes": "no"',
      'number: "12"',
      'text: plain words',
      'empty: ""',
      'time: 30s',
      'list:',
      '  - "a: b"',
      '  - k: "{x}"',
      'none: []',
      'block: |-',
      '  a',
      '  "b"',
      '',
    ].join('\n'),
  );
});
