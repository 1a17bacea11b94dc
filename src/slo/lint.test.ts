import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BUILD_DURATION, CATALOG, type MetricSpec } from '../telemetry/catalog.ts';
import { errorsOf, type LintContext, problemsOf } from './lint.ts';
import type { LintRule } from './lint-problem.ts';
import { OBJECTIVES } from './objectives.ts';
import type { Objective } from './spec.ts';

const [SUCCESS, LATENCY, HITS] = OBJECTIVES as [Objective, Objective, Objective];
const context: LintContext = { catalogue: CATALOG, others: OBJECTIVES };

test('every shipped objective can fire every pair, none inside its budget, from series that exist, at edges that exist', () => {
  assert.deepEqual(
    OBJECTIVES.flatMap((objective) => problemsOf(objective, context)),
    [],
  );
});

const latencyAt = (le: number): Objective => ({
  ...LATENCY,
  indicator: {
    kind: 'events',
    good: { metric: BUILD_DURATION.name, where: { phase: ['total'] }, le },
    total: { metric: BUILD_DURATION.name, where: { phase: ['total'] } },
  },
});
const reading = (metric: string, where: Readonly<Record<string, readonly string[]>>): Objective => ({
  ...SUCCESS,
  indicator: { kind: 'events', good: { metric, where }, total: { metric, where } },
});
const composite = (parts: readonly { slo: string; weight: number }[]): Objective => ({
  ...SUCCESS,
  name: 'all',
  indicator: { kind: 'weighted', parts },
});

// Spec, rule broken, field named, what the message says.
for (const [what, objective, rule, field, said] of [
  [
    'a target of 70 % with these pairs',
    { ...SUCCESS, target: 0.7 },
    'unreachable-pair',
    'pairs[0].budgetPercent',
    /allows 3.33 at most/,
  ],
  [
    'a target of 90 % with these pairs',
    { ...SUCCESS, target: 0.9 },
    'unreachable-pair',
    'pairs[0].budgetPercent',
    /allows 10 at most/,
  ],
  ['a target of 1', { ...SUCCESS, target: 1 }, 'target', 'target', /not between 0 and 1/],
  [
    'percentages made for 30 days over a week',
    { ...SUCCESS, pairs: [{ severity: 'ticket', long: '3d', short: '6h', budgetPercent: 10 }] },
    'factor-below-1',
    'pairs[0].budgetPercent',
    /factor 0.23: it would fire while the budget holds/,
  ],
  [
    'a short window as long as the long one',
    { ...SUCCESS, pairs: [{ severity: 'page', long: '1h', short: '1h', budgetPercent: 8 }] },
    'pair-windows',
    'pairs[0].short',
    /not shorter/,
  ],
  ['a period that is no window', { ...SUCCESS, period: '1y' as '1d' }, 'window', 'period', /not a window/],
  ['a threshold between two bucket edges', latencyAt(500), 'bucket-edge', 'indicator.good.le', /no bucket edge at 500/],
  ['a metric nobody has', reading('cooper_buidls_total', {}), 'unknown-metric', 'indicator.good.metric', /not in the catalogue/],
  [
    'a metric nobody has as denominator',
    reading('cooper_buidls_total', {}),
    'no-denominator',
    'indicator.total',
    /no denominator/,
  ],
  [
    'a label nobody has',
    reading('cooper_builds_total', { reslut: ['success'] }),
    'unknown-label',
    'indicator.good.where.reslut',
    /no label/,
  ],
  [
    'a value that never is',
    reading('cooper_builds_total', { result: ['failed'] }),
    'unknown-label',
    'indicator.good.where.result',
    /never exists/,
  ],
  ['a gauge that is counted', reading('cooper_cache_bytes', {}), 'unknown-metric', 'indicator.good.metric', /is a gauge/],
  [
    'slices that do not tile a day',
    { ...HITS, budgeting: { kind: 'timeslices', sliceSeconds: 420, threshold: 0.7 } },
    'budgeting',
    'budgeting.sliceSeconds',
    /do not tile/,
  ],
  [
    'a slice longer than the short window',
    { ...HITS, budgeting: { kind: 'timeslices', sliceSeconds: 600, threshold: 0.7 } },
    'budgeting',
    'budgeting.sliceSeconds',
    /longer than the shortest window/,
  ],
  [
    'a calendar in no time zone',
    { ...SUCCESS, calendar: { unit: 'week', count: 1, start: '2026-01-05', timeZone: 'Mars/Olympus' } },
    'calendar',
    'calendar.timeZone',
    /not a time zone/,
  ],
  [
    'a calendar month called a week',
    { ...SUCCESS, calendar: { unit: 'month', count: 1, start: '2026-01-01', timeZone: 'UTC' } },
    'calendar',
    'period',
    /not the length/,
  ],
  ['a composite of one', composite([{ slo: 'canary', weight: 1 }]), 'composite', 'indicator.parts', /two parts or more/],
  [
    'a composite of what does not exist',
    composite([
      { slo: 'canary', weight: 1 },
      { slo: 'nothing', weight: 1 },
    ]),
    'composite',
    'indicator.parts[1].slo',
    /no objective "nothing"/,
  ],
  [
    'half a failure as minimum',
    { ...SUCCESS, gate: { minBad: 0.5, confidence: 0.95, extend: true } },
    'gate',
    'gate.minBad',
    /not a number/,
  ],
  [
    'a policy in the wrong order',
    { ...SUCCESS, policy: [0, 0.5].map((budgetBelow) => ({ budgetBelow, consequence: '', blocks: [] })) },
    'policy',
    'policy[1].budgetBelow',
    /must descend/,
  ],
] as const satisfies readonly (readonly [string, Objective, LintRule, string, RegExp])[]) {
  test(`${what} fails validation and says how to mend it`, () => {
    const found = errorsOf(problemsOf(objective, context)).find((problem) => problem.rule === rule && problem.field === field);
    assert.ok(found, JSON.stringify(problemsOf(objective, context)));
    assert.match(found.message, said);
    assert.ok(found.fix.length > 3);
  });
}

test('a window longer than counts are kept is refused; a floor above the budget and many series are warnings', () => {
  const kept = problemsOf(SUCCESS, { ...context, retentionSeconds: 86_400 });
  assert.deepEqual(
    kept.map(({ rule, level }) => [rule, level]),
    [['retention', 'error']],
  );
  const floor = problemsOf({ ...SUCCESS, floor: { ratio: 0.02, source: 'last month' } }, { ...context, seriesBudget: 10 });
  assert.deepEqual(
    floor.map(({ rule, level }) => [rule, level]),
    [
      ['floor', 'warning'],
      ['cardinality', 'warning'],
    ],
  );
});

test('a denominator whose series appear with the first event is refused', () => {
  const late: MetricSpec = { ...(CATALOG.find(({ name }) => name === 'cooper_builds_total') as MetricSpec), series: [] };
  const problems = problemsOf(SUCCESS, { catalogue: [late] });
  assert.deepEqual(
    problems.map(({ rule }) => rule),
    ['no-denominator'],
  );
});
