/** Records in memory, with the rules every Snapshots keeps: nothing in use and nothing with children is removed. */

import type { Digest } from '../../core/digest.ts';
import type { BlobInfo } from '../content/ports.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';

export const DAY_NS = 24n * 3_600_000_000_000n;
export const NOW_NS = 1_000n * DAY_NS;

export function record(id: string, more: Partial<SnapshotUsage> & { readonly daysUnused?: number } = {}): SnapshotUsage {
  const { daysUnused = 1, ...rest } = more;
  const lastUsedAtNs = NOW_NS - BigInt(Math.round(daysUnused * 24)) * (DAY_NS / 24n);
  return {
    id,
    mutable: false,
    inUse: false,
    shared: false,
    sizeBytes: 100,
    parents: [],
    createdAtNs: lastUsedAtNs,
    lastUsedAtNs,
    usageCount: 1,
    description: `record ${id}`,
    recordType: 'regular',
    ...rest,
  };
}

export class Records {
  readonly removed: string[] = [];
  readonly #records: Map<string, SnapshotUsage>;
  /** Ids that turn out to be in use when they are to be removed. */
  readonly taken = new Set<string>();

  constructor(records: readonly SnapshotUsage[]) {
    this.#records = new Map(records.map((one) => [one.id, one]));
  }
  get left(): string[] {
    return [...this.#records.keys()];
  }
  async usage(): Promise<SnapshotUsage[]> {
    return [...this.#records.values()];
  }
  async remove(id: string): Promise<boolean> {
    const found = this.#records.get(id);
    const hasChildren = [...this.#records.values()].some(({ parents }) => parents.includes(id));
    if (found === undefined || found.inUse || hasChildren || this.taken.has(id)) return false;
    this.#records.delete(id);
    this.removed.push(id);
    return true;
  }
}

export class Blobs {
  readonly leased = new Set<string>();
  readonly #blobs: Map<string, BlobInfo>;

  constructor(blobs: Readonly<Record<string, number>>) {
    this.#blobs = new Map(
      Object.entries(blobs).map(([digest, daysOld]) => [
        digest,
        { digest: digest as Digest, sizeBytes: 1, createdAtNs: NOW_NS - BigInt(Math.round(daysOld * 24)) * (DAY_NS / 24n) },
      ]),
    );
  }
  get left(): string[] {
    return [...this.#blobs.keys()];
  }
  async *list(): AsyncIterable<BlobInfo> {
    yield* [...this.#blobs.values()];
  }
  async remove(digest: Digest): Promise<boolean> {
    return !this.leased.has(digest) && this.#blobs.delete(digest);
  }
}
