/**
 * What is promised, as data. The fields follow OpenSLO v1; our extensions are what it cannot say: pairs of windows that must both
 * burn, the low-traffic gate, indicators that are a state, the measured floor, the budget policy. The in-process evaluator and the
 * generated Prometheus rules read the same spec. This file holds types and defaults only; lint.ts says whether a spec makes sense.
 */
import type { Selection } from '../telemetry/catalog.ts';
import { ascending, LADDER, secondsOf, type WindowName } from './windows.ts';

// ---- what is measured

/** Good events and all events, as sums over series of the catalogue. Bad is the difference. */
export interface GoodOfTotal {
  readonly kind: 'events';
  readonly good: Selection;
  readonly total: Selection;
}
/** Where only failures are counted (Sloth's error query, OpenSLO's `bad`): good is the difference. */
export interface BadOfTotal {
  readonly kind: 'failures';
  readonly bad: Selection;
  readonly total: Selection;
}
/**
 * A condition that holds or does not, looked at every `everySeconds`; each look is an event (state-duration and freshness
 * objectives). `age` compares the seconds since the gauge's value, a Unix time. With `per` the value is divided; a look at which
 * `per` is 0 is no event, and neither is one at an `age` of a gauge that is 0 (it has not happened yet).
 */
export interface StateIndicator {
  readonly kind: 'state';
  readonly of: 'value' | 'age';
  readonly gauge: Selection;
  readonly per?: Selection;
  readonly op: 'lt' | 'lte' | 'gt' | 'gte';
  readonly threshold: number;
  readonly everySeconds: number;
}
/** Other objectives as one: the weighted mean of the parts' shares of good events, over the parts that have events (`combined`). */
export interface WeightedComposite {
  readonly kind: 'weighted';
  readonly parts: readonly Part[];
}
/** As good as its worst part: that part's budget and state. It has no pairs of its own. */
export interface WorstOfComposite {
  readonly kind: 'worst-of';
  readonly parts: readonly Part[];
}
export interface Part {
  readonly slo: string;
  /** Above 0; worst-of ignores it. */
  readonly weight: number;
}
export type Composite = WeightedComposite | WorstOfComposite;
/** Everything that is read from metrics. */
export type Measured = GoodOfTotal | BadOfTotal | StateIndicator;
export type Indicator = Measured | Composite;

// ---- how it is budgeted

/** Events are good or bad by themselves. */
export interface Occurrences {
  readonly kind: 'occurrences';
}
/** A slice of `sliceSeconds` with any event is good when good/total in it reaches `threshold`; slices are the events. */
export interface Timeslices {
  readonly kind: 'timeslices';
  readonly sliceSeconds: number;
  readonly threshold: number;
}
/** Every slice with any event weighs the same, and is as good as its ratio: the mean over slices, for services whose nights matter. */
export interface RatioTimeslices {
  readonly kind: 'ratio-timeslices';
  readonly sliceSeconds: number;
}
export type Budgeting = Occurrences | Timeslices | RatioTimeslices;

/** The budget starts anew at local midnight of every `count` units from `start`, in an IANA time zone; days may have 23 or 25 hours. */
export interface CalendarWindow {
  readonly unit: 'day' | 'week' | 'month' | 'quarter' | 'year';
  readonly count: number;
  /** `YYYY-MM-DD`, optionally with `THH:MM`: a boundary, local time; the others are counted from it, both ways. */
  readonly start: string;
  /** For example `Europe/Berlin`. */
  readonly timeZone: string;
}

// ---- when somebody is told

export type Severity = 'page' | 'ticket';

/** Fires when both windows burn faster than the factor that spends `budgetPercent` of the period's budget within `long`. */
export interface BurnPair {
  readonly severity: Severity;
  readonly long: WindowName;
  readonly short: WindowName;
  readonly budgetPercent: number;
}

/** When few events are enough: see pairFires in arithmetic.ts. */
export interface LowTrafficGate {
  /** Bad events below which nothing fires, whatever share they are. */
  readonly minBad: number;
  /** One-sided confidence of the Wilson bound that must exceed the pair's threshold. */
  readonly confidence: Confidence;
  /** Look at longer windows when the long one holds too few events to decide, so that few but all failing events do fire. */
  readonly extend: boolean;
}
export type Confidence = 0.9 | 0.95 | 0.99;

/** What follows from a budget of which less than `budgetBelow` (1 untouched, 0 spent) is left. */
export interface PolicyStep {
  readonly budgetBelow: number;
  readonly consequence: string;
  /** What `slo gate --for` then refuses. */
  readonly blocks: readonly Change[];
}
export const CHANGES = ['release', 'upgrade', 'game-day', 'experiment'] as const;
export type Change = (typeof CHANGES)[number];

/** Share of bad events that remains when nothing is wrong, as measured: a target above 1 - ratio cannot be held. */
export interface ErrorFloor {
  readonly ratio: number;
  /** Where the figure comes from. */
  readonly source: string;
}

export interface Objective {
  /** The value of the `slo` label; also in catalog.SLO_NAMES. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** Why this target and no other, for docs/slo.md. */
  readonly reasoning: string;
  readonly service: string;
  /** Share of events that must be good, 0 to 1 exclusive. */
  readonly target: number;
  /** The rolling window of the budget. With `calendar` its nominal length, which the pairs' percentages refer to. */
  readonly period: WindowName;
  readonly calendar?: CalendarWindow;
  readonly indicator: Indicator;
  readonly budgeting: Budgeting;
  readonly pairs: readonly BurnPair[];
  /** Absent: DEFAULT_GATE. */
  readonly gate?: LowTrafficGate;
  readonly floor?: ErrorFloor;
  /** Absent: DEFAULT_POLICY. */
  readonly policy?: readonly PolicyStep[];
  /** Alert name, CamelCase; it has a runbook of that name. */
  readonly alertName: string;
  /** What an event is, for tables and texts: `builds`, `slices`. */
  readonly eventWord: string;
  /** Labels of its metric that say what bad events have in common; an alert names the worst value of each. */
  readonly toldApartBy?: readonly string[];
  /** What is probably wrong when this burns; groups alerts in the routing tree. */
  readonly rootCause: 'builder' | 'cache' | 'capacity';
}

// ---- what is set aside, as data with a name under it

/**
 * A stretch of time whose events count differently. `exclude` leaves them out (planned maintenance, an outage of others);
 * `forgive` turns up to `bad` of the stretch's bad events into good ones. Never silent: figures are shown with and without.
 */
export interface BudgetAdjustment {
  readonly id: string;
  /** Names of objectives, or `*` for all. */
  readonly slos: readonly string[];
  /** Seconds since the Unix epoch; `to` exclusive. */
  readonly fromS: number;
  readonly toS: number;
  readonly kind: 'maintenance' | 'correction';
  readonly effect: { readonly kind: 'exclude' } | { readonly kind: 'forgive'; readonly bad: number };
  readonly author: string;
  readonly reason: string;
}

// ---- defaults

export const DEFAULT_GATE: LowTrafficGate = { minBad: 2, confidence: 0.95, extend: true };
export const gateOf = (objective: Pick<Objective, 'gate'>): LowTrafficGate => objective.gate ?? DEFAULT_GATE;

export const DEFAULT_POLICY: readonly PolicyStep[] = [
  { budgetBelow: 0.5, consequence: 'Half of the budget is spent: no experiments on the builders.', blocks: ['experiment'] },
  {
    budgetBelow: 0.25,
    consequence: 'Three quarters are spent: no game days, and risky changes wait.',
    blocks: ['experiment', 'game-day'],
  },
  {
    budgetBelow: 0,
    consequence: 'The budget is gone: only changes that make builds more reliable, until it is above zero again.',
    blocks: ['experiment', 'game-day', 'upgrade', 'release'],
  },
];
export const policyOf = (objective: Pick<Objective, 'policy'>): readonly PolicyStep[] => objective.policy ?? DEFAULT_POLICY;

/**
 * Pairs for a period of a week. The percentages of the SRE workbook are made for 30 days; over 7 they would give factors below 1,
 * that is alerts inside the budget. These spend more of the (smaller) budget per alert and keep every factor at 1 or above.
 */
export const WEEKLY_PAIRS: readonly BurnPair[] = [
  { severity: 'page', long: '1h', short: '5m', budgetPercent: 8 }, // 13.44 times
  { severity: 'page', long: '6h', short: '30m', budgetPercent: 12.5 }, // 3.5 times
  { severity: 'ticket', long: '1d', short: '2h', budgetPercent: 20 }, // 1.4 times
  { severity: 'ticket', long: '3d', short: '6h', budgetPercent: 43 }, // 1.003 times
];
/** For 28 days, that is four whole weeks: factors 13.44, 5.6, 2.8 and 1. */
export const FOUR_WEEK_PAIRS: readonly BurnPair[] = [
  { severity: 'page', long: '1h', short: '5m', budgetPercent: 2 },
  { severity: 'page', long: '6h', short: '30m', budgetPercent: 5 },
  { severity: 'ticket', long: '1d', short: '2h', budgetPercent: 10 },
  { severity: 'ticket', long: '3d', short: '6h', budgetPercent: 10.72 }, // 10 % would be 0.93 times: inside the budget
];
/** For 30 days, as the SRE workbook has them: factors 14.4, 6, 3 and 1. */
export const MONTHLY_PAIRS: readonly BurnPair[] = [
  { severity: 'page', long: '1h', short: '5m', budgetPercent: 2 },
  { severity: 'page', long: '6h', short: '30m', budgetPercent: 5 },
  { severity: 'ticket', long: '1d', short: '2h', budgetPercent: 10 },
  { severity: 'ticket', long: '3d', short: '6h', budgetPercent: 10 },
];

/** For periods of one to six days: over a day, factors 7.2 and 1.2. */
export const DAILY_PAIRS: readonly BurnPair[] = [
  { severity: 'page', long: '1h', short: '5m', budgetPercent: 30 },
  { severity: 'ticket', long: '6h', short: '30m', budgetPercent: 30 },
];

/** Pairs for any period from a day on: the set of the nearest standard length at or below it (90 days: factors 43, 18, 9 and 3). */
export function defaultPairs(period: WindowName): readonly BurnPair[] {
  const days = secondsOf(period) / 86_400;
  if (days >= 30) return MONTHLY_PAIRS;
  if (days >= 28) return FOUR_WEEK_PAIRS;
  return days >= 7 ? WEEKLY_PAIRS : DAILY_PAIRS;
}

/** Every window an objective is looked at over, ascending, its period last. */
export function windowsOf({ period, pairs }: Pick<Objective, 'period' | 'pairs'>): WindowName[] {
  const limit = secondsOf(period);
  const asked = [...LADDER, ...pairs.flatMap(({ long, short }) => [long, short])];
  return ascending([...asked.filter((window) => secondsOf(window) < limit), period]);
}
