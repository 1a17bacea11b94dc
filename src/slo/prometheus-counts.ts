/** Raw samples of a Prometheus as the counts the daemon would have recorded: growth of counters per slot, looks at states. */
import type { SlotCounts } from './count-history.ts';
import { slotOf } from './count-history.ts';
import { stateHolds } from './sampler.ts';
import type { Measured, StateIndicator } from './spec.ts';

/** One series: `[seconds, value]`, ascending. */
export type Samples = readonly (readonly [number, number])[];
/** By the role of the selection: good, bad, total, gauge, per. */
export type SeriesByRole = Readonly<Record<string, readonly Samples[]>>;

const STALE_SECONDS = 300;
/** What a sample shows happened before it: one on the edge of two slots tells of the earlier. */
const MOMENT_SECONDS = 0.001;

export function countsFrom(indicator: Measured, series: SeriesByRole, fromS: number, toS: number): SlotCounts[] {
  if (indicator.kind === 'state') return looks(indicator, series, fromS, toS);
  const total = growth(series.total ?? []);
  const part = growth(series[indicator.kind === 'events' ? 'good' : 'bad'] ?? []);
  return [...total]
    .sort(([a], [b]) => a - b)
    .map(([slotS, events]) => {
      const counted = Math.min(part.get(slotS) ?? 0, events);
      return { slotS, good: indicator.kind === 'events' ? counted : events - counted, total: events };
    })
    .filter((slot) => slot.total > 0);
}

/** What counters grew by, by slot. One that is smaller than before began at 0; what was before the first sample is not known. */
function growth(series: readonly Samples[]): Map<number, number> {
  const slots = new Map<number, number>();
  for (const samples of series) {
    let before: number | undefined;
    for (const [atS, value] of samples) {
      const grown = before === undefined ? 0 : value >= before ? value - before : value;
      before = value;
      const slotS = slotOf(atS - MOMENT_SECONDS);
      if (grown > 0) slots.set(slotS, (slots.get(slotS) ?? 0) + grown);
    }
  }
  return slots;
}

function looks(indicator: StateIndicator, series: SeriesByRole, fromS: number, toS: number): SlotCounts[] {
  const step = indicator.everySeconds;
  const found: SlotCounts[] = [];
  const [gauge, per] = [new Reader(series.gauge ?? []), new Reader(series.per ?? [])];
  for (let atS = Math.ceil(fromS / step) * step; atS < toS; atS += step) {
    const value = gauge.at(atS);
    const divisor = indicator.per === undefined ? undefined : per.at(atS);
    if (value === undefined || (indicator.per !== undefined && divisor === undefined)) continue;
    const holds = stateHolds(indicator, value, divisor, atS);
    if (holds !== undefined) found.push({ slotS: slotOf(atS), good: holds ? 1 : 0, total: 1 });
  }
  return found;
}

/** Sums of the latest values of series, asked for in order of time. */
class Reader {
  readonly #series: readonly Samples[];
  readonly #next: number[];

  constructor(series: readonly Samples[]) {
    this.#series = series;
    this.#next = series.map(() => 0);
  }

  at(nowS: number): number | undefined {
    let sum: number | undefined;
    for (const [index, samples] of this.#series.entries()) {
      while ((samples[this.#next[index] ?? 0]?.[0] ?? Number.POSITIVE_INFINITY) <= nowS)
        this.#next[index] = (this.#next[index] ?? 0) + 1;
      const latest = samples[(this.#next[index] ?? 0) - 1];
      if (latest !== undefined && nowS - latest[0] < STALE_SECONDS) sum = (sum ?? 0) + latest[1];
    }
    return sum;
  }
}
