/**
 * What the alerts of an objective would have done over recorded counts: each moment is judged as the daemon judges it. Incidents are
 * known afterwards, so it can be said how soon each was noticed, which was missed, and which pages were for nothing.
 */
import { burnRateOf, pairFires } from './arithmetic.ts';
import { SLOT_SECONDS } from './count-history.ts';
import { type BurnInterval, burnIntervals, isIncident } from './incidents.ts';
import { countedOf, type Evidence, viewsOf } from './judge.ts';
import type { BurnPair, Objective, Severity } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

export interface BacktestOptions {
  /** Seconds since the Unix epoch. Counts before `fromS` fill the first windows. */
  readonly fromS: number;
  readonly toS: number;
  /** How often alerts are judged; a multiple of 30. */
  readonly stepS: number;
  /** Share of the budget that makes an interval of bad events an incident. */
  readonly significantShare: number;
}
export interface FiredAlert {
  readonly severity: Severity;
  readonly long: WindowName;
  readonly short: WindowName;
  readonly fromS: number;
  /** When it was silent again; absent when it fires at the end. */
  readonly toS?: number;
  /** Highest burn rate of its long window. */
  readonly peakBurnRate: number;
  /** No incident lies in it or in the long window before it. */
  readonly false: boolean;
}
export interface Incident extends BurnInterval {
  /** First alert of any severity, and first page; absent: none. */
  readonly noticedS?: number;
  readonly pagedS?: number;
}
export interface Backtest {
  readonly slo: string;
  readonly title: string;
  readonly eventWord: string;
  readonly alerts: readonly FiredAlert[];
  readonly incidents: readonly Incident[];
  /** Budget that is left, about a hundred points over the range. */
  readonly curve: readonly { readonly atS: number; readonly budgetLeft: number }[];
}

const POINTS = 96;

/** @throws nothing: an objective without pairs gives its curve only. */
export function backtest(
  objective: Objective,
  all: readonly Objective[],
  evidence: Pick<Evidence, 'slots' | 'adjustments'>,
  options: BacktestOptions,
): Backtest {
  const { fromS, toS, stepS } = options;
  const view = viewsOf(objective, all, evidence);
  const measured = !('parts' in objective.indicator);
  const intervals = measured ? burnIntervals(objective, countedOf(objective, evidence, true), fromS, toS) : [];
  const incidents = intervals.filter((interval) => isIncident(interval, objective, options.significantShare));
  const runs = objective.pairs.flatMap((pair) => runsOf(pair, objective, view, options));
  const alerts = runs
    .map((run) => ({ ...run, false: measured && !incidents.some((incident) => explains(incident, run)) }))
    .sort((a, b) => a.fromS - b.fromS || secondsOf(a.long) - secondsOf(b.long));
  const pointS = Math.max(stepS, Math.ceil((toS - fromS) / POINTS / stepS) * stepS);
  const curve = Array.from({ length: Math.floor((toS - fromS) / pointS) + 1 }, (_, index) => fromS + index * pointS).map(
    (atS) => {
      const { whole } = view(atS);
      return { atS, budgetLeft: whole.total < 0.5 ? 1 : 1 - (whole.total - whole.good) / (whole.total * (1 - objective.target)) };
    },
  );
  const { name: slo, title, eventWord } = objective;
  return { slo, title, eventWord, alerts, incidents: incidents.map((incident) => noticed(incident, alerts)), curve };
}

type Run = Omit<FiredAlert, 'false'>;

function runsOf(
  pair: BurnPair,
  objective: Objective,
  view: ReturnType<typeof viewsOf>,
  { fromS, toS, stepS }: BacktestOptions,
): Run[] {
  const runs: Run[] = [];
  let open: { fromS: number; peakBurnRate: number } | undefined;
  const { severity, long, short } = pair;
  // A slot is complete when it has passed; until then the daemon sees it fill.
  for (let atS = fromS; atS < toS; atS += stepS) {
    const { over } = view(atS);
    if (pairFires(pair, objective, over)) {
      const burn = burnRateOf(over(long), objective.target) ?? 0;
      open = { fromS: open?.fromS ?? atS, peakBurnRate: Math.max(open?.peakBurnRate ?? 0, burn) };
    } else if (open !== undefined) {
      runs.push({ severity, long, short, ...open, toS: atS });
      open = undefined;
    }
  }
  return open === undefined ? runs : [...runs, { severity, long, short, ...open }];
}

const explains = (incident: BurnInterval, { fromS, toS, long }: Run): boolean =>
  incident.fromS < (toS ?? Number.POSITIVE_INFINITY) && incident.toS > fromS - secondsOf(long) - SLOT_SECONDS;

function noticed(incident: BurnInterval, alerts: readonly FiredAlert[]): Incident {
  const during = alerts.filter((alert) => (alert.toS ?? Number.POSITIVE_INFINITY) > incident.fromS && explains(incident, alert));
  const first = (some: readonly FiredAlert[]): number | undefined =>
    some.length === 0 ? undefined : Math.max(incident.fromS, Math.min(...some.map(({ fromS }) => fromS)));
  const [noticedS, pagedS] = [first(during), first(during.filter(({ severity }) => severity === 'page'))];
  return { ...incident, ...(noticedS !== undefined && { noticedS }), ...(pagedS !== undefined && { pagedS }) };
}
