/** What is wrong with an objective before anybody relies on it. Pure: the objective and the catalogue it is to be read from. */
import type { MetricSpec } from '../telemetry/catalog.ts';
import { factorOf, maxBurnOf } from './arithmetic.ts';
import { calendarProblem, UNIT_DAYS } from './calendar.ts';
import type { Problem, Report } from './lint-problem.ts';
import { checkSelections } from './lint-selections.ts';
import { type BurnPair, type Composite, type Objective, windowsOf } from './spec.ts';
import { isWindow, secondsOf, windowOfSeconds } from './windows.ts';

export interface LintContext {
  /** Metrics the indicators may read; absent: names are not checked. */
  readonly catalogue?: readonly MetricSpec[];
  /** Seconds the counts are kept (Prometheus retention, or the daemon's own store). */
  readonly retentionSeconds?: number;
  /** The other objectives, for composites. */
  readonly others?: readonly Objective[];
  /** Recorded series per objective above which a warning is due. */
  readonly seriesBudget?: number;
  /** Accept pairs that fire while the budget holds. */
  readonly allowInsideBudget?: boolean;
}

/** Everything wrong with an objective, errors first; empty when sound. */
export function problemsOf(objective: Objective, context: LintContext = {}): Problem[] {
  const problems: Problem[] = [];
  const report: Report = (field, rule, message, fix, level = 'error') =>
    problems.push({ objective: objective.name, field, rule, level, message, fix });
  if (!(objective.target > 0 && objective.target < 1)) {
    report('target', 'target', `the target ${objective.target} is not between 0 and 1`, 'write 99 % as 0.99');
  }
  if (!isWindow(objective.period)) {
    report('period', 'window', `"${objective.period}" is not a window`, 'write a whole number and a unit, as in 7d');
    return problems;
  }
  objective.pairs.forEach((pair, index) => {
    checkPair(objective, pair, `pairs[${index}]`, report, context);
  });
  checkBudgeting(objective, report);
  checkGateAndPolicy(objective, report);
  checkCalendar(objective, report);
  checkIndicator(objective, context, report);
  checkCost(objective, context, report);
  return problems.sort((a, b) => a.level.localeCompare(b.level));
}

export const errorsOf = (problems: readonly Problem[]): Problem[] => problems.filter(({ level }) => level === 'error');

/** One line: who, where, what, and what to do. */
export const problemText = ({ objective, field, message, fix }: Problem): string => `${objective}: ${field}: ${message}; ${fix}`;

function checkPair(objective: Objective, pair: BurnPair, field: string, report: Report, context: LintContext): void {
  for (const window of [pair.long, pair.short]) {
    if (!isWindow(window))
      return report(field, 'window', `"${window}" is not a window`, 'write a whole number and a unit, as in 1h');
  }
  const factor = factorOf(pair, objective.period);
  const which = `the ${pair.severity} pair ${pair.long}/${pair.short}`;
  const maxBurn = maxBurnOf(objective.target);
  if (factor >= maxBurn) {
    report(
      `${field}.budgetPercent`,
      'unreachable-pair',
      `${which} needs a burn rate of ${round(factor)}, but a target of ${objective.target} allows ${round(maxBurn)} at most: it can never fire`,
      `ask for less than ${round((maxBurn / factor) * pair.budgetPercent)} % of the budget, raise the target, or count time slices`,
    );
  }
  if (!(factor >= 1) && context.allowInsideBudget !== true) {
    const least = Math.ceil((secondsOf(pair.long) / secondsOf(objective.period)) * 1000) / 10;
    report(
      `${field}.budgetPercent`,
      'factor-below-1',
      `${which} has the factor ${round(factor)}: it would fire while the budget holds`,
      `ask for at least ${least} % of the budget over ${objective.period}`,
    );
  }
  if (secondsOf(pair.short) >= secondsOf(pair.long)) {
    report(
      `${field}.short`,
      'pair-windows',
      `${which}: the short window is not shorter`,
      'a twelfth of the long window is usual',
    );
  }
  if (secondsOf(pair.long) >= secondsOf(objective.period)) {
    report(`${field}.long`, 'pair-windows', `${which}: the long window is not shorter than the period`, 'use a shorter window');
  }
}

function checkBudgeting({ budgeting, indicator, pairs }: Objective, report: Report): void {
  if (budgeting.kind === 'occurrences') return;
  const { sliceSeconds } = budgeting;
  if (indicator.kind === 'state' || indicator.kind === 'weighted' || indicator.kind === 'worst-of') {
    report('budgeting', 'budgeting', `${indicator.kind} objectives count occurrences`, 'leave budgeting at occurrences');
  }
  if (!(Number.isInteger(sliceSeconds) && sliceSeconds >= 60 && sliceSeconds % 60 === 0 && 86_400 % sliceSeconds === 0)) {
    report('budgeting.sliceSeconds', 'budgeting', `slices of ${sliceSeconds} s do not tile a day in whole minutes`, 'use 300');
  }
  const shortest = Math.min(...pairs.map(({ short }) => (isWindow(short) ? secondsOf(short) : Number.POSITIVE_INFINITY)));
  if (shortest < sliceSeconds) {
    report(
      'budgeting.sliceSeconds',
      'budgeting',
      'a slice is longer than the shortest window',
      'use shorter slices or longer windows',
    );
  }
  if (budgeting.kind === 'timeslices' && !(budgeting.threshold > 0 && budgeting.threshold <= 1)) {
    report('budgeting.threshold', 'budgeting', `${budgeting.threshold} is not a share`, 'write 70 % as 0.7');
  }
}

function checkGateAndPolicy({ gate, policy, floor, target }: Objective, report: Report): void {
  if (gate !== undefined && !(Number.isInteger(gate.minBad) && gate.minBad >= 1)) {
    report('gate.minBad', 'gate', `${gate.minBad} is not a number of events`, 'use 2: one failure is an anecdote');
  }
  policy?.forEach(({ budgetBelow }, index) => {
    const before = policy[index - 1]?.budgetBelow ?? Number.POSITIVE_INFINITY;
    if (!(budgetBelow <= 1) || budgetBelow >= before) {
      report(`policy[${index}].budgetBelow`, 'policy', 'steps must descend from 1 or below', 'order the steps by what is left');
    }
  });
  if (floor !== undefined && target > 1 - floor.ratio) {
    report(
      'target',
      'floor',
      `the target ${target} allows fewer failures than remain when nothing is wrong (${round(floor.ratio * 100)} %, ${floor.source})`,
      `lower the target to ${round(1 - floor.ratio)} or lower the floor first`,
      'warning',
    );
  }
}

function checkCalendar({ calendar, period }: Objective, report: Report): void {
  if (calendar === undefined) return;
  const problem = calendarProblem(calendar);
  if (problem !== undefined) return report(`calendar.${problem.field}`, 'calendar', problem.message, problem.fix);
  const nominal = UNIT_DAYS[calendar.unit] * calendar.count;
  if (Math.abs(secondsOf(period) / 86_400 - nominal) > nominal / 10) {
    report('period', 'calendar', `${period} is not the length of the calendar window`, `write ${nominal}d`);
  }
}

function checkIndicator(objective: Objective, { catalogue, others }: LintContext, report: Report): void {
  const { indicator } = objective;
  if (indicator.kind === 'weighted' || indicator.kind === 'worst-of') {
    return checkComposite(objective, indicator, others ?? [], report);
  }
  if (indicator.kind === 'state' && !(indicator.everySeconds >= 30 && 86_400 % indicator.everySeconds === 0)) {
    report(
      'indicator.everySeconds',
      'budgeting',
      `${indicator.everySeconds} s do not tile a day in half minutes or more`,
      'use 60',
    );
  }
  if (catalogue !== undefined) checkSelections(indicator, catalogue, report);
}

function checkComposite(objective: Objective, { kind, parts }: Composite, others: readonly Objective[], report: Report): void {
  if (parts.length < 2) report('indicator.parts', 'composite', 'a composite needs two parts or more', 'name the parts');
  if (kind === 'worst-of' && objective.pairs.length > 0) {
    report('pairs', 'composite', 'a worst-of composite has no counts to burn', 'leave its pairs empty: its parts alert');
  }
  parts.forEach(({ slo, weight }, index) => {
    const part = others.find(({ name }) => name === slo);
    const field = `indicator.parts[${index}]`;
    if (!(weight > 0)) report(`${field}.weight`, 'composite', `the weight ${weight} is not above 0`, 'use 1');
    if (part === undefined) report(`${field}.slo`, 'composite', `there is no objective "${slo}"`, 'name one that exists');
    else if ('parts' in part.indicator) report(`${field}.slo`, 'composite', `"${slo}" is a composite itself`, 'name its parts');
    else if (secondsOf(part.period) < secondsOf(objective.period)) {
      report(`${field}.slo`, 'composite', `"${slo}" is kept for ${part.period} only`, 'use the same period');
    }
  });
}

function checkCost(objective: Objective, { retentionSeconds, seriesBudget = 100 }: LintContext, report: Report): void {
  if (retentionSeconds !== undefined && secondsOf(objective.period) > retentionSeconds) {
    report(
      'period',
      'retention',
      `counts are kept for ${windowOfSeconds(retentionSeconds)}, the window is ${objective.period}: it would be cut silently`,
      'keep counts longer or shorten the window',
    );
  }
  const series = recordedSeriesOf(objective);
  if (series > seriesBudget) {
    report('pairs', 'cardinality', `the rules record ${series} series for it`, 'use fewer windows', 'warning');
  }
}

/** Series the generated rules keep for one objective: good, events, bad, burn and Wilson bound per window, and its own constants. */
export const recordedSeriesOf = (objective: Objective): number => windowsOf(objective).length * 5 + objective.pairs.length + 4;

const round = (value: number): number => Math.round(value * 100) / 100;
