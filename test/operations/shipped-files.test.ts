import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LOW_TRAFFIC_SCENARIOS, SLO_SCENARIOS, SYMPTOM_SCENARIOS } from '../../alerts/rule-tests.ts';
import { ALERT_NAMES, ALERTS, RULE_GROUPS } from '../../alerts/rules.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { CATALOG } from '../../src/telemetry/catalog.ts';
import { promqlProblems } from './promql-names.ts';

const RECORDS = new Set(RULE_GROUPS.flatMap(({ rules }) => rules.flatMap((rule) => ('record' in rule ? [rule.record] : []))));
const runbook = (alert: string): string => readFileSync(join('runbooks', `${alert}.md`), 'utf8');
const pages = (): string[] => readdirSync('runbooks').filter((name) => name.endsWith('.md') && name !== 'README.md');

test('generated files are what their sources say', () => {
  const { status, stderr } = spawnSync(process.execPath, ['scripts/generate.ts', '--check'], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

test('the check of metric names finds what is wrong', () => {
  const known = new Set(['cooper:slo_bad:increase5m']);
  assert.deepEqual(
    promqlProblems('sum(cooper_builds_total{job="x",result=~"error|timeout"}) / cooper:slo_bad:increase5m', known),
    [],
  );
  for (const [text, said] of [
    ['rate(cooper_buidls_total[5m])', 'cooper_buidls_total is not in the catalogue'],
    ['cooper_build_duration_seconds', 'cooper_build_duration_seconds is not in the catalogue'],
    ['cooper:slo_worse:increase5m', 'cooper:slo_worse:increase5m is recorded by no rule'],
    ['cooper_builds_total{reslut="x"}', 'cooper_builds_total has no label reslut'],
    ['cooper_builds_total{result="failed"}', 'cooper_builds_total{result="failed"} never exists'],
    ['cooper_builds_total{result=~"fail"}', 'cooper_builds_total{result=~"fail"} matches no value'],
  ] as const) {
    assert.deepEqual(promqlProblems(text, known), [said]);
  }
});

test('rules speak only of metrics the daemon has', () => {
  for (const { rules } of RULE_GROUPS) {
    for (const rule of rules) {
      assert.deepEqual(promqlProblems(rule.expr, RECORDS), [], 'record' in rule ? rule.record : rule.alert);
      if ('alert' in rule)
        for (const text of Object.values(rule.annotations)) assert.deepEqual(promqlProblems(text, RECORDS), [], rule.alert);
    }
  }
});

test('runbooks and metric examples speak only of metrics the daemon has', () => {
  for (const page of pages()) assert.deepEqual(promqlProblems(readFileSync(join('runbooks', page), 'utf8'), RECORDS), [], page);
  for (const spec of CATALOG) assert.deepEqual(promqlProblems(spec.example, RECORDS), [], spec.name);
});

test('every alert has a runbook, and every runbook an alert', () => {
  assert.deepEqual(
    pages()
      .map((page) => page.replace(/\.md$/, ''))
      .sort(),
    [...ALERT_NAMES].sort(),
  );
});

const SECTIONS = [
  'Meaning',
  'Impact',
  'Triage',
  'Diagnosis',
  'Mitigation',
  'Verify',
  'Escalation',
  'Aftercare',
  'Automation',
  'Known false positives',
];
/** The commands of src/cmd/main.ts, read from its table. */
const COMMANDS = new Set(
  [...readFileSync('src/cmd/main.ts', 'utf8').matchAll(/^ {2}(\w+): \{\s+summary:/gm)].map((match) => match[1]),
);

for (const alert of ALERT_NAMES) {
  test(`the runbook of ${alert} is complete`, () => {
    const text = runbook(alert);
    assert.match(
      text,
      new RegExp(
        `^---\nalert: ${alert}\nseverity: .+\nowner: .+\nslo: .+\nfailure_mode: .+\nlast_drilled: .+\n---\n\n# ${alert}\n`,
      ),
    );
    assert.deepEqual(
      [...text.matchAll(/^## (.+)$/gm)].map((match) => match[1]),
      SECTIONS,
    );
    for (const [, language] of text.matchAll(/^```(.+)$/gm))
      assert.match(language ?? '', /^(sh (check|mitigate|verify|rollback)|promql)$/);
    for (const [, command] of text.matchAll(/(?:^|`)cooper ([a-z]+)/gm))
      assert.ok(COMMANDS.has(command), `cooper ${command} is no command`);
    for (const [, linked] of text.matchAll(/\]\((\w+)\.md\)/g))
      assert.ok(ALERT_NAMES.includes(linked ?? ''), `link to ${linked}`);
    const severities = new Set(ALERTS.filter((rule) => rule.alert === alert).map((rule) => rule.labels.severity));
    const [, said = ''] = /^severity: (.+)$/m.exec(text) ?? [];
    for (const severity of severities)
      assert.ok(said.includes(String(severity)), `${alert} is ${severity}; the page says ${said}`);
  });
}

test('every alert carries the labels and annotations that routing and people need', () => {
  for (const { alert, labels, annotations } of ALERTS) {
    assert.match(alert, /^Cooper[A-Z][A-Za-z]+$/);
    assert.match(labels.severity ?? '', /^(critical|warning|info|none)$/, alert);
    for (const label of ['service', 'root_cause']) assert.ok(labels[label], `${alert} lacks ${label}`);
    for (const annotation of ['summary', 'description', 'runbook_url', 'dashboard_url']) {
      assert.ok(annotations[annotation], `${alert} lacks ${annotation}`);
    }
    assert.doesNotMatch(annotations.summary ?? '', /\{\{/, `${alert}: the summary is one static sentence`);
    assert.ok(annotations.runbook_url?.endsWith(`/${alert}.md`));
  }
});

test('every alert is tested firing and silent', () => {
  const symptoms = ALERT_NAMES.filter(
    (name) => !OBJECTIVES.some(({ alertName }) => alertName === name) && name !== 'CooperWatchdog',
  );
  const fired = new Set(
    SYMPTOM_SCENARIOS.flatMap(({ at }) => at.flatMap(({ fires }) => fires.map((fire) => fire.split(' ')[0]))),
  );
  assert.deepEqual(
    symptoms.filter((name) => !fired.has(name)),
    [],
  );
  for (const { name } of OBJECTIVES) {
    const scenarios = [...SLO_SCENARIOS, ...LOW_TRAFFIC_SCENARIOS].filter(({ slo }) => slo === name);
    assert.ok(
      scenarios.some(({ at }) => at.some(({ fires }) => fires.length > 0)),
      `${name} never fires in a test`,
    );
    assert.ok(
      scenarios.some(({ at }) => at.every(({ fires }) => fires.length === 0)),
      `${name} is never silent in a test`,
    );
  }
});
