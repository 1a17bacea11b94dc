/** The cache as the ops API shows it, and the two calls that make it smaller. */
import type { GcParts } from '../../builder/control/gc-service.ts';
import type { GcPolicy } from '../../builder/gc/policy.ts';
import type { Snapshots, SnapshotUsage } from '../../builder/snapshot/ports.ts';
import { nsToSeconds, rfc3339 } from '../../core/clock.ts';
import type { Cache, CacheRecord, GcRun } from '../../web/api/model.ts';
import type { OpsProviders, PruneOrder } from '../../web/ops-providers.ts';
import { planJson } from './gc-plan-json.ts';
import type { OpsMemory } from './ops-memory.ts';

export interface CacheParts {
  readonly gc: Pick<GcParts, 'plan' | 'run' | 'secondsToFull'>;
  readonly snapshots: Pick<Snapshots, 'usage'>;
  readonly policies: readonly GcPolicy[];
  readonly disk: () => { readonly freeBytes: number; readonly totalBytes: number };
  readonly memory: OpsMemory;
}

export function cacheProviders(parts: CacheParts): Pick<OpsProviders, 'cache' | 'cacheRecords' | 'gcPlan'> {
  const { gc, snapshots } = parts;
  return {
    cache: async () => cacheOf(parts, await snapshots.usage()),
    cacheRecords: async () => (await snapshots.usage()).sort((a, b) => b.sizeBytes - a.sizeBytes).map(recordOf),
    gcPlan: async () => planJson(await gc.plan('policies'), gc.secondsToFull()),
  };
}

function cacheOf({ policies, disk, memory }: CacheParts, records: readonly SnapshotUsage[]): Cache {
  const { freeBytes, totalBytes } = disk();
  const kinds = new Map<string, { bytes: number; records: number; inUse: number }>();
  for (const { recordType, sizeBytes, inUse } of records) {
    const kind = kinds.get(recordType) ?? { bytes: 0, records: 0, inUse: 0 };
    kind.bytes += sizeBytes;
    kind.records += 1;
    if (inUse) kind.inUse += 1;
    kinds.set(recordType, kind);
  }
  return {
    bytes: records.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    limitBytes: limitOf(policies),
    disk: { freeBytes, totalBytes },
    kinds: [...kinds].map(([kind, counts]) => ({ kind, ...counts })).sort((a, b) => b.bytes - a.bytes),
    growth: [...memory.growth],
    policies: policies.map((policy) => ({
      filters: [...policy.filters],
      all: policy.all,
      keepSeconds: nsToSeconds(policy.keepDurationNs),
      reservedBytes: policy.reservedBytes,
      maxUsedBytes: policy.maxUsedBytes,
      minFreeBytes: policy.minFreeBytes,
    })),
    runs: [...memory.runs],
  };
}

/** The last policy is the one that covers everything. */
export const limitOf = (policies: readonly GcPolicy[]): number => policies.at(-1)?.maxUsedBytes ?? 0;

const recordOf = (record: SnapshotUsage): CacheRecord => ({
  id: record.id,
  kind: record.recordType,
  description: record.description,
  bytes: record.sizeBytes,
  createdAt: rfc3339(record.createdAtNs),
  ...(record.lastUsedAtNs === undefined ? {} : { lastUsedAt: rfc3339(record.lastUsedAtNs) }),
  uses: record.usageCount,
  inUse: record.inUse,
  shared: record.shared,
});

type Removed = Awaited<ReturnType<NonNullable<OpsProviders['writes']['prune']>>>;

export async function prune(gc: CacheParts['gc'], order: PruneOrder, signal: AbortSignal): Promise<Removed> {
  const { all, filters, keepSeconds, keepBytes } = order;
  const rules = {
    all,
    filters,
    keepDurationNs: BigInt(Math.round(keepSeconds * 1e9)),
    reservedBytes: 0,
    maxUsedBytes: keepBytes,
    minFreeBytes: 0,
  };
  return await remove(gc, { rules }, signal);
}

/** Runs the configured policies and tells what that did. */
export async function collect(gc: CacheParts['gc'], signal: AbortSignal): Promise<GcRun> {
  const at = new Date();
  const { removed, bytes } = await remove(gc, 'policies', signal);
  const seconds = (Date.now() - at.getTime()) / 1000;
  return { at: at.toISOString(), trigger: 'operator', ok: true, seconds, freedBytes: bytes, removedRecords: removed };
}

async function remove(gc: CacheParts['gc'], selection: Parameters<GcParts['run']>[0], signal: AbortSignal): Promise<Removed> {
  let removed = 0;
  let bytes = 0;
  for await (const { record } of gc.run(selection, signal)) {
    removed += 1;
    bytes += record.sizeBytes;
  }
  return { removed, bytes };
}
