import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { rootSpan, stepSpan } from '../ops-providers.test-rig.ts';
import { criticalPathOf, stepsOf } from './step-view.ts';

const marked = (steps: ReturnType<typeof stepsOf>): string[] =>
  (steps?.steps ?? []).filter(({ critical }) => critical).map(({ id }) => id);

test('the critical path goes back from the last step through the inputs that came last', () => {
  const steps = stepsOf([
    rootSpan(10),
    stepSpan('context', 0, 1),
    stepSpan('base', 0, 3),
    stepSpan('short', 3, 4, { inputs: ['base'] }),
    stepSpan('long', 3, 8, { inputs: ['base'] }),
    stepSpan('copy', 8, 9, { inputs: ['short', 'long', 'context'] }),
    stepSpan('export', 9, 10),
  ]);
  assert.deepEqual(marked(steps), ['base', 'long', 'copy', 'export']);
  assert.equal(steps?.criticalMs, 10_000);
  assert.equal(steps?.durationMs, 10_000);
  assert.equal(steps?.accumulatedMs, 12_000);
});

test('a cached step ends with its look-up, not when somebody wanted its result, and is no part of the critical path', () => {
  const lookup = { ...stepSpan('lookup', 0, 0.002), parentSpanId: 'base', attributes: { 'cooper.phase': 'lookup' } };
  const steps = stepsOf([
    rootSpan(5),
    stepSpan('base', 0, 4, {
      attributes: { 'cooper.step.cached': true, 'cooper.cache.hit': true, 'cooper.cache.location': 'local' },
    }),
    lookup,
    stepSpan('run', 1, 5, { inputs: ['base'] }),
  ]);
  const [base] = steps?.steps ?? [];
  assert.deepEqual([base?.state, base?.endMs, base?.cache], ['cached', 2, { hit: true, location: 'local' }]);
  assert.deepEqual(marked(steps), ['run']);
});

test('a step that looked itself up and then waited begins when its last input was there', () => {
  const lookup = { ...stepSpan('l', 0, 1), parentSpanId: 'copy', attributes: { 'cooper.phase': 'lookup' } };
  const steps = stepsOf([rootSpan(6), stepSpan('slow', 0, 5), stepSpan('copy', 0, 6, { inputs: ['slow'] }), lookup]);
  assert.deepEqual(
    steps?.steps.map(({ id, startMs, endMs }) => [id, startMs, endMs]),
    [
      ['slow', 0, 5000],
      ['copy', 5000, 6000],
    ],
  );
});

test('why a step was not cached is shown with its detail, and attributes without a field are facts', () => {
  const attributes = {
    'cooper.step.cacheable': true,
    'cooper.cache.hit': false,
    'cooper.cache.miss_reason': 'input-changed',
    'cooper.cache.miss_detail': 'src/main.c',
    'cooper.cache.compared_with': 'earlier',
    'cooper.step.cpu_seconds': 1.5,
    'cooper.step.peak_memory_bytes': 1024,
    'cooper.step.oom_killed': true,
  };
  const [step] =
    stepsOf([rootSpan(2), { ...stepSpan('run', 0, 2, { attributes, status: 'error' }), statusMessage: 'exit code: 137' }])
      ?.steps ?? [];
  assert.deepEqual(step?.cache, { hit: false, reason: 'input-changed', detail: 'src/main.c' });
  assert.deepEqual(step?.facts, { 'cache.compared_with': 'earlier' });
  assert.deepEqual([step?.state, step?.error, step?.cpuSeconds, step?.oomKilled], ['failed', 'exit code: 137', 1.5, true]);
});

test('a trace without a root of ours has no steps', () => {
  assert.equal(stepsOf([stepSpan('a', 0, 1)]), undefined);
});

test('whatever the graph, the critical path ends with the last step, repeats nothing, and goes back in time', () => {
  const graphs = fc.array(
    fc.record({ startMs: fc.nat(1000), length: fc.nat(1000), inputs: fc.array(fc.nat(30), { maxLength: 4 }) }),
    { minLength: 1, maxLength: 30 },
  );
  fc.assert(
    fc.property(graphs, (graph) => {
      const steps = graph.map(({ startMs, length, inputs }, at) => ({
        id: String(at),
        op: 'exec',
        startMs,
        endMs: startMs + length,
        inputs: inputs.map(String), // unknown ones and circles too: a trace is not to be trusted
      }));
      const chain = [...criticalPathOf(steps)];
      assert.equal(new Set(chain).size, chain.length);
      const last = Math.max(...steps.map(({ endMs }) => endMs));
      assert.equal(steps[Number(chain[0])]?.endMs, last);
    }),
  );
});
