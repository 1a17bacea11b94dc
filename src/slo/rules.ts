/**
 * The objectives as Prometheus rules. Counts are recorded per window, numerator and denominator apart; ratios are made from them and
 * never averaged. Every burn pair becomes one alert whose expression decides exactly as arithmetic.ts does.
 *
 *   cooper:slo_good:increase1h{slo}      cooper:slo_events:increase1h{slo}      cooper:slo_bad:increase1h{slo}
 *   cooper:slo_error_ratio:wilson1h{slo}   share of failures we can be sure of
 *   cooper:slo_burn_rate:ratio1h{slo}      cooper:slo_error_budget_remaining:ratio{slo}
 *
 * What PromQL cannot say is taken from the daemon's own gauges and said so in the rule: calendar windows, which move with a time zone.
 * Budget adjustments are the daemon's alone; these rules count everything, as the daemon's figures without adjustments do.
 */
import { SLO_EVENTS, SLO_GOOD } from '../telemetry/catalog-slo.ts';
import { BUDGET_RECORD, burnAnnotations } from './annotations.ts';
import { factorOf, HALF_AN_EVENT } from './arithmetic.ts';
import {
  burnRecord,
  countExpressions,
  fraction,
  frozenExpression,
  pairExpression,
  SOURCES_RECORD,
  sliceOf,
  sloRecord,
  sloSelector,
  sourcesExpression,
  wilsonExpression,
  wilsonRecord,
} from './promql.ts';
import { type BurnPair, type Objective, type Severity, windowsOf } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

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
export const OBJECTIVE_RECORD = 'cooper:slo_objective:ratio';

const FAST_SECONDS = secondsOf('6h');

/** Recording rules for short windows every 30 s, for long ones every 2 min (they move slowly and cost more), then the alerts. */
export function sloRuleGroups(objectives: readonly Objective[], options: RulesOptions): RuleGroup[] {
  const ordered = partsFirst(objectives);
  const windows = (objective: Objective, fast: boolean): WindowName[] =>
    windowsOf(objective).filter((window) => secondsOf(window) <= FAST_SECONDS === fast);
  return [
    {
      name: 'cooper-slo-short-windows',
      interval: '30s',
      rules: ordered.flatMap((objective) => [
        { record: SOURCES_RECORD, expr: sourcesExpression(objective, options.job), labels: labelsOf(objective) },
        ...sliceRules(objective, options.job),
        ...windows(objective, true).flatMap((window) => windowRules(objective, window, options.job)),
      ]),
    },
    {
      name: 'cooper-slo-long-windows',
      interval: '2m',
      rules: ordered.flatMap((objective) => [
        { record: OBJECTIVE_RECORD, expr: `vector(${objective.target})`, labels: labelsOf(objective) },
        ...windows(objective, false).flatMap((window) => windowRules(objective, window, options.job)),
        budgetRule(objective, options.job),
      ]),
    },
    {
      name: 'cooper-slo-alerts',
      interval: '30s',
      rules: objectives.flatMap((objective) => objective.pairs.map((pair) => pairAlert(objective, pair, options))),
    },
  ];
}

/** Composites read what their parts record, so they come after them. */
const partsFirst = (objectives: readonly Objective[]): Objective[] => [
  ...objectives.filter(({ indicator }) => !('parts' in indicator)),
  ...objectives.filter(({ indicator }) => 'parts' in indicator),
];

const labelsOf = (objective: Objective): Record<string, string> => ({ slo: objective.name });

function sliceRules(objective: Objective, job: string): RecordingRule[] {
  const slice = sliceOf(objective, job);
  return slice === undefined ? [] : [{ record: slice.record, expr: slice.expr, labels: labelsOf(objective) }];
}

function windowRules(objective: Objective, window: WindowName, job: string): RecordingRule[] {
  const labels = labelsOf(objective);
  const counts = countExpressions(objective, window, job);
  if (counts === undefined) return [];
  const of = (what: 'good' | 'events' | 'bad'): string => sloRecord(what, window) + sloSelector(objective);
  const [good, events, bad] = [of('good'), of('events'), of('bad')];
  const shortestLong = Math.min(...objective.pairs.map(({ long }) => secondsOf(long)));
  return [
    { record: sloRecord('good', window), expr: counts.good, labels },
    { record: sloRecord('events', window), expr: counts.events, labels },
    { record: sloRecord('bad', window), expr: `clamp_min(${events} - ${good}, 0)`, labels },
    {
      record: burnRecord(window),
      expr: `${bad} / ${events} / ${fraction(1 - objective.target)}\nand ${events} > ${HALF_AN_EVENT}`,
      labels,
    },
    ...(secondsOf(window) >= shortestLong
      ? [{ record: wilsonRecord(window), expr: wilsonExpression(objective, window), labels }]
      : []),
  ];
}

function budgetRule(objective: Objective, job: string): RecordingRule {
  const { period, target, calendar, indicator } = objective;
  const labels = labelsOf(objective);
  if (indicator.kind === 'worst-of') {
    return {
      record: BUDGET_RECORD,
      expr: `min(${BUDGET_RECORD}{slo=~"${indicator.parts.map(({ slo }) => slo).join('|')}"})`,
      labels,
    };
  }
  const daemon = (metric: string): string => `sum(${metric}{job="${job}",slo="${objective.name}"})`;
  const [bad, events] =
    calendar === undefined
      ? [sloRecord('bad', period) + sloSelector(objective), sloRecord('events', period) + sloSelector(objective)]
      : [`(${daemon(SLO_EVENTS.name)} - ${daemon(SLO_GOOD.name)})`, daemon(SLO_EVENTS.name)];
  const source =
    calendar === undefined
      ? ''
      : `# A calendar window in ${calendar.timeZone}: from the daemons' own counts, with their adjustments.\n`;
  return {
    record: BUDGET_RECORD,
    expr: `${source}1 - ${bad} / (${events} * ${fraction(1 - target)})\nand ${events} > ${HALF_AN_EVENT}`,
    labels,
  };
}

/** Labels of the alert of a pair besides its name: what the routing tree reads, and all that tells pairs of one objective apart. */
export const alertLabelsOf = (objective: Objective, pair: BurnPair): Record<string, string> => ({
  severity: SEVERITY_LABEL[pair.severity],
  service: objective.service,
  slo: objective.name,
  long: pair.long,
  short: pair.short,
  root_cause: objective.rootCause,
  exhaustion: `${Math.round(secondsOf(objective.period) / factorOf(pair, objective.period) / 360) / 10}h`,
  budget_spent: `${pair.budgetPercent}%`,
});

function pairAlert(objective: Objective, pair: BurnPair, options: RulesOptions): AlertingRule {
  const labels = alertLabelsOf(objective, pair);
  return {
    alert: objective.alertName,
    expr: `(\n${pairExpression(objective, pair)}\n)\nor (\n${frozenExpression(objective, pair, labels)}\n)`,
    labels,
    annotations: {
      ...burnAnnotations(objective, pair, options.job),
      ...options.links(objective.alertName),
    },
  };
}
