/** Counts out of a real Prometheus are those the daemon recorded, so a backtest over either says the same. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import { countsOfPrometheus } from '../../src/cmd/client/slo/prometheus-source.ts';
import { backtest } from '../../src/slo/backtest.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import type { Objective } from '../../src/slo/spec.ts';
import { unableTo } from '../fixtures/daemon.ts';
import { startPrometheus } from '../prometheus.ts';
import { randomHistory } from './slo-histories.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const DAY = 86_400;
const START = 1_790_000_010 - (1_790_000_010 % 30);
const success = OBJECTIVES.find(({ name }) => name === 'build-success') as Objective;
const shortened: Objective = {
  ...success,
  period: '1d',
  pairs: [
    { severity: 'page', long: '1h', short: '5m', budgetPercent: 30 },
    { severity: 'ticket', long: '6h', short: '30m', budgetPercent: 30 },
  ],
};

test('a backtest over a Prometheus says what one over the recorded counts says', {
  skip: unableTo('prometheus', 'promtool'),
  timeout: 120_000,
}, async () => {
  const history = await randomHistory([shortened], { seed: 7, startS: START, durationS: 3 * DAY, job: 'ci', missed: false });
  await using prometheus = await startPrometheus({ targets: [], history: history.text });
  const range = { fromS: START + DAY, toS: START + 3 * DAY - 600, stepS: 120, significantShare: 0.05 };
  const slots = await countsOfPrometheus(prometheus.url, 'ci', [shortened], START, START + 3 * DAY);
  const judge = (
    counted: ReadonlyMap<string, Parameters<typeof backtest>[2]['slots'] extends ReadonlyMap<string, infer S> ? S : never>,
  ) => backtest(shortened, [shortened], { slots: counted, adjustments: [] }, range);
  const [remote, own] = [judge(slots), judge(history.slots)];
  assert.ok(own.alerts.length > 0 && own.incidents.length > 0, 'the history has something to say');
  assert.equal(remote.alerts.length, own.alerts.length);
  assert.equal(remote.incidents.length, own.incidents.length);
  for (const [index, alert] of own.alerts.entries()) {
    const other = remote.alerts[index];
    assert.deepEqual([other?.severity, other?.long, other?.false], [alert.severity, alert.long, alert.false]);
    assert.ok(Math.abs((other?.fromS ?? 0) - alert.fromS) <= range.stepS, `${alert.long} at ${other?.fromS} and ${alert.fromS}`);
  }

  const args = ['--prometheus', prometheus.url, '--job', 'ci', '--slo', 'build-success', '--json'];
  const times = ['--from', new Date(range.fromS * 1000).toISOString(), '--to', new Date(range.toS * 1000).toISOString()];
  const child = spawn(process.execPath, [MAIN, 'slo', 'backtest', ...args, ...times], { stdio: ['ignore', 'pipe', 'inherit'] });
  const text = (await child.stdout.toArray()).join('');
  if (child.exitCode === null) await once(child, 'exit');
  assert.equal(child.exitCode, 0);
  const { results } = JSON.parse(text);
  assert.equal(results[0].slo, 'build-success');
  assert.ok(results[0].incidents.length > 0 && results[0].curve.length > 50);
});
