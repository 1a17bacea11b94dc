/** A real Prometheus scrapes a real daemon that has done a day's kinds of builds: every panel shows data, and the right data. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cancelBuild } from '../fixtures/cancelled-build.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry } from '../fixtures/registry.ts';
import { askEveryPanel } from '../panels.ts';
import { type Prometheus, startPrometheus } from '../prometheus.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'prometheus');

/** Counters show an increase between two scrapes, so some must lie before and some after what is to be seen. */
async function scrapes(prometheus: Prometheus, more: number): Promise<void> {
  const expr = 'sum(count_over_time(up{job="cooper"}[10m]))';
  const before = (await prometheus.query(expr))[0]?.value ?? 0;
  await prometheus.until(expr, (samples) => (samples[0]?.value ?? 0) >= before + more);
}

test('every panel shows data of a daemon that built, cached, failed, was cancelled, pushed and pruned', {
  skip,
  timeout: 120_000,
}, async () => {
  await using registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  const base = `${registry.host}/base:latest`;
  await using daemon = await TestDaemon.start();
  await using prometheus = await startPrometheus({ targets: [new URL(daemon.opsUrl).host] });
  await prometheus.until('count_over_time(up{job="cooper"}[10m])', (samples) => (samples[0]?.value ?? 0) >= 2);

  await using context = await contextOf({ 'in.txt': 'in\n' });
  const good = `FROM ${base} AS build\nCOPY in.txt /in\nRUN cat /in > /out && echo done\nFROM scratch\nCOPY --from=build /out /\n`;
  const push = ['--output', `type=image,name=${registry.host}/out:1,push=true`];
  const succeed = async (): Promise<void> => {
    context.write('Dockerfile', good);
    const { status, stderr } = await buildDir(daemon, context.dir, push);
    assert.equal(status, 0, stderr);
  };
  await succeed(); // cold
  await succeed(); // cached
  context.write('Dockerfile', `FROM ${base}\nRUN exit 3\n`);
  assert.equal((await buildDir(daemon, context.dir)).status, 1);
  context.write('Dockerfile', `FROM ${base}\nRUN echo it runs && sleep 600\n`);
  await cancelBuild(daemon, context.dir, /^#\d+ [\d.]+ it runs$/m);
  await prometheus.until('sum(cooper_builds_total)', (samples) => samples[0]?.value === 4);
  const pruned = await buildctl(daemon, ['prune', '--all']);
  assert.equal(pruned.status, 0, pruned.stderr);
  await succeed(); // cold again
  await daemon.ops('/slo'); // judges now; by itself it does so every ten seconds
  await scrapes(prometheus, 3);

  const panels = await askEveryPanel(prometheus);
  assert.ok(panels.length > 50, `${panels.length} queries`);
  assert.deepEqual(
    panels.filter(({ series }) => series === 0),
    [],
  );

  const numbers = async (expr: string, label: string): Promise<Record<string, number>> => {
    const samples = await prometheus.query(`sum by (${label}) (${expr}) > 0`);
    return Object.fromEntries(samples.map(({ labels, value }) => [labels[label] ?? '', value]));
  };
  assert.deepEqual(await numbers('cooper_builds_total', 'result'), { success: 3, failure: 1, cancellation: 1 });
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
