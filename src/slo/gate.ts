/** May a change be made now? The error budget policy, as a pipeline asks it. */
import type { SloReport, SloStatus } from './report.ts';
import type { Change } from './spec.ts';

export interface GateVerdict {
  readonly change: Change;
  readonly allowed: boolean;
  /** Why not, one sentence an objective; when allowed, what was looked at. */
  readonly reasons: readonly string[];
}

/** `unknown` objectives refuse unless they are allowed: a budget that nobody could look at is not known to be there. */
export function gateOf(report: SloReport, change: Change, options: { readonly allowUnknown: boolean }): GateVerdict {
  const refusals = report.objectives.flatMap((status) => refusalOf(status, change, options.allowUnknown) ?? []);
  if (refusals.length > 0) return { change, allowed: false, reasons: refusals };
  return { change, allowed: true, reasons: report.objectives.map((status) => `${status.title}: ${left(status)}`) };
}

function refusalOf(status: SloStatus, change: Change, allowUnknown: boolean): string | undefined {
  if (status.policy?.blocks.includes(change)) return `${status.title}: ${left(status)}: ${status.policy.consequence}`;
  if (status.state === 'unknown' && !allowUnknown)
    return `${status.title}: nothing could be read since ${status.frozenSince ?? 'the start'}, so its budget is not known`;
  return undefined;
}

const left = ({ budgetLeft, window, period }: SloStatus): string =>
  `${Math.round(budgetLeft * 1000) / 10} % of the error budget of ${window.calendar ?? period} is left`;
