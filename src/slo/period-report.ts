/** The figures of a report over a range of time: per objective its result, budget, worst intervals, incidents and adjustments. */
import { badOf, budgetIsBelow, budgetLeftOf, isEmpty } from './arithmetic.ts';
import { backtest, type Incident } from './backtest.ts';
import { type BurnInterval, burnIntervals, SIGNIFICANT_SHARE } from './incidents.ts';
import { adjustmentsOf, countedOf, type Evidence, spanOf, viewsOf } from './judge.ts';
import { type BudgetAdjustment, type Objective, type PolicyStep, policyOf } from './spec.ts';

/** A build that ended badly, as far as the daemon's history reaches. */
export interface FailedBuild {
  readonly ref: string;
  readonly name: string;
  readonly state: string;
  readonly endedS: number;
  readonly error?: string;
}
export interface Figures {
  readonly good: number;
  readonly total: number;
  /** Null without events. */
  readonly achieved: number | null;
  /** 1 untouched, negative overspent. */
  readonly budgetLeft: number;
  /** Bad events the target allows of those there were, and how many of them are left. */
  readonly allowedEvents: number;
  readonly leftEvents: number;
  /** The budget as minutes of nothing but failures, and how many are left. */
  readonly allowedMinutes: number;
  readonly leftMinutes: number;
}
export interface SloPeriod extends Figures {
  readonly name: string;
  readonly title: string;
  readonly eventWord: string;
  readonly target: number;
  readonly fromS: number;
  readonly toS: number;
  /** Without adjustments; only where some apply. */
  readonly unadjusted?: Figures;
  readonly adjustments: readonly BudgetAdjustment[];
  /** What spent most of the budget, first. */
  readonly worst: readonly (BurnInterval & {
    readonly builds: readonly FailedBuild[];
    readonly classes: Readonly<Record<string, number>>;
  })[];
  readonly incidents: readonly Incident[];
  /** Mean seconds from the first bad event of an incident to the last; null without incidents. */
  readonly meanSecondsToRecover: number | null;
  /** The strictest step of the policy that holds. */
  readonly policy: PolicyStep | null;
}
export interface PeriodReport {
  readonly generatedS: number;
  readonly objectives: readonly SloPeriod[];
}
export interface Range {
  /** Absent: the beginning of the budget of each objective. */
  readonly fromS?: number;
  readonly toS: number;
}

const WORST = 5;
const BUILDS_SHOWN = 10;

/** Worst-of composites have no figures of their own and are left out. */
export function periodReport(
  objectives: readonly Objective[],
  evidence: Pick<Evidence, 'slots' | 'adjustments'>,
  range: Range,
  builds: readonly FailedBuild[],
): PeriodReport {
  const counted = objectives.filter(({ indicator }) => indicator.kind !== 'worst-of');
  return {
    generatedS: range.toS,
    objectives: counted.map((objective) => sloPeriod(objective, objectives, evidence, range, builds)),
  };
}

function sloPeriod(
  objective: Objective,
  all: readonly Objective[],
  evidence: Pick<Evidence, 'slots' | 'adjustments'>,
  range: Range,
  builds: readonly FailedBuild[],
): SloPeriod {
  const { toS } = range;
  const fromS = range.fromS ?? spanOf(objective, toS - 1).fromS;
  const applying = adjustmentsOf(objective.name, evidence.adjustments).filter((one) => one.toS > fromS && one.fromS < toS);
  const figures = (withAdjustments: boolean): Figures => figuresOf(objective, all, evidence, { fromS, toS }, withAdjustments);
  const result = figures(true);
  const measured = !('parts' in objective.indicator);
  const intervals = measured ? burnIntervals(objective, countedOf(objective, evidence, true), fromS, toS) : [];
  const { incidents } = backtest(objective, all, evidence, { fromS, toS, stepS: 60, significantShare: SIGNIFICANT_SHARE });
  const durations = incidents.map((incident) => incident.toS - incident.fromS);
  return {
    ...{ name: objective.name, title: objective.title, eventWord: objective.eventWord, target: objective.target, fromS, toS },
    ...result,
    ...(applying.length > 0 && { unadjusted: figures(false) }),
    adjustments: applying,
    worst: [...intervals]
      .sort((a, b) => b.budgetSpent - a.budgetSpent)
      .slice(0, WORST)
      .map((interval) => ({ ...interval, ...buildsIn(interval, builds) })),
    incidents,
    meanSecondsToRecover: durations.length === 0 ? null : durations.reduce((sum, one) => sum + one, 0) / durations.length,
    policy: policyOf(objective).findLast(({ budgetBelow }) => budgetIsBelow(budgetBelow, result, objective)) ?? null,
  };
}

function figuresOf(
  objective: Objective,
  all: readonly Objective[],
  evidence: Pick<Evidence, 'slots' | 'adjustments'>,
  { fromS, toS }: { readonly fromS: number; readonly toS: number },
  withAdjustments: boolean,
): Figures {
  const counts =
    'parts' in objective.indicator
      ? viewsOf(objective, all, evidence, withAdjustments)(toS - 1).whole
      : countedOf(objective, evidence, withAdjustments).between(fromS, toS);
  const share = 1 - objective.target;
  const left = budgetLeftOf(counts, objective.target);
  const allowedEvents = counts.total * share;
  const allowedMinutes = ((toS - fromS) / 60) * share;
  return {
    ...counts,
    achieved: isEmpty(counts) ? null : counts.good / counts.total,
    budgetLeft: left,
    ...{ allowedEvents, leftEvents: allowedEvents - badOf(counts), allowedMinutes, leftMinutes: allowedMinutes * left },
  };
}

/** Builds that ended badly within an interval, and how many by the way they ended. */
function buildsIn({ fromS, toS }: BurnInterval, builds: readonly FailedBuild[]) {
  const inside = builds.filter(({ endedS }) => endedS >= fromS && endedS < toS);
  const classes: Record<string, number> = {};
  for (const { state } of inside) classes[state] = (classes[state] ?? 0) + 1;
  return { builds: inside.slice(0, BUILDS_SHOWN), classes };
}
