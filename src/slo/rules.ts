/**
 * The objectives as Prometheus rules. Counts are recorded per window, numerator and denominator apart; ratios are made from them and
 * never averaged. Every burn pair becomes one alert whose expression decides exactly as arithmetic.ts does.
 *
 *   cooper:slo_good:increase1h{slo}      cooper:slo_events:increase1h{slo}      cooper:slo_bad:increase1h{slo}
 *   cooper:slo_error_ratio:wilson1h{slo}   share of failures we can be 95 % sure of
 *   cooper:slo_burn_rate:ratio1h{slo}      cooper:slo_error_budget_remaining:ratio7d{slo}
 */
import type { Selection } from '../telemetry/catalog.ts';
import {
  extensionsOf,
  factorOf,
  fewestEventsFor,
  HALF_AN_EVENT,
  MIN_FAILURES,
  thresholdOf,
  WILSON_Z,
  windowsBetween,
} from './arithmetic.ts';
import { type BurnPair, type Objective, type Severity, WINDOW_SECONDS, WINDOWS, type WindowName } from './spec.ts';

export interface RecordingRule {
  readonly record: string;
  readonly expr: string;
  readonly labels?: Readonly<Record<string, string>>;
}
export interface AlertingRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}
export interface RuleGroup {
  readonly name: string;
  readonly interval: string;
  readonly rules: readonly (RecordingRule | AlertingRule)[];
}

export interface RulesOptions {
  /** Value of the `job` label the daemons are scraped under. */
  readonly job: string;
  /** Annotations every alert gets, by alert name: links to its runbook and dashboard. */
  readonly links: (alertName: string) => Readonly<Record<string, string>>;
}

/** What the alerting conventions call a page and a ticket. */
export const SEVERITY_LABEL: Readonly<Record<Severity, string>> = { page: 'critical', ticket: 'warning' };
export const sloRecord = (what: 'good' | 'events' | 'bad', window: WindowName): string => `cooper:slo_${what}:increase${window}`;
export const burnRecord = (window: WindowName): string => `cooper:slo_burn_rate:ratio${window}`;
export const BUDGET_RECORD = 'cooper:slo_error_budget_remaining:ratio7d';
export const OBJECTIVE_RECORD = 'cooper:slo_objective:ratio';
const SLICE_RECORD = 'cooper:slo_slice_good:bool5m';
const wilsonRecord = (window: WindowName): string => `cooper:slo_error_ratio:wilson${window}`;

const FAST_WINDOWS: readonly WindowName[] = ['5m', '30m', '1h', '2h', '6h'];

/** Recording rules for short windows every 30 s, for long ones every 2 min (they move slowly and cost more), then the alerts. */
export function sloRuleGroups(objectives: readonly Objective[], options: RulesOptions): RuleGroup[] {
  const windows = (fast: boolean): readonly WindowName[] => WINDOWS.filter((window) => FAST_WINDOWS.includes(window) === fast);
  return [
    {
      name: 'cooper-slo-short-windows',
      interval: '30s',
      rules: objectives.flatMap((objective) => [
        ...sliceRules(objective, options.job),
        ...windows(true).flatMap((window) => windowRules(objective, window, options.job)),
      ]),
    },
    {
      name: 'cooper-slo-long-windows',
      interval: '2m',
      rules: objectives.flatMap((objective) => [
        { record: OBJECTIVE_RECORD, expr: `vector(${objective.target})`, labels: labelsOf(objective) },
        ...windows(false).flatMap((window) => windowRules(objective, window, options.job)),
        budgetRule(objective),
      ]),
    },
    {
      name: 'cooper-slo-alerts',
      interval: '30s',
      rules: objectives.flatMap((objective) => objective.pairs.map((pair) => pairAlert(objective, pair, options))),
    },
  ];
}

const labelsOf = (objective: Objective): Record<string, string> => ({ slo: objective.name });

/** `metric{job="cooper",result=~"a|b",le=~"600(\\.0)?"}`: newer servers store bucket edges with a fraction. */
export function selectorOf({ metric, where, le }: Selection, job: string): string {
  const suffix = le === undefined ? (metric.endsWith('_seconds') || metric.endsWith('_bytes') ? '_count' : '') : '_bucket';
  const matchers = Object.entries(where).map(([label, values]) =>
    values.length === 1 ? `${label}="${values[0]}"` : `${label}=~"${values.join('|')}"`,
  );
  const edge = le === undefined ? [] : [`le=~"${le}(\\\\.0)?"`];
  return `${metric}${suffix}{${[`job="${job}"`, ...matchers, ...edge].join(',')}}`;
}

function sliceRules(objective: Objective, job: string): RecordingRule[] {
  const { timeslices, indicator } = objective;
  if (timeslices === undefined) return [];
  const over = (selection: Selection): string => `sum(increase(${selectorOf(selection, job)}[${timeslices.sliceSeconds / 60}m]))`;
  return [
    {
      record: SLICE_RECORD,
      expr: `(${over(indicator.good)} / ${over(indicator.total)} >= bool ${timeslices.threshold})\nand ${over(indicator.total)} > ${HALF_AN_EVENT}`,
      labels: labelsOf(objective),
    },
  ];
}

function windowRules(objective: Objective, window: WindowName, job: string): RecordingRule[] {
  const labels = labelsOf(objective);
  const counts = countExpressions(objective, window, job);
  const [good, events, bad] = (['good', 'events', 'bad'] as const).map(
    (what) => `${sloRecord(what, window)}${sloSelector(objective)}`,
  );
  return [
    { record: sloRecord('good', window), expr: counts.good, labels },
    { record: sloRecord('events', window), expr: counts.events, labels },
    { record: sloRecord('bad', window), expr: `clamp_min(${events} - ${good}, 0)`, labels },
    {
      record: burnRecord(window),
      expr: `${bad} / ${events} / ${fraction(1 - objective.target)}\nand ${events} > ${HALF_AN_EVENT}`,
      labels,
    },
    ...(objective.pairs.some((pair) => pair.long === window)
      ? [{ record: wilsonRecord(window), expr: wilsonExpression(String(bad), String(events)), labels }]
      : []),
  ];
}

function countExpressions(
  objective: Objective,
  window: WindowName,
  job: string,
): { readonly good: string; readonly events: string } {
  const { indicator, timeslices } = objective;
  if (timeslices === undefined) {
    return {
      good: `sum(increase(${selectorOf(indicator.good, job)}[${window}]))`,
      events: `sum(increase(${selectorOf(indicator.total, job)}[${window}]))`,
    };
  }
  const slices = `${SLICE_RECORD}${sloSelector(objective)}[${window}:${timeslices.sliceSeconds / 60}m]`;
  return { good: `sum(sum_over_time(${slices})) or vector(0)`, events: `sum(count_over_time(${slices})) or vector(0)` };
}

/** arithmetic.wilsonLower in PromQL. */
function wilsonExpression(bad: string, events: string): string {
  const z2 = fraction(WILSON_Z * WILSON_Z);
  return [
    '(',
    `  ${bad} / ${events} + ${z2} / (2 * ${events})`,
    `  - ${WILSON_Z} * sqrt(`,
    `    ${bad} / ${events} * (1 - ${bad} / ${events}) / ${events}`,
    `    + ${z2} / (4 * ${events} ^ 2)`,
    '  )',
    `) / (1 + ${z2} / ${events})`,
    `and ${events} > ${HALF_AN_EVENT}`,
  ].join('\n');
}

function budgetRule(objective: Objective): RecordingRule {
  const { period, target } = objective;
  const [bad, events] = [
    `${sloRecord('bad', period)}${sloSelector(objective)}`,
    `${sloRecord('events', period)}${sloSelector(objective)}`,
  ];
  return {
    record: BUDGET_RECORD,
    expr: `1 - ${bad} / (${events} * ${fraction(1 - target)})\nand ${events} > ${HALF_AN_EVENT}`,
    labels: labelsOf(objective),
  };
}

const sloSelector = (objective: Objective): string => `{slo="${objective.name}"}`;

function pairAlert(objective: Objective, pair: BurnPair, options: RulesOptions): AlertingRule {
  const { name, title, eventWord, period, rootCause, service } = objective;
  const value = (record: string, format: string): string =>
    `{{ with printf "${record}{slo='${name}'}" | query }}{{ . | first | value | ${format} }}{{ else }}no{{ end }}`;
  const count = 'printf "%.0f"';
  return {
    alert: objective.alertName,
    expr: pairExpression(objective, pair),
    labels: {
      severity: SEVERITY_LABEL[pair.severity],
      service,
      slo: name,
      long: pair.long,
      short: pair.short,
      root_cause: rootCause,
      exhaustion: `${Math.round(WINDOW_SECONDS[period] / factorOf(pair, period) / 360) / 10}h`,
    },
    annotations: {
      summary: `${title}: the error budget burns fast enough to spend ${pair.budgetPercent} % of the week's budget in ${pair.long}.`,
      description: [
        `${value(sloRecord('bad', pair.long), count)} of ${value(sloRecord('events', pair.long), count)} ${eventWord} in the last ${pair.long} were bad`,
        `(burn rate ${value(burnRecord(pair.long), 'printf "%.1f"')}, this alert is for ${round(factorOf(pair, period))} and more);`,
        `${value(BUDGET_RECORD, 'humanizePercentage')} of the budget of ${period} is left.`,
      ].join(' '),
      ...options.links(objective.alertName),
    },
  };
}

/** arithmetic.pairFires in PromQL; every operand carries only the label `slo`, so `and` and `or` match by it. */
export function pairExpression(objective: Objective, pair: BurnPair): string {
  const threshold = thresholdOf(pair, objective);
  const enough = fewestEventsFor(threshold) - HALF_AN_EVENT;
  const of = (what: 'good' | 'events' | 'bad', window: WindowName): string =>
    `${sloRecord(what, window)}${sloSelector(objective)}`;
  const events = (window: WindowName): string => of('events', window);
  const empty = (window: WindowName): string => `${events(window)} < ${HALF_AN_EVENT}`;
  const onlyFailures = (window: WindowName): string =>
    `${events(window)} >= ${HALF_AN_EVENT} and ${of('good', window)} < ${HALF_AN_EVENT}`;

  const short = `${of('bad', pair.short)} / ${events(pair.short)} > ${fraction(threshold)} and ${events(pair.short)} >= ${HALF_AN_EVENT}`;
  const widened = windowsBetween(pair.short, pair.long);
  const stillBurning = [
    short,
    ...widened.slice(1).map((window, index) => [...widened.slice(0, index + 1).map(empty), onlyFailures(window)].join(' and ')),
  ];
  const burning = [
    `${events(pair.long)} > ${enough}`,
    `${of('bad', pair.long)} > ${MIN_FAILURES - HALF_AN_EVENT}`,
    `${wilsonRecord(pair.long)}${sloSelector(objective)} > ${fraction(threshold)}`,
    `(\n    (${stillBurning.join(')\n    or (')})\n  )`,
  ].join('\n  and ');
  const longer = [pair.long, ...extensionsOf(pair, objective.period)];
  const fewButAllFailing = longer
    .slice(1)
    .map((window, index) =>
      [
        ...longer.slice(0, index + 1).map((less) => `${events(less)} <= ${enough}`),
        `${events(window)} > ${enough}`,
        `${of('good', window)} < ${HALF_AN_EVENT}`,
      ].join(' and '),
    );
  return [`(\n  ${burning}\n)`, ...fewButAllFailing.map((line) => `(${line})`)].join('\nor ');
}

const round = (value: number): number => Math.round(value * 100) / 100;
/** A number as PromQL text, without the noise of binary fractions. */
const fraction = (value: number): string => String(Number(value.toPrecision(9)));
