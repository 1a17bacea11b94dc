import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestNamed, eventsOf, play, type SyntheticBuild, TYPICAL_STEPS } from '../../test/synthetic-builds.ts';
import { systemClock } from '../core/clock.ts';
import type { FinishedSpan } from './span.ts';
import { parseTraceparent } from './span.ts';
import { openTelemetry, type Telemetry } from './telemetry.ts';

const START_NS = 1_700_000_000_000_000_000n;
const CLIENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

const open = (): Telemetry =>
  openTelemetry({
    clock: systemClock(),
    version: '1.2.3',
    instance: 'test',
    collectorUrl: undefined,
    onTrouble: (what, error) => assert.fail(`${what}: ${error}`),
  });
function traced(build: Partial<SyntheticBuild> = {}): FinishedSpan[] {
  const telemetry = open();
  play(telemetry.sink, { ref: 'b1', startedAtNs: START_NS, ...build });
  return telemetry.traceOf('b1') ?? [];
}
const named = (spans: readonly FinishedSpan[], name: string): FinishedSpan => {
  const span = spans.find((candidate) => candidate.name === name);
  assert.ok(span, `no span ${name} among ${spans.map((candidate) => candidate.name).join(', ')}`);
  return span;
};

test('a build has one root, a span for every step, and no orphan', () => {
  const spans = traced();
  const ids = new Set(spans.map(({ spanId }) => spanId));
  assert.equal(ids.size, spans.length, 'ids are unique');
  assert.deepEqual(
    spans.filter(({ parentSpanId }) => parentSpanId === undefined || !ids.has(parentSpanId)).map(({ name }) => name),
    ['BUILD app'],
  );
  for (const step of TYPICAL_STEPS) named(spans, step.name);
  assert.ok(spans.every(({ startNs, endNs }) => startNs <= endNs && startNs >= START_NS));
});

test('the root joins the trace of the client, and the steps follow', () => {
  const spans = traced({ traceparent: CLIENT });
  const root = named(spans, 'BUILD app');
  assert.deepEqual(
    [root.traceId, root.parentSpanId, root.parentIsRemote, root.kind],
    ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331', true, 'server'],
  );
  assert.ok(spans.every(({ traceId }) => traceId === root.traceId));
});

for (const bad of [
  '',
  'x',
  `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
  `ff-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
  CLIENT.slice(0, -4),
]) {
  test(`the traceparent "${bad}" is ignored and the build starts its own trace`, () => {
    assert.equal(parseTraceparent(bad), undefined);
    assert.equal(named(traced({ traceparent: bad }), 'BUILD app').parentSpanId, undefined);
  });
}

test('a step links to the steps it waited for', () => {
  const spans = traced();
  const copy = named(spans, '[2/3] COPY . /src');
  assert.deepEqual(
    copy.links.map(({ spanId }) => spans.find((span) => span.spanId === spanId)?.name),
    ['[internal] load build context', '[1/3] FROM docker.io/library/base'],
  );
});

test('phases lie inside their step, and the wait for admission inside the root', () => {
  const spans = traced({ queueMs: 50 });
  const run = named(spans, '[3/3] RUN make');
  const phases = spans.filter(({ parentSpanId }) => parentSpanId === run.spanId);
  assert.deepEqual(
    phases.map(({ name, startNs, endNs }) => [name, Number(endNs - startNs) / 1e6]),
    [
      ['queue', 500],
      ['run', 4000],
    ],
  );
  assert.ok(phases.every(({ startNs, endNs }) => startNs >= run.startNs && endNs <= run.endNs));
  const root = named(spans, 'BUILD app');
  assert.ok(spans.some(({ name, parentSpanId }) => name === 'queue' && parentSpanId === root.spanId));
});

test('the TRACEPARENT of a step is known before the step starts and names the span that is reported later', () => {
  const telemetry = open();
  const events = eventsOf({ ref: 'b1', startedAtNs: START_NS, traceparent: CLIENT });
  telemetry.sink.emit(events[0] as (typeof events)[number]);
  const early = telemetry.traceparentFor('b1', digestNamed('[3/3] RUN make'));
  for (const event of events.slice(1)) telemetry.sink.emit(event);
  const span = named(telemetry.traceOf('b1') ?? [], '[3/3] RUN make');
  assert.equal(early, `00-${span.traceId}-${span.spanId}-01`);
  assert.equal(telemetry.traceparentFor('unknown', digestNamed('x')), undefined);
});

test('cache verdicts, results and faults are on the spans', () => {
  const spans = traced({
    steps: [
      { name: 'hit', cache: { hit: 'remote' } },
      { name: 'miss', cache: { miss: 'evicted' } },
      { name: 'boom', fails: 'step-failed' },
    ],
  });
  assert.equal(named(spans, 'hit').attributes['cooper.cache.location'], 'remote');
  assert.equal(named(spans, 'hit').attributes['cooper.step.cached'], true);
  assert.equal(named(spans, 'miss').attributes['cooper.cache.miss_reason'], 'evicted');
  const boom = named(spans, 'boom');
  assert.deepEqual(
    [boom.status, boom.statusMessage, boom.attributes['cicd.pipeline.task.run.result']],
    ['error', 'boom did not complete', 'failure'],
  );
  const root = named(spans, 'BUILD app');
  assert.deepEqual(
    [root.status, root.attributes['cicd.pipeline.result'], root.attributes['error.type'], root.attributes['cooper.fault']],
    ['error', 'failure', 'step-failed', 'user'],
  );
});

test('a running build shows what it has so far', () => {
  const telemetry = open();
  const events = eventsOf({ ref: 'b1', startedAtNs: START_NS });
  for (const event of events.slice(0, -2)) telemetry.sink.emit(event);
  assert.equal(named(telemetry.traceOf('b1') ?? [], 'BUILD app').attributes['cooper.incomplete'], true);
});

test('memory is bounded: old builds fall out, the newest stays whole', () => {
  const telemetry = open();
  const steps = Array.from({ length: 400 }, (_, index) => ({ name: `step ${index}`, op: 'exec' as const }));
  for (let index = 0; index < 50; index++) play(telemetry.sink, { ref: `b${index}`, startedAtNs: START_NS, steps });
  assert.equal(telemetry.traceOf('b0'), undefined);
  assert.equal(telemetry.traceOf('b49')?.filter(({ name }) => name.startsWith('step')).length, 400);
});

test('the history blob is one Go span stub per span, as build clients read them', () => {
  const telemetry = open();
  play(telemetry.sink, { ref: 'b1', startedAtNs: START_NS, traceparent: CLIENT });
  const lines = new TextDecoder().decode(telemetry.traceBlobOf('b1')).trim().split('\n');
  const stubs = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.equal(stubs.length, telemetry.traceOf('b1')?.length);
  const root = stubs[0] ?? {};
  assert.deepEqual(Object.keys(root).slice(0, 6), ['Name', 'SpanContext', 'Parent', 'SpanKind', 'StartTime', 'EndTime']);
  assert.deepEqual(root.Parent, {
    TraceID: '0af7651916cd43dd8448eb211c80319c',
    SpanID: 'b7ad6b7169203331',
    TraceFlags: '01',
    TraceState: '',
    Remote: true,
  });
  assert.equal(root.SpanKind, 2);
  assert.equal(root.StartTime, '2023-11-14T22:13:20Z');
  assert.deepEqual((root.Attributes as unknown[])[0], { Key: 'cicd.pipeline.name', Value: { Type: 'STRING', Value: 'app' } });
  assert.deepEqual(root.Status, { Code: 'Unset', Description: '' });
});

test('a step another build began earlier, and one that waited before it started, keep their spans inside the trace', () => {
  const telemetry = open();
  const events = eventsOf({ ref: 'b1', startedAtNs: START_NS, steps: [{ name: 'shared', op: 'exec' }] });
  const earlier = START_NS - 5_000_000_000n;
  for (const event of events) {
    if (event.type === 'step-started') {
      telemetry.sink.emit({
        type: 'step-phase',
        build: 'b1',
        step: event.step,
        atNs: START_NS - 1n,
        phase: 'queue',
        startedAtNs: earlier,
      });
      telemetry.sink.emit({ ...event, atNs: START_NS - 1n });
    } else telemetry.sink.emit(event);
  }
  const spans = telemetry.traceOf('b1') ?? [];
  const root = named(spans, 'BUILD app');
  assert.ok(spans.every(({ startNs, endNs }) => startNs >= root.startNs && endNs <= root.endNs && startNs <= endNs));
  const step = named(spans, 'shared');
  for (const phase of spans.filter(({ parentSpanId }) => parentSpanId === step.spanId)) assert.ok(phase.startNs >= step.startNs);
});
