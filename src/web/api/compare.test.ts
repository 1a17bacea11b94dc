import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rootSpan, stepSpan } from '../ops-providers.test-rig.ts';
import { type ComparedBuild, compare } from './compare.ts';
import type { Steps } from './model.ts';
import { runsOf, StepCache, summarise } from './step-history.ts';
import { stepsOf } from './step-view.ts';

const CACHED = { attributes: { 'cooper.step.cached': true } };
function built(ref: string, steps: Steps | undefined, options: Readonly<Record<string, string>> = {}): ComparedBuild {
  assert.ok(steps);
  const shown = Object.fromEntries(Object.keys(options).map((key) => [key, '(not shown)']));
  return {
    summary: { ref, name: 'app', startedAt: '2026-01-01T00:00:00Z', state: 'success' },
    steps,
    options: shown,
    rawOptions: options,
  };
}

test('two builds are compared step by step, the largest difference first, and one sentence says what happened', () => {
  const a = stepsOf([rootSpan(2), stepSpan('copy', 0, 1), stepSpan('make', 1, 1.1, CACHED), stepSpan('gone', 1, 2)]);
  const b = stepsOf([rootSpan(6), stepSpan('copy', 0, 1), stepSpan('make', 1, 6)]);
  const { steps, verdict } = compare(built('a', a), built('b', b));
  assert.deepEqual(
    steps.map(({ name, match, deltaMs, a: left, b: right }) => [name, match, deltaMs, left?.state, right?.state]),
    [
      ['make', 'both', 5000, 'cached', 'done'],
      ['gone', 'only-a', -1000, 'done', undefined],
      ['copy', 'both', 0, 'done', 'done'],
    ],
  );
  assert.equal(verdict, 'B took 4.0 s longer than A: 1 step cached in A ran again; the largest difference is make.');
});

test('options that differ are named by what was sent, and shown only as they may be', () => {
  const steps = stepsOf([rootSpan(1), stepSpan('a', 0, 1)]);
  const { options, verdict } = compare(
    built('a', steps, { 'build-arg:TOKEN': 'one', target: 'x' }),
    built('b', steps, { 'build-arg:TOKEN': 'two', target: 'x', platform: 'linux/arm64' }),
  );
  assert.deepEqual(options, [
    { key: 'build-arg:TOKEN', a: '(not shown)', b: '(not shown)' },
    { key: 'platform', b: '(not shown)' },
  ]);
  assert.equal(verdict, 'B took as long as A.');
});

test('one step is followed through builds, and all of them are summed up by what they cost', () => {
  const builds = ['new', 'old'].map((ref, at) => {
    const steps = stepsOf([rootSpan(9), stepSpan('make', 0, 4 - at), stepSpan('lint', 0, 1, at === 0 ? CACHED : {})]);
    assert.ok(steps);
    return { build: { ref, name: 'app', startedAt: `2026-01-0${2 - at}T00:00:00Z`, state: 'success' as const }, steps };
  });
  assert.deepEqual(
    summarise(builds).map(({ name, executed, cached, medianMs, totalMs, recentMs }) => [
      name,
      executed,
      cached,
      medianMs,
      totalMs,
      recentMs,
    ]),
    [
      ['make', 2, 0, 4000, 7000, [3000, 4000]],
      ['lint', 1, 1, 1000, 1000, [1000]],
    ],
  );
  assert.deepEqual(
    runsOf('lint', builds).map(({ ref, state }) => [ref, state]),
    [
      ['new', 'cached'],
      ['old', 'done'],
    ],
  );
});

test('a finished trace is read once, a running one each time, and too many steps push the oldest out', async () => {
  const reads: string[] = [];
  using cache = new StepCache(async (ref) => {
    reads.push(ref);
    const many = ref === 'huge' ? Array.from({ length: 10_001 }, (_, at) => stepSpan(`s${at}`, 0, 1)) : [stepSpan('a', 0, 1)];
    return stepsOf([rootSpan(1, ref === 'running' ? { 'cooper.incomplete': true } : {}), ...many]);
  });
  for (const ref of ['done', 'done', 'running', 'running', 'huge', 'done']) await cache.of(ref);
  assert.deepEqual(reads, ['done', 'running', 'running', 'huge', 'done']);
});
