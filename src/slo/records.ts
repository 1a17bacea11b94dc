/** What a daemon recorded, as it is sent to reports and backtests: specifications, counts per slot, adjustments. */
import type { AdjustmentRecord } from './adjustment-store.ts';
import type { SlotCounts } from './count-history.ts';
import type { Objective } from './spec.ts';

export interface SloRecords {
  readonly objectives: readonly Objective[];
  /** By objective: `[slotS, good, total]`, ascending; slots without events are left out. */
  readonly slots: Readonly<Record<string, readonly (readonly [number, number, number])[]>>;
  readonly adjustments: readonly AdjustmentRecord[];
}

export const rowsOf = (slots: readonly SlotCounts[], fromS: number, toS: number): [number, number, number][] =>
  slots.filter(({ slotS }) => slotS >= fromS && slotS < toS).map(({ slotS, good, total }) => [slotS, good, total]);

export const slotsOf = ({ slots }: Pick<SloRecords, 'slots'>): Map<string, SlotCounts[]> =>
  new Map(Object.entries(slots).map(([slo, rows]) => [slo, rows.map(([slotS, good, total]) => ({ slotS, good, total }))]));
