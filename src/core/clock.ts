/** The only place that reads the time. Everyone else is handed a Clock, so tests can hold it. */
export interface Clock {
  /** Wall time, nanoseconds since the Unix epoch. Never goes back within one process. */
  nowNs(): bigint;
}

/** Wall time at start, advanced by the monotonic clock: sub-microsecond steps, and no jump when the machine's clock is set. */
export function systemClock(): Clock {
  const originNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  return { nowNs: () => originNs + process.hrtime.bigint() };
}

export const nsToMs = (ns: bigint): number => Number(ns / 1_000n) / 1_000;
export const nsToSeconds = (ns: bigint): number => Number(ns) / 1e9;
export const msToNs = (ms: number): bigint => BigInt(Math.round(ms * 1e6));

/** RFC 3339 in UTC with nanoseconds, trailing zeros cut, as Go's time.RFC3339Nano prints it. */
export function rfc3339(ns: bigint): string {
  const seconds = ns / 1_000_000_000n;
  const fraction = (ns % 1_000_000_000n).toString().padStart(9, '0').replace(/0+$/, '');
  const base = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return fraction === '' ? `${base}Z` : `${base}.${fraction}Z`;
}
