/** The answer to "what would go, and what stays and why". */
import { Breather } from '../../core/breather.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';
import type { DiskSpace } from './policy.ts';
import type { NamedPolicy, Removal } from './victims.ts';

export type KeptReason = 'in use' | 'below a record that stays' | 'not for this policy' | 'used too recently' | 'bounds hold';
export interface Plan {
  /** In the order they would go. */
  readonly removals: readonly Removal[];
  readonly freesBytes: number;
  readonly usedBytes: number;
  readonly records: number;
  readonly kept: readonly { readonly reason: KeptReason; readonly records: number; readonly sizeBytes: number }[];
  readonly space: DiskSpace;
}

export async function planOf(
  records: readonly SnapshotUsage[],
  removals: readonly Removal[],
  policies: readonly NamedPolicy[],
  space: DiskSpace,
): Promise<Plan> {
  const breather = new Breather();
  const gone = new Set<string>();
  let freesBytes = 0;
  for (const { record } of removals) {
    gone.add(record.id);
    freesBytes += record.sizeBytes;
    if (breather.due) await breather.pause();
  }
  let usedBytes = 0;
  const left: SnapshotUsage[] = [];
  const carrying = new Set<string>();
  for (const record of records) {
    usedBytes += record.sizeBytes;
    if (!gone.has(record.id)) left.push(record);
    if (!gone.has(record.id)) for (const parent of record.parents) carrying.add(parent);
    if (breather.due) await breather.pause();
  }
  const kept = new Map<KeptReason, { records: number; sizeBytes: number }>();
  for (const record of left) {
    const reason = whyKept(record, carrying, policies);
    const sum = kept.get(reason) ?? { records: 0, sizeBytes: 0 };
    kept.set(reason, { records: sum.records + 1, sizeBytes: sum.sizeBytes + record.sizeBytes });
    if (breather.due) await breather.pause();
  }
  return {
    removals,
    freesBytes,
    usedBytes,
    records: records.length,
    kept: [...kept].map(([reason, sums]) => ({ reason, ...sums })),
    space,
  };
}

function whyKept(record: SnapshotUsage, carrying: ReadonlySet<string>, policies: readonly NamedPolicy[]): KeptReason {
  if (record.inUse) return 'in use';
  if (carrying.has(record.id)) return 'below a record that stays';
  const special = record.shared || record.recordType === 'internal' || record.recordType === 'frontend';
  const open = policies.filter(({ rules }) => rules.all || !special);
  if (open.length === 0) return 'not for this policy';
  const unbound = open.every(({ rules }) => rules.reservedBytes + rules.maxUsedBytes + rules.minFreeBytes === 0);
  if (!unbound) return 'bounds hold';
  return open.some(({ rules }) => rules.keepDurationNs > 0n) ? 'used too recently' : 'not for this policy';
}
