/**
 * Random histories of what objectives count, told twice: as the daemon's sampler sees them, and as the samples a Prometheus scraped.
 * They have busy days and empty nights, failures of every frequency, restarts (counters begin at 0) and scrapes that were missed.
 */
import { SLOT_SECONDS, type SlotCounts, slotOf } from '../../src/slo/count-history.ts';
import { Sampler } from '../../src/slo/sampler.ts';
import type { Measured, Objective } from '../../src/slo/spec.ts';
import type { Labels, Selection } from '../../src/telemetry/catalog.ts';

/** Numbers in [0, 1) that a seed decides. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
const oneOf = <T>(random: () => number, values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

export interface History {
  /** Slots of each measured objective, by name, as the daemon recorded them. */
  readonly slots: ReadonlyMap<string, readonly SlotCounts[]>;
  /** The same as OpenMetrics text with timestamps. */
  readonly text: string;
}

interface Told {
  readonly objective: Objective & { readonly indicator: Measured };
  readonly sampler: Sampler;
  readonly slots: SlotCounts[];
  /** Events of the present stretch of time. */
  regime: { untilS: number; perSlot: number; failing: number };
  good: number;
  total: number;
}

/** A history of `durationS` from `startS` on, both whole slots. */
export async function randomHistory(
  objectives: readonly Objective[],
  options: {
    readonly seed: number;
    readonly startS: number;
    readonly durationS: number;
    readonly job: string;
    readonly missed: boolean;
  },
): Promise<History> {
  const random = randomFrom(options.seed);
  const told = objectives.flatMap(({ indicator, ...rest }): Told[] =>
    'parts' in indicator
      ? []
      : [
          {
            objective: { ...rest, indicator },
            sampler: new Sampler(indicator),
            slots: [],
            regime: { untilS: 0, perSlot: 0, failing: 0 },
            good: indicator.kind === 'state' ? 1 : 0,
            total: 0,
          },
        ],
  );
  const lines = new Map<string, string[]>();
  let silentUntilS = 0; // scrapes are missed
  let downUntilS = options.startS; // the daemon is not there
  for (let timeS = options.startS; timeS <= options.startS + options.durationS; timeS += SLOT_SECONDS) {
    if (random() < 1 / 2000 && options.missed) silentUntilS = timeS + Math.floor(random() * 40) * SLOT_SECONDS;
    if (random() < 1 / 3000) {
      downUntilS = timeS + Math.floor(random() * 8) * SLOT_SECONDS;
      for (const one of told) if (one.objective.indicator.kind !== 'state') [one.good, one.total] = [0, 0];
    }
    const seen = timeS >= silentUntilS && timeS >= downUntilS;
    for (const one of told) {
      if (timeS > downUntilS) happen(one, timeS, random); // the first sample after a start shows 0
      if (seen) await look(one, timeS, lines, options.job);
    }
  }
  return { slots: new Map(told.map(({ objective, slots }) => [objective.name, slots])), text: openMetrics(lines) };
}

function happen(one: Told, timeS: number, random: () => number): void {
  if (timeS >= one.regime.untilS) {
    one.regime = {
      untilS: timeS + (600 + random() * 12 * 3600),
      perSlot: oneOf(random, [0, 0.002, 0.01, 0.05, 0.5, 3]),
      failing: oneOf(random, [0, 0, 0.01, 0.05, 0.2, 0.5, 1]),
    };
  }
  const { perSlot, failing } = one.regime;
  if (one.objective.indicator.kind === 'state') {
    // Between two looks a state may do what it likes; here it stays, or the sides would look at different moments of it.
    if (timeS % one.objective.indicator.everySeconds === 0) [one.good, one.total] = [random() < failing ? 0 : 1, 1];
    return;
  }
  const events = Math.floor(perSlot) + (random() < perSlot % 1 ? 1 : 0);
  for (let event = 0; event < events; event++) {
    one.total += 1;
    if (random() >= failing) one.good += 1;
  }
}

/** One sample: the daemon's, a moment before the slot ends, and a scrape's. */
async function look(one: Told, timeS: number, lines: Map<string, string[]>, job: string): Promise<void> {
  const { scraped, read } = samplesOf(one, timeS);
  const sampleS = timeS - 1;
  const { good, total } = await one.sampler.sample({ read: async () => read }, sampleS);
  if (total > 0) one.slots.push({ slotS: slotOf(sampleS), good, total });
  for (const { name, labels, value } of scraped) {
    const text = Object.entries({ job, instance: 'a', ...labels }).map(([label, word]) => `${label}="${word}"`);
    const key = `${name}{${text.join(',')}}`;
    const series = lines.get(key) ?? [];
    lines.set(key, series);
    series.push(`${value} ${timeS}`);
  }
}

interface Scraped {
  readonly name: string;
  readonly labels: Labels;
  readonly value: number;
}

/** What a scrape shows of an objective now, and the sums its sampler reads. */
function samplesOf({ objective: { indicator }, good, total }: Told, timeS: number): { scraped: Scraped[]; read: number[] } {
  switch (indicator.kind) {
    case 'events':
      return { scraped: counted(indicator.good, good, indicator.total, total), read: [good, total] };
    case 'failures':
      return { scraped: counted(indicator.bad, total - good, indicator.total, total), read: [total - good, total] };
    case 'state': {
      const per = indicator.per === undefined ? undefined : 1000;
      const step = indicator.op === 'lt' || indicator.op === 'lte' ? -1 : 1;
      const seen = indicator.threshold * (good === 1 ? 1 + step / 2 : 1 - step / 2);
      const value = indicator.of === 'age' ? timeS - seen : seen * (per ?? 1);
      const gauge = { name: indicator.gauge.metric, labels: anyOf(indicator.gauge), value };
      const scale =
        indicator.per === undefined ? [] : [{ name: indicator.per.metric, labels: anyOf(indicator.per), value: 1000 }];
      return { scraped: [gauge, ...scale], read: [value, ...(per === undefined ? [] : [per])] };
    }
  }
}

/** A series inside the part, and one that only the whole selects; of a histogram, a bucket and the count. */
function counted(part: Selection, partValue: number, whole: Selection, wholeValue: number): Scraped[] {
  if (part.le !== undefined) {
    const bucket = { name: `${part.metric}_bucket`, labels: { ...anyOf(part), le: String(part.le) }, value: partValue };
    return [bucket, { name: `${whole.metric}_count`, labels: anyOf(whole), value: wholeValue }];
  }
  const outside: Record<string, string> = { ...anyOf(whole) };
  const label = Object.keys(whole.where).find((name) =>
    whole.where[name]?.some((value) => part.where[name]?.includes(value) === false),
  );
  if (label === undefined) throw new Error(`every event of ${whole.metric} is in the part`);
  outside[label] = whole.where[label]?.find((value) => !part.where[label]?.includes(value)) ?? '';
  return [
    { name: part.metric, labels: anyOf(part), value: partValue },
    { name: whole.metric, labels: outside, value: wholeValue - partValue },
  ];
}

const anyOf = ({ where }: Selection): Labels =>
  Object.fromEntries(Object.entries(where).map(([label, values]) => [label, values[0] ?? '']));

/** Samples of one metric must stand together, in any order of series. */
function openMetrics(lines: ReadonlyMap<string, readonly string[]>): string {
  const byMetric = [...lines].sort(([a], [b]) => a.localeCompare(b));
  const text = byMetric.flatMap(([series, samples]) => samples.map((sample) => `${series} ${sample}`));
  return `${text.join('\n')}\n# EOF\n`;
}

/** Numbers per series and time as OpenMetrics text. */
export function recorded(series: readonly { readonly name: string; readonly values: ReadonlyMap<number, number> }[]): string {
  return openMetrics(new Map(series.map(({ name, values }) => [name, [...values].map(([timeS, value]) => `${value} ${timeS}`)])));
}
