/** What an evaluation says, as data (served on /slo) and as the table of `cooper slo status`. */
import type { Severity, WindowName } from './spec.ts';

/** Worst first: act now; the budget is gone; somebody should look; fine; nothing happened. */
export type SloState = 'burning-page' | 'exhausted' | 'burning-ticket' | 'ok' | 'idle';

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
  readonly factor: number;
  readonly firing: boolean;
}
export interface SloStatus {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly target: number;
  readonly period: WindowName;
  /** What good and total count: `builds`, `slices`. */
  readonly events: string;
  readonly good: number;
  readonly total: number;
  /** good / total, or null without events. */
  readonly achieved: number | null;
  /** 1 untouched, negative overspent. */
  readonly budgetLeft: number;
  readonly state: SloState;
  /** Why the state is not what the numbers alone would say. */
  readonly note?: string;
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
    `${percent(status.target)} / ${status.period}`,
    status.achieved === null ? '-' : percent(status.achieved),
    `${status.good}/${status.total} ${status.events}`,
    percent(status.budgetLeft),
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
  const firing = status.pairs.filter((pair) => pair.firing);
  return [
    ...firing.map(
      (pair) =>
        `${status.title}: ${pair.severity}: the last ${pair.long} and the last ${pair.short} burn faster than ${round(pair.factor)} times the budget`,
    ),
    ...(status.note === undefined ? [] : [`${status.title}: ${status.note}`]),
  ];
}

const burnText = (burn: BurnStatus | undefined): string => (burn?.burnRate == null ? '-' : `${round(burn.burnRate)}x`);
const round = (value: number): string => String(Math.round(value * 10) / 10);
/** Up to two decimals; 99.999 % must not read as 100 %. */
function percent(ratio: number): string {
  const hundredths = Math.round(ratio * 10_000);
  return `${(ratio < 1 ? Math.min(hundredths, 9_999) : hundredths) / 100}%`;
}
