/** `cooper slo lint`, `rules` and `convert` from outside, their output judged by promtool. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { unableTo } from '../fixtures/daemon.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const cooper = (args: readonly string[], input = '') =>
  spawnSync(process.execPath, [MAIN, 'slo', ...args], { encoding: 'utf8', input });

/** An objective of each kind that has series of its own, and a composite of them. */
const OBJECTIVES = `
apiVersion: cooper/v1
kind: Objectives
objectives:
  - name: faults
    target: 0.99
    period: 1d
    indicator: {kind: failures, bad: 'cooper_builds_total{result="error"}', total: cooper_builds_total}
  - name: quick
    target: 0.9
    period: 1d
    indicator:
      kind: events
      good: cooper_build_duration_seconds_bucket{result="success",phase="total",le="600"}
      total: cooper_build_duration_seconds_count{result="success",phase="total"}
  - name: slices
    target: 0.95
    period: 1d
    budgeting: {kind: ratio-timeslices, sliceSeconds: 300}
    indicator: {kind: failures, bad: 'cooper_builds_total{result="error"}', total: cooper_builds_total}
  - name: room
    target: 0.95
    period: 1d
    indicator: {kind: state, gauge: cooper_disk_free_bytes, per: cooper_disk_size_bytes, op: gte, threshold: 0.1, everySeconds: 300}
  - name: all
    target: 0.98
    period: 1d
    indicator: {kind: weighted, parts: [faults, {slo: quick, weight: 2}]}
`;

test('rules and tests generated for a file of objectives of every kind pass promtool', { skip: unableTo('promtool') }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-slo-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'slo.yaml');
  writeFileSync(file, OBJECTIVES);
  const made = cooper(['rules', file, '--out', dir, '--sloth-names', '--runbook-url', 'https://example.org/{slo}']);
  assert.equal(made.status, 0, made.stderr);
  for (const args of [
    ['check', 'rules', join(dir, 'slo-rules.yaml')],
    ['test', 'rules', join(dir, 'slo-rules.test.yaml')],
  ]) {
    const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
    assert.equal(status, 0, `${stdout}\n${stderr}`);
  }
  const rules = cooper(['rules', file, '--runbook-url', 'https://example.org/{slo}']).stdout;
  assert.match(rules, /runbook_url: "?https:\/\/example.org\/quick/);
  const tests = cooper(['rules', file, '--tests']).stdout;
  assert.match(tests, /- name: "faults: \d+ bad of \d+ events fire the page pair 1h\/5m,/);
});

test('lint says all errors, with an exit status of 1, and nothing is made of a file that has some', () => {
  const bad = OBJECTIVES.replace('target: 0.99', 'target: 0').replace('{slo: quick, weight: 2}', 'slow');
  const linted = cooper(['lint', '-'], bad);
  assert.equal(linted.status, 1);
  assert.match(linted.stdout, /^stdin:6:13: error: objectives\[0\].target: .* \[target\]$/m);
  assert.match(
    linted.stdout,
    /^stdin:28:\d+: error: objectives\[4\].indicator.parts\[1\].*there is no objective "slow".* \[composite\]$/m,
  );
  const { findings } = JSON.parse(cooper(['lint', '-', '--json'], bad).stdout);
  assert.ok(findings.some((finding: { rule: string; line: number }) => finding.rule === 'target' && finding.line === 6));
  assert.equal(cooper(['rules', '-'], bad).status, 2);
  assert.equal(cooper(['lint']).status, 0, 'the shipped objectives are sound');
  assert.equal(cooper(['lint', '-', '--retention', '12h'], OBJECTIVES).status, 1, 'a window longer than the retention');
});

test('what is converted to OpenSLO and back is the same file', () => {
  const own = cooper(['convert', '--to', 'cooper', '-'], OBJECTIVES).stdout;
  const there = cooper(['convert', '-'], own);
  assert.match(there.stdout, /^apiVersion: openslo\/v1$/m);
  assert.equal(cooper(['convert', '--to', 'cooper', '-'], there.stdout).stdout.length, own.length);
});
