/**
 * What is promised, as data. The fields follow OpenSLO v1 (an SLO with one objective, budgeting by Occurrences or Timeslices, a
 * rolling window); `pairs` is our extension: OpenSLO conditions cannot say "both windows burn". The in-process evaluator and the
 * generated Prometheus rules read the same spec.
 */
import type { Selection } from '../telemetry/catalog.ts';

/** Good events and all events, as sums over series of the catalogue. Bad is the difference. */
export interface Indicator {
  readonly good: Selection;
  readonly total: Selection;
}
/** Timeslices: a slice of `sliceSeconds` with any event is good when good/total in it reaches `threshold`; slices are the events. */
export interface Timeslices {
  readonly sliceSeconds: number;
  readonly threshold: number;
}
export type Severity = 'page' | 'ticket';
/** A window a burn rate is looked at over; the list is closed because every window is a recorded series. */
export type WindowName = '5m' | '30m' | '1h' | '2h' | '6h' | '1d' | '3d' | '7d';

/** Fires when both windows burn faster than the factor that spends `budgetPercent` of the period's budget within `long`. */
export interface BurnPair {
  readonly severity: Severity;
  readonly long: WindowName;
  readonly short: WindowName;
  readonly budgetPercent: number;
}

export interface Objective {
  /** The value of the `slo` label; also in catalog.SLO_NAMES. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly service: string;
  /** Share of events that must be good, 0 to 1 exclusive. */
  readonly target: number;
  readonly period: WindowName;
  readonly indicator: Indicator;
  /** Absent: budgeting by Occurrences. */
  readonly timeslices?: Timeslices;
  readonly pairs: readonly BurnPair[];
  /** Alert name per severity, CamelCase; each has a runbook of that name. */
  readonly alertName: string;
  /** What an event is, for tables and texts: `builds`, `slices`. */
  readonly eventWord: string;
  /** What is probably wrong when this burns; groups alerts in the routing tree. */
  readonly rootCause: 'builder' | 'cache' | 'capacity';
}

export const WINDOW_SECONDS: Readonly<Record<WindowName, number>> = {
  '5m': 300,
  '30m': 1800,
  '1h': 3600,
  '2h': 7200,
  '6h': 21_600,
  '1d': 86_400,
  '3d': 259_200,
  '7d': 604_800,
};
export const WINDOWS = Object.keys(WINDOW_SECONDS) as readonly WindowName[];

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
