/**
 * Which records a policy removes, in which order. Pure: the same function answers "what would go" and drives a prune. Children go
 * before their parents; nothing in use goes, nor anything something in use stands on.
 */
import type { SnapshotUsage } from '../snapshot/ports.ts';
import { compileFilter } from './filter.ts';
import { bytesToKeep, type DiskSpace, type GcPolicy } from './policy.ts';

export interface Moment {
  readonly nowNs: bigint;
  readonly space: DiskSpace;
}

/**
 * Yields one record after the other; the consumer answers whether it is gone now (a record that was kept keeps its parents too).
 * With a bound on space it ends as soon as the bound holds.
 * @throws BuildError `invalid-input` for a filter that cannot be read.
 */
export function* victims(
  records: readonly SnapshotUsage[],
  policy: GcPolicy,
  moment: Moment,
): Generator<SnapshotUsage, void, boolean> {
  let usedBytes = records.reduce((sum, { shared, sizeBytes }) => (shared ? sum : sum + sizeBytes), 0);
  const keepBytes = bytesToKeep(policy, usedBytes, moment.space);
  const order = orderOf(removable(records, policy, moment.nowNs));
  const children = new Map<string, number>();
  for (const { parents } of records) for (const parent of parents) children.set(parent, (children.get(parent) ?? 0) + 1);
  const rank = new Map(order.map((record, at) => [record.id, at]));
  const ready = order.filter(({ id }) => (children.get(id) ?? 0) === 0);
  for (let next = ready.shift(); next !== undefined; next = ready.shift()) {
    if (keepBytes !== undefined && usedBytes <= keepBytes) return;
    const gone = yield next;
    if (!gone) continue;
    if (!next.shared) usedBytes -= next.sizeBytes;
    for (const parent of next.parents) {
      const left = (children.get(parent) ?? 0) - 1;
      children.set(parent, left);
      const at = rank.get(parent);
      const record = at === undefined ? undefined : order[at];
      if (left === 0 && at !== undefined && record !== undefined) {
        const place = ready.findIndex(({ id }) => (rank.get(id) ?? 0) > at);
        ready.splice(place === -1 ? ready.length : place, 0, record);
      }
    }
  }
}

const usedAt = ({ lastUsedAtNs, createdAtNs }: SnapshotUsage): bigint => lastUsedAtNs ?? createdAtNs;

function removable(records: readonly SnapshotUsage[], policy: GcPolicy, nowNs: bigint): SnapshotUsage[] {
  const matches = compileFilter(policy.filters);
  return records.filter((record) => {
    if (record.inUse) return false;
    if (!policy.all && (record.shared || record.recordType === 'internal' || record.recordType === 'frontend')) return false;
    if (policy.keepDurationNs > 0n && usedAt(record) > nowNs - policy.keepDurationNs) return false;
    return matches(record);
  });
}

/** What was used long ago and seldom goes first: both ranks count the same, each from 0 to 1. */
function orderOf(records: readonly SnapshotUsage[]): SnapshotUsage[] {
  const byTime = ranksOf(records, (a, b) => Number(usedAt(a) - usedAt(b)));
  const byCount = ranksOf(records, (a, b) => a.usageCount - b.usageCount);
  const score = ({ id }: SnapshotUsage): number => (byTime.get(id) ?? 0) + (byCount.get(id) ?? 0);
  return records.toSorted((a, b) => score(a) - score(b) || Number(usedAt(a) - usedAt(b)));
}

/** Equal records share a rank. */
function ranksOf(
  records: readonly SnapshotUsage[],
  compare: (a: SnapshotUsage, b: SnapshotUsage) => number,
): Map<string, number> {
  const ranks = new Map<string, number>();
  let rank = 0;
  let before: SnapshotUsage | undefined;
  for (const record of records.toSorted(compare)) {
    if (before !== undefined && compare(before, record) !== 0) rank += 1;
    ranks.set(record.id, rank);
    before = record;
  }
  for (const [id, value] of ranks) ranks.set(id, value / Math.max(1, rank));
  return ranks;
}
