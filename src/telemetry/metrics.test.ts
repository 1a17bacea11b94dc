import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as catalog from './catalog.ts';
import { exposedNamesOf, linesPerSeries } from './metric-spec.ts';
import { Metrics } from './metrics.ts';
import { recorders } from './recorders.ts';

const TRACE = { trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' };

test('every declared series is in the first scrape with value 0', async () => {
  const { body } = await new Metrics().scrape();
  for (const spec of catalog.CATALOG) {
    for (const name of spec.series.length === 0 ? [] : exposedNamesOf(spec)) {
      const lines = body.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
      const perSeries = name.endsWith('_bucket') && spec.kind === 'histogram' ? spec.buckets.length + 1 : 1;
      assert.equal(lines.length, spec.series.length * perSeries, name);
      assert.ok(
        lines.every((line) => line.endsWith(' 0')),
        `${name} starts at 0`,
      );
    }
  }
});

test('names end in their unit, and counters in _total', () => {
  for (const { name, unit, kind } of catalog.CATALOG) {
    assert.equal(name.endsWith('_total'), kind === 'counter', name);
    const base = name.replace(/_total$/, '');
    if (unit === 'seconds' || unit === 'bytes' || unit === 'ratio') assert.match(base, new RegExp(`_${unit}$`));
    if (unit === 'timestamp') assert.match(base, /_time(stamp)?_seconds$/);
    assert.match(name, /^(cooper|process|nodejs|buildkit|cicd)_[a-z0-9_]+$/);
  }
});

test('no name is declared twice, and no budget is smaller than what exists from the start', () => {
  assert.equal(new Set(catalog.CATALOG.map(({ name }) => name)).size, catalog.CATALOG.length);
  for (const spec of catalog.CATALOG) assert.ok(spec.series.length <= spec.maxSeries, spec.name);
});

test('a scrape stays below its bound even when every metric has spent its budget', () => {
  const lines = catalog.CATALOG.reduce((sum, spec) => sum + spec.maxSeries * linesPerSeries(spec), 0);
  assert.ok(lines <= catalog.MAX_SCRAPE_LINES, `${lines} lines`);
});

test('a label value outside its closed set becomes `other` and is counted', async () => {
  const metrics = new Metrics();
  metrics.add(catalog.CACHE_MISSES, { reason: 'registry.example/team/app:v1' });
  const { body } = await metrics.scrape();
  assert.match(body, /cooper_cache_misses_total\{reason="other"\} 1/);
  assert.match(body, /cooper_metric_label_overflow_total\{reason="unknown_value"\} 1/);
  assert.doesNotMatch(body, /registry\.example/);
});

test('a metric that has spent its budget folds further label sets, and the total stays right', async () => {
  const metrics = new Metrics();
  const calls = catalog.RPC_METHODS.length * catalog.GRPC_CODES.length;
  for (const method of catalog.RPC_METHODS) {
    for (const code of catalog.GRPC_CODES) metrics.observe(catalog.RPC_DURATION, { method, code }, 0.01);
  }
  const known = metrics.seriesCounts().get('cooper_rpc_duration_seconds') ?? 0;
  assert.ok(known <= catalog.RPC_DURATION.maxSeries, `${known} series`);
  assert.deepEqual(await metrics.read([{ metric: 'cooper_rpc_duration_seconds', where: {} }]), [calls]);
  const { body } = await metrics.scrape();
  assert.match(body, /cooper_rpc_duration_seconds_count\{method="other",code="other"\} [1-9]/);
});

test('the format follows the Accept header, also when formats alternate and overlap', async () => {
  const metrics = new Metrics();
  metrics.add(catalog.BUILDS, { result: 'success', error_class: 'none' });
  metrics.observe(catalog.BUILD_DURATION, { phase: 'total', result: 'success' }, 12.5, TRACE);
  const open = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5';
  const scrapes = await Promise.all([metrics.scrape(open), metrics.scrape('text/plain'), metrics.scrape(open), metrics.scrape()]);
  for (const [index, { contentType, body }] of scrapes.entries()) {
    const isOpen = index % 2 === 0;
    assert.match(contentType, isOpen ? /^application\/openmetrics-text/ : /^text\/plain/);
    assert.equal(body.endsWith('# EOF\n'), isOpen);
    assert.match(body, /^cooper_builds_total\{result="success",error_class="none"\} 1$/m);
    assert.equal(body.includes(`trace_id="${TRACE.trace_id}",span_id="${TRACE.span_id}"`), isOpen);
  }
});

test('selections read the sums Prometheus would compute', async () => {
  const metrics = new Metrics();
  for (const seconds of [10, 600, 601]) metrics.observe(catalog.BUILD_DURATION, { phase: 'total', result: 'success' }, seconds);
  metrics.observe(catalog.BUILD_DURATION, { phase: 'total', result: 'error' }, 10);
  const where = { phase: ['total'], result: ['success'] };
  const name = catalog.BUILD_DURATION.name;
  assert.deepEqual(
    await metrics.read([
      { metric: name, where, le: 600 },
      { metric: name, where },
    ]),
    [2, 3],
  );
});

test('a collector that throws is reported and the scrape still answers', async () => {
  const errors: unknown[] = [];
  const metrics = new Metrics((error) => errors.push(error));
  metrics.onCollect(() => {
    throw new Error('sampler broke');
  });
  assert.match((await metrics.scrape()).body, /cooper_builds_total/);
  assert.equal(errors.length, 1);
});

test('numbers that are not finite never reach an instrument', async () => {
  const metrics = new Metrics();
  metrics.set(catalog.QUEUE_LENGTH, {}, Number.NaN);
  metrics.observe(catalog.GC_DURATION, {}, Number.POSITIVE_INFINITY);
  metrics.add(catalog.STEP_LOG_BYTES, {}, -5);
  const { body } = await metrics.scrape();
  assert.doesNotMatch(body, /NaN|Nan| \+Inf$/m);
  assert.match(body, /^cooper_step_log_bytes_total 0$/m);
});

/** What happens outside any build, so that there is no trace to point at. */
const WITHOUT_TRACE = ['cooper_outage_seconds', 'cooper_gc_duration_seconds', 'cooper_registry_request_duration_seconds'];
test('every histogram of seconds carries exemplars, but for the few that belong to no build', () => {
  const bare = catalog.CATALOG.filter(({ kind, unit, exemplars }) => kind === 'histogram' && unit === 'seconds' && !exemplars);
  assert.deepEqual(bare.map(({ name }) => name).sort(), WITHOUT_TRACE.toSorted());
});

test('a call of the build API that came with a trace points at it, one that came without or unsampled does not', async () => {
  const metrics = new Metrics();
  const record = recorders(metrics);
  const [trace, span] = ['a'.repeat(32), 'b'.repeat(16)];
  record.rpc('/moby.buildkit.v1.Control/Solve', 0, 0.3, `00-${trace}-${span}-01`);
  record.rpc('/moby.buildkit.v1.Control/Info', 0, 0.3, `00-${trace}-${span}-00`);
  record.rpc('/moby.buildkit.v1.Control/Status', 0, 0.3, 'nonsense');
  const { body } = await metrics.scrape('application/openmetrics-text');
  const pointing = body.split('\n').filter((line) => line.startsWith('cooper_rpc') && line.includes('trace_id'));
  assert.equal(pointing.length, 1);
  assert.match(pointing[0] ?? '', /method="Control\/Solve".*# \{trace_id="a{32}",span_id="b{16}"\} 0\.3/);
});

test('scrapers that ask too often share renderings, and each gets a whole one', async () => {
  const metrics = new Metrics();
  let rendered = 0;
  metrics.onCollect(() => {
    rendered += 1;
  });
  const scrapes = await Promise.all(Array.from({ length: 200 }, () => metrics.scrape('application/openmetrics-text')));
  assert.ok(rendered <= 20, `${rendered} renderings`);
  assert.ok(scrapes.every(({ body }) => body.endsWith('# EOF\n')));
});
