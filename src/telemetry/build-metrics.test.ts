import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestNamed, eventsOf, play, type SyntheticBuild } from '../../test/synthetic-builds.ts';
import type { BuildEvent } from '../builder/events.ts';
import { buildMetrics, type SpanLookup } from './build-metrics.ts';
import { Metrics } from './metrics.ts';

const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const SPANS: SpanLookup = {
  rootOf: () => ({ trace_id: TRACE_ID, span_id: 'b7ad6b7169203331' }),
  stepOf: () => ({ trace_id: TRACE_ID, span_id: '00f067aa0ba902b7' }),
};
const START_NS = 1_700_000_000_000_000_000n;

function rig(nowNs = START_NS): {
  metrics: Metrics;
  emit: (event: BuildEvent) => void;
  sample: (line: RegExp) => Promise<number>;
} {
  const metrics = new Metrics();
  const sink = buildMetrics(metrics, { nowNs: () => nowNs }, SPANS);
  return {
    metrics,
    emit: (event) => sink.emit(event),
    sample: async (line) => Number(new RegExp(`^${line.source} (\\S+)`, 'm').exec((await metrics.scrape()).body)?.[1]),
  };
}
const played = (build: Partial<SyntheticBuild>): ReturnType<typeof rig> => {
  const made = rig();
  play(made, { ref: 'b1', startedAtNs: START_NS, ...build });
  return made;
};

test('a build counts once with its result, and its phases add up to its wall time', async () => {
  const { sample } = played({});
  assert.equal(await sample(/cooper_builds_total\{result="success",error_class="none"\}/), 1);
  const seconds = (phase: string) =>
    sample(new RegExp(`cooper_build_duration_seconds_sum\\{phase="${phase}",result="success"\\}`));
  const [queue, solve, exporting, total] = await Promise.all(['queue', 'solve', 'export', 'total'].map(seconds));
  assert.deepEqual([queue, solve, exporting, total], [0.01, 4.661, 0.8, 5.471]);
});

for (const [kind, result] of [
  ['step-failed', 'failure'],
  ['invalid-input', 'failure'],
  ['unavailable', 'error'],
  ['internal', 'error'],
  ['timed-out', 'timeout'],
  ['cancelled', 'cancellation'],
] as const) {
  test(`a build that ends with ${kind} counts as ${result}`, async () => {
    const { sample } = played({ fails: kind });
    assert.equal(await sample(new RegExp(`cooper_builds_total\\{result="${result}",error_class="${kind}"\\}`)), 1);
  });
}

test('steps count against the cache once each, by how they were served', async () => {
  const { sample } = played({
    steps: [
      { name: 'context', op: 'source', cacheable: false },
      { name: 'a', cache: { hit: 'local' } },
      { name: 'b', cache: { hit: 'remote' } },
      { name: 'c', cache: 'implied' },
      { name: 'd', cache: { miss: 'evicted' } },
      { name: 'e', fails: 'cancelled' },
    ],
  });
  const counts = ['hit_local', 'hit_remote', 'hit_implied', 'miss', 'none'].map((cache) =>
    sample(new RegExp(`cooper_steps_total\\{kind="exec",cache="${cache}"\\}`)),
  );
  assert.deepEqual(await Promise.all(counts), [1, 1, 1, 1, 1]);
  assert.equal(await sample(/cooper_steps_total\{kind="source",cache="not_cacheable"\}/), 1);
  assert.equal(await sample(/cooper_cache_lookups_total\{result="miss"\}/), 1);
  assert.equal(await sample(/cooper_cache_misses_total\{reason="evicted"\}/), 1);
});

test('a source that also starts and ends for its key is one step, and one duration', async () => {
  const { emit, sample } = rig();
  const events = eventsOf({ ref: 'b1', startedAtNs: START_NS, steps: [{ name: 'context', op: 'source', cacheable: false }] });
  for (const event of events) {
    if (event.type === 'step-started' || event.type === 'step-finished') emit({ ...event, forKey: true });
    emit(event);
  }
  assert.equal(await sample(/cooper_steps_total\{kind="source",cache="not_cacheable"\}/), 1);
  assert.equal(await sample(/cooper_step_duration_seconds_count\{op="source",outcome="executed"\}/), 1);
});

test("waiting for a slot is no part of a step's duration", async () => {
  const { sample } = played({ steps: [{ name: 'RUN', op: 'exec', ms: 1000, queueMs: 9000 }] });
  assert.equal(await sample(/cooper_step_duration_seconds_sum\{op="exec",outcome="executed"\}/), 1);
  assert.equal(await sample(/cooper_step_phase_duration_seconds_sum\{phase="queue"\}/), 9);
});

test('a wait that was over when the step started is not taken off its duration', async () => {
  const { emit, sample } = rig();
  for (const event of eventsOf({ ref: 'b1', startedAtNs: START_NS, steps: [{ name: 'RUN', op: 'exec', ms: 1000 }] })) {
    emit(event);
    if (event.type === 'step-started') {
      const startedAtNs = event.atNs - 9_000_000_000n;
      emit({ type: 'step-phase', build: 'b1', step: event.step, atNs: event.atNs, phase: 'queue', startedAtNs });
    }
  }
  assert.equal(await sample(/cooper_step_duration_seconds_sum\{op="exec",outcome="executed"\}/), 1);
  assert.equal(await sample(/cooper_step_phase_duration_seconds_sum\{phase="queue"\}/), 9);
});

test('a step killed for lack of memory is counted', async () => {
  const { sample } = played({ steps: [{ name: 'RUN', op: 'exec', fails: 'step-failed', oomKilled: true }] });
  assert.equal(await sample(/cooper_worker_oom_kills_total\{scope="daemon"\}/), 1);
});

test('queued builds show their number and the age of the oldest; ended ones show nowhere', async () => {
  const { emit, sample } = rig(START_NS + 30_000_000_000n);
  for (const [index, ref] of ['old', 'new'].entries()) {
    const [queued] = eventsOf({ ref, startedAtNs: START_NS + BigInt(index) * 10_000_000_000n });
    if (queued !== undefined) emit(queued);
  }
  play({ emit }, { ref: 'done', startedAtNs: START_NS });
  assert.equal(await sample(/cooper_queue_length/), 2);
  assert.equal(await sample(/cooper_queue_oldest_age_seconds/), 30);
  assert.equal(await sample(/cooper_builds_in_flight\{state="running"\}/), 0);
});

test('internal solves are no builds of a user', async () => {
  const { emit, sample } = rig();
  for (const event of eventsOf({ ref: 'b1', startedAtNs: START_NS })) {
    emit(event.type === 'build-queued' ? { ...event, internal: true } : event);
  }
  assert.equal(await sample(/cooper_builds_total\{result="success",error_class="none"\}/), 0);
});

test('the latency histogram carries the trace of the build as exemplar', async () => {
  const { metrics } = played({});
  const { body } = await metrics.scrape('application/openmetrics-text');
  const line = body.split('\n').find((text) => text.includes('phase="total"') && text.includes('# {'));
  assert.match(line ?? '', new RegExp(`trace_id="${TRACE_ID}"`));
});

test('the upstream names are fed too', async () => {
  const { emit, sample } = played({});
  play({ emit }, { ref: 'b2', startedAtNs: START_NS, fails: 'step-failed' });
  assert.equal(await sample(/buildkit_builds_total\{status="success",error_code=""\}/), 1);
  assert.equal(await sample(/buildkit_builds_total\{status="failure",error_code="Unknown"\}/), 1);
  assert.equal(await sample(/buildkit_builds_steps_total\{kind="total"\}/), 10);
  assert.equal(await sample(/buildkit_builds_steps_total\{kind="cached"\}/), 2);
});

test('a build of a thousand steps costs little', () => {
  const steps = Array.from({ length: 1000 }, (_, index) => ({ name: `step ${index}`, cache: { miss: 'never-seen' } as const }));
  const { emit } = rig();
  const events = eventsOf({ ref: 'b1', startedAtNs: START_NS, steps });
  const start = process.cpuUsage();
  for (const event of events) emit(event);
  const { user, system } = process.cpuUsage(start);
  const microsPerEvent = (user + system) / events.length;
  assert.ok(microsPerEvent < 50, `${microsPerEvent} us per event; it was below 5 when written`);
});

test('a step that two builds share counts for both, and what its process used and printed counts once', async () => {
  const { emit, sample } = rig();
  const events = eventsOf({
    ref: 'b1',
    startedAtNs: START_NS,
    steps: [{ name: 'RUN', op: 'exec', ms: 1000, cache: { miss: 'never-seen' } }],
  });
  for (const event of events) {
    emit(event);
    emit({ ...event, build: 'b2' });
  }
  assert.equal(await sample(/cooper_steps_total\{kind="exec",cache="miss"\}/), 2);
  assert.equal(await sample(/cooper_step_cpu_seconds_total/), 1);
  assert.equal(await sample(/cooper_step_log_bytes_total/), 'output of RUN\n'.length);
});

test('a step that starts for a second build while the first runs it is shared once, and in flight once', async () => {
  const { emit, sample } = rig();
  const steps = [{ step: digestNamed('s'), name: 's', op: 'exec' as const, inputs: [], cacheable: true }];
  const at = (build: string) => ({ build, atNs: START_NS });
  for (const build of ['a', 'b']) {
    emit({ ...at(build), type: 'build-queued', internal: false, target: '', exporters: [] });
    emit({ ...at(build), type: 'steps-announced', steps });
    emit({ ...at(build), type: 'step-started', step: digestNamed('s') });
    emit({ ...at(build), type: 'step-started', step: digestNamed('s') });
  }
  assert.equal(await sample(/cooper_steps_in_flight/), 1);
  assert.equal(await sample(/cooper_steps_shared_total/), 1);
  emit({ ...at('a'), type: 'step-finished', step: digestNamed('s'), outcome: 'executed' });
  assert.equal(await sample(/cooper_steps_in_flight/), 1);
  emit({ ...at('b'), type: 'build-finished', result: 'cancellation', kind: 'cancelled', clippedLogBytes: 77 });
  assert.equal(await sample(/cooper_steps_in_flight/), 0, 'a build that ends holds no step');
  assert.equal(await sample(/cooper_step_log_clipped_bytes_total/), 77);
});

for (const [kind, system] of [
  ['step-failed', false],
  ['unavailable', true],
] as const) {
  test(`the CI/CD names say the same: ${kind} ${system ? 'is' : 'is no'} error of the system`, async () => {
    const { sample } = played({ fails: kind });
    assert.equal(await sample(new RegExp(`cicd_pipeline_run_errors_total\\{error_type="${kind}"\\}`)), 1);
    const ofSystem = new RegExp(`cicd_system_errors_total\\{cicd_system_component="builder",error_type="${kind}"\\}`);
    assert.equal(await sample(ofSystem), system ? 1 : Number.NaN);
    const result = system ? 'error' : 'failure';
    const pending = `cicd_pipeline_run_duration_seconds_count\\{cicd_pipeline_run_state="pending",cicd_pipeline_result="${result}"\\}`;
    assert.equal(await sample(new RegExp(pending)), 1);
  });
}
