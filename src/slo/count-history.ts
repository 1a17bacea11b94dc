/**
 * Recorded counts of one objective: good and total per slot of time, in memory for as long as the period, kept in a store across
 * restarts. Running sums make a window two binary searches, however long it is and however busy the daemon.
 */
import { type Counts, isEmpty } from './arithmetic.ts';
import type { BudgetAdjustment, Budgeting } from './spec.ts';

/** Width of a slot. Windows are whole numbers of slots; a window's far edge is exact to one slot. */
export const SLOT_SECONDS = 30;

export interface SlotCounts extends Counts {
  /** Start of the slot, seconds since the Unix epoch, a multiple of SLOT_SECONDS. */
  readonly slotS: number;
}
export interface SlotRow extends SlotCounts {
  readonly slo: string;
}

export const slotOf = (nowS: number): number => Math.floor(nowS / SLOT_SECONDS) * SLOT_SECONDS;

interface Slot {
  readonly slotS: number;
  good: number;
  total: number;
  /** Sums of everything up to and with this slot since the history began. */
  goodSoFar: number;
  totalSoFar: number;
}

export class CountHistory {
  readonly #keepS: number;
  /** Ascending by start; only slots that hold events. */
  #slots: Slot[] = [];

  constructor(keepS: number) {
    this.#keepS = keepS;
  }

  /** Adds events to a slot. Slots come in order; one older than the newest (a clock set back) joins the newest. */
  add(slotS: number, { good, total }: Counts): void {
    if (total <= 0) return;
    const newest = this.#slots.at(-1);
    if (newest !== undefined && newest.slotS >= slotS) {
      newest.good += good;
      newest.total += total;
      newest.goodSoFar += good;
      newest.totalSoFar += total;
      return;
    }
    const before = newest ?? { goodSoFar: 0, totalSoFar: 0 };
    this.#slots.push({ slotS, good, total, goodSoFar: before.goodSoFar + good, totalSoFar: before.totalSoFar + total });
    this.#forget(slotS - this.#keepS - SLOT_SECONDS);
  }

  /** Events of the last `windowS` seconds, the slot that is being filled included. */
  over(windowS: number, nowS: number): Counts {
    const toS = slotOf(nowS) + SLOT_SECONDS;
    return this.between(toS - windowS, toS);
  }

  /** Events of the slots that start in [fromS, toS). */
  between(fromS: number, toS: number): Counts {
    const [before, last] = [this.#slots[this.#firstFrom(fromS) - 1], this.#slots[this.#firstFrom(toS) - 1]];
    if (last === undefined || (before !== undefined && before.slotS >= last.slotS)) return { good: 0, total: 0 };
    const first = this.#slots[0] as Slot;
    return {
      good: last.goodSoFar - (before?.goodSoFar ?? first.goodSoFar - first.good),
      total: last.totalSoFar - (before?.totalSoFar ?? first.totalSoFar - first.total),
    };
  }

  /** The last `windowS` seconds as `buckets` equal parts, oldest first: the bars of a chart. Empty parts are zeros. */
  buckets(windowS: number, nowS: number, buckets: number): Counts[] {
    const fromS = slotOf(nowS) + SLOT_SECONDS - windowS;
    const parts = Array.from({ length: buckets }, () => ({ good: 0, total: 0 }));
    for (let index = this.#firstFrom(fromS); index < this.#slots.length; index++) {
      const slot = this.#slots[index] as Slot;
      const part = parts[Math.min(Math.floor(((slot.slotS - fromS) / windowS) * buckets), buckets - 1)];
      if (part === undefined) continue;
      part.good += slot.good;
      part.total += slot.total;
    }
    return parts;
  }

  /** Slots with events, ascending. */
  slots(): readonly SlotCounts[] {
    return this.#slots;
  }

  #firstFrom(fromS: number): number {
    let low = 0;
    let high = this.#slots.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#slots[middle]?.slotS ?? 0) < fromS) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #forget(beforeS: number): void {
    // In batches: dropping one slot at a time would copy the history every half minute.
    if ((this.#slots[0]?.slotS ?? beforeS) >= beforeS - 3600) return;
    this.#slots = this.#slots.filter(({ slotS }) => slotS >= beforeS);
  }
}

/** A history of slots as they are. */
export function historyOf(slots: Iterable<SlotCounts>, keepS = Number.POSITIVE_INFINITY): CountHistory {
  const history = new CountHistory(keepS);
  for (const slot of slots) history.add(slot.slotS, slot);
  return history;
}

/**
 * Slots as the budgeting counts them. Slices are aligned to the epoch and stand in the slot that begins when they end, so that only
 * complete ones count, as a subquery of Prometheus sees them.
 */
export function budgeted(slots: readonly SlotCounts[], budgeting: Budgeting): readonly SlotCounts[] {
  if (budgeting.kind === 'occurrences') return slots;
  const { sliceSeconds } = budgeting;
  const slices = new Map<number, { good: number; total: number }>();
  for (const { slotS, good, total } of slots) {
    const end = (Math.floor(slotS / sliceSeconds) + 1) * sliceSeconds;
    const slice = slices.get(end) ?? { good: 0, total: 0 };
    slice.good += good;
    slice.total += total;
    slices.set(end, slice);
  }
  const worth = (ratio: number): number => (budgeting.kind === 'ratio-timeslices' ? ratio : ratio >= budgeting.threshold ? 1 : 0);
  return [...slices]
    .filter(([, slice]) => !isEmpty(slice))
    .map(([end, { good, total }]) => ({ slotS: end, good: worth(good / total), total: 1 }));
}

/** Slots with budget adjustments applied, in the order given; the same array when none applies. */
export function adjusted(slots: readonly SlotCounts[], adjustments: readonly BudgetAdjustment[]): readonly SlotCounts[] {
  return adjustments.reduce((rest, { fromS, toS, effect }) => {
    const inside = ({ slotS }: SlotCounts): boolean => slotS + SLOT_SECONDS > fromS && slotS < toS;
    if (effect.kind === 'exclude') return rest.filter((slot) => !inside(slot));
    let left = effect.bad;
    return rest.map((slot) => {
      const forgiven = inside(slot) ? Math.min(left, slot.total - slot.good) : 0;
      left -= forgiven;
      return forgiven > 0 ? { ...slot, good: slot.good + forgiven } : slot;
    });
  }, slots);
}
