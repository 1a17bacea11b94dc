/** An objective judged over recorded counts at one moment: pure, so that the daemon, a backtest and a report judge alike. */
import { rfc3339 } from '../core/clock.ts';
import {
  budgetIsBelow,
  budgetLeftOf,
  burnRateOf,
  type Counts,
  type CountsOver,
  combined,
  factorOf,
  isEmpty,
  NO_EVENTS,
  pairFires,
  secondsToExhaustion,
  thresholdOf,
} from './arithmetic.ts';
import { type Span, spanAt } from './calendar.ts';
import { adjusted, budgeted, type CountHistory, historyOf, SLOT_SECONDS, type SlotCounts, slotOf } from './count-history.ts';
import type { AdjustmentStatus, PairStatus, PeriodResult, SloState, SloStatus } from './report.ts';
import { type BudgetAdjustment, type Objective, policyOf, windowsOf } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

/** What is known of an objective at a moment. */
export interface Evidence {
  readonly nowS: number;
  /** Slots of measured objectives by name; ascending. */
  readonly slots: ReadonlyMap<string, readonly SlotCounts[]>;
  readonly adjustments: readonly BudgetAdjustment[];
}

/** Counts of one objective over windows and over its budget's span, at one moment. */
export interface View {
  readonly over: CountsOver;
  readonly whole: Counts;
  readonly span: Span;
}

/** Seconds an objective needs its counts kept: the longest its budget can span. */
export const keptSecondsOf = ({ period, calendar }: Objective): number =>
  calendar === undefined ? secondsOf(period) : Math.ceil(secondsOf(period) * 1.1) + 2 * 86_400;

/** The span of the budget at a moment: the calendar window, or the last `period`, whole slots. */
export function spanOf({ period, calendar }: Objective, nowS: number): Span {
  const toS = slotOf(nowS) + SLOT_SECONDS;
  return calendar === undefined ? { fromS: toS - secondsOf(period), toS } : spanAt(calendar, nowS);
}

/**
 * Counts as the objective budgets them, at any moment that `evidence` reaches. Composites are made of the counts of their parts;
 * a worst-of composite has none.
 */
export function viewsOf(
  objective: Objective,
  all: readonly Objective[],
  evidence: Pick<Evidence, 'slots' | 'adjustments'>,
  withAdjustments = true,
): (nowS: number) => View {
  const { indicator } = objective;
  const parts =
    indicator.kind === 'weighted' || indicator.kind === 'worst-of'
      ? indicator.parts.map(({ slo, weight }) => ({ name: slo, weight }))
      : [{ name: objective.name, weight: 1 }];
  const counted = parts.flatMap(({ name, weight }) => {
    const part = all.find((candidate) => candidate.name === name);
    return part === undefined ? [] : [{ history: countedOf(part, evidence, withAdjustments), weight }];
  });
  const counts = (of: (history: CountHistory) => Counts): Counts => {
    if (indicator.kind === 'worst-of') return NO_EVENTS;
    if (indicator.kind === 'weighted') return combined(counted.map(({ history, weight }) => ({ counts: of(history), weight })));
    return counted[0] === undefined ? NO_EVENTS : of(counted[0].history);
  };
  return (nowS) => {
    const span = spanOf(objective, nowS);
    // The result shows the slice that is not complete yet; alerts wait for it.
    const sliceS = objective.budgeting.kind === 'occurrences' ? 0 : objective.budgeting.sliceSeconds;
    const seenToS = Math.min(span.toS, slotOf(nowS) + SLOT_SECONDS) + sliceS;
    return {
      span,
      over: cached((window) => counts((history) => history.over(secondsOf(window), nowS))),
      whole: counts((history) => history.between(span.fromS + sliceS, seenToS)),
    };
  };
}

/** What an objective that is measured counted, as it is budgeted. */
export function countedOf(
  objective: Objective,
  { slots, adjustments }: Pick<Evidence, 'slots' | 'adjustments'>,
  withAdjustments: boolean,
): CountHistory {
  const raw = slots.get(objective.name) ?? [];
  const applying = withAdjustments ? adjustmentsOf(objective.name, adjustments) : [];
  return historyOf(budgeted(adjusted(raw, applying), objective.budgeting));
}

export const adjustmentsOf = (slo: string, adjustments: readonly BudgetAdjustment[]): BudgetAdjustment[] =>
  adjustments.filter(({ slos }) => slos.includes(slo) || slos.includes('*'));

function cached(over: CountsOver): CountsOver {
  const known = new Map<WindowName, Counts>();
  return (window) => {
    const counts = known.get(window) ?? over(window);
    known.set(window, counts);
    return counts;
  };
}

/** What only the sampler knows. */
export interface Observation {
  readonly coverage: number;
  readonly inconsistentSamples: number;
  /** Nothing could be read since then: the verdict of that time stands. */
  readonly frozenSinceS?: number;
}
/** A pair that fired at the last evaluation. It `holds` when there is too little data since to say that it no longer does. */
export interface Held {
  readonly sinceS: number;
  readonly holds: boolean;
}

/** The verdict of a measured or weighted objective. `held`: by index of pair, what fired at the last evaluation. */
export function statusOf(
  objective: Objective,
  all: readonly Objective[],
  evidence: Evidence,
  observation: Observation,
  held: readonly (Held | undefined)[] = [],
): SloStatus {
  const { target, period } = objective;
  const view = viewsOf(objective, all, evidence)(evidence.nowS);
  const applying = adjustmentsOf(objective.name, evidence.adjustments).filter(
    ({ fromS, toS }) => toS > view.span.fromS && fromS < view.span.toS,
  );
  const pairs = objective.pairs.map((pair, index): PairStatus => {
    const fires = pairFires(pair, objective, view.over);
    const before = held[index];
    const firing = fires || before?.holds === true;
    return {
      severity: pair.severity,
      long: pair.long,
      short: pair.short,
      budgetPercent: pair.budgetPercent,
      factor: factorOf(pair, period),
      threshold: thresholdOf(pair, objective),
      firing,
      ...(firing && { since: instant(before?.sinceS ?? evidence.nowS) }),
      ...(!fires && firing && { frozen: true as const }),
    };
  });
  const whole = resultOf(view.whole, target);
  const frozen = observation.frozenSinceS;
  const verdict = stateOf(objective, view.whole, whole.budgetLeft, pairs);
  return {
    name: objective.name,
    title: objective.title,
    description: objective.description,
    target,
    period,
    window: windowText(objective, view.span),
    events: objective.eventWord,
    ...whole,
    ...(frozen === undefined ? verdict : { state: 'unknown' as const, frozenSince: instant(frozen) }),
    exhaustsInSeconds: secondsToExhaustion(whole.budgetLeft, burnRateOf(view.over('1h'), target), period) ?? null,
    coverage: observation.coverage,
    inconsistentSamples: observation.inconsistentSamples,
    policy: policyOf(objective).findLast((step) => budgetIsBelow(step.budgetBelow, view.whole, objective)) ?? null,
    adjustments: applying.map((adjustment) => adjustmentStatus(adjustment, evidence.nowS)),
    ...(applying.length > 0 && { unadjusted: resultOf(viewsOf(objective, all, evidence, false)(evidence.nowS).whole, target) }),
    burn: windowsOf(objective).map((window) => ({
      window,
      ...view.over(window),
      burnRate: burnRateOf(view.over(window), target) ?? null,
    })),
    pairs,
  };
}

/** The verdict of a worst-of composite, from the verdicts of its parts. Undefined when none of them is there. */
export function worstOf(objective: Objective, parts: readonly SloStatus[], nowS: number): SloStatus | undefined {
  const order = [...parts].sort((a, b) => SEVERITY.indexOf(a.state) - SEVERITY.indexOf(b.state) || a.budgetLeft - b.budgetLeft);
  const [worst] = order;
  if (worst === undefined) return undefined;
  return {
    ...worst,
    name: objective.name,
    title: objective.title,
    description: objective.description,
    period: objective.period,
    window: windowText(objective, spanOf(objective, nowS)),
    coverage: Math.min(...parts.map(({ coverage }) => coverage)),
    inconsistentSamples: parts.reduce((sum, { inconsistentSamples }) => sum + inconsistentSamples, 0),
    note: `as ${worst.name}`,
    parts: order.map(({ name }) => name),
    pairs: [],
  };
}

const SEVERITY: readonly SloState[] = ['burning-page', 'exhausted', 'burning-ticket', 'unknown', 'ok', 'idle'];

const resultOf = (counts: Counts, target: number): PeriodResult => ({
  ...counts,
  achieved: isEmpty(counts) ? null : counts.good / counts.total,
  budgetLeft: budgetLeftOf(counts, target),
});

/** An overspent budget is a verdict only when the failures are enough to be sure of; until then the numbers stand with a note. */
function stateOf(
  objective: Objective,
  whole: Counts,
  left: number,
  pairs: readonly PairStatus[],
): { readonly state: SloState; readonly note?: string } {
  const fires = (severity: string): boolean => pairs.some((pair) => pair.firing && pair.severity === severity);
  if (fires('page')) return { state: 'burning-page' };
  if (budgetIsBelow(0, whole, objective)) return { state: 'exhausted' };
  if (fires('ticket')) return { state: 'burning-ticket' };
  if (isEmpty(whole)) return { state: 'idle' };
  return left <= 0 ? { state: 'ok', note: 'too few events to call the budget spent' } : { state: 'ok' };
}

function windowText({ calendar }: Objective, { fromS, toS }: Span): SloStatus['window'] {
  const text = { from: instant(fromS), to: instant(toS) };
  if (calendar === undefined) return text;
  const { unit, count, timeZone } = calendar;
  return { ...text, calendar: count === 1 ? `${unit} in ${timeZone}` : `${count} ${unit}s in ${timeZone}` };
}

const adjustmentStatus = (adjustment: BudgetAdjustment, nowS: number): AdjustmentStatus => ({
  id: adjustment.id,
  kind: adjustment.kind,
  effect: adjustment.effect,
  author: adjustment.author,
  reason: adjustment.reason,
  from: instant(adjustment.fromS),
  to: instant(adjustment.toS),
  active: adjustment.fromS <= nowS && nowS < adjustment.toS,
});

const instant = (seconds: number): string => rfc3339(BigInt(Math.round(seconds)) * 1_000_000_000n);
