/** The trace of a build by an unmodified client, as a collector, an operator and the build's own processes see it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cancelBuild } from '../fixtures/cancelled-build.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, freePort, type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { type Misbehaviour, type ReceivedSpan, startCollector, type TestCollector } from '../fixtures/otlp.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

/** Two stages that can run at once, one that waits for both, and a step that prints what it was given. */
const multiStage = (): Promise<TestContext> =>
  contextOf({
    Dockerfile: `FROM ${base} AS left
COPY in.txt /in
RUN tr a-z A-Z < /in > /left
FROM ${base} AS right
RUN echo "traceparent=$TRACEPARENT" && echo right > /right
FROM ${base}
COPY --from=left /left /left
COPY --from=right /right /right
`,
    'in.txt': 'hello\n',
  });

interface ClientVertex {
  readonly digest: string;
  readonly name: string;
  readonly inputs?: readonly string[];
  readonly cached?: boolean;
  readonly started?: string;
}
interface RawBuild extends Run {
  /** The last state of every vertex, as Control.Status told the client. */
  readonly vertices: readonly ClientVertex[];
  readonly output: string;
}

/** A build whose progress is the status messages themselves, one JSON object a line. */
async function rawBuild(daemon: TestDaemon, dir: string, traceparent?: string, more: readonly string[] = []): Promise<RawBuild> {
  const args = ['build', '--progress', 'rawjson', '--frontend', 'dockerfile.v0'];
  const locals = ['--local', `context=${dir}`, '--local', `dockerfile=${dir}`];
  const env = { TRACEPARENT: traceparent ?? '' };
  const done = await buildctl(daemon, [...args, ...locals, ...more], { env });
  const vertices = new Map<string, ClientVertex>();
  let output = '';
  for (const line of done.stderr.split('\n').filter((text) => text.startsWith('{'))) {
    const status = JSON.parse(line) as { vertexes?: ClientVertex[]; logs?: { data: string }[] };
    for (const vertex of status.vertexes ?? []) vertices.set(vertex.digest, { ...vertices.get(vertex.digest), ...vertex });
    for (const { data } of status.logs ?? []) output += Buffer.from(data, 'base64').toString();
  }
  return { ...done, vertices: [...vertices.values()], output };
}

const traceparentOf = (digit: string): string => `00-${digit.repeat(32)}-${digit.repeat(16)}-01`;
const traced = (collector: TestCollector, traceId: string): readonly ReceivedSpan[] =>
  collector.spans.filter((span) => span.traceId === traceId);
const isRoot = ({ service, name }: ReceivedSpan): boolean => service === 'cooper' && name.startsWith('BUILD ');
const stepDigest = (span: ReceivedSpan): unknown => span.attributes['cicd.pipeline.task.run.id'];

/** Waits for both halves of a build's trace: the daemon's, and what buildctl sends as its last act. */
async function traceOf(collector: TestCollector, traceId: string): Promise<readonly ReceivedSpan[]> {
  await collector.until((spans) => {
    const mine = spans.filter((span) => span.traceId === traceId);
    return mine.some(isRoot) && mine.some(({ service, name }) => service === 'buildctl' && name === 'build');
  });
  return traced(collector, traceId);
}

/** One top, whose parent is `above` (undefined: none), and nothing whose parent is unknown; no span twice. */
function assertOneTree(spans: readonly ReceivedSpan[], above: string | undefined): void {
  const ids = new Set(spans.map(({ spanId }) => spanId));
  assert.equal(ids.size, spans.length, 'a span came twice');
  const tops = spans.filter(({ parentSpanId }) => parentSpanId === undefined || !ids.has(parentSpanId));
  assert.deepEqual(
    tops.map(({ service, name, parentSpanId }) => [service, name, parentSpanId]),
    [['buildctl', 'build', above]],
  );
  for (const { name, startNs, endNs } of spans) assert.ok(startNs <= endNs && startNs > 0n, name);
}

/** Every vertex the client was told of has its span below the build's, linked to the spans of its inputs. */
function assertEveryVertex(spans: readonly ReceivedSpan[], vertices: readonly ClientVertex[]): void {
  const root = spans.find(isRoot);
  const byDigest = new Map(spans.map((span) => [stepDigest(span), span]));
  assert.ok(vertices.length >= 8, `${vertices.length} vertices`);
  for (const { digest, name, inputs = [] } of vertices.filter(({ started }) => started !== undefined)) {
    const span = byDigest.get(digest);
    assert.equal(span?.name, name.slice(0, 256));
    assert.equal(span?.parentSpanId, root?.spanId, name);
    assert.deepEqual(
      span?.links.map(({ spanId }) => spanId).sort(),
      inputs.map((input) => byDigest.get(input)?.spanId ?? `no span of ${input}`).sort(),
      `links of ${name}`,
    );
  }
}

function assertPhasesInside(spans: readonly ReceivedSpan[], step: ReceivedSpan, wanted: readonly string[]): void {
  const phases = spans.filter((span) => span.parentSpanId === step.spanId && span.attributes['cooper.phase'] !== undefined);
  for (const phase of phases)
    assert.ok(phase.startNs >= step.startNs && phase.endNs <= step.endNs, `${phase.name} lies inside ${step.name}`);
  const names = phases.map(({ name }) => name);
  for (const name of wanted) assert.ok(names.includes(name), `${step.name} has a phase ${name}, not only ${names}`);
}

test('the trace of a multi-stage build is one tree that joins the client, its environment, every step and their processes', {
  skip,
}, async () => {
  await using collector = await startCollector();
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  await using context = await multiStage();

  await using out = await contextOf({});
  const first = await rawBuild(daemon, context.dir, traceparentOf('a'), ['--output', `type=local,dest=${out.dir}`]);
  assert.equal(first.status, 0, first.stderr);
  const spans = await traceOf(collector, 'a'.repeat(32));
  assertOneTree(spans, 'a'.repeat(16));
  assertEveryVertex(spans, first.vertices);
  const step = (text: string): ReceivedSpan => {
    const found = spans.find((span) => stepDigest(span) !== undefined && span.name.includes(text));
    return found ?? assert.fail(`no span of ${text}`);
  };
  assertPhasesInside(spans, step('RUN tr'), ['mounts', 'run']);
  assertPhasesInside(spans, step('/base:latest@'), ['pull', 'unpack']);
  assertPhasesInside(spans, step('load build definition'), ['transfer']);
  const transfers = spans.filter(({ name }) => name === 'moby.filesync.v1.FileSync/DiffCopy');
  assert.deepEqual(
    transfers.map(({ parentSpanId }) => spans.find(({ spanId }) => spanId === parentSpanId)?.name).sort(),
    ['[internal] load .dockerignore', '[internal] load build context', '[internal] load build definition from Dockerfile'],
    "the client's side of each transfer is below the step that wanted it",
  );
  const sent = spans.filter(({ name }) => name === 'moby.filesync.v1.FileSend/DiffCopy');
  assert.deepEqual(
    sent.map(({ parentSpanId }) => parentSpanId),
    [step('exporting to client directory').spanId],
  );
  assertPhasesInside(spans, step('exporting to client directory'), ['export']);
  assert.equal(/traceparent=(\S+)/.exec(first.output)?.[1], `00-${'a'.repeat(32)}-${step('RUN echo').spanId}-01`);

  const { body } = await daemon.ops('/metrics', { accept: 'application/openmetrics-text; version=1.0.0' });
  const exemplars = [
    ...body.matchAll(/^cooper_build_duration_seconds_bucket\{([^}]*)\} \d+ # \{trace_id="(\w+)",span_id="(\w+)"\}/gm),
  ];
  assert.deepEqual(
    exemplars.filter(([, labels]) => labels?.includes('phase="total"')).map(([, , trace, span]) => [trace, span]),
    [['a'.repeat(32), spans.find(isRoot)?.spanId]],
  );
  assert.match(body, /# EOF\n$/);

  const second = await rawBuild(daemon, context.dir, traceparentOf('b'));
  assert.equal(second.status, 0, second.stderr);
  const runs = second.vertices.filter(({ name }) => /RUN|COPY/.test(name));
  assert.deepEqual(
    runs.map(({ cached }) => cached),
    runs.map(() => true),
    'another traceparent busts no cache',
  );
  const cachedSpans = await traceOf(collector, 'b'.repeat(32));
  assertOneTree(cachedSpans, 'b'.repeat(16));
  assertEveryVertex(cachedSpans, second.vertices);
  for (const { digest, name } of runs) {
    const span = cachedSpans.find((one) => stepDigest(one) === digest);
    assert.equal(span?.attributes['cooper.step.cached'], true, name);
  }
  assert.deepEqual(
    collector.spans.filter(({ traceId }) => !['a'.repeat(32), 'b'.repeat(32)].includes(traceId)).map(({ name }) => name),
    [],
    'no span of a build is left outside its trace',
  );
});

test('without a TRACEPARENT the client`s own span is the root, and without a tracing client the build`s is', {
  skip,
}, async () => {
  await using collector = await startCollector();
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  await using context = await multiStage();
  const byBuildctl = await rawBuild(daemon, context.dir);
  assert.equal(byBuildctl.status, 0, byBuildctl.stderr);
  await collector.until((spans) => spans.some(isRoot));
  const traceId = collector.spans.find(isRoot)?.traceId ?? '';
  const spans = await traceOf(collector, traceId);
  assertOneTree(spans, undefined);
  assertEveryVertex(spans, byBuildctl.vertices);

  const env = { TRACEPARENT: '' };
  const plain = await run(process.execPath, [MAIN, 'build', '--addr', daemon.address, '--progress', 'plain', context.dir], {
    env,
  });
  assert.equal(plain.status, 0, plain.stderr);
  await collector.until((all) => all.filter(isRoot).length === 2);
  const root = collector.spans.filter(isRoot).find((span) => span.traceId !== traceId);
  assert.equal(root?.parentSpanId, undefined);
  const own = traced(collector, root?.traceId ?? '');
  const ids = new Set(own.map(({ spanId }) => spanId));
  assert.deepEqual(
    own.filter(({ parentSpanId = '' }) => !ids.has(parentSpanId)).map(({ name }) => name),
    ['BUILD default'],
  );

  const joining = await run(process.execPath, [MAIN, 'build', '--addr', daemon.address, '--progress', 'plain', context.dir], {
    env: { TRACEPARENT: traceparentOf('f') },
  });
  assert.equal(joining.status, 0, joining.stderr);
  await collector.until((all) => all.filter(isRoot).length === 3);
  const [joined] = traced(collector, 'f'.repeat(32)).filter(isRoot);
  assert.equal(joined?.parentSpanId, 'f'.repeat(16), 'our own client joins the trace of its caller');
});

test('the spans of a build that fails or is given up say so, and whose fault it was', { skip }, async () => {
  await using collector = await startCollector();
  await using daemon = await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } });
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN exit 3\n` });
  assert.equal((await rawBuild(daemon, context.dir, traceparentOf('1'))).status, 1);
  context.write('Dockerfile', `FROM ${base}\nRUN echo it runs && sleep 600\n`);
  await cancelBuild(daemon, context.dir, /^#\d+ [\d.]+ it runs$/m, { TRACEPARENT: traceparentOf('2') });
  await collector.until((spans) => spans.filter(isRoot).length === 2);
  const outcome = (digit: string): unknown[] => {
    const spans = traced(collector, digit.repeat(32));
    const root = spans.find(isRoot);
    const step = spans.find(({ name }) => name.startsWith('[2/2] RUN'));
    const word = root?.attributes['cicd.pipeline.result'];
    return [
      word,
      root?.attributes['cooper.fault'],
      root?.failed,
      step?.attributes['cicd.pipeline.task.run.result'],
      step?.failed,
    ];
  };
  assert.deepEqual(outcome('1'), ['failure', 'user', true, 'failure', true]);
  assert.deepEqual(outcome('2'), ['cancellation', 'user', false, 'cancellation', false]);
});

test('the trace is kept with the build: in its history record, and drawn by `cooper trace` before and after a restart', {
  skip,
}, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'cooper-root-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await using context = await multiStage();
  let drawn: string;
  let ref: string;
  {
    await using daemon = await TestDaemon.start({ root });
    const build = await rawBuild(daemon, context.dir, traceparentOf('c'));
    assert.equal(build.status, 0, build.stderr);
    const record = await recordWithTrace(daemon);
    ref = record.Ref;
    const blob = await buildctl(daemon, ['debug', 'get', record.trace.digest]);
    assert.equal(blob.status, 0, blob.stderr);
    assert.equal(record.trace.media_type, 'application/vnd.buildkit.otlp.json.v0');
    const stubs = blob.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as GoSpan);
    for (const { SpanContext } of stubs) assert.equal(SpanContext.TraceID, 'c'.repeat(32));
    const names = new Set(stubs.map(({ Name }) => Name));
    for (const { name } of build.vertices) assert.ok(names.has(name), name);
    drawn = await waterfall(daemon, ref);
    for (const { name } of build.vertices) assert.ok(drawn.includes(name.slice(0, 30)), drawn);
    const last = await rawBuild(daemon, context.dir, traceparentOf('e'));
    assert.equal(last.status, 0, last.stderr);
  }
  await using again = await TestDaemon.start({ root });
  const redrawn = await waterfall(again, ref);
  assert.match(redrawn, new RegExp(`^trace ${'c'.repeat(32)}\n`));
  assert.deepEqual(stepLines(redrawn), stepLines(drawn));
  const refs = (await records(again)).map(({ Ref }) => Ref);
  const [justBefore = ''] = refs.filter((one) => one !== ref);
  assert.match(
    await waterfall(again, justBefore),
    new RegExp(`^trace ${'e'.repeat(32)}\n`),
    'a stop does not lose the last trace',
  );
});

interface GoSpan {
  readonly Name: string;
  readonly SpanContext: { readonly TraceID: string; readonly SpanID: string };
}

async function records(daemon: TestDaemon): Promise<HistoryRecord[]> {
  const { stdout, stderr } = await buildctl(daemon, ['debug', 'histories', '--format', '{{json .}}']);
  assert.equal(stderr, '');
  return stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { record: HistoryRecord }).record);
}

/** The trace joins the record a few seconds after the build, once the client has had time to send its part. */
async function recordWithTrace(daemon: TestDaemon): Promise<Required<HistoryRecord>> {
  const untilMs = Date.now() + 10_000;
  for (;;) {
    const [record] = await records(daemon);
    if (record?.trace !== undefined) return { ...record, trace: record.trace };
    assert.ok(Date.now() < untilMs, 'the record got no trace');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
interface HistoryRecord {
  readonly Ref: string;
  readonly trace?: { readonly digest: string; readonly media_type: string };
}

async function waterfall(daemon: TestDaemon, ref: string): Promise<string> {
  const opsAddress = new URL(daemon.opsUrl).host;
  const drawn = await run(process.execPath, [MAIN, 'trace', ref, '--ops-addr', opsAddress]);
  assert.equal(drawn.status, 0, drawn.stderr);
  return drawn.stdout;
}
/** Name and time of the lines of steps; what the client adds of its own arrives after the record was written. */
const stepLines = (text: string): string[] =>
  text
    .split('\n')
    .filter((line) => /\[|BUILD/.test(line))
    .map((line) => (line.split('│')[0] ?? '').trim().replaceAll(/\s+/g, ' '));

const TROUBLES: readonly (readonly [kind: Misbehaviour | 'refuses connections', dropped: boolean | 'either'])[] = [
  ['refuses connections', true],
  ['never answers', true],
  ['answers 500', true],
  ['answers garbage', 'either'], // the spans may have been taken
  ['answers late', false],
];
const BUILDS = 3;
const NOTICEABLE_MS = 1_000; // a build that waited for a collector would wait for its deadline, five seconds

test('a collector in trouble changes neither the result of a build nor its time, and what is lost is counted', {
  skip,
}, async (t) => {
  await using stack = new AsyncDisposableStack();
  await using calm = await TestDaemon.start();
  await using context = await contextOf({});
  const reference = await buildTimes(calm, context);
  const settling: Promise<void>[] = [];
  for (const [kind, dropped] of TROUBLES) {
    const collector = kind === 'refuses connections' ? undefined : stack.use(await startCollector(kind));
    const url = collector?.url ?? `http://127.0.0.1:${await freePort()}`;
    const daemon = stack.use(await TestDaemon.start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: url } }));
    const times = await buildTimes(daemon, context);
    await t.test(`${kind}: builds take their time and no more`, () => {
      const slower = Math.min(...times) - Math.min(...reference);
      assert.ok(slower < NOTICEABLE_MS, `builds take ${times} ms, without a collector ${reference} ms`);
    });
    // Giving up takes seconds, so what becomes of the spans is looked at together, after all the builds.
    settling.push(
      t.test(`${kind}: ${dropped === false ? 'nothing is lost' : 'what is lost is counted'}`, async () => {
        const counts = await untilSettled(daemon);
        if (dropped === true) assert.ok(counts.dropped > 0 && counts.failed > 0, JSON.stringify(counts));
        if (dropped === false) assert.deepEqual([counts.dropped, counts.failed], [0, 0]);
        if (collector !== undefined) assert.ok(collector.requests > 0, 'the collector was tried');
      }),
    );
  }
  await Promise.all(settling);
});

/** Each build runs one new step; none may fail. */
async function buildTimes(daemon: TestDaemon, context: TestContext): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < BUILDS; index++) {
    context.write('Dockerfile', `FROM ${base}\nRUN echo ${index}\n`);
    const startMs = performance.now();
    const { status, stderr } = await rawBuild(daemon, context.dir, traceparentOf('d'));
    times.push(Math.round(performance.now() - startMs));
    assert.equal(status, 0, stderr);
  }
  return times;
}

/** What became of the spans of the first build at least, once that is known. */
async function untilSettled(
  daemon: TestDaemon,
): Promise<{ readonly failed: number; readonly taken: number; readonly dropped: number }> {
  const untilMs = Date.now() + 20_000;
  for (;;) {
    const { body } = await daemon.ops('/metrics');
    const sum = (pattern: RegExp): number => [...body.matchAll(pattern)].reduce((total, [, value]) => total + Number(value), 0);
    const failed = sum(/^cooper_telemetry_exports_total\{signal="spans",result="error"\} (\d+)/gm);
    const taken = sum(/^cooper_telemetry_exports_total\{signal="spans",result="ok"\} (\d+)/gm);
    const dropped = sum(/^cooper_telemetry_dropped_total\{signal="spans"[^}]*\} (\d+)/gm);
    if (failed + taken > 0) return { failed, taken, dropped };
    assert.ok(Date.now() < untilMs, 'the exporter has come to no end');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
