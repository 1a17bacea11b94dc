/** When a budget was spent: runs of bad events, and which of them were incidents. */
import { badOf, type Counts } from './arithmetic.ts';
import { type CountHistory, SLOT_SECONDS } from './count-history.ts';
import { gateOf, type Objective } from './spec.ts';
import { secondsOf } from './windows.ts';

/** Bad events with less than `quietS` between them. */
export interface BurnInterval extends Counts {
  /** Seconds since the Unix epoch: the slot of the first bad event, the end of that of the last. */
  readonly fromS: number;
  readonly toS: number;
  /** Share of the budget of the period that ends with it: 1 is all of it. */
  readonly budgetSpent: number;
}

/** So long without a bad event ends an interval. */
export const QUIET_SECONDS = 1800;
/** An interval that spends less of the budget is noise; with the gate's fewest bad events it is an incident. */
export const SIGNIFICANT_SHARE = 0.05;

/** Intervals of [fromS, toS), in order of time. */
export function burnIntervals(objective: Objective, history: CountHistory, fromS: number, toS: number): BurnInterval[] {
  const bad = history.slots().filter((slot) => slot.slotS >= fromS && slot.slotS < toS && badOf(slot) > 1e-6);
  const runs: { fromS: number; toS: number }[] = [];
  for (const { slotS } of bad) {
    const last = runs.at(-1);
    if (last !== undefined && slotS - last.toS < QUIET_SECONDS) last.toS = slotS + SLOT_SECONDS;
    else runs.push({ fromS: slotS, toS: slotS + SLOT_SECONDS });
  }
  return runs.map((run) => {
    const counts = history.between(run.fromS, run.toS);
    const period = history.between(run.toS - secondsOf(objective.period), run.toS);
    return { ...run, ...counts, budgetSpent: badOf(counts) / (period.total * (1 - objective.target)) };
  });
}

export const isIncident = (interval: BurnInterval, objective: Objective, share = SIGNIFICANT_SHARE): boolean =>
  interval.budgetSpent >= share && badOf(interval) >= gateOf(objective).minBad - 0.5;
