/** A real daemon, real builds by an unmodified client, a real Prometheus and a real OTLP intake. */
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SloReport } from '../../src/slo/report.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildDir, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { startCollector } from '../fixtures/otlp.ts';
import { askEveryPanel } from '../panels.ts';
import { missing, type Prometheus, startPrometheus } from '../prometheus.ts';

const skip = unableTo('buildctl', 'runc', 'busybox') || (missing('prometheus') ?? false);
const skipBuild = unableTo('buildctl', 'runc', 'busybox');

const DOCKERFILE = `FROM scratch AS base
COPY busybox /bin/sh
FROM base AS left
RUN echo "tp=$TRACEPARENT" && echo left > /left
FROM base AS right
RUN echo right > /right
FROM base
COPY --from=left /left /
COPY --from=right /right /
`;

async function busyboxContext(dockerfile = DOCKERFILE): Promise<TestContext> {
  const context = await contextOf({ Dockerfile: dockerfile });
  const { stdout } = await run('sh', ['-c', 'command -v busybox']);
  copyFileSync(stdout.trim(), join(context.dir, 'busybox'));
  return context;
}

const scraped = async (prometheus: Prometheus, more: number): Promise<void> => {
  const expr = 'sum(count_over_time(up{job="cooper"}[10m]))';
  const before = (await prometheus.query(expr).catch(() => []))[0]?.value ?? 0;
  await prometheus.until(expr, (samples) => (samples[0]?.value ?? 0) >= before + more);
};

test('every panel shows data of a daemon that has built, and the exemplar leads to the trace the collector got', {
  skip,
}, async () => {
  await using collector = await startCollector();
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  await using prometheus = await startPrometheus({ targets: [new URL(daemon.opsUrl).host], rules: ['alerts/rules.yaml'] });
  await scraped(prometheus, 2);
  await using context = await busyboxContext();
  const output = ['--output', `type=oci,dest=${join(context.dir, '..', `${daemon.pid}.tar`)}`];
  const builds = [await buildDir(daemon, context.dir, output), await buildDir(daemon, context.dir, output)];
  await run('rm', ['-f', join(context.dir, '..', `${daemon.pid}.tar`)]);
  for (const build of builds) assert.equal(build.status, 0, build.stderr);
  await daemon.ops('/slo'); // judges at once; by itself it does every ten seconds
  await scraped(prometheus, 3);

  const silent = (await askEveryPanel(prometheus)).filter(({ series, emptyUntil }) => series === 0 && emptyUntil === undefined);
  assert.deepEqual(silent, []);

  const { objectives } = JSON.parse((await daemon.ops('/slo')).body) as SloReport;
  for (const judged of ['build-success', 'build-latency', 'cache-hit', 'queue-wait', 'first-artifact'])
    assert.ok((objectives.find(({ name }) => name === judged)?.total ?? 0) > 0, `${judged} has events`);
  assert.deepEqual(await prometheus.query('ALERTS{alertstate="firing",severity=~"critical|warning"}'), []);

  const exemplars = await prometheus.exemplars('cooper_build_duration_seconds_bucket{phase="total",result="success"}');
  await daemon.kill('SIGTERM'); // flushes what is on its way to the collector
  const traces = new Set(collector.spans.map(({ traceId }) => traceId));
  assert.ok(exemplars.length > 0);
  for (const { labels } of exemplars) assert.ok(traces.has(labels.trace_id ?? ''), `no trace ${labels.trace_id}`);
});

test("a collector gets one trace per build: one root, the client's; every vertex; no orphan; the process of a step is in it", {
  skip: skipBuild,
}, async () => {
  await using collector = await startCollector();
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  await using context = await busyboxContext();
  const build = await buildDir(daemon, context.dir);
  assert.equal(build.status, 0, build.stderr);
  await daemon.kill('SIGTERM');
  const root = collector.spans.find(({ name }) => name === 'BUILD default');
  assert.ok(root, collector.spans.map(({ name }) => name).join('\n'));
  const spans = collector.spans.filter(({ traceId }) => traceId === root.traceId);
  const ids = new Set(spans.map(({ spanId }) => spanId));
  assert.equal(ids.size, spans.length, 'no span twice');
  const roots = spans.filter(({ parentSpanId = '' }) => !ids.has(parentSpanId));
  assert.deepEqual(
    roots.map(({ service, parentSpanId }) => [service, parentSpanId]),
    [['buildctl', undefined]],
  );
  const shown = [...build.stderr.matchAll(/^#\d+ (\[.+)$/gm)].map(([, name]) => name);
  const names = new Set(spans.map(({ name }) => name));
  for (const name of new Set(shown)) assert.ok(names.has(name ?? ''), `no span for ${name}`);
  const [, traceparent = ''] = /tp=(00-\S+)/.exec(build.stderr) ?? [];
  const [, traceId, spanId] = traceparent.split('-');
  const step = spans.find((span) => span.spanId === spanId);
  assert.equal(traceId, root.traceId);
  assert.match(step?.name ?? '', /RUN echo "tp=/);
});

test('a collector that is a black hole changes neither the result of a build nor the time a stop takes', {
  skip: skipBuild,
}, async (t) => {
  const sockets = new Set<Socket>();
  const hole = createServer((socket) => void sockets.add(socket));
  await new Promise<void>((resolve) => hole.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    hole.close();
  });
  const endpoint = `http://127.0.0.1:${(hole.address() as AddressInfo).port}`;
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } });
  await using context = await busyboxContext();
  assert.equal((await buildDir(daemon, context.dir)).status, 0);
  const start = performance.now();
  for (let index = 0; index < 5; index++) assert.equal((await buildDir(daemon, context.dir)).status, 0);
  const perBuildMs = (performance.now() - start) / 5;
  assert.ok(perBuildMs < 2_000, `${perBuildMs} ms per cached build`);
  const stopping = performance.now();
  await daemon.kill('SIGTERM');
  assert.ok(performance.now() - stopping < 10_000, `the stop took ${performance.now() - stopping} ms`);
});

test('broken Dockerfiles spend no budget of a real daemon', { skip: skipBuild }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await busyboxContext('FROM scratch\nCOPY busybox /bin/sh\nRUN exit 3\n');
  for (let index = 0; index < 3; index++) assert.notEqual((await buildDir(daemon, context.dir)).status, 0);
  const { objectives } = JSON.parse((await daemon.ops('/slo')).body) as SloReport;
  const [success] = objectives;
  assert.deepEqual(
    [success?.name, success?.good, success?.total, success?.budgetLeft, success?.state],
    ['build-success', 3, 3, 1, 'ok'],
  );
  const { body } = await daemon.ops('/metrics');
  assert.match(body, /^cooper_builds_total\{result="failure",error_class="step-failed"\} 3$/m);
});
