import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../test/fixtures/property.ts';
import { CATALOG, SLO_NAMES, SLO_WINDOWS } from '../telemetry/catalog.ts';
import {
  badOf,
  budgetLeftOf,
  burnRateOf,
  type Counts,
  factorOf,
  fewestEventsFor,
  gatePasses,
  pairFires,
  problemsOf,
  secondsToDetect,
  thresholdOf,
  wilsonLower,
} from './arithmetic.ts';
import { OBJECTIVES } from './objectives.ts';
import { type Objective, WEEKLY_PAIRS, WINDOW_SECONDS, WINDOWS, type WindowName } from './spec.ts';

const SUCCESS = OBJECTIVES[0] as Objective;
const PAGE = WEEKLY_PAIRS[0] as (typeof WEEKLY_PAIRS)[number];

test('the weekly pairs have the factors they are documented with', () => {
  const factors = WEEKLY_PAIRS.map((pair) => Math.round(factorOf(pair, '7d') * 1000) / 1000);
  assert.deepEqual(factors, [13.44, 3.5, 1.4, 1.003]);
});

test('every shipped objective can fire every pair, and none inside its budget', () => {
  assert.deepEqual(OBJECTIVES.flatMap(problemsOf), []);
});

for (const [target, said] of [
  [0.7, /needs a burn rate of 13.44, but a target of 0.7 allows 3.33 at most/],
  [0.9, /needs a burn rate of 13.44, but a target of 0.9 allows 10 at most/],
  [1, /is not between 0 and 1/],
] as const) {
  test(`an objective of ${target} with these pairs is refused`, () => {
    assert.match(problemsOf({ ...SUCCESS, target }).join('\n'), said);
  });
}

test('percentages made for 30 days are refused for a week, because they fire inside the budget', () => {
  const problems = problemsOf({ ...SUCCESS, pairs: [{ severity: 'ticket', long: '3d', short: '6h', budgetPercent: 10 }] });
  assert.match(problems.join(), /factor 0.23: it would fire while the budget holds/);
});

test('every SLO selection reads series the catalogue declares, and thresholds are bucket edges', () => {
  for (const { name, indicator } of OBJECTIVES) {
    for (const { metric, where, le } of [indicator.good, indicator.total]) {
      const spec = CATALOG.find((candidate) => candidate.name === metric);
      assert.ok(spec, `${name}: ${metric}`);
      for (const [label, values] of Object.entries(where)) {
        for (const value of values) assert.ok(spec.labels[label]?.includes(value), `${metric}{${label}="${value}"}`);
      }
      if (le !== undefined) assert.ok(spec.buckets.includes(le), `${metric} has no bucket edge at ${le}`);
    }
  }
  assert.deepEqual(
    OBJECTIVES.map(({ name }) => name),
    [...SLO_NAMES],
  );
  assert.deepEqual(WINDOWS, [...SLO_WINDOWS]);
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
    const inside = events.filter(({ ageS }) => ageS < WINDOW_SECONDS[window]);
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
