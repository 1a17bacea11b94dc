/**
 * States that are not in the counts alone: frozen, idle, maintenance, composites, states of gauges; and low traffic, both ways.
 *
 * The traps of a build service's objectives, and where each has its test:
 *   targets that can never fire, factors inside the budget, thresholds off a bucket edge     lint.test.ts
 *   one failure among few builds pages; few but all failing builds do not                    here, arithmetic.test.ts, alerts/rule-tests.ts
 *   averaged ratios, NaN at night                                                            rules.test.ts, here (idle), slo-differential.test.ts
 *   counter resets and restarts in the middle of a window                                    evaluator.test.ts, slo-differential.test.ts
 *   the first event lost without a series at 0                                               lint.test.ts (no-denominator)
 *   an outage without traffic reads as a perfect week                                        here (unknown, frozen), objective `canary`, alerts/rule-tests.ts
 *   more good events than events                                                             here (inconsistent)
 *   a `for` longer than the short window                                                     rules.test.ts
 *   `600` and `600.0` as bucket edges                                                        rules.test.ts, alerts/rule-tests.ts
 *   cancelled builds, user failures, cancelled waits                                         evaluator.test.ts, objectives.ts
 *   windows of days with 23 and 25 hours                                                     calendar.test.ts
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../test/fixtures/property.ts';
import type { Selection } from '../telemetry/catalog.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { type Counts, pairFires } from './arithmetic.ts';
import { type CountStore, type FiringRow, noCountStore } from './count-store.ts';
import type { Stretch } from './coverage.ts';
import { SloEvaluator } from './evaluator.ts';
import { OBJECTIVES } from './objectives.ts';
import type { SloStatus } from './report.ts';
import type { BudgetAdjustment, Objective } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

const [SUCCESS, LATENCY] = OBJECTIVES as [Objective, Objective];
const BOTH: Objective = {
  ...SUCCESS,
  name: 'both',
  target: 0.98,
  indicator: {
    kind: 'weighted',
    parts: [
      { slo: SUCCESS.name, weight: 3 },
      { slo: LATENCY.name, weight: 1 },
    ],
  },
};
const WORST: Objective = {
  ...BOTH,
  name: 'worst',
  pairs: [],
  indicator: { ...BOTH.indicator, kind: 'worst-of' } as Objective['indicator'],
};
const DISK: Objective = {
  ...(OBJECTIVES.find(({ name }) => name === 'cache-growth') as Objective),
};

interface Rig extends AsyncDisposable {
  readonly evaluator: SloEvaluator;
  /** Sums the counters show, by metric; those of good events are those with the fewest labels. */
  readonly sums: Map<string, number>;
  /** Reads fail while this is set. */
  broken: boolean;
  adjustments: BudgetAdjustment[];
  /** Time passes, looked at every 30 s. */
  pass(seconds: number): Promise<void>;
  /** Time passes and nobody looks. */
  skip(seconds: number): void;
  builds(good: number, bad: number): void;
  status(name: string): Promise<SloStatus>;
}

const key = ({ metric, where }: Selection): string => `${metric} ${JSON.stringify(where)}`;
const GOOD = key((SUCCESS.indicator as { good: Selection }).good);
const ALL_BUILDS = key((SUCCESS.indicator as { total: Selection }).total);

async function openRig(
  objectives: readonly Objective[] = [SUCCESS],
  store: CountStore = noCountStore,
  startS = 1_700_000_100,
): Promise<Rig> {
  let nowS = startS;
  const sums = new Map<string, number>();
  const metrics = new Metrics();
  const rig = { broken: false, adjustments: [] as BudgetAdjustment[] };
  const evaluator = await SloEvaluator.open({
    objectives,
    counters: {
      read: async (selections) => {
        if (rig.broken) throw new Error('nothing to read');
        return selections.map((selection) => sums.get(key(selection)) ?? 0);
      },
    },
    gauges: metrics,
    store,
    clock: { nowNs: () => BigInt(nowS) * 1_000_000_000n },
    adjustments: () => rig.adjustments,
    onError: () => {},
  });
  const add = (name: string, by: number): void => void sums.set(name, (sums.get(name) ?? 0) + by);
  return Object.assign(rig, {
    evaluator,
    sums,
    pass: async (seconds: number) => {
      for (let passed = 0; passed < seconds; passed += 30) {
        nowS += 30;
        await evaluator.report();
      }
    },
    skip: (seconds: number) => {
      nowS += seconds;
    },
    builds: (good: number, bad: number) => {
      add(GOOD, good);
      add(ALL_BUILDS, good + bad);
    },
    status: async (name: string) => {
      const found = (await evaluator.report()).objectives.find((status) => status.name === name);
      assert.ok(found);
      return found;
    },
    [Symbol.asyncDispose]: () => evaluator[Symbol.asyncDispose](),
  });
}

const firing = (status: SloStatus): string[] => status.pairs.filter((pair) => pair.firing).map(({ long }) => long);

test('when nothing can be read the state is unknown and what fired goes on firing, however long', async () => {
  await using rig = await openRig();
  await rig.pass(600);
  rig.builds(50, 50);
  assert.equal((await rig.status('build-success')).state, 'burning-page');
  rig.broken = true;
  rig.skip(2 * 86_400);
  const blind = await rig.status('build-success');
  assert.equal(blind.state, 'unknown');
  assert.deepEqual(firing(blind), ['1h', '6h', '1d', '3d']);
  assert.equal(blind.pairs[0]?.frozen, true);
  assert.ok(blind.frozenSince !== undefined);
  assert.ok(blind.coverage < 0.01);
  rig.broken = false;
  await rig.pass(120);
  const seeing = await rig.status('build-success');
  assert.equal(seeing.frozenSince, undefined);
  assert.ok(firing(seeing).includes('1h'), 'two minutes after the gap nothing is known of the last five');
  await rig.pass(120);
  assert.ok(
    !firing(await rig.status('build-success')).includes('1h'),
    'half of the short window was looked at, and nothing failed',
  );
});

test('a daemon that reads nothing from the start is unknown, and fires nothing', async () => {
  await using rig = await openRig();
  rig.skip(600);
  rig.broken = true;
  const status = await rig.status('build-success');
  assert.deepEqual([status.state, firing(status)], ['unknown', []]);
});

test('an alert that fired before a restart holds after it until enough was looked at', async () => {
  const kept: { firing: readonly FiringRow[]; stretches: Stretch[] } = { firing: [], stretches: [] };
  const store: CountStore = {
    ...noCountStore,
    loadFiring: async () => [...kept.firing],
    keepFiring: (rows) => {
      kept.firing = rows;
    },
    loadStretches: async () => kept.stretches,
    keepStretch: (stretch) => {
      kept.stretches = [{ ...stretch }];
    },
  };
  {
    await using rig = await openRig([SUCCESS], store);
    await rig.pass(300);
    rig.builds(0, 20);
    await rig.pass(30);
  }
  assert.equal(kept.firing.length, 4);
  await using again = await openRig([SUCCESS], store, 1_700_000_100 + 3600);
  assert.deepEqual(firing(await again.status('build-success')), ['1h', '6h', '1d', '3d']);
  await again.pass(300);
  assert.ok(!firing(await again.status('build-success')).includes('1h'));
});

test('more good events than events are cut to fit and counted', async () => {
  await using rig = await openRig();
  rig.sums.set(GOOD, 12);
  rig.sums.set(ALL_BUILDS, 10);
  const status = await rig.status('build-success');
  assert.deepEqual([status.good, status.total, status.inconsistentSamples], [10, 10, 1]);
});

test('counters that begin at 0 again in the middle of a window take nothing away', async () => {
  await using rig = await openRig();
  rig.builds(30, 0);
  await rig.pass(30);
  rig.sums.clear();
  rig.builds(7, 1);
  const status = await rig.status('build-success');
  assert.deepEqual([status.good, status.total], [37, 38]);
});

test('a maintenance window leaves its events out, names who did it, and the figures without it stay visible', async () => {
  await using rig = await openRig();
  rig.builds(100, 0);
  await rig.pass(600);
  rig.builds(0, 30);
  await rig.pass(30);
  const before = await rig.status('build-success');
  assert.equal(before.unadjusted, undefined);
  const base = { slos: ['*'], fromS: 1_700_000_100 + 500, toS: 1_700_000_100 + 900, author: 'ada', reason: 'kernel update' };
  rig.adjustments = [{ ...base, id: 'm1', kind: 'maintenance', effect: { kind: 'exclude' } }];
  const excluded = await rig.status('build-success');
  assert.deepEqual([excluded.good, excluded.total, excluded.state], [100, 100, 'ok']);
  assert.deepEqual([excluded.unadjusted?.good, excluded.unadjusted?.total], [100, 130]);
  assert.deepEqual(
    excluded.adjustments.map(({ id, author, reason, active }) => [id, author, reason, active]),
    [['m1', 'ada', 'kernel update', true]],
  );
  rig.adjustments = [{ ...base, id: 'c1', kind: 'correction', effect: { kind: 'forgive', bad: 12 } }];
  const forgiven = await rig.status('build-success');
  assert.deepEqual([forgiven.good, forgiven.total], [112, 130]);
});

test('composites: the weighted one has the mean and its own alerts, the worst-of one is its worst part', async () => {
  await using rig = await openRig([SUCCESS, LATENCY, BOTH, WORST]);
  await rig.pass(60);
  rig.builds(50, 50);
  const good = key((LATENCY.indicator as { good: Selection }).good);
  rig.sums.set(good, 100);
  rig.sums.set(key((LATENCY.indicator as { total: Selection }).total), 100);
  rig.sums.set(good, 100);
  const both = await rig.status('both');
  assert.ok(Math.abs((both.achieved ?? 0) - (3 * 0.5 + 1) / 4) < 0.02, String(both.achieved));
  assert.equal(both.state, 'burning-page');
  const worst = await rig.status('worst');
  assert.deepEqual([worst.state, worst.note, worst.parts?.[0]], ['burning-page', 'as build-success', 'build-success']);
});

test('a state is looked at once in its interval, and not where there is nothing to compare with', async () => {
  await using rig = await openRig([DISK]);
  const { gauge, per } = DISK.indicator as { gauge: Selection; per: Selection };
  rig.sums.set(key(gauge), 120);
  await rig.pass(900);
  assert.equal((await rig.status('cache-growth')).state, 'idle', 'there is no limit');
  rig.sums.set(key(per), 100);
  await rig.pass(3000);
  const above = await rig.status('cache-growth');
  assert.deepEqual([above.good, above.total], [0, 10]);
  rig.sums.set(key(gauge), 105);
  await rig.pass(600);
  assert.equal((await rig.status('cache-growth')).good, 2);
});

test('the policy asks for more the less is left, and for nothing on the word of a single failure', async () => {
  await using rig = await openRig();
  rig.builds(4, 1);
  assert.equal((await rig.status('build-success')).policy, null);
  rig.builds(995, 5);
  assert.deepEqual((await rig.status('build-success')).policy?.blocks, ['experiment']);
  rig.builds(0, 5);
  assert.ok((await rig.status('build-success')).policy?.blocks.includes('release'));
});

const countsOf =
  (events: readonly { readonly ageS: number; readonly good: boolean }[]) =>
  (window: WindowName): Counts => {
    const inside = events.filter(({ ageS }) => ageS < secondsOf(window));
    return { good: inside.filter(({ good }) => good).length, total: inside.length };
  };

test('low traffic, one way: a single failure among any number of builds at any times never fires', () => {
  const builds = fc.array(fc.integer({ min: 1, max: 7 * 86_400 }), { maxLength: 200 });
  fc.assert(
    fc.property(builds, fc.integer({ min: 1, max: 7 * 86_400 }), (good, failedS) => {
      const events = [{ ageS: failedS, good: false }, ...good.map((ageS) => ({ ageS, good: true }))];
      for (const objective of OBJECTIVES)
        for (const pair of objective.pairs) assert.equal(pairFires(pair, objective, countsOf(events)), false);
    }),
  );
});

test('low traffic, the other way: enough failures and nothing else fire every pair, however far apart they are', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 40 }), fc.integer({ min: 60, max: 86_400 }), (count, apartS) => {
      const events = Array.from({ length: count }, (_, index) => ({ ageS: 1 + index * apartS, good: false }));
      const inside = events.filter(({ ageS }) => ageS < secondsOf(SUCCESS.period));
      for (const pair of SUCCESS.pairs) assert.equal(pairFires(pair, SUCCESS, countsOf(events)), inside.length >= 2);
    }),
  );
});

test('nine of ten builds failing at two a day do fire, as long as the last one failed', () => {
  const events = Array.from({ length: 14 }, (_, index) => ({ ageS: 1 + index * 43_200, good: index === 5 }));
  assert.equal(pairFires(SUCCESS.pairs[0] as (typeof SUCCESS.pairs)[number], SUCCESS, countsOf(events)), true);
});

test('a calendar budget begins anew at local midnight, while its alerts look at rolling windows', async () => {
  const daily: Objective = {
    ...SUCCESS,
    period: '1d',
    calendar: { unit: 'day', count: 1, start: '2026-01-01', timeZone: 'Europe/Berlin' },
    pairs: [{ severity: 'page', long: '6h', short: '30m', budgetPercent: 30 }],
  };
  const beforeMidnightS = Date.parse('2026-03-29T21:50:00Z') / 1000; // 23:50 of a day of 23 hours
  await using rig = await openRig([daily], noCountStore, beforeMidnightS);
  rig.builds(0, 20);
  await rig.pass(300);
  const today = await rig.status('build-success');
  assert.deepEqual(
    [today.total, today.window.from, today.window.to, today.window.calendar],
    [20, '2026-03-28T23:00:00Z', '2026-03-29T22:00:00Z', 'day in Europe/Berlin'],
  );
  await rig.pass(600);
  const tomorrow = await rig.status('build-success');
  assert.deepEqual([tomorrow.total, tomorrow.budgetLeft], [0, 1]);
  assert.deepEqual(firing(tomorrow), ['6h'], 'it burns still, whatever the calendar says');
});
