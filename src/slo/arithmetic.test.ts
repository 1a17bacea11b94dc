import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../test/fixtures/property.ts';
import { SLO_NAMES, SLO_WINDOWS } from '../telemetry/catalog-slo.ts';
import {
  badOf,
  budgetLeftOf,
  burnRateOf,
  type Counts,
  factorOf,
  fewestEventsFor,
  gatePasses,
  pairFires,
  secondsToDetect,
  thresholdOf,
  wilsonLower,
} from './arithmetic.ts';
import { OBJECTIVES } from './objectives.ts';
import { type Objective, WEEKLY_PAIRS, windowsOf } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

const SUCCESS = OBJECTIVES[0] as Objective;
const PAGE = WEEKLY_PAIRS[0] as (typeof WEEKLY_PAIRS)[number];

test('the weekly pairs have the factors they are documented with', () => {
  const factors = WEEKLY_PAIRS.map((pair) => Math.round(factorOf(pair, '7d') * 1000) / 1000);
  assert.deepEqual(factors, [13.44, 3.5, 1.4, 1.003]);
});

test('names and windows of the shipped objectives are those of the catalogue', () => {
  assert.deepEqual(
    OBJECTIVES.map(({ name }) => name),
    [...SLO_NAMES],
  );
  for (const objective of OBJECTIVES) {
    for (const window of windowsOf(objective))
      assert.ok((SLO_WINDOWS as readonly string[]).includes(window), `${objective.name} ${window}`);
  }
});

test('burn and budget at the edges: idle, untouched, exactly spent, overspent', () => {
  assert.equal(burnRateOf({ good: 0, total: 0 }, 0.99), undefined);
  assert.equal(budgetLeftOf({ good: 0, total: 0 }, 0.99), 1);
  assert.equal(budgetLeftOf({ good: 100, total: 100 }, 0.99), 1);
  assert.ok(Math.abs(budgetLeftOf({ good: 99, total: 100 }, 0.99)) < 1e-9);
  assert.ok(Math.abs(budgetLeftOf({ good: 97, total: 100 }, 0.99) + 2) < 1e-9);
  assert.ok(Math.abs((burnRateOf({ good: 90, total: 100 }, 0.99) ?? 0) - 10) < 1e-9);
});

// k failures the gate needs at a 99 % target, computed by hand from the Wilson bound and the minimum of two.
for (const [events, factor, k] of [
  [5, 6, 2],
  [5, 14.4, 3],
  [8, 3, 2],
  [8, 14.4, 3],
  [20, 6, 3],
  [20, 14.4, 6],
  [50, 3, 4],
  [50, 14.4, 12],
  [100, 6, 10],
  [500, 14.4, 85],
] as const) {
  test(`of ${events} builds, ${k} failures and not ${k - 1} pass the gate at ${factor} times the budget`, () => {
    assert.equal(gatePasses({ good: events - k, total: events }, factor * 0.01), true);
    assert.equal(gatePasses({ good: events - k + 1, total: events }, factor * 0.01), false);
  });
}

test('the Wilson bound lies between 0 and the share, and grows with evidence', () => {
  fc.assert(
    fc.property(fc.nat(1000), fc.integer({ min: 1, max: 1000 }), (bad, extra) => {
      const total = bad + extra;
      const lower = wilsonLower(bad, total);
      assert.ok(lower >= 0 && lower <= bad / total + 1e-12);
      assert.ok(wilsonLower(bad * 10, total * 10) >= lower - 1e-12);
    }),
  );
});

test('the fewest events that can convince are just enough', () => {
  for (const threshold of [0.03, 0.1344, 0.3, 0.672, 0.9]) {
    const needed = fewestEventsFor(threshold);
    assert.equal(gatePasses({ good: 0, total: needed }, threshold), true, `${needed} at ${threshold}`);
    assert.equal(gatePasses({ good: 0, total: needed - 1 }, threshold), false, `${needed - 1} at ${threshold}`);
  }
});

/** Counts per window from events at ages in seconds. */
function overEvents(events: readonly { readonly ageS: number; readonly good: boolean }[]): (window: WindowName) => Counts {
  return (window) => {
    const inside = events.filter(({ ageS }) => ageS < secondsOf(window));
    return { good: inside.filter(({ good }) => good).length, total: inside.length };
  };
}
const every = (stepS: number, count: number, good: (index: number) => boolean): { ageS: number; good: boolean }[] =>
  Array.from({ length: count }, (_, index) => ({ ageS: index * stepS + 1, good: good(index) }));

test('one failed build pages nobody, however few builds there are', () => {
  for (const total of [1, 2, 5, 8, 20]) {
    const over = overEvents(every(60, total, (index) => index !== 0));
    assert.equal(
      WEEKLY_PAIRS.some((pair) => pairFires(pair, SUCCESS, over)),
      false,
      `1 of ${total}`,
    );
  }
});

test('twenty per cent of many builds failing pages', () => {
  assert.equal(pairFires(PAGE, SUCCESS, overEvents(every(10, 400, (index) => index % 5 !== 0))), true);
});

test('a night without builds fires nothing', () => {
  for (const pair of WEEKLY_PAIRS) assert.equal(pairFires(pair, SUCCESS, overEvents([])), false);
});

test('two builds a day, all failing, page although the hour is nearly empty', () => {
  assert.equal(pairFires(PAGE, SUCCESS, overEvents(every(43_200, 6, () => false))), true);
});

test('one good build after a run of few failures ends the alert, and it does not come back on its own', () => {
  const failures = every(43_200, 6, () => false);
  for (const sinceS of [10, 600, 4000, 20_000, 80_000]) {
    const events = [{ ageS: sinceS, good: true }, ...failures.map(({ ageS }) => ({ ageS: ageS + sinceS + 1, good: false }))];
    assert.equal(pairFires(PAGE, SUCCESS, overEvents(events)), false, `${sinceS} s after the good build`);
  }
});

test('a burn that has stopped is silent once the short window is clean', () => {
  const events = [
    ...every(5, 70, () => true),
    ...every(5, 100, () => false).map(({ ageS }) => ({ ageS: ageS + 360, good: false })),
  ];
  assert.equal(badOf(overEvents(events)('1h')), 100);
  assert.equal(pairFires(PAGE, SUCCESS, overEvents(events)), false);
});

test('time to detect is what the threshold and the share of failures make it', () => {
  assert.equal(Math.round(secondsToDetect(PAGE, SUCCESS, 1) ?? 0), Math.round(0.1344 * 3600));
  assert.equal(secondsToDetect(PAGE, SUCCESS, 0.1), undefined);
  assert.ok(thresholdOf(PAGE, SUCCESS) > 0.1);
});
