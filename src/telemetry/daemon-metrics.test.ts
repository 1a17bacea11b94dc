import assert from 'node:assert/strict';
import { test } from 'node:test';
import { observeDaemon } from './daemon-metrics.ts';
import { Metrics } from './metrics.ts';
import { recorders } from './recorders.ts';

const sampler = (metrics: Metrics) => {
  return async (line: string): Promise<number> => {
    const { body } = await metrics.scrape();
    const found = body.split('\n').find((text) => text.startsWith(`${line} `));
    assert.ok(found, `no line ${line}`);
    return Number(found.slice(line.length + 1));
  };
};

test('a scrape shows the process and what the daemon lets be looked at', async () => {
  const metrics = new Metrics();
  const sample = sampler(metrics);
  let busy = 1;
  using _ = observeDaemon(metrics, {
    version: '1.2.3',
    slots: () => ({ busy, limit: 4, waiting: 2 }),
    cache: () => ({ bytesByKind: { regular: 7, unheardOf: 9 }, limitBytes: 100, recordsInUse: 1, recordsIdle: 3 }),
    disk: () => ({ freeBytes: 5, sizeBytes: 10 }),
    sessions: () => 3,
    configUnknownKeys: () => 2,
  });
  assert.equal(await sample(`cooper_build_info{version="1.2.3",node="${process.versions.node}"}`), 1);
  assert.ok((await sample('process_resident_memory_bytes')) > 1e7);
  assert.ok((await sample('process_cpu_seconds_total')) > 0);
  assert.ok((await sample('process_open_fds')) > 2);
  assert.ok(Math.abs((await sample('process_start_time_seconds')) - (Date.now() / 1000 - process.uptime())) < 2);
  assert.equal(await sample('cooper_worker_slots{state="free"}'), 3);
  busy = 4;
  assert.equal(await sample('cooper_worker_slots{state="free"}'), 0);
  assert.equal(await sample('cooper_cache_bytes{kind="regular"}'), 7);
  assert.equal(await sample('cooper_cache_records{in_use="false"}'), 3);
  assert.equal(await sample('cooper_disk_free_bytes'), 5);
  assert.equal(await sample('cooper_sessions_active'), 3);
  assert.equal(await sample('cooper_config_unknown_keys'), 2);
});

test('what a daemon cannot serve stays at 0 and breaks nothing', async () => {
  const metrics = new Metrics();
  using _ = observeDaemon(metrics, {
    version: '1.2.3',
    disk: () => {
      throw new Error('statfs');
    },
  });
  assert.equal(await sampler(metrics)('cooper_disk_size_bytes'), 0);
});

test('the control loop is late when something holds it', async (t) => {
  const metrics = new Metrics();
  t.mock.timers.enable({ apis: ['setInterval'] });
  using _ = observeDaemon(metrics, { version: '1.2.3' });
  await new Promise((resolve) => setTimeout(resolve, 60)); // the monitor measures from its first tick on
  const until = performance.now() + 300;
  while (performance.now() < until); // what no code of the daemon may do
  await new Promise((resolve) => setTimeout(resolve, 50)); // lets the monitor's own timer run
  t.mock.timers.tick(10_000);
  const late = await sampler(metrics)('cooper_event_loop_delay_seconds{stat="max"}');
  assert.ok(late > 0.2 && late < 2, `${late} s`);
});

test('calls, registry requests, sessions and garbage collections are counted by their closed names', async () => {
  const metrics = new Metrics();
  const sample = sampler(metrics);
  const record = recorders(metrics);
  record.rpc('/moby.buildkit.v1.Control/Solve', 0, 0.2);
  record.rpc('/moby.buildkit.v1.frontend.LLBBridge/Ping', 14, 0.2);
  record.rpc('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', 12, 0.2);
  for (const status of [200, 307, 404, 429, 503, undefined]) record.registryRequest('blob-get', status);
  record.sessionEnded('lost');
  record.gcRun({
    trigger: 'prune',
    ok: false,
    seconds: 1,
    freedBytes: 10,
    removedRecords: 2,
    removedByRule: { 'over limit': 2 },
  });
  assert.equal(await sample('cooper_rpc_duration_seconds_count{method="Control/Solve",code="OK"}'), 1);
  assert.equal(await sample('cooper_rpc_duration_seconds_count{method="LLBBridge/Ping",code="UNAVAILABLE"}'), 1);
  assert.equal(await sample('cooper_rpc_duration_seconds_count{method="other",code="UNIMPLEMENTED"}'), 1);
  for (const codeClass of ['2xx', '3xx', '4xx', '429', '5xx', 'network']) {
    assert.equal(await sample(`cooper_registry_requests_total{op="blob-get",code_class="${codeClass}"}`), 1);
  }
  assert.equal(await sample('cooper_sessions_total{end="lost"}'), 1);
  assert.equal(await sample('cooper_gc_runs_total{trigger="prune",result="error"}'), 1);
  assert.equal(await sample('cooper_gc_freed_bytes_total'), 10);
});
