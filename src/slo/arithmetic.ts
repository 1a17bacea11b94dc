/**
 * The arithmetic of error budgets, pure. It works on counts, never on ratios of ratios: a window weighs events, not minutes. The
 * comparisons leave half an event of room, because Prometheus extrapolates `increase()` and the generated rules must decide alike.
 */
import { type BurnPair, type Objective, WINDOW_SECONDS, WINDOWS, type WindowName } from './spec.ts';

export interface Counts {
  readonly good: number;
  readonly total: number;
}
export type CountsOver = (window: WindowName) => Counts;

/** One-sided 95 %. */
export const WILSON_Z = 1.645;
/** One failure is an anecdote, whatever share of few events it is. */
export const MIN_FAILURES = 2;
export const HALF_AN_EVENT = 0.5;

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

/** Burn rate at which a pair's long window spends its percentage of the period's budget. */
export function factorOf(pair: BurnPair, period: WindowName): number {
  return (pair.budgetPercent / 100) * (WINDOW_SECONDS[period] / WINDOW_SECONDS[pair.long]);
}

/** Share of bad events at which a pair fires. Above 1 it never can. */
export function thresholdOf(pair: BurnPair, objective: Pick<Objective, 'period' | 'target'>): number {
  return factorOf(pair, objective.period) * (1 - objective.target);
}

/** Lower end of the Wilson score interval for `bad` of `total`: the share of failures we can be 95 % sure of. */
export function wilsonLower(bad: number, total: number): number {
  if (total <= 0) return 0;
  const z2 = WILSON_Z * WILSON_Z;
  const share = Math.min(bad / total, 1);
  const spread = WILSON_Z * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total * total));
  return Math.max((share + z2 / (2 * total) - spread) / (1 + z2 / total), 0);
}

/** Fewest events that can convince the gate when all of them are bad: n / (n + z^2) must pass the threshold. */
export function fewestEventsFor(threshold: number): number {
  if (threshold >= 1) return Number.POSITIVE_INFINITY;
  const z2 = WILSON_Z * WILSON_Z;
  return Math.max(MIN_FAILURES, Math.floor((threshold * z2) / (1 - threshold)) + 1);
}

/** Are the failures in these counts enough to be believed: at least two, and surely above the threshold? */
export function gatePasses(counts: Counts, threshold: number): boolean {
  const bad = badOf(counts);
  return bad > MIN_FAILURES - HALF_AN_EVENT && wilsonLower(bad, counts.total) > threshold;
}

const onlyFailures = (counts: Counts): boolean => !isEmpty(counts) && counts.good < HALF_AN_EVENT;

/** Windows from one to another, both included. */
export const windowsBetween = (from: WindowName, to: WindowName): WindowName[] =>
  WINDOWS.slice(WINDOWS.indexOf(from), WINDOWS.indexOf(to) + 1);
/** Longer windows a pair may look at when its own holds too few events to decide. */
export const extensionsOf = (pair: BurnPair, period: WindowName): WindowName[] => windowsBetween(pair.long, period).slice(1);

/**
 * Does a pair fire? Long: the gate passes, or the window holds too few events to decide and the smallest longer window that holds
 * enough has nothing but failures (so a long run of few failures is not silence). Short: still burning now, where an empty short
 * window is widened up to the long one and then must hold nothing but failures (so one good build after them ends the alert).
 */
export function pairFires(pair: BurnPair, objective: Pick<Objective, 'period' | 'target'>, over: CountsOver): boolean {
  const threshold = thresholdOf(pair, objective);
  const needed = fewestEventsFor(threshold);
  const long = over(pair.long);
  if (long.total > needed - HALF_AN_EVENT) {
    return gatePasses(long, threshold) && stillBurning(pair, threshold, over);
  }
  const enough = extensionsOf(pair, objective.period).find((window) => over(window).total > needed - HALF_AN_EVENT);
  return enough !== undefined && onlyFailures(over(enough));
}

function stillBurning(pair: BurnPair, threshold: number, over: CountsOver): boolean {
  const short = over(pair.short);
  if (!isEmpty(short)) return badOf(short) / short.total > threshold;
  const latest = windowsBetween(pair.short, pair.long).find((window) => !isEmpty(over(window)));
  return latest !== undefined && onlyFailures(over(latest));
}

/** Seconds of constant failure at `share` (0 to 1) until the pair fires under steady traffic; undefined when it never does. */
export function secondsToDetect(
  pair: BurnPair,
  objective: Pick<Objective, 'period' | 'target'>,
  share: number,
): number | undefined {
  const threshold = thresholdOf(pair, objective);
  return share <= threshold ? undefined : (threshold / share) * WINDOW_SECONDS[pair.long];
}

/** Seconds after the last failure until the pair is silent again, after a long failure at `share`. */
export function secondsToReset(
  pair: BurnPair,
  objective: Pick<Objective, 'period' | 'target'>,
  share: number,
): number | undefined {
  const threshold = thresholdOf(pair, objective);
  return share <= threshold ? undefined : (1 - threshold / share) * WINDOW_SECONDS[pair.short];
}

/** What is wrong with an objective: pairs that can never fire, or fire inside the budget. Empty when sound. */
export function problemsOf(objective: Objective): string[] {
  const problems: string[] = [];
  const { name, target, period } = objective;
  if (!(target > 0 && target < 1)) problems.push(`${name}: the target ${target} is not between 0 and 1`);
  const maxBurn = 1 / (1 - target);
  for (const pair of objective.pairs) {
    const factor = factorOf(pair, period);
    const which = `${name}: the ${pair.severity} pair ${pair.long}/${pair.short}`;
    if (factor >= maxBurn)
      problems.push(`${which} needs a burn rate of ${round(factor)}, but a target of ${target} allows ${round(maxBurn)} at most`);
    if (factor < 1) problems.push(`${which} has the factor ${round(factor)}: it would fire while the budget holds`);
    if (WINDOW_SECONDS[pair.short] >= WINDOW_SECONDS[pair.long]) problems.push(`${which}: the short window is not shorter`);
    if (WINDOW_SECONDS[pair.long] >= WINDOW_SECONDS[period])
      problems.push(`${which}: the long window is not shorter than the period`);
  }
  return problems;
}

const round = (value: number): number => Math.round(value * 100) / 100;
