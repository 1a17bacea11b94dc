import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { BUILD_DURATION, BUILDS, STEPS } from '../telemetry/catalog.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { type CountStore, noCountStore, openCountStore } from './count-store.ts';
import { SloEvaluator } from './evaluator.ts';
import { OBJECTIVES } from './objectives.ts';
import { formatSloTable, type SloStatus } from './report.ts';

const START_S = 1_700_000_000;

interface Rig extends AsyncDisposable {
  readonly metrics: Metrics;
  readonly evaluator: SloEvaluator;
  readonly errors: unknown[];
  later(seconds: number): void;
  /** Later, with the last hours of it observed. */
  watched(seconds: number): Promise<void>;
  builds(result: string, count: number): void;
  steps(cache: string, count: number): void;
  status(name: string): Promise<SloStatus>;
}
async function openRig(store: CountStore = noCountStore, startS = START_S): Promise<Rig> {
  let nowS = startS;
  const metrics = new Metrics();
  const errors: unknown[] = [];
  const clock = { nowNs: () => BigInt(nowS) * 1_000_000_000n };
  const evaluator = await SloEvaluator.open({
    objectives: OBJECTIVES,
    counters: metrics,
    gauges: metrics,
    store,
    clock,
    onError: (error) => errors.push(error),
  });
  return {
    metrics,
    evaluator,
    errors,
    later: (seconds) => {
      nowS += seconds;
    },
    watched: async (seconds) => {
      const observedS = Math.min(seconds, 4 * 3600);
      nowS += seconds - observedS;
      for (let passed = 0; passed < observedS; passed += 60) {
        nowS += 60;
        await evaluator.report();
      }
    },
    builds: (result, count) => metrics.add(BUILDS, { result, error_class: 'none' }, count),
    steps: (cache, count) => metrics.add(STEPS, { kind: 'exec', cache }, count),
    status: async (name) => {
      const found = (await evaluator.report()).objectives.find((status) => status.name === name);
      assert.ok(found);
      return found;
    },
    [Symbol.asyncDispose]: () => evaluator[Symbol.asyncDispose](),
  };
}

test('before any build every objective is idle, not perfect', async () => {
  await using rig = await openRig();
  const report = await rig.evaluator.report();
  assert.deepEqual(
    report.objectives.map(({ state, achieved }) => [state, achieved]),
    OBJECTIVES.map(() => ['idle', null]),
  );
});

test('failures of the user burn nothing, faults of the daemon do', async () => {
  await using rig = await openRig();
  rig.builds('success', 60);
  rig.builds('failure', 40);
  rig.builds('cancellation', 10);
  const healthy = await rig.status('build-success');
  assert.deepEqual([healthy.good, healthy.total, healthy.state], [100, 100, 'ok']);
  rig.builds('error', 20);
  rig.builds('timeout', 5);
  const burning = await rig.status('build-success');
  assert.deepEqual([burning.good, burning.total, burning.state], [100, 125, 'burning-page']);
  assert.deepEqual(
    burning.pairs.filter(({ firing }) => firing).map(({ severity, long }) => `${severity} ${long}`),
    ['page 1h', 'page 6h', 'ticket 1d', 'ticket 3d'],
  );
});

test('one fault among few builds is noted, and is neither a page nor an exhausted budget', async () => {
  await using rig = await openRig();
  rig.builds('success', 4);
  rig.builds('error', 1);
  const status = await rig.status('build-success');
  assert.equal(status.state, 'ok');
  assert.ok(status.budgetLeft < 0);
  assert.match(status.note ?? '', /too few events/);
});

test('a burn that is over leaves an exhausted budget, and the budget returns when the week has passed', async () => {
  await using rig = await openRig();
  rig.builds('success', 80);
  rig.builds('error', 20);
  assert.equal((await rig.status('build-success')).state, 'burning-page');
  await rig.watched(4 * 86_400);
  rig.builds('success', 100);
  assert.equal((await rig.status('build-success')).state, 'exhausted');
  await rig.watched(4 * 86_400);
  assert.deepEqual([(await rig.status('build-success')).total, (await rig.status('build-success')).state], [100, 'ok']);
});

test('latency counts successful builds against the ten-minute edge', async () => {
  await using rig = await openRig();
  for (const seconds of [10, 600, 601, 4000]) rig.metrics.observe(BUILD_DURATION, { phase: 'total', result: 'success' }, seconds);
  rig.metrics.observe(BUILD_DURATION, { phase: 'total', result: 'failure' }, 4000);
  const status = await rig.status('build-latency');
  assert.deepEqual([status.good, status.total], [2, 4]);
});

test('the cache objective counts slices with cacheable steps, whatever their size', async () => {
  await using rig = await openRig();
  rig.steps('hit_local', 7);
  rig.steps('miss', 3);
  rig.steps('not_cacheable', 50);
  const unfinished = await rig.status('cache-hit');
  assert.deepEqual(counts(unfinished), [1, 1]);
  assert.equal(unfinished.burn.find(({ window }) => window === '1h')?.total, 0, 'a slice is alerted on when it is complete');
  rig.later(300);
  assert.equal((await rig.status('cache-hit')).burn.find(({ window }) => window === '1h')?.total, 1);
  rig.steps('hit_local', 6000);
  rig.steps('miss', 4000);
  assert.deepEqual(counts(await rig.status('cache-hit')), [1, 2]);
  rig.later(3000);
  assert.deepEqual(counts(await rig.status('cache-hit')), [1, 2], 'slices without steps are no slices');
});
const counts = ({ good, total }: SloStatus): number[] => [good, total];

test('the gauges say what the report says', async () => {
  await using rig = await openRig();
  rig.builds('success', 90);
  rig.builds('error', 10);
  const status = await rig.status('build-success');
  const { body } = await rig.metrics.scrape();
  const gauge = (line: string): number => Number(new RegExp(`^${line} (\\S+)`, 'm').exec(body)?.[1]);
  assert.equal(gauge('cooper_slo_events\\{slo="build-success"\\}'), 100);
  assert.equal(gauge('cooper_slo_error_budget_remaining_ratio\\{slo="build-success"\\}'), status.budgetLeft);
  assert.equal(gauge('cooper_slo_burn_rate_ratio\\{slo="build-success",window="1h"\\}').toFixed(9), '10.000000000');
  assert.equal(gauge(`cooper_slo_state\\{slo="build-success",state="${status.state}"\\}`), 1);
  assert.equal(gauge('cooper_slo_state\\{slo="cache-hit",state="idle"\\}'), 1);
});

test('counts survive a restart, and counters that begin at 0 again take nothing away', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-slo-'));
  t.after(() => rm(dir, { recursive: true }));
  using database = new DatabaseSync(join(dir, 'slo.sqlite'));
  const store = (): Promise<CountStore> =>
    openCountStore({
      define: async (statements) => database.exec(statements.join(';')),
      write: (sql, params) => void database.prepare(sql).run(...params),
      read: async (sql, params) => database.prepare(sql).all(...params),
    });
  {
    await using first = await openRig(await store());
    first.builds('success', 30);
    first.later(60);
    await first.evaluator.report();
    first.builds('error', 2); // sampled when the evaluator stops
  }
  await using second = await openRig(await store(), START_S + 3600);
  second.builds('success', 8);
  assert.deepEqual(counts(await second.status('build-success')), [38, 40]);
  await using muchLater = await openRig(await store(), START_S + 8 * 86_400);
  assert.deepEqual(counts(await muchLater.status('build-success')), [0, 0]);
});

test('a store that fails is reported and the judgement goes on', async () => {
  await using rig = await openRig({
    ...noCountStore,
    add: () => {
      throw new Error('disk full');
    },
  });
  rig.builds('success', 3);
  assert.equal((await rig.status('build-success')).total, 3);
  assert.ok(rig.errors.length > 0);
});

test('an evaluator refuses objectives whose alerts could never fire', async () => {
  const metrics = new Metrics();
  const unreachable = OBJECTIVES.map((objective) => ({ ...objective, target: 0.7 }));
  await assert.rejects(
    SloEvaluator.open({
      objectives: unreachable,
      counters: metrics,
      gauges: metrics,
      store: noCountStore,
      clock: { nowNs: () => 0n },
      onError: () => {},
    }),
    /allows 3.33 at most/,
  );
});

test('the table shows each objective on a line and says which pair fires', async () => {
  await using rig = await openRig();
  rig.builds('success', 90);
  rig.builds('error', 30);
  rig.steps('hit_local', 10);
  const table = formatSloTable(await rig.evaluator.report());
  const words = table.split('\n').map((line) => line.replaceAll(/ {2,}/g, '  '));
  assert.deepEqual(words.slice(0, 2), [
    'OBJECTIVE  TARGET  ACHIEVED  EVENTS  BUDGET LEFT  BURN 1h  BURN 6h  BURN 1d  STATE',
    'Build success  99% / 7d  75%  90/120 builds  -2400%  25x  25x  25x  burning-page',
  ]);
  assert.match(table, /Build latency .* idle$/m);
  assert.match(table, /Build success: page: the last 1h and the last 5m burn faster than 13.4 times the budget/);
});

test('a series shows when in the period the events and failures were', async () => {
  await using rig = await openRig();
  rig.builds('success', 10);
  await rig.evaluator.report();
  rig.later(3 * 86_400);
  rig.builds('error', 2);
  await rig.evaluator.report();
  const series = rig.evaluator.series('build-success', 7);
  assert.equal(series?.periodSeconds, 7 * 86_400);
  assert.deepEqual(
    series?.counts.map(({ good, total }) => [good, total]),
    [
      [0, 0],
      [0, 0],
      [0, 0],
      [10, 10],
      [0, 0],
      [0, 0],
      [0, 2],
    ],
  );
  assert.equal(rig.evaluator.series('nothing', 7), undefined);
  rig.steps('miss', 10);
  rig.later(600);
  await rig.evaluator.report();
  rig.later(600);
  const slices = rig.evaluator.series('cache-hit', 7)?.counts.at(-1);
  assert.deepEqual([slices?.good, slices?.total], [0, 1], 'slices where slices are budgeted');
});
