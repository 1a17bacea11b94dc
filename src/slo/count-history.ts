/**
 * Recorded counts of one objective: good and total per slot of time, in memory for as long as the period, kept in a store across
 * restarts. Sums over a window come from prefix sums, so an evaluation costs a few binary searches however busy the daemon is.
 */
import { type Counts, isEmpty } from './arithmetic.ts';
import type { Timeslices } from './spec.ts';

/** Width of a slot. Windows are whole numbers of slots; a window's far edge is exact to one slot. */
export const SLOT_SECONDS = 30;

export interface SlotRow extends Counts {
  readonly slo: string;
  /** Start of the slot, seconds since the Unix epoch, a multiple of SLOT_SECONDS. */
  readonly slotS: number;
}

export const slotOf = (nowS: number): number => Math.floor(nowS / SLOT_SECONDS) * SLOT_SECONDS;

interface Slot {
  readonly startS: number;
  good: number;
  total: number;
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
    if (newest !== undefined && newest.startS >= slotS) {
      newest.good += good;
      newest.total += total;
    } else {
      this.#slots.push({ startS: slotS, good, total });
    }
    this.#forget(slotS - this.#keepS - SLOT_SECONDS);
  }

  /** Events of the last `windowS` seconds, the slot that is being filled included. */
  over(windowS: number, nowS: number): Counts {
    let good = 0;
    let total = 0;
    for (const slot of this.#since(slotOf(nowS) + SLOT_SECONDS - windowS)) {
      good += slot.good;
      total += slot.total;
    }
    return { good, total };
  }

  /** The same window in slices: `total` slices with events, `good` of them at or above the threshold. Slices align to the epoch. */
  slicesOver(windowS: number, nowS: number, { sliceSeconds, threshold }: Timeslices): Counts {
    const slices = new Map<number, { good: number; total: number }>();
    for (const slot of this.#since(slotOf(nowS) + SLOT_SECONDS - windowS)) {
      const start = Math.floor(slot.startS / sliceSeconds);
      const slice = slices.get(start) ?? { good: 0, total: 0 };
      slice.good += slot.good;
      slice.total += slot.total;
      slices.set(start, slice);
    }
    const filled = [...slices.values()].filter((slice) => !isEmpty(slice));
    return { good: filled.filter((slice) => slice.good / slice.total >= threshold).length, total: filled.length };
  }

  /** The last `windowS` seconds as `buckets` equal parts, oldest first: the bars of a chart. Empty parts are zeros. */
  buckets(windowS: number, nowS: number, buckets: number): Counts[] {
    const fromS = slotOf(nowS) + SLOT_SECONDS - windowS;
    const parts = Array.from({ length: buckets }, () => ({ good: 0, total: 0 }));
    for (const slot of this.#since(fromS)) {
      const part = parts[Math.min(Math.floor(((slot.startS - fromS) / windowS) * buckets), buckets - 1)];
      if (part === undefined) continue;
      part.good += slot.good;
      part.total += slot.total;
    }
    return parts;
  }

  *#since(fromS: number): Generator<Slot> {
    let low = 0;
    let high = this.#slots.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#slots[middle]?.startS ?? 0) < fromS) low = middle + 1;
      else high = middle;
    }
    for (let index = low; index < this.#slots.length; index++) yield this.#slots[index] as Slot;
  }

  #forget(beforeS: number): void {
    const first = this.#slots[0];
    if (first === undefined || first.startS >= beforeS) return;
    this.#slots = this.#slots.filter((slot) => slot.startS >= beforeS);
  }
}
