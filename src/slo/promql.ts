/**
 * The counts and the verdict of an objective in PromQL. Every expression here says exactly what arithmetic.ts and judge.ts say; the
 * differential test holds the two against each other on the same histories.
 */
import type { Selection } from '../telemetry/catalog.ts';
import { evidenceWindows, fewestEventsFor, HALF_AN_EVENT, HARDLY_GOOD, thresholdOf, windowsBetween, zOf } from './arithmetic.ts';
import { type BurnPair, gateOf, type Objective, type StateIndicator, type WeightedComposite } from './spec.ts';
import { type WindowName, windowOfSeconds } from './windows.ts';

export const sloRecord = (what: 'good' | 'events' | 'bad', window: WindowName): string => `cooper:slo_${what}:increase${window}`;
export const burnRecord = (window: WindowName): string => `cooper:slo_burn_rate:ratio${window}`;
export const wilsonRecord = (window: WindowName): string => `cooper:slo_error_ratio:wilson${window}`;
/** Series the events are read from that have a fresh sample; absent when the daemons are not scraped. */
export const SOURCES_RECORD = 'cooper:slo_sources:count';
export const sloSelector = ({ name }: Pick<Objective, 'name'>): string => `{slo="${name}"}`;

/** `metric{job="cooper",result=~"a|b",le=~"600(\\.0)?"}`: newer servers store bucket edges with a fraction. */
export function selectorOf({ metric, where, le }: Selection, job: string): string {
  const histogram = metric.endsWith('_seconds') || metric.endsWith('_bytes');
  return selector(metric + (le !== undefined ? '_bucket' : histogram ? '_count' : ''), { where, le }, job);
}

/** The buckets of a histogram, whatever their edge: the series that carry exemplars. */
export const taggedSelectorOf = ({ metric, where }: Selection, job: string): string =>
  selector(`${metric}_bucket`, { where, le: undefined }, job);

/** A gauge is selected by its bare name. */
const gaugeSelectorOf = ({ metric, where }: Selection, job: string): string => selector(metric, { where, le: undefined }, job);

function selector(name: string, { where, le }: { where: Selection['where']; le: number | undefined }, job: string): string {
  const matchers = Object.entries(where).map(([label, values]) =>
    values.length === 1 ? `${label}="${values[0]}"` : `${label}=~"${values.join('|')}"`,
  );
  const edge = le === undefined ? [] : [`le=~"${le}(\\\\.0)?"`];
  return `${name}{${[`job="${job}"`, ...matchers, ...edge].join(',')}}`;
}

/** What must have a sample for the objective to be known. */
export function sourcesExpression({ indicator }: Objective, job: string): string {
  switch (indicator.kind) {
    case 'events':
    case 'failures':
      return `count(${selectorOf(indicator.total, job)})`;
    case 'state':
      return `count(${gaugeSelectorOf(indicator.gauge, job)})`;
    case 'weighted':
    case 'worst-of':
      return `count(${SOURCES_RECORD}{slo=~"${indicator.parts.map(({ slo }) => slo).join('|')}"})`;
  }
}

/** A recorded series that is one number per slice or look; undefined where events are counted by themselves. */
export function sliceOf(
  objective: Objective,
  job: string,
): { readonly record: string; readonly expr: string; readonly step: WindowName } | undefined {
  const { indicator, budgeting } = objective;
  if (indicator.kind === 'state') {
    const step = windowOfSeconds(indicator.everySeconds);
    return { record: `cooper:slo_state_good:bool${step}`, expr: stateExpression(indicator, job), step };
  }
  if (budgeting.kind === 'occurrences' || (indicator.kind !== 'events' && indicator.kind !== 'failures')) return undefined;
  const step = windowOfSeconds(budgeting.sliceSeconds);
  const { good, events } = increases(objective, step, job);
  const ratio = `${good} / (${events} > ${HALF_AN_EVENT})`;
  return budgeting.kind === 'timeslices'
    ? { record: `cooper:slo_slice_good:bool${step}`, expr: `${ratio} >= bool ${budgeting.threshold}`, step }
    : { record: `cooper:slo_slice_good:ratio${step}`, expr: `clamp_max(${ratio}, 1)`, step };
}

/** Per instance, so that a full daemon is not averaged away by empty ones. */
function stateExpression({ of, gauge, per, op, threshold }: StateIndicator, job: string): string {
  const value = `sum by (instance) (${gaugeSelectorOf(gauge, job)})`;
  const seen = of === 'age' ? `(time() - (${value} > 0))` : value;
  const divided = per === undefined ? seen : `${seen} / (sum by (instance) (${gaugeSelectorOf(per, job)}) > 0)`;
  return `${divided} ${COMPARISON[op]} bool ${fraction(threshold)}`;
}
const COMPARISON: Readonly<Record<StateIndicator['op'], string>> = { lt: '<', lte: '<=', gt: '>', gte: '>=' };

interface CountExpressions {
  readonly good: string;
  readonly events: string;
}

/** Good events and events over a window; undefined for a worst-of composite, which counts nothing. */
export function countExpressions(objective: Objective, window: WindowName, job: string): CountExpressions | undefined {
  const { indicator } = objective;
  if (indicator.kind === 'worst-of') return undefined;
  if (indicator.kind === 'weighted') return weightedExpressions(indicator, window);
  const slice = sliceOf(objective, job);
  if (slice === undefined) return increases(objective, window, job);
  const looks = `${slice.record}${sloSelector(objective)}[${window}:${slice.step}]`;
  return { good: `sum(sum_over_time(${looks})) or vector(0)`, events: `sum(count_over_time(${looks})) or vector(0)` };
}

function increases({ indicator }: Objective, window: WindowName, job: string): CountExpressions {
  const increase = (selection: Selection): string => `sum(increase(${selectorOf(selection, job)}[${window}]))`;
  if (indicator.kind === 'events') return { good: increase(indicator.good), events: increase(indicator.total) };
  if (indicator.kind !== 'failures') throw new Error('only counted events have increases');
  const events = increase(indicator.total);
  return { good: `clamp_min(${events} - (${increase(indicator.bad)} or vector(0)), 0)`, events };
}

/** arithmetic.combined: the mean of the parts at the effective sample size. */
function weightedExpressions({ parts }: WeightedComposite, window: WindowName): CountExpressions {
  const each = (of: (good: string, events: string, weight: number) => string): string =>
    `sum(${parts
      .map(({ slo, weight }) => {
        const events = `${sloRecord('events', window)}{slo="${slo}"}`;
        return `(${of(`${sloRecord('good', window)}{slo="${slo}"}`, events, weight)} and ${events} >= ${HALF_AN_EVENT})`;
      })
      .join(' or ')})`;
  const weights = each((_, events, weight) => `${weight} * (${events} >= bool ${HALF_AN_EVENT})`);
  const total = `${weights} ^ 2 / ${each((_, events, weight) => `${weight ** 2} / ${events}`)}`;
  const share = `${each((good, events, weight) => `${weight} * ${good} / ${events}`)} / ${weights}`;
  return { good: `${total} * ${share} or vector(0)`, events: `${total} or vector(0)` };
}

/** arithmetic.wilsonLower in PromQL. */
export function wilsonExpression(objective: Objective, window: WindowName): string {
  const bad = sloRecord('bad', window) + sloSelector(objective);
  const events = sloRecord('events', window) + sloSelector(objective);
  const z = zOf(gateOf(objective).confidence);
  const z2 = fraction(z * z);
  return [
    '(',
    `  ${bad} / ${events} + ${z2} / (2 * ${events})`,
    `  - ${z} * sqrt(`,
    `    ${bad} / ${events} * (1 - ${bad} / ${events}) / ${events}`,
    `    + ${z2} / (4 * ${events} ^ 2)`,
    '  )',
    `) / (1 + ${z2} / ${events})`,
    `and ${events} > ${HALF_AN_EVENT}`,
  ].join('\n');
}

/** arithmetic.pairFires in PromQL; every operand carries only the label `slo`, so `and` and `or` match by it. */
export function pairExpression(objective: Objective, pair: BurnPair): string {
  const gate = gateOf(objective);
  const threshold = thresholdOf(pair, objective);
  const enough = fewestEventsFor(threshold, gate) - HALF_AN_EVENT;
  const of = (what: 'good' | 'events' | 'bad', window: WindowName): string => sloRecord(what, window) + sloSelector(objective);
  // The smallest window with enough events: each has enough, the one before has not. Windows nest, so one before is all before.
  const evidence = evidenceWindows(pair, objective).map((window, index, all) => {
    const before = all[index - 1];
    return [
      ...(before === undefined ? [] : [`${of('events', before)} <= ${enough}`]),
      `${of('events', window)} > ${enough}`,
      `${of('bad', window)} > ${gate.minBad - HALF_AN_EVENT}`,
      `${wilsonRecord(window)}${sloSelector(objective)} > ${fraction(threshold)}`,
    ].join(' and ');
  });
  const short = of('events', pair.short);
  const onlyFailures = windowsBetween(objective, pair.short, objective.period)
    .slice(1)
    .map((window) => `${of('events', window)} >= ${HALF_AN_EVENT} and ${of('good', window)} < ${HARDLY_GOOD}`);
  return [
    `(\n  (${evidence.join(')\n  or (')})\n)`,
    'and (',
    `  (${of('bad', pair.short)} / ${short} > ${fraction(threshold)} and ${short} >= ${HALF_AN_EVENT})`,
    `  or ((\n    (${onlyFailures.join(')\n    or (')})\n  ) unless ${short} >= ${HALF_AN_EVENT})`,
    ')',
  ].join('\n');
}

/** Longest time an alert stays as it was when its data stops; a daemon that is gone for good should not page for ever. */
export const FROZEN_FOR: WindowName = '1d';

/** A pair that fired when the data stopped goes on firing: silence is not recovery. */
export function frozenExpression(objective: Objective, pair: BurnPair, labels: Readonly<Record<string, string>>): string {
  const sources = SOURCES_RECORD + sloSelector(objective);
  const matchers = [
    `alertname="${objective.alertName}"`,
    'alertstate="firing"',
    `slo="${objective.name}"`,
    `severity="${labels.severity}"`,
    `long="${pair.long}"`,
  ];
  return [
    `max by (slo) (ALERTS{${matchers.join(',')}})`,
    `  and present_over_time(${sources}[${FROZEN_FOR}])`,
    `  unless ${sources}`,
  ].join('\n');
}

/** A number as PromQL text, without the noise of binary fractions. */
export const fraction = (value: number): string => String(Number(value.toPrecision(9)));
