/** GC policies with BuildKit's meaning: what each may remove, and how much it leaves (operators.md section 6.2). */

/** One policy, or one request of a client to prune. Zero and empty mean "no such rule". */
export interface GcPolicy {
  /** Only records these match (filter.ts). */
  readonly filters: readonly string[];
  /** Also internal, frontend and shared records. */
  readonly all: boolean;
  /** Nothing that was used within this time. */
  readonly keepDurationNs: bigint;
  /** Never prunes below this: a floor, not a cap. */
  readonly reservedBytes: number;
  /** Prunes until no more than this is used. */
  readonly maxUsedBytes: number;
  /** Prunes until this much of the disk is free. */
  readonly minFreeBytes: number;
}
export interface DiskSpace {
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Absent or 0 where the file system has no limit of inodes. */
  readonly totalInodes?: number;
  readonly freeInodes?: number;
}
export type SpaceBounds = Pick<GcPolicy, 'reservedBytes' | 'maxUsedBytes' | 'minFreeBytes'>;

const HOUR_NS = 3_600_000_000_000n;
/** The most easily remade data: files of clients, cache mounts, checkouts. */
const CHEAP_FILTERS = ['type==source.local', 'type==exec.cachemount', 'type==source.git.checkout'];
const NO_BOUNDS: SpaceBounds = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };

/** A share of a disk as BuildKit rounds it: whole GiB of the share, one more, counted as GB. */
export function shareOfDisk(percent: number, totalBytes: number): number {
  if (totalBytes === 0) return 2e9;
  return (Math.floor(Math.floor((totalBytes * percent) / 100) / 2 ** 30) + 1) * 1e9;
}

/** Bounds when none are configured: a tenth of the disk kept (10 GB at most), 80 % used (100 GB at most), a fifth left free. */
export function defaultBounds(totalBytes: number): SpaceBounds {
  return {
    reservedBytes: Math.min(shareOfDisk(10, totalBytes), 10e9),
    maxUsedBytes: Math.min(shareOfDisk(80, totalBytes), 100e9),
    minFreeBytes: shareOfDisk(20, totalBytes),
  };
}

/** BuildKit's four policies, in the order they are applied: cheap data after two days, anything after sixty, by size, then internal too. */
export function defaultPolicies(bounds: SpaceBounds): GcPolicy[] {
  const rest = { filters: [], all: false, keepDurationNs: 0n, ...bounds };
  return [
    { ...rest, ...NO_BOUNDS, filters: CHEAP_FILTERS, keepDurationNs: 48n * HOUR_NS, maxUsedBytes: 512e6 },
    { ...rest, keepDurationNs: 60n * 24n * HOUR_NS },
    rest,
    { ...rest, all: true },
  ];
}

/** Why a policy may remove a record now: the cache is over its limit, the disk is low, only the reserve must stay, or nothing bounds it. */
export type Rule = 'over limit' | 'low disk' | 'above reserve' | 'not kept';

/** How many bytes a policy lets stay, and by which rule what is above may go (see boundOf). */
export interface Bound {
  /** Undefined: no bound, everything the policy matches may go. */
  readonly keepBytes: number | undefined;
  readonly rule: Rule;
}

/**
 * How many of the `usedBytes` a policy lets stay. As much as is allowed is kept: the cap, less what must be freed, but never less
 * than what is reserved.
 */
export function boundOf(bounds: SpaceBounds, usedBytes: number, space: DiskSpace): Bound {
  const { reservedBytes, maxUsedBytes, minFreeBytes } = bounds;
  if (reservedBytes === 0 && maxUsedBytes === 0 && minFreeBytes === 0) return { keepBytes: undefined, rule: 'not kept' };
  let keep = maxUsedBytes;
  let rule: Rule = maxUsedBytes === 0 ? 'above reserve' : 'over limit';
  const missing = minFreeBytes - space.freeBytes;
  if (minFreeBytes !== 0 && missing > 0) {
    if (keep === 0 || usedBytes - missing < keep) {
      keep = usedBytes - missing;
      rule = 'low disk';
    }
  } else if (minFreeBytes !== 0 && keep === 0) keep = usedBytes;
  keep = Math.max(keep, reservedBytes);
  return { keepBytes: keep <= 0 ? undefined : keep, rule };
}
