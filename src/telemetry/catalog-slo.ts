/**
 * The metrics of the objectives, as the evaluator in the daemon sees them. Same rules as catalog.ts, which lists them all; the names
 * of the shipped objectives are here, because their series exist from the start.
 */
import { declare, type Labels, type MetricSpec } from './metric-spec.ts';

/** The names of objectives.ts; a test there compares. */
export const SLO_NAMES = [
  'build-success',
  'build-latency',
  'cache-hit',
  'queue-wait',
  'first-artifact',
  'cache-push',
  'reproducibility',
  'cache-growth',
  'outage-recovery',
  'canary',
] as const;
export const SLO_WINDOWS = ['5m', '30m', '1h', '2h', '6h', '1d', '3d', '7d', '28d'] as const;
export const SLO_STATES = ['ok', 'burning-ticket', 'burning-page', 'exhausted', 'idle', 'unknown'] as const;

/** Objectives of a site are added to the shipped ones; the budget bounds how many have series of their own. */
const MAX_SLOS = 32;
const slo = { slo: [] };
const everySlo = (...more: readonly Labels[]): Labels[] =>
  SLO_NAMES.flatMap((name) => (more.length === 0 ? [{ slo: name }] : more.map((labels) => ({ slo: name, ...labels }))));
export const SLO_OBJECTIVE = declare('gauge', 'cooper_slo_objective_ratio', {
  unit: 'ratio',
  help: 'Share of events that must be good over the period.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'max by (slo) (cooper_slo_objective_ratio)',
});
export const SLO_GOOD = declare('gauge', 'cooper_slo_good_events', {
  unit: 'count',
  help: 'Good events of the current period, from the recorded counts with adjustments; survives restarts, so it is not a counter.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'sum by (slo) (cooper_slo_good_events) / sum by (slo) (cooper_slo_events)',
});
export const SLO_EVENTS = declare('gauge', 'cooper_slo_events', {
  unit: 'count',
  help: 'Events of the current period, from the recorded counts with adjustments.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'sum by (slo) (cooper_slo_events)',
});
export const SLO_BUDGET = declare('gauge', 'cooper_slo_error_budget_remaining_ratio', {
  unit: 'ratio',
  help: 'Share of the error budget of the period that is left; negative once it is overspent.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'min by (slo) (cooper_slo_error_budget_remaining_ratio)',
});
export const SLO_BUDGET_UNADJUSTED = declare('gauge', 'cooper_slo_error_budget_unadjusted_ratio', {
  unit: 'ratio',
  help: 'Share of the error budget that would be left without maintenance windows and corrections.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'min by (slo) (cooper_slo_error_budget_remaining_ratio - cooper_slo_error_budget_unadjusted_ratio)',
});
export const SLO_BURN = declare('gauge', 'cooper_slo_burn_rate_ratio', {
  unit: 'ratio',
  help: 'How fast the budget is spent: 1 spends exactly the budget over the period. 0 when the window holds no event.',
  labels: { ...slo, window: [] },
  series: everySlo(...SLO_WINDOWS.map((window) => ({ window }))),
  maxSeries: MAX_SLOS * 12,
  example: 'max by (slo, window) (cooper_slo_burn_rate_ratio)',
});
export const SLO_STATE = declare('gauge', 'cooper_slo_state', {
  unit: 'count',
  help: '1 for the state the objective is in, 0 for the others; unknown: nothing could be read, and every verdict stays as it was.',
  labels: { ...slo, state: SLO_STATES },
  series: everySlo(...SLO_STATES.map((state) => ({ state }))),
  maxSeries: MAX_SLOS * 6,
  example: 'sum by (slo, state) (cooper_slo_state) == 1',
});
export const SLO_COVERAGE = declare('gauge', 'cooper_slo_coverage_ratio', {
  unit: 'ratio',
  help: 'Share of the period in which the evaluator could read the counters; the rest of it is unknown, not good.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'min by (slo) (cooper_slo_coverage_ratio)',
});
export const SLO_PERIOD_START = declare('gauge', 'cooper_slo_period_start_timestamp_seconds', {
  unit: 'timestamp',
  help: 'Start of the window of the budget, seconds since the Unix epoch: a calendar boundary, or one period ago.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'time() - max by (slo) (cooper_slo_period_start_timestamp_seconds)',
});
export const SLO_INCONSISTENT = declare('counter', 'cooper_slo_inconsistent_samples_total', {
  unit: 'count',
  help: 'Samples with more good events than events, cut to fit; above 0 the indicator counts two different things.',
  labels: slo,
  series: everySlo(),
  maxSeries: MAX_SLOS,
  example: 'sum by (slo) (increase(cooper_slo_inconsistent_samples_total[1d])) > 0',
});

export const SLO_METRICS: readonly MetricSpec[] = [
  SLO_OBJECTIVE,
  SLO_GOOD,
  SLO_EVENTS,
  SLO_BUDGET,
  SLO_BUDGET_UNADJUSTED,
  SLO_BURN,
  SLO_STATE,
  SLO_COVERAGE,
  SLO_PERIOD_START,
  SLO_INCONSISTENT,
];
