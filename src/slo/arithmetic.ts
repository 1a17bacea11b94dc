/**
 * The arithmetic of error budgets, pure. It works on counts, never on ratios of ratios: a window weighs events, not minutes. The
 * comparisons leave half an event of room, because Prometheus extrapolates `increase()` and the generated rules must decide alike.
 */
import { type BurnPair, type Confidence, DEFAULT_GATE, gateOf, type LowTrafficGate, type Objective, windowsOf } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

export interface Counts {
  readonly good: number;
  readonly total: number;
}
export type CountsOver = (window: WindowName) => Counts;
/** What of an objective decides whether a pair fires. */
export type Judged = Pick<Objective, 'period' | 'target' | 'pairs' | 'gate'>;

export const NO_EVENTS: Counts = { good: 0, total: 0 };
export const HALF_AN_EVENT = 0.5;

const Z: Readonly<Record<Confidence, number>> = { 0.9: 1.2816, 0.95: 1.645, 0.99: 2.3263 };
/** Standard score of a one-sided confidence. */
export const zOf = (confidence: Confidence): number => Z[confidence];

export const badOf = ({ good, total }: Counts): number => Math.max(total - good, 0);
export const isEmpty = ({ total }: Counts): boolean => total < HALF_AN_EVENT;

/** Budget spent per second against the even pace: 1 spends exactly the budget over the period. Undefined without events. */
export function burnRateOf(counts: Counts, target: number): number | undefined {
  return isEmpty(counts) ? undefined : badOf(counts) / counts.total / (1 - target);
}

/** Share of the budget that is left: 1 untouched, 0 spent, negative overspent. An idle period has spent nothing. */
export function budgetLeftOf(counts: Counts, target: number): number {
  return isEmpty(counts) ? 1 : 1 - badOf(counts) / (counts.total * (1 - target));
}

/** The fastest a budget can burn: with nothing but failures. A factor at or above it is never passed. */
export const maxBurnOf = (target: number): number => 1 / (1 - target);

/** Burn rate at which a pair's long window spends its percentage of the period's budget. */
export function factorOf(pair: BurnPair, period: WindowName): number {
  return (pair.budgetPercent / 100) * (secondsOf(period) / secondsOf(pair.long));
}

/** Share of bad events at which a pair fires. Above 1 it never can. */
export function thresholdOf(pair: BurnPair, objective: Pick<Objective, 'period' | 'target'>): number {
  return factorOf(pair, objective.period) * (1 - objective.target);
}

/** Lower end of the Wilson score interval for `bad` of `total`: the share of failures we can be sure of at `confidence`. */
export function wilsonLower(bad: number, total: number, confidence: Confidence = DEFAULT_GATE.confidence): number {
  if (total <= 0) return 0;
  const z = zOf(confidence);
  const z2 = z * z;
  const share = Math.min(bad / total, 1);
  const spread = z * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total * total));
  return Math.max((share + z2 / (2 * total) - spread) / (1 + z2 / total), 0);
}

/** Fewest events that can convince the gate when all of them are bad: n / (n + z^2) must pass the threshold. */
export function fewestEventsFor(threshold: number, gate: LowTrafficGate = DEFAULT_GATE): number {
  if (threshold >= 1) return Number.POSITIVE_INFINITY;
  const z2 = zOf(gate.confidence) ** 2;
  return Math.max(gate.minBad, Math.floor((threshold * z2) / (1 - threshold)) + 1);
}

/** Are the failures in these counts enough to be believed: not too few, and surely above the threshold? */
export function gatePasses(counts: Counts, threshold: number, gate: LowTrafficGate = DEFAULT_GATE): boolean {
  const bad = badOf(counts);
  return bad > gate.minBad - HALF_AN_EVENT && wilsonLower(bad, counts.total, gate.confidence) > threshold;
}

/**
 * Is less than `below` (1 untouched, 0 spent) of the budget left, surely? An account needs a budget of one whole event at least, and
 * the gate's fewest failures; with less than that the Wilson bound must say so.
 */
export function budgetIsBelow(below: number, counts: Counts, objective: Pick<Objective, 'target' | 'gate'>): boolean {
  const allowed = 1 - objective.target;
  const left = budgetLeftOf(counts, objective.target);
  if (isEmpty(counts) || (below === 0 ? left > 0 : left >= below)) return false;
  const gate = gateOf(objective);
  const accountable = counts.total * allowed >= 1 && badOf(counts) > gate.minBad - HALF_AN_EVENT;
  return accountable || gatePasses(counts, (1 - below) * allowed, gate);
}

/** Less than this is no good event: ratios of slices and composites make fractions of events. */
export const HARDLY_GOOD = 0.01;
const onlyFailures = (counts: Counts): boolean => !isEmpty(counts) && counts.good < HARDLY_GOOD;

/** Windows of an objective from one to another, both included. */
export function windowsBetween(objective: Judged, from: WindowName, to: WindowName): WindowName[] {
  const [low, high] = [secondsOf(from), secondsOf(to)];
  return windowsOf(objective).filter((window) => secondsOf(window) >= low && secondsOf(window) <= high);
}

/** The long window and, where the gate extends, the longer ones a pair looks at when it holds too few events to decide. */
export const evidenceWindows = (pair: BurnPair, objective: Judged): WindowName[] =>
  gateOf(objective).extend ? windowsBetween(objective, pair.long, objective.period) : [pair.long];

/**
 * Does a pair fire? The evidence: the smallest window from the long one on that holds enough events to convince anybody must pass the
 * gate. So one failure is never enough, and a long run of few but failing events is not silence. And it must burn still: the short
 * window is above the threshold, or the latest events, however long ago, are nothing but failures (so one good build ends the alert
 * of a service that hardly builds).
 */
export function pairFires(pair: BurnPair, objective: Judged, over: CountsOver): boolean {
  const threshold = thresholdOf(pair, objective);
  const gate = gateOf(objective);
  const enough = fewestEventsFor(threshold, gate) - HALF_AN_EVENT;
  const evidence = evidenceWindows(pair, objective).find((window) => over(window).total > enough);
  return evidence !== undefined && gatePasses(over(evidence), threshold, gate) && burnsStill(pair, objective, threshold, over);
}

function burnsStill(pair: BurnPair, objective: Judged, threshold: number, over: CountsOver): boolean {
  const short = over(pair.short);
  if (!isEmpty(short)) return badOf(short) / short.total > threshold;
  // Windows nest: when any holds failures only, so does the smallest that holds events, and those are the latest.
  return windowsBetween(objective, pair.short, objective.period).some((window) => onlyFailures(over(window)));
}

/** Seconds of constant failure at `share` (0 to 1) until the pair fires under steady traffic; undefined when it never does. */
export function secondsToDetect(
  pair: BurnPair,
  objective: Pick<Objective, 'period' | 'target'>,
  share: number,
): number | undefined {
  const threshold = thresholdOf(pair, objective);
  return share <= threshold ? undefined : (threshold / share) * secondsOf(pair.long);
}

/** Seconds after the last failure until the pair is silent again, after a long failure at `share`. */
export function secondsToReset(
  pair: BurnPair,
  objective: Pick<Objective, 'period' | 'target'>,
  share: number,
): number | undefined {
  const threshold = thresholdOf(pair, objective);
  return share <= threshold ? undefined : (1 - threshold / share) * secondsOf(pair.short);
}

/** Seconds a budget of which `left` (0 to 1) remains lasts at a burn rate; undefined when it is not being spent. */
export function secondsToExhaustion(left: number, burnRate: number | undefined, period: WindowName): number | undefined {
  if (burnRate === undefined || burnRate <= 0) return undefined;
  return (Math.max(left, 0) / burnRate) * secondsOf(period);
}

/**
 * Several objectives as one: the weighted mean of their shares of good events, over the parts that have events, as counts at the
 * effective sample size (sum of weights, squared, over the sum of weight^2 / events), so that the gate knows how sure it is.
 */
export function combined(parts: readonly { readonly counts: Counts; readonly weight: number }[]): Counts {
  const active = parts.filter(({ counts, weight }) => !isEmpty(counts) && weight > 0);
  if (active.length === 0) return NO_EVENTS;
  const sum = (of: (part: { counts: Counts; weight: number }) => number): number =>
    active.reduce((total, part) => total + of(part), 0);
  const weights = sum(({ weight }) => weight);
  const total = weights ** 2 / sum(({ weight, counts }) => weight ** 2 / counts.total);
  return { good: (total * sum(({ weight, counts }) => weight * (counts.good / counts.total))) / weights, total };
}
