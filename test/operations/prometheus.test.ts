import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/core/clock.ts';
import { noCountStore } from '../../src/slo/count-store.ts';
import { SloEvaluator } from '../../src/slo/evaluator.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { CACHE_KINDS } from '../../src/telemetry/catalog.ts';
import { observeDaemon } from '../../src/telemetry/daemon-metrics.ts';
import { openTelemetry, type Telemetry } from '../../src/telemetry/telemetry.ts';
import { providers } from '../../src/web/ops-providers.test-rig.ts';
import { openOpsServer } from '../../src/web/ops-server.ts';
import { askEveryPanel } from '../panels.ts';
import { missing, type Prometheus, startPrometheus } from '../prometheus.ts';
import { play, TYPICAL_STEPS } from '../synthetic-builds.ts';

const skip = missing('prometheus') ?? false;

interface Observed extends AsyncDisposable {
  readonly telemetry: Telemetry;
  readonly slo: SloEvaluator;
  /** host:port of the operations port. */
  readonly address: string;
}

/** Everything that observes a daemon, real; only the builds are made up. */
async function openObserved(): Promise<Observed> {
  const onError = (error: unknown): void => assert.fail(String(error));
  const clock = systemClock();
  const telemetry = openTelemetry({
    clock,
    version: '0.0.0-test',
    instance: 'test',
    collectorUrl: undefined,
    onTrouble: onError,
  });
  const daemon = observeDaemon(telemetry.metrics, {
    version: '0.0.0-test',
    slots: () => ({ busy: 1, limit: 4, waiting: 0 }),
    cache: () => ({
      bytesByKind: Object.fromEntries(CACHE_KINDS.map((kind) => [kind, 1000])),
      limitBytes: 10_000,
      recordsInUse: 1,
      recordsIdle: 5,
    }),
    disk: () => ({ freeBytes: 50, sizeBytes: 100 }),
    sessions: () => 1,
    configUnknownKeys: () => 0,
  });
  const slo = await SloEvaluator.open({
    objectives: OBJECTIVES,
    counters: telemetry.metrics,
    gauges: telemetry.metrics,
    store: noCountStore,
    clock,
    onError,
  });
  const server = await openOpsServer(
    { host: '127.0.0.1', port: 0 },
    providers({ scrape: (accept) => telemetry.metrics.scrape(accept), slo: () => slo.report(), onError }),
  );
  return {
    telemetry,
    slo,
    address: new URL(server.url).host,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await slo[Symbol.asyncDispose]();
      daemon[Symbol.dispose]();
      await telemetry[Symbol.asyncDispose]();
    },
  };
}

/** Counters need two scrapes to show an increase: the first must see them before anything happened. */
async function scrapes(prometheus: Prometheus, more: number): Promise<void> {
  const count = async (): Promise<number> =>
    (await prometheus.query('sum(count_over_time(up{job="cooper"}[10m]))'))[0]?.value ?? 0;
  const before = await count();
  await prometheus.until('sum(count_over_time(up{job="cooper"}[10m]))', (samples) => (samples[0]?.value ?? 0) >= before + more);
}

test('every panel of every dashboard shows data from a real Prometheus that scraped the operations port', { skip }, async () => {
  await using observed = await openObserved();
  await using prometheus = await startPrometheus({ targets: [observed.address] });
  await scrapes(prometheus, 2);
  const { telemetry } = observed;
  for (let index = 0; index < 12; index++) {
    const fails = index === 3 ? ('step-failed' as const) : index === 4 ? ('unavailable' as const) : undefined;
    play(telemetry.sink, { ref: `b${index}`, startedAtNs: systemClock().nowNs(), ...(fails && { fails }) });
  }
  telemetry.recorders.rpc('/moby.buildkit.v1.Control/Solve', 0, 1.5);
  telemetry.recorders.registryRequest('blob-get', 200);
  telemetry.recorders.gcRun({
    trigger: 'schedule',
    ok: true,
    seconds: 0.2,
    freedBytes: 1000,
    removedRecords: 3,
    removedByRule: { 'over limit': 3 },
  });
  telemetry.recorders.sessionEnded('closed');
  await observed.slo.report(); // in a daemon every ten seconds
  await scrapes(prometheus, 3);
  const results = await askEveryPanel(prometheus);
  assert.ok(results.length > 50, `${results.length} queries`);
  assert.deepEqual(
    results.filter(({ series, emptyUntil }) => series === 0 && emptyUntil === undefined),
    [],
  );
  const values = async (expr: string): Promise<number | undefined> => (await prometheus.query(expr))[0]?.value;
  assert.equal(await values('sum(cooper_builds_total)'), 12);
  assert.equal(await values('sum(cooper_slo_good_events{slo="build-success"})'), 11);
});

test('the variables of the dashboards have values on a daemon that has built nothing', { skip }, async () => {
  await using observed = await openObserved();
  await using prometheus = await startPrometheus({ targets: [observed.address] });
  await scrapes(prometheus, 1);
  assert.deepEqual(await prometheus.labelValues('job', 'cooper_build_info'), ['cooper']);
  assert.deepEqual(await prometheus.labelValues('instance', 'cooper_build_info{job="cooper"}'), [observed.address]);
});

test("the exemplar of a build's time leads to its trace", { skip }, async () => {
  await using observed = await openObserved();
  await using prometheus = await startPrometheus({ targets: [observed.address] });
  await scrapes(prometheus, 1);
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  play(observed.telemetry.sink, { ref: 'b1', startedAtNs: systemClock().nowNs(), traceparent });
  await scrapes(prometheus, 2);
  const exemplars = await prometheus.exemplars('cooper_build_duration_seconds_bucket{phase="total"}');
  assert.deepEqual(
    exemplars.map(({ labels }) => labels.trace_id),
    [observed.telemetry.traceIdOf('b1')],
  );
  const root = observed.telemetry.traceOf('b1')?.[0];
  assert.equal(exemplars[0]?.labels.span_id, root?.spanId);
});

test('broken Dockerfiles fire nothing; a tenth of builds failing by our fault pages, in a real Prometheus', {
  skip,
}, async () => {
  await using observed = await openObserved();
  await using prometheus = await startPrometheus({ targets: [observed.address], rules: ['alerts/rules.yaml'] });
  await scrapes(prometheus, 2);
  const builds = (count: number, fails?: 'step-failed' | 'internal'): void => {
    for (let index = 0; index < count; index++) {
      play(observed.telemetry.sink, {
        ref: `${fails}${index}`,
        startedAtNs: systemClock().nowNs(),
        steps: TYPICAL_STEPS,
        ...(fails && { fails }),
      });
    }
  };
  builds(60, 'step-failed');
  builds(30);
  await prometheus.until('cooper:slo_events:increase6h{slo="build-success"}', (samples) => (samples[0]?.value ?? 0) > 80);
  await scrapes(prometheus, 6); // three evaluations of the alerts
  assert.deepEqual(await prometheus.query('ALERTS{slo="build-success"}'), []);
  builds(10, 'internal');
  const firing = await prometheus.until(
    'ALERTS{alertstate="firing",slo="build-success",severity="critical"}',
    (samples) => samples.length > 0,
    60_000,
  );
  assert.deepEqual(
    firing.map(({ labels }) => [labels.alertname, labels.long, labels.short]),
    [['CooperBuildSuccessBurn', '6h', '30m']],
  );
});
