/**
 * When the disk will be full: free space is noted every few minutes, kept for two weeks across restarts, and a line that outliers do
 * not bend is laid through it. A big build or a prune is a step in the samples, not a trend.
 */
import type { Clock } from '../../core/clock.ts';
import type { Metadata } from '../metadata/ports.ts';

export interface Sample {
  readonly atNs: bigint;
  readonly freeBytes: number;
}
export interface Forecast {
  /** Notes free space now, unless that was done a short while ago. */
  sample(freeBytes: number): void;
  /** Seconds until nothing is free at the present pace; undefined while the disk does not fill, or too little is known. */
  secondsToFull(): number | undefined;
}

const EVERY_NS = 300_000_000_000n;
const KEPT_NS = 14n * 86_400_000_000_000n;
/** Pairs grow with the square, so older samples are thinned out to this many. */
const MAX_POINTS = 200;
const MIN_POINTS = 6;
const MIN_SPAN_S = 1_800;
/** Further away than this is as good as never. */
const HORIZON_S = 10 * 365 * 86_400;

/** Reads the samples of earlier runs; those of a clock that was ahead are dropped. Rejects with the store's errors. */
export async function openForecast(metadata: Metadata, clock: Clock): Promise<Forecast> {
  await metadata.define(['create table if not exists disk_samples (at_ns integer primary key, free_bytes integer not null)']);
  const rows = await metadata.read('select at_ns, free_bytes from disk_samples order by at_ns', []);
  const nowNs = clock.nowNs();
  const samples = rows
    .map((row): Sample => ({ atNs: BigInt(row.at_ns as number | bigint), freeBytes: Number(row.free_bytes) }))
    .filter(({ atNs }) => atNs <= nowNs);
  if (samples.length < rows.length) metadata.write('delete from disk_samples where at_ns > ?', [nowNs]);
  return {
    sample(freeBytes) {
      const atNs = clock.nowNs();
      while ((samples.at(-1)?.atNs ?? 0n) > atNs) samples.pop(); // the clock was set back
      if (atNs - (samples.at(-1)?.atNs ?? 0n) < EVERY_NS) return;
      samples.push({ atNs, freeBytes });
      metadata.write('insert or replace into disk_samples (at_ns, free_bytes) values (?, ?)', [atNs, freeBytes]);
      while ((samples[0]?.atNs ?? atNs) < atNs - KEPT_NS) samples.shift();
      metadata.write('delete from disk_samples where at_ns < ?', [atNs - KEPT_NS]);
    },
    secondsToFull: () => secondsToFull(samples),
  };
}

/** Theil and Sen's line: the median of the slopes of all pairs. Up to 29 % of the samples may be anything. */
export function secondsToFull(samples: readonly Sample[]): number | undefined {
  const points = thinned(samples);
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined || points.length < MIN_POINTS) return undefined;
  if (secondsBetween(first, last) < MIN_SPAN_S) return undefined;
  const slopes: number[] = [];
  for (const [at, a] of points.entries())
    for (const b of points.slice(at + 1)) slopes.push((b.freeBytes - a.freeBytes) / secondsBetween(a, b));
  slopes.sort((a, b) => a - b);
  const slope = slopes[Math.floor(slopes.length / 2)] ?? 0;
  if (slope >= 0) return undefined;
  const seconds = Math.round(last.freeBytes / -slope);
  return seconds > HORIZON_S ? undefined : seconds;
}

const secondsBetween = (a: Sample, b: Sample): number => Number(b.atNs - a.atNs) / 1e9;

/** Evenly, keeping the newest. */
function thinned(samples: readonly Sample[]): readonly Sample[] {
  if (samples.length <= MAX_POINTS) return samples;
  const step = (samples.length - 1) / (MAX_POINTS - 1);
  return Array.from({ length: MAX_POINTS }, (_, at) => samples[Math.round(at * step)]).filter((one) => one !== undefined);
}
