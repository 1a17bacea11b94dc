import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServiceEvent } from '../builder/events.ts';
import { systemClock } from '../core/clock.ts';
import { Metrics } from './metrics.ts';
import { recorders } from './recorders.ts';
import { serviceMetrics } from './service-metrics.ts';

const SECOND = 1_000_000_000n;

function rig(nowNs = 0n) {
  const metrics = new Metrics();
  const sink = serviceMetrics(metrics, { ...systemClock(), nowNs: () => nowNs }, () => undefined);
  const sample = async (line: string): Promise<number> => {
    const { body } = await metrics.scrape();
    const found = body.split('\n').find((one) => one.startsWith(`${line} `));
    return Number(found?.slice(line.length + 1));
  };
  return { metrics, sink, sample };
}
const breaker = (target: string, state: 'closed' | 'half-open' | 'open'): ServiceEvent => ({
  type: 'breaker-changed',
  atNs: 0n,
  backend: 'registry',
  target,
  state,
  sinceNs: 0n,
});

test('the breaker gauge shows the worst of several caches of one kind, and 0 again when all are closed', async () => {
  const { sink, sample } = rig();
  const state = (): Promise<number> => sample('cooper_backend_breaker_state{backend="registry"}');
  assert.equal(await state(), 0);
  sink.report(breaker('a', 'open'));
  sink.report(breaker('b', 'half-open'));
  assert.equal(await state(), 2);
  sink.report(breaker('a', 'closed'));
  assert.equal(await state(), 1);
  sink.report(breaker('b', 'closed'));
  assert.equal(await state(), 0);
  assert.equal(await sample('cooper_backend_breaker_changes_total{backend="registry",state="closed"}'), 2);
});

test('an operation that was skipped counts as one and takes no part in durations and bytes', async () => {
  const { sink, sample } = rig();
  const operation = (result: 'ok' | 'skipped', bytes: number): ServiceEvent => ({
    type: 'remote-cache-operation',
    atNs: 0n,
    backend: 's3',
    op: 'load',
    result,
    durationNs: 2n * SECOND,
    bytes,
  });
  sink.report(operation('ok', 100));
  sink.report(operation('skipped', 0));
  assert.equal(await sample('cooper_cache_remote_operations_total{backend="s3",op="load",result="skipped"}'), 1);
  assert.equal(await sample('cooper_cache_remote_duration_seconds_count{backend="s3",op="load"}'), 1);
  assert.equal(await sample('cooper_cache_remote_bytes_total{backend="s3",op="load"}'), 100);
});

test('an outage shows its age while it lasts and its length once, with the objective as an edge', async () => {
  const { sink, sample } = rig(900n * SECOND);
  const active = (): Promise<number> => sample('cooper_outage_active_seconds{component="remote-cache"}');
  sink.report({ type: 'outage-began', atNs: 300n * SECOND, component: 'remote-cache' });
  sink.report({ type: 'outage-began', atNs: 600n * SECOND, component: 'remote-cache' });
  assert.equal(await active(), 600, 'from the first failure');
  sink.report({ type: 'outage-ended', atNs: 1200n * SECOND, component: 'remote-cache', startedAtNs: 300n * SECOND });
  assert.equal(await active(), 0);
  assert.equal(await sample('cooper_outage_seconds_bucket{le="900",component="remote-cache"}'), 1);
  assert.equal(await sample('cooper_outage_seconds_bucket{le="600",component="remote-cache"}'), 0);
});

test('gauges that know nothing yet are absent, and go away again when there is nothing to say', async () => {
  const { metrics, sample } = rig();
  const record = recorders(metrics);
  assert.equal(await sample('cooper_disk_time_to_full_seconds'), Number.NaN);
  record.timeToFull(86_400);
  assert.equal(await sample('cooper_disk_time_to_full_seconds'), 86_400);
  record.timeToFull(undefined);
  assert.equal(await sample('cooper_disk_time_to_full_seconds'), Number.NaN);
  const asked = (host: string, remaining: number, limit?: number): void =>
    record.registryRequest('manifest-get', 200, { host, durationMs: 3, rateLimit: { remaining, ...(limit && { limit }) } });
  asked('registry-1.docker.io', 7, 100);
  asked('registry.internal.example', 3);
  assert.equal(await sample('cooper_registry_rate_limit_remaining{registry="docker.io"}'), 7);
  assert.equal(await sample('cooper_registry_rate_limit_remaining{registry="other"}'), 3);
  assert.equal(await sample('cooper_metric_label_overflow_total{reason="unknown_value"}'), 0, 'other is a word of ours');
});
