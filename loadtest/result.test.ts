/** Scenario arithmetic and verdicts, without a daemon. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare, judged, type LoadResult, statsOf } from './result.ts';
import { arrivalsOf, SCENARIOS, workloadOf } from './scenarios.ts';

const resultWith = (samples: readonly number[], change: Partial<LoadResult> = {}): LoadResult => {
  const [stats, full] = [statsOf(samples), statsOf(samples.map(() => 1))];
  return judged({
    ...{ scenario: 'steady', driver: 'node', durationSeconds: 10, builds: samples.length, failed: 0, dropped: 0 },
    metrics: { build_seconds: stats, queue_seconds: stats, first_artifact_seconds: stats, hit_ratio: full },
    ...change,
  });
};

test('as many builds arrive as the rate asks for, evenly, and in a ramp ever closer together', () => {
  const steady = arrivalsOf(SCENARIOS.steady, 100, 2);
  assert.ok(Math.abs(steady.length - 200) <= 1, `${steady.length}`);
  const ramp = arrivalsOf(SCENARIOS.ramp, 100, 1);
  assert.ok(Math.abs(ramp.length - 510) <= 1, `${ramp.length}`);
  assert.ok(ramp.filter((atS) => atS < 50).length < ramp.length / 3);
});

test('every kind of build in a mix comes, in its proportion', () => {
  const kinds = Array.from({ length: 100 }, (_, n) => workloadOf(SCENARIOS.steady, n));
  assert.deepEqual(
    ['noop', 'compile', 'context', 'logs'].map((kind) => kinds.filter((one) => one === kind).length),
    [60, 20, 10, 10],
  );
});

test('failed builds, builds that never came and arrivals left out break thresholds', () => {
  const broken = (result: LoadResult): string[] =>
    result.verdicts.filter(({ ok }) => !ok).map(({ rule }) => rule.split(' ').slice(0, 2).join(' '));
  assert.deepEqual(broken(resultWith([1, 1, 1])), []);
  assert.deepEqual(broken(resultWith([1, 1, 1], { failed: 1 })), ['builds_failed rate']);
  assert.deepEqual(broken(resultWith([1, 1, 1], { dropped: 2 })), ['2 arrivals']);
  assert.equal(broken(resultWith([])).length, 4);
});

test('a comparison names what got worse, and nothing when the runs are alike', () => {
  assert.deepEqual(compare(resultWith([1, 1, 1]), resultWith([1.1, 1, 1])).worse, []);
  const { worse, lines } = compare(resultWith([1, 1, 1]), resultWith([2, 2, 2]));
  assert.ok(worse.includes('build_seconds p95'));
  assert.match(lines.join('\n'), /build_seconds p50 +1\.000 +2\.000 +2\.00 {2}worse/);
});
