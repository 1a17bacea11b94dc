/** A real Prometheus scrapes a real daemon that has done a day's kinds of builds: every panel shows data, and the right data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DASHBOARDS } from '../../dashboards/all.ts';
import { dashboardJson } from '../../dashboards/grafana.ts';
import { cancelBuild } from '../fixtures/cancelled-build.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { recordedFaults } from '../fixtures/recorded-faults.ts';
import { startRegistry } from '../fixtures/registry.ts';
import { askEveryPanel, substituted } from '../panels.ts';
import { type Prometheus, startPrometheus } from '../prometheus.ts';

/** Before the first build: every variable has a value to choose, and a panel without data says what it waits for. */
async function freshBoardsSay(prometheus: Prometheus): Promise<void> {
  for (const board of DASHBOARDS) {
    for (const variable of (dashboardJson(board) as Board).templating.list) {
      const [, match, label] = /^label_values\((.+), (\w+)\)$/.exec(variable.definition ?? '') ?? [];
      if (match === undefined || label === undefined) continue;
      const values = await prometheus.labelValues(label, substituted(match));
      assert.ok(values.length > 0, `${board.title}: $${variable.name} has nothing to choose`);
    }
  }
  const silent = (await askEveryPanel(prometheus)).filter(({ series, emptyUntil }) => series === 0 && emptyUntil === undefined);
  assert.deepEqual(silent, []);
}

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'prometheus', 'promtool');

interface Board {
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] };
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

/** Counters show an increase between two scrapes, so some must lie before and some after what is to be seen. */
async function scrapes(prometheus: Prometheus, more: number): Promise<void> {
  const expr = 'sum(count_over_time(up{job="cooper"}[10m]))';
  const before = (await prometheus.query(expr))[0]?.value ?? 0;
  await prometheus.until(expr, (samples) => (samples[0]?.value ?? 0) >= before + more);
}

/** What this day does not bring about: panels that wait for it may be empty here, no other may. */
const NOT_TODAY = new Set([
  'a bad event in the last hour', // of every objective; build-success has one, see below
  'the period holds an event', // of every objective
  'an outage ends',
  'the disk fills',
  'TLS is configured',
  'a registry tells its rate limit',
  '`cooper cache warm` runs',
  'the disk has a limit of inodes',
]);

/** Builds between a quarter and a third of an hour ago on another daemon, so that there is something to compare today with. */
function yesterday(): string {
  const nowS = Math.floor(Date.now() / 1000);
  const times = Array.from({ length: 9 }, (_, index) => nowS - (19 - index) * 60);
  const scope = 'job="cooper",instance="before:1"';
  const family = (name: string, type: string, series: readonly string[]): string =>
    [
      `# TYPE ${name} ${type}`,
      ...series.flatMap((one) => times.map((time, index) => `${one.replace('{', `{${scope},`)} ${index * 10} ${time}`)),
    ].join('\n');
  const finished = 'phase="total",result="success"';
  return [
    family('cooper_builds', 'counter', ['cooper_builds_total{result="success",error_class="none"}']),
    family('cooper_steps', 'counter', ['cooper_steps_total{kind="exec",cache="hit_local"}']),
    family('cooper_build_duration_seconds', 'histogram', [
      `cooper_build_duration_seconds_bucket{le="60.0",${finished}}`,
      `cooper_build_duration_seconds_bucket{le="+Inf",${finished}}`,
      `cooper_build_duration_seconds_sum{${finished}}`,
      `cooper_build_duration_seconds_count{${finished}}`,
    ]),
    '# EOF\n',
  ].join('\n');
}

test('every panel shows data of a daemon that built, cached, failed, was cancelled, pushed, pruned and lost its cache', {
  skip,
  timeout: 180_000,
}, async () => {
  await using registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  const base = `${registry.host}/base:latest`;
  await using daemon = await TestDaemon.start({ toml: '[cooper.canary]\ninterval = "3s"\n' });
  await using prometheus = await startPrometheus({ targets: [new URL(daemon.opsUrl).host], history: yesterday() });
  await prometheus.until('count_over_time(up{job="cooper"}[10m])', (samples) => (samples[0]?.value ?? 0) >= 2);

  await freshBoardsSay(prometheus);

  await using context = await contextOf({ 'in.txt': 'in\n' });
  const good = `FROM ${base} AS build\nCOPY in.txt /in\nRUN cat /in > /out && echo done\nFROM scratch\nCOPY --from=build /out /\n`;
  const push = ['--output', `type=image,name=${registry.host}/out:1,push=true`];
  const succeed = async (...more: string[]): Promise<void> => {
    context.write('Dockerfile', good);
    const { status, stderr } = await buildDir(daemon, context.dir, [...push, ...more]);
    assert.equal(status, 0, stderr);
  };
  await using proxy = await FaultProxy.start(registry.host);
  const cache = `type=registry,ref=${proxy.address}/cache:1`;
  await succeed('--export-cache', cache); // cold
  await succeed(); // cached
  context.write('Dockerfile', `FROM ${base}\nRUN exit 3\n`);
  assert.equal((await buildDir(daemon, context.dir)).status, 1);
  context.write('Dockerfile', `FROM ${base}\nRUN echo it runs && sleep 600\n`);
  await cancelBuild(daemon, context.dir, /^#\d+ [\d.]+ it runs$/m);
  await prometheus.until('sum(cooper_builds_total)', (samples) => samples[0]?.value === 4);
  const pruned = await buildctl(daemon, ['prune', '--all']);
  assert.equal(pruned.status, 0, pruned.stderr);
  await proxy.set({ kind: 'refuse' });
  context.write('Dockerfile', `FROM ${proxy.address}/base:latest\nRUN true\n`);
  assert.equal((await buildDir(daemon, context.dir)).status, 1); // a registry that is away is no fault of the input
  await succeed('--import-cache', cache); // cold again, without the cache that is down
  await daemon.ops('/slo'); // judges now; by itself it does so every ten seconds
  await prometheus.until('cooper_canary_builds_total{result="success"}', (samples) => (samples[0]?.value ?? 0) >= 1);
  await scrapes(prometheus, 3);

  const [version = ''] = await prometheus.labelValues('version', 'cooper_build_info');
  const panels = await askEveryPanel(prometheus, { version_a: version, version_b: version });
  assert.ok(panels.length > 150, `${panels.length} queries`);
  assert.deepEqual(
    panels.filter(({ series, error, emptyUntil = '' }) => error !== undefined || (series === 0 && !NOT_TODAY.has(emptyUntil))),
    [],
  );
  // Where the same panel exists for every objective, build-success must have it.
  for (const { panel, series } of panels.filter(({ panel }) => /\/ (Build success|Objectives \/)/.test(panel)))
    assert.ok(series > 0, panel);
  const slo = panels.filter(({ panel }) => panel.startsWith('Cooper / SLO detail / Achieved'));
  assert.deepEqual(
    slo.map(({ series }) => series),
    [1],
  );
  for (const name of ['Cooper / Executive / Build time / median', 'Cooper / Debug / Steps, 95th percentile by kind / {{op}}']) {
    const dots = await prometheus.exemplars(panels.find(({ panel }) => panel === name)?.expr ?? '');
    assert.match(dots[0]?.labels.trace_id ?? '', /^[0-9a-f]{32}$/, `${name} has no dots that lead to traces`);
  }
  const marks = DASHBOARDS.flatMap((board) => (dashboardJson(board) as Board).annotations.list);
  for (const { expr } of marks) await prometheus.query(substituted(expr)); // throws when Prometheus refuses it
  const markNamed = async (name: string): Promise<number> =>
    (await prometheus.query(substituted(marks.find((mark) => mark.name === name)?.expr ?? '').replaceAll('[30s]', '[5m]')))
      .length;
  assert.equal(await markNamed('Outages'), 1);
  assert.ok((await markNamed('Garbage collection')) >= 1);

  const numbers = async (expr: string, label: string): Promise<Record<string, number>> => {
    const samples = await prometheus.query(`sum by (${label}) (${expr}) > 0`);
    return Object.fromEntries(samples.map(({ labels, value }) => [labels[label] ?? '', value]));
  };
  assert.deepEqual(await numbers('cooper_builds_total', 'result'), { success: 3, failure: 1, cancellation: 1, error: 1 });
  assert.deepEqual(await numbers('cooper_gc_runs_total', 'trigger').then(({ prune }) => prune), 1);
  const [freed] = await prometheus.query('cooper_gc_freed_bytes_total');
  assert.ok((freed?.value ?? 0) > 1_000_000, `a base of a megabyte was pruned, not ${freed?.value}`);
  const steps = await numbers('cooper_steps_total{kind=~"exec|file"}', 'cache');
  assert.equal(steps.miss, 8, JSON.stringify(steps)); // three a cold build, one failing, one cancelled
  assert.equal((steps.hit_local ?? 0) + (steps.hit_memory ?? 0) + (steps.hit_implied ?? 0), 3, JSON.stringify(steps));
  const phases = Object.keys(await numbers('cooper_step_phase_duration_seconds_count', 'phase'));
  for (const phase of ['queue', 'lookup', 'transfer', 'pull', 'unpack', 'mounts', 'run', 'commit', 'export', 'push'])
    assert.ok(phases.includes(phase), `phase ${phase} is measured, not only ${phases}`);
  const requests = await numbers('cooper_registry_requests_total', 'op');
  assert.ok(Object.keys(requests).length >= 3, `requests to the registry: ${JSON.stringify(requests)}`);
  const sessions = await numbers('cooper_sessions_total', 'end');
  assert.ok((sessions.closed ?? 0) >= 4, `sessions: ${JSON.stringify(sessions)}`);
  // The daemon looks at its disk every fifteen seconds; a base of a megabyte is on it.
  await prometheus.until('sum(cooper_cache_bytes)', (samples) => (samples[0]?.value ?? 0) > 1_000_000);
});

test('panels that are empty on a good day show data after the faults they wait for', {
  skip: unableTo('prometheus'),
}, async () => {
  await using faults = await recordedFaults();
  faults.happen();
  await using prometheus = await startPrometheus({ targets: [faults.target] });
  await scrapes(prometheus, 2);
  faults.happen();
  await scrapes(prometheus, 2);
  const panels = (await askEveryPanel(prometheus)).filter(({ emptyUntil = '' }) => NOT_TODAY.has(emptyUntil));
  assert.ok(panels.length > 20, `${panels.length} queries`);
  assert.deepEqual(
    panels.filter(({ series }) => series === 0),
    [],
  );
  assert.deepEqual([...new Set(panels.map(({ emptyUntil }) => emptyUntil))].sort(), [...NOT_TODAY].sort());
});
