/** What an evaluation says, as data (served on /slo) and as the table of `cooper slo status`. */
import type { Counts } from './arithmetic.ts';
import type { BudgetAdjustment, PolicyStep, Severity } from './spec.ts';
import type { WindowName } from './windows.ts';

/**
 * Worst first: act now; the budget is gone; somebody should look; fine; nothing happened; nobody could look (pairs stay as they were).
 */
export type SloState = 'burning-page' | 'exhausted' | 'burning-ticket' | 'unknown' | 'ok' | 'idle';

export interface BurnStatus {
  readonly window: WindowName;
  readonly good: number;
  readonly total: number;
  /** Null without events. */
  readonly burnRate: number | null;
}
export interface PairStatus {
  readonly severity: Severity;
  readonly long: WindowName;
  readonly short: WindowName;
  readonly budgetPercent: number;
  readonly factor: number;
  /** Share of bad events at which it fires. */
  readonly threshold: number;
  readonly firing: boolean;
  /** RFC 3339; since when it fires. */
  readonly since?: string;
  /** It fires because it did when the data stopped. */
  readonly frozen?: true;
}
/** What a stretch of time did to the budget, with a name under it. */
export interface AdjustmentStatus extends Pick<BudgetAdjustment, 'id' | 'kind' | 'effect' | 'author' | 'reason'> {
  /** RFC 3339. */
  readonly from: string;
  readonly to: string;
  readonly active: boolean;
}
/** Result of the period. */
export interface PeriodResult extends Counts {
  /** good / total, or null without events. */
  readonly achieved: number | null;
  /** 1 untouched, negative overspent. */
  readonly budgetLeft: number;
}

export interface SloStatus extends PeriodResult {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly target: number;
  readonly period: WindowName;
  /** The window of the budget, RFC 3339; a calendar window or the last `period`. */
  readonly window: { readonly from: string; readonly to: string; readonly calendar?: string };
  /** What good and total count: `builds`, `slices`. */
  readonly events: string;
  readonly state: SloState;
  /** Why the state is not what the numbers alone would say. */
  readonly note?: string;
  /** Seconds the rest of the budget lasts at the burn rate of the last hour; null when it is not being spent. */
  readonly exhaustsInSeconds: number | null;
  /** Share of the period in which the counters were looked at. */
  readonly coverage: number;
  /** Since when nothing could be read. */
  readonly frozenSince?: string;
  /** Samples, since the daemon started, that had more good events than events. */
  readonly inconsistentSamples: number;
  /** What the budget policy asks for now; null while the budget is above every step. */
  readonly policy: PolicyStep | null;
  readonly adjustments: readonly AdjustmentStatus[];
  /** The period without adjustments; only where adjustments apply. */
  readonly unadjusted?: PeriodResult;
  /** Of a composite: its parts, worst first. */
  readonly parts?: readonly string[];
  readonly burn: readonly BurnStatus[];
  readonly pairs: readonly PairStatus[];
}
export interface SloReport {
  /** RFC 3339. */
  readonly generatedAt: string;
  readonly objectives: readonly SloStatus[];
}

const SHOWN_BURN: readonly WindowName[] = ['1h', '6h', '1d'];

/** The report as an aligned text table, with a line for every firing pair and note. No colour, no trailing spaces. */
export function formatSloTable(report: SloReport): string {
  const header = [
    'OBJECTIVE',
    'TARGET',
    'ACHIEVED',
    'EVENTS',
    'BUDGET LEFT',
    ...SHOWN_BURN.map((window) => `BURN ${window}`),
    'STATE',
  ];
  const rows = report.objectives.map((status) => [
    status.title,
    `${percent(status.target)} / ${status.window.calendar ?? status.period}`,
    status.achieved === null ? '-' : percent(status.achieved),
    `${count(status.good)}/${count(status.total)} ${status.events}`,
    status.budgetLeft < 0 && status.state === 'ok' ? '-' : percent(status.budgetLeft), // too few events to call it spent: the remark says so
    ...SHOWN_BURN.map((window) => burnText(status.burn.find((burn) => burn.window === window))),
    status.state,
  ]);
  const table = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, ...report.objectives.flatMap(remarksOf)].join('\n');
}

function remarksOf(status: SloStatus): string[] {
  const remarks = status.pairs
    .filter((pair) => pair.firing)
    .map(
      (pair) =>
        `${pair.severity}: the last ${pair.long} and the last ${pair.short} burn faster than ${round(pair.factor)} times the budget${pair.frozen ? ' (frozen: no data since)' : ''}`,
    );
  if (status.note !== undefined) remarks.push(status.note);
  if (status.frozenSince !== undefined) remarks.push(`nothing could be read since ${status.frozenSince}; verdicts are frozen`);
  if (status.inconsistentSamples > 0) remarks.push(`${status.inconsistentSamples} samples had more good events than events`);
  if (status.policy !== null) remarks.push(`policy: ${status.policy.consequence}`);
  for (const { kind, from, to, author, reason } of status.adjustments)
    remarks.push(`${kind} ${from} to ${to} by ${author}: ${reason}`);
  if (status.unadjusted !== undefined) {
    const { good, total, budgetLeft } = status.unadjusted;
    remarks.push(`without adjustments: ${count(good)}/${count(total)}, ${percent(budgetLeft)} of the budget left`);
  }
  return remarks.map((remark) => `${status.title}: ${remark}`);
}

const burnText = (burn: BurnStatus | undefined): string => (burn?.burnRate == null ? '-' : `${round(burn.burnRate)}x`);
const round = (value: number): string => String(Math.round(value * 10) / 10);
/** Slices by ratio make broken counts. */
const count = (value: number): string => String(Math.round(value * 100) / 100);
/** Up to two decimals; 99.999 % must not read as 100 %. */
function percent(ratio: number): string {
  const hundredths = Math.round(ratio * 10_000);
  return `${(ratio < 1 ? Math.min(hundredths, 9_999) : hundredths) / 100}%`;
}
