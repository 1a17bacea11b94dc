/** Twenty seconds of the load test: real builds at a constant rate by a client that is none of ours. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runLoad } from '../../loadtest/run-load.ts';
import { buildsOf, failuresOf, thresholdsOf } from '../../loadtest/summary.ts';
import { type TestDaemon, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('k6', 'runc', 'docker-registry', 'busybox');

/** Builds the daemon counted, by result. */
async function builtBy(daemon: TestDaemon): Promise<Record<string, number>> {
  const { body } = await daemon.ops('/metrics');
  const counts: Record<string, number> = {};
  for (const [, result = '', value] of body.matchAll(/^cooper_builds_total\{result="(\w+)"[^}]*\} (\d+)$/gm))
    counts[result] = (counts[result] ?? 0) + Number(value);
  return counts;
}

test('twenty seconds of load keep every threshold, and the daemon counts exactly the builds that were made', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const summaryDir = await mkdtemp(join(tmpdir(), 'cooper-load-summary-'));
  t.after(() => rm(summaryDir, { recursive: true, force: true }));
  let counted: Record<string, number> = {};
  const { ok, summary, output } = await runLoad({
    settings: { DURATION: '20s', RUN_RATE: '1', NOOP_RATE: '4' },
    summaryDir,
    afterwards: async (daemon) => {
      counted = await builtBy(daemon);
    },
  });
  assert.ok(summary !== undefined, output);
  assert.equal(failuresOf(summary), 0, output);
  const thresholds = thresholdsOf(summary);
  assert.equal(thresholds.length, 4, JSON.stringify(thresholds));
  assert.deepEqual(
    thresholds.filter((threshold) => !threshold.ok),
    [],
    output,
  );
  assert.ok(ok, output);
  const builds = buildsOf(summary);
  assert.ok(builds >= 98 && builds <= 104, `${builds} builds; 20 s at 5 a second and one to warm up`);
  assert.deepEqual(
    Object.entries(counted).filter(([, count]) => count > 0),
    [['success', builds]],
  );
  assert.match(await readFile(join(summaryDir, 'summary.md'), 'utf8'), /^\| run \| \d+ \|/m);
});

test('a broken threshold fails the run', { skip, timeout: 60_000 }, async (t) => {
  const summaryDir = await mkdtemp(join(tmpdir(), 'cooper-load-summary-'));
  t.after(() => rm(summaryDir, { recursive: true, force: true }));
  const { ok, summary, output } = await runLoad({ settings: { DURATION: '2s', RUN_P95: '0.001' }, summaryDir });
  assert.equal(ok, false, output);
  assert.ok(summary !== undefined, output);
  assert.deepEqual(
    thresholdsOf(summary)
      .filter((threshold) => !threshold.ok)
      .map(({ metric }) => metric),
    ['build_seconds{kind:run}'],
  );
});
