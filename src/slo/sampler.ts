/** Turns counters into events: what a measured objective's counters grew by since the last look, as Prometheus would add them up. */
import type { Selection } from '../telemetry/catalog.ts';
import { type Counts, NO_EVENTS } from './arithmetic.ts';
import type { Measured, StateIndicator } from './spec.ts';

/** Reads sums of counters and gauges; the daemon's Metrics has this shape. */
export interface CounterReader {
  read(selections: readonly Selection[]): Promise<number[]>;
}

export interface Sampled extends Counts {
  /** There were more good events than events; good was cut to fit. */
  readonly inconsistent: boolean;
}

/** More than this above total is no rounding of floating point sums. */
const SLACK = 1e-6;

export class Sampler {
  readonly #indicator: Measured;
  /** Counter values at the last look; counters of a new process start at 0. */
  #last: readonly number[] = [0, 0];
  #lastLookS = Number.NEGATIVE_INFINITY;

  constructor(indicator: Measured) {
    this.#indicator = indicator;
  }

  /** Events since the last look. Throws what the reader throws; then nothing is lost, the next look covers it. */
  async sample(reader: CounterReader, nowS: number): Promise<Sampled> {
    const indicator = this.#indicator;
    switch (indicator.kind) {
      case 'events': {
        const [good = 0, total = 0] = await this.#growth(reader, [indicator.good, indicator.total]);
        return clamped(good, total);
      }
      case 'failures': {
        const [bad = 0, total = 0] = await this.#growth(reader, [indicator.bad, indicator.total]);
        return { ...clamped(total - Math.min(bad, total), total), inconsistent: bad > total + SLACK };
      }
      case 'state':
        return this.#look(indicator, reader, nowS);
    }
  }

  /** A sum that is smaller than before began at 0 again. */
  async #growth(reader: CounterReader, selections: readonly Selection[]): Promise<number[]> {
    const now = await reader.read(selections);
    const before = this.#last;
    this.#last = now;
    return now.map((value, index) => (value >= (before[index] ?? 0) ? value - (before[index] ?? 0) : value));
  }

  /** One event per `everySeconds`, at the first sample in each. */
  async #look(indicator: StateIndicator, reader: CounterReader, nowS: number): Promise<Sampled> {
    const lookS = Math.floor(nowS / indicator.everySeconds);
    if (lookS <= this.#lastLookS) return { ...NO_EVENTS, inconsistent: false };
    const { gauge, per } = indicator;
    const [value = 0, divisor] = await reader.read(per === undefined ? [gauge] : [gauge, per]);
    this.#lastLookS = lookS;
    const holds = stateHolds(indicator, value, divisor, nowS);
    return { good: holds === true ? 1 : 0, total: holds === undefined ? 0 : 1, inconsistent: false };
  }
}

function clamped(good: number, total: number): Sampled {
  return { good: Math.min(good, total), total, inconsistent: good > total + SLACK };
}

/** Does the state hold? Undefined when there is nothing to judge: no divisor, or a time that has not come yet. */
export function stateHolds(
  { of, op, threshold, per }: StateIndicator,
  value: number,
  divisor: number | undefined,
  nowS: number,
): boolean | undefined {
  if (per !== undefined && !(divisor !== undefined && divisor > 0)) return undefined;
  if (of === 'age' && value <= 0) return undefined;
  const seen = (of === 'age' ? nowS - value : value) / (divisor ?? 1);
  switch (op) {
    case 'lt':
      return seen < threshold;
    case 'lte':
      return seen <= threshold;
    case 'gt':
      return seen > threshold;
    case 'gte':
      return seen >= threshold;
  }
}
