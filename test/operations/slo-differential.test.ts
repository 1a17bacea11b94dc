/**
 * Two engines, one meaning: the daemon's evaluator and the generated rules judge the same random histories, the rules in a real
 * Prometheus. Compared are the counts of every window, the burn rates and every pair's verdict, at hundreds of moments.
 *
 * The rules are taken as they are generated. What they record is put in place of its name, down to the counts, which Prometheus takes
 * from the scraped samples; the counts are then given to a second Prometheus as the recorded series they would be, and it judges.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { burnRateOf, type Counts, maxBurnOf, pairFires } from '../../src/slo/arithmetic.ts';
import { viewsOf } from '../../src/slo/judge.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { pairExpression, sloRecord } from '../../src/slo/promql.ts';
import { sloRuleGroups } from '../../src/slo/rules.ts';
import { gateOf, type Objective, windowsOf } from '../../src/slo/spec.ts';
import type { WindowName } from '../../src/slo/windows.ts';
import { missing, type Prometheus, startPrometheus } from '../prometheus.ts';
import { type History, randomHistory, recorded } from './slo-histories.ts';

const skip = missing('prometheus', 'promtool') ?? false;
const JOB = 'cooper';
const START_S = 1_700_000_100; // 0 modulo 300: slices are aligned to the clock
const DAYS = 8;
/** Moments off the edges of slices, where one side would count one slice more. */
const STEP_S = 8400;
const FROM_S = START_S + 7200 + 90;
const TO_S = START_S + DAYS * 86_400;

const [success, latency] = OBJECTIVES as [Objective, Objective];
const events = (name: string): Objective['indicator'] => ({
  kind: 'events',
  good: { metric: `test_${name}_total`, where: { result: ['ok'] } },
  total: { metric: `test_${name}_total`, where: { result: ['ok', 'bad'] } },
});
const made = (name: string, change: Partial<Objective>): Objective => ({ ...success, name, indicator: events(name), ...change });

/** Beside the shipped objectives, one of each kind the specification knows. */
const MORE: readonly Objective[] = [
  made('failures', {
    indicator: {
      kind: 'failures',
      bad: { metric: 'test_failures_total', where: { result: ['bad'] } },
      total: { metric: 'test_failures_total', where: { result: ['bad', 'ok'] } },
    },
  }),
  made('ratio_slices', { budgeting: { kind: 'ratio-timeslices', sliceSeconds: 300 }, target: 0.95 }),
  made('strict', { gate: { minBad: 4, confidence: 0.99, extend: true } }),
  made('no_extension', { gate: { minBad: 2, confidence: 0.9, extend: false } }),
  made('a_day', {
    period: '1d',
    pairs: [
      { severity: 'page', long: '1h', short: '5m', budgetPercent: 30 },
      { severity: 'ticket', long: '6h', short: '30m', budgetPercent: 30 },
    ],
  }),
  made('state', {
    target: 0.95,
    indicator: {
      kind: 'state',
      of: 'value',
      gauge: { metric: 'test_state', where: {} },
      op: 'lte',
      threshold: 0.9,
      everySeconds: 300,
    },
  }),
  made('freshness', {
    target: 0.95,
    indicator: {
      kind: 'state',
      of: 'age',
      gauge: { metric: 'test_fresh', where: {} },
      op: 'lt',
      threshold: 600,
      everySeconds: 300,
    },
  }),
  made('both', {
    target: 0.98,
    indicator: {
      kind: 'weighted',
      parts: [
        { slo: success.name, weight: 3 },
        { slo: latency.name, weight: 1 },
      ],
    },
  }),
];
const ALL = [...OBJECTIVES, ...MORE];

/** Every recorded series by name and objective. */
function recordsOf(objectives: readonly Objective[]): Map<string, string> {
  const rules = sloRuleGroups(objectives, { job: JOB, links: () => ({}) }).flatMap((group) => group.rules);
  return new Map(rules.flatMap((rule) => ('record' in rule ? [[`${rule.record}{slo="${rule.labels?.slo}"}`, rule.expr]] : [])));
}

/** An expression with the expressions of records in the place of their names, except those `kept`. */
function inlined(expr: string, records: ReadonlyMap<string, string>, kept: (record: string) => boolean): string {
  return expr.replaceAll(/cooper:[a-z_]+:[a-z]+(?:\d+[smhd])?\{slo="[\w-]+"\}/g, (name) => {
    const inner = records.get(name);
    if (kept(name)) return name;
    assert.ok(inner !== undefined, `nothing records ${name}`);
    return `(${inlined(inner, records, kept)})`;
  });
}

const isCount = (name: string): boolean => /^cooper:slo_(good|events):increase/.test(name);
const isMeasured = ({ indicator }: Objective): boolean => !('parts' in indicator);

type Recorded = ReadonlyMap<string, ReadonlyMap<number, number>>;

/** What `prometheus` makes of the counts of some objectives, under the names the rules record them by. */
async function countsOf(
  prometheus: Prometheus,
  objectives: readonly Objective[],
  records: ReadonlyMap<string, string>,
): Promise<Recorded> {
  const found = new Map<string, ReadonlyMap<number, number>>();
  for (const objective of objectives) {
    for (const window of windowsOf(objective)) {
      for (const what of ['good', 'events'] as const) {
        const name = `${sloRecord(what, window)}{slo="${objective.name}"}`;
        const expr = inlined(records.get(name) ?? '', records, isCount);
        const [series] = await prometheus.range(expr, FROM_S, TO_S, STEP_S);
        found.set(name, series?.values ?? new Map());
      }
    }
  }
  return found;
}

const remembered = (counts: Recorded): Promise<Prometheus> =>
  startPrometheus({ targets: [], history: recorded([...counts].map(([name, values]) => ({ name, values }))) });

interface Seen {
  readonly counts: Recorded;
  /** Moments at which a pair fires. */
  readonly firing: ReadonlyMap<string, ReadonlySet<number>>;
}

/** What the generated rules make of a history: counts of measured objectives, of composites from them, then verdicts. */
async function judgedByPrometheus(history: History, objectives: readonly Objective[]): Promise<Seen> {
  const records = recordsOf(objectives);
  await using scraped = await startPrometheus({ targets: [], history: history.text });
  const measured = await countsOf(scraped, objectives.filter(isMeasured), records);
  await using composing = await remembered(measured);
  const composed = await countsOf(
    composing,
    objectives.filter((objective) => !isMeasured(objective)),
    records,
  );
  const counts = new Map([...measured, ...composed]);
  return { counts, firing: await verdictsOn(counts, records, objectives) };
}

async function verdictsOn(
  counts: Recorded,
  records: ReadonlyMap<string, string>,
  objectives: readonly Objective[],
): Promise<Seen['firing']> {
  await using judging = await remembered(counts);
  const firing = new Map<string, ReadonlySet<number>>();
  for (const objective of objectives) {
    for (const pair of objective.pairs) {
      const expr = inlined(pairExpression(objective, pair), records, isCount);
      const found = await judging.range(expr, FROM_S, TO_S, STEP_S); // a series per window that decided: `or` keeps its name
      firing.set(`${objective.name} ${pair.long}`, new Set(found.flatMap(({ values }) => [...values.keys()])));
    }
  }
  return firing;
}

interface Comparison {
  readonly compared: number;
  readonly firing: number;
  /** Verdicts that differ although no extrapolation explains it. */
  readonly disagreements: readonly string[];
  /** Counts that differ by more than extrapolation explains. */
  readonly differing: readonly string[];
  /** Verdicts left out because a little extrapolation would turn them. */
  readonly close: number;
}

/** increase() stretches what it saw to the whole window: at these scrapes by a tenth of five minutes at most. */
const STRETCH = 0.12;

function compare(history: History, seen: Seen, objectives: readonly Objective[]): Comparison {
  const disagreements: string[] = [];
  const differing: string[] = [];
  let [compared, firing, close] = [0, 0, 0];
  for (const objective of objectives) {
    const views = viewsOf(objective, objectives, { slots: history.slots, adjustments: [] });
    for (let timeS = FROM_S; timeS <= TO_S; timeS += STEP_S) {
      const { over } = views(timeS - 1);
      const theirs = (window: WindowName): Counts => countedBy(seen, objective, window, timeS);
      for (const window of windowsOf(objective))
        differing.push(...differences(objective, window, timeS, over(window), theirs(window)));
      for (const pair of objective.pairs) {
        const fires = pairFires(pair, objective, over);
        const stable = [1 - STRETCH, 1 + STRETCH].every((by) => pairFires(pair, objective, stretched(over, by)) === fires);
        compared += 1;
        if (fires) firing += 1;
        if (seen.firing.get(`${objective.name} ${pair.long}`)?.has(timeS) === fires) continue;
        if (stable) disagreements.push(`${objective.name} ${pair.long} at ${timeS}: the daemon ${fires ? 'fires' : 'is silent'}`);
        else close += 1;
      }
    }
  }
  return { compared, firing, disagreements, differing, close };
}

function differences(
  { name, target, indicator }: Objective,
  window: WindowName,
  timeS: number,
  ours: Counts,
  theirs: Counts,
): string[] {
  const where = `${name} ${window} at ${timeS}`;
  // A look that fell into a restart is taken a moment later by the daemon, and from the sample before by Prometheus.
  const edge = indicator.kind === 'state' ? 1.5 : 0.5;
  const counts = (['good', 'total'] as const)
    .filter((what) => Math.abs(ours[what] - theirs[what]) > edge + STRETCH * ours[what])
    .map((what) => `${where}: ${what} ${ours[what]}, Prometheus ${theirs[what]}`);
  // Both counts are stretched alike, so the burn rate is not stretched at all.
  const [burn = 0, burned = 0] = [burnRateOf(ours, target), burnRateOf(theirs, target)];
  const room = 0.01 * Math.max(burn, 1) + (edge * maxBurnOf(target)) / Math.max(ours.total, 1);
  return Math.abs(burn - burned) > room ? [...counts, `${where}: burn rate ${burn}, Prometheus ${burned}`] : counts;
}

const stretched =
  (over: (window: WindowName) => Counts, by: number) =>
  (window: WindowName): Counts => ({ good: over(window).good * by, total: over(window).total * by });

function countedBy(seen: Seen, objective: Objective, window: WindowName, timeS: number): Counts {
  const of = (what: 'good' | 'events'): number =>
    seen.counts.get(`${sloRecord(what, window)}{slo="${objective.name}"}`)?.get(timeS) ?? 0;
  return { good: of('good'), total: of('events') };
}

/** Verdicts that differ from arithmetic.ts on the very counts Prometheus had: none may, however odd the counts. */
function wronglyJudged(seen: Seen, objectives: readonly Objective[]): string[] {
  const wrong: string[] = [];
  for (const objective of objectives) {
    for (const pair of objective.pairs) {
      for (let timeS = FROM_S; timeS <= TO_S; timeS += STEP_S) {
        const fires = pairFires(pair, objective, (window) => countedBy(seen, objective, window, timeS));
        if (seen.firing.get(`${objective.name} ${pair.long}`)?.has(timeS) !== fires)
          wrong.push(`${objective.name} ${pair.long} at ${timeS}`);
      }
    }
  }
  return wrong;
}

const PERIOD = { startS: START_S, durationS: DAYS * 86_400, job: JOB };

/** Arithmetic that is wrong in one place; the comparison has to see each. */
const BROKEN: Readonly<Record<string, (objective: Objective) => Objective>> = {
  'a target half a percent lower': (objective) => ({ ...objective, target: objective.target - 0.005 }),
  'a minimum of three failures': (objective) => ({
    ...objective,
    gate: { ...gateOf(objective), minBad: gateOf(objective).minBad + 1 },
  }),
  'another confidence': (objective) => ({
    ...objective,
    gate: { ...gateOf(objective), confidence: gateOf(objective).confidence === 0.99 ? 0.95 : 0.99 },
  }),
  'no extension of windows': (objective) => ({ ...objective, gate: { ...gateOf(objective), extend: !gateOf(objective).extend } }),
  'factors a tenth higher': (objective) => ({
    ...objective,
    pairs: objective.pairs.map((pair) => ({ ...pair, budgetPercent: pair.budgetPercent * 1.1 })),
  }),
  'another short window': (objective) => ({ ...objective, pairs: objective.pairs.map((pair) => ({ ...pair, short: '30m' })) }),
};

test('the daemon and the generated rules in a real Prometheus judge random histories alike, restarts and all', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const history = await randomHistory(ALL, { ...PERIOD, seed: 1, missed: false });
  const seen = await judgedByPrometheus(history, ALL);
  const { compared, firing, disagreements, differing, close } = compare(history, seen, ALL);
  t.diagnostic(`${compared} verdicts compared, ${firing} of them firing, ${close} too close to call`);
  assert.deepEqual(disagreements, []);
  assert.deepEqual(differing, []);
  assert.deepEqual(wronglyJudged(seen, ALL), []);
  assert.ok(compared > 5000 && firing > 500 && firing < compared - 500 && close < compared / 100);
  for (const [what, broken] of Object.entries(BROKEN)) {
    assert.ok(wronglyJudged(seen, ALL.map(broken)).length > 0, `the comparison does not notice ${what}`);
    assert.ok(compare(history, seen, ALL.map(broken)).disagreements.length > 0, `the comparison does not notice ${what}`);
  }
});

test('where scrapes were missed the counts differ by what Prometheus did not see, and the same counts get the same verdicts', {
  skip,
  timeout: 300_000,
}, async () => {
  const some = [success, ...MORE.filter(({ name }) => ['failures', 'ratio_slices', 'state', 'a_day'].includes(name))];
  const history = await randomHistory(some, { ...PERIOD, seed: 2, missed: true });
  const seen = await judgedByPrometheus(history, some);
  assert.deepEqual(wronglyJudged(seen, some), []);
  const { compared, disagreements, differing } = compare(history, seen, some);
  assert.ok(differing.length > 0, 'nothing was missed');
  assert.ok(disagreements.length < compared / 20, disagreements.join('\n'));
});
