/** What the parts of the snapshot store share: where things are, who holds what, and how a directory comes and goes. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../core/clock.ts';
import type { Digest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { DiskContentStore } from '../content/content-store.ts';
import type { Lease } from '../content/ports.ts';
import type { Sys } from '../worker/sys/ports.ts';
import type { NewRecord, SnapshotRecord, SnapshotRecords } from './records.ts';
import type { RemoveArgs } from './tree/remove-task.ts';
import type { Trees } from './trees.ts';
import { Views } from './views.ts';

const removeTask = taskRef<RemoveArgs, null>(new URL('./tree/remove-task.ts', import.meta.url), 'removeTrees');
const TRASH = 'trash';
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export interface SnapshotLimits {
  /** Uncompressed bytes that one layer may unpack to; a bomb ends here. */
  readonly maxLayerBytes: number;
  /** Entries in one layer. */
  readonly maxLayerEntries: number;
}

export interface CoreParts {
  readonly dir: string;
  readonly records: SnapshotRecords;
  readonly trees: Trees;
  readonly content: DiskContentStore;
  readonly pool: WorkerPool;
  readonly clock: Clock;
  readonly sys: Sys;
  readonly limits: SnapshotLimits;
}

export class SnapshotCore implements CoreParts {
  readonly dir: string;
  readonly records: SnapshotRecords;
  readonly trees: Trees;
  readonly content: DiskContentStore;
  readonly pool: WorkerPool;
  readonly clock: Clock;
  readonly sys: Sys;
  readonly limits: SnapshotLimits;
  readonly views: Views;
  /** Blobs of records are kept from collection as long as the record lives. */
  readonly #leases = new Map<string, Lease>();
  readonly #removals = new Set<Promise<unknown>>();
  readonly #beingMade = new Set<string>();
  /** Told of a record that went by itself, not because somebody removed it. */
  onExpired: (id: string) => void = () => {};
  #leaving: { readonly dirs: string[]; readonly gone: Promise<void> } | undefined;
  readonly #stop = new AbortController();

  constructor(parts: CoreParts) {
    this.dir = parts.dir;
    this.records = parts.records;
    this.trees = parts.trees;
    this.content = parts.content;
    this.pool = parts.pool;
    this.clock = parts.clock;
    this.sys = parts.sys;
    this.limits = parts.limits;
    this.views = new Views(parts.dir, parts.trees);
    mkdirSync(join(this.dir, TRASH), { recursive: true, mode: 0o700 });
    for (const record of this.records.all()) for (const { digest } of record.blobs) this.leaseBlob(record, digest);
  }

  /** Ends what runs in the background when the store closes. */
  get stopping(): AbortSignal {
    return this.#stop.signal;
  }

  /** Never an id that was used before: cache keys may still name a snapshot that is gone. */
  newId(): string {
    const id = randomBytes(10).readBigUInt64BE().toString(36).padStart(13, '0');
    this.#beingMade.add(id);
    return id;
  }
  /** True from newId to the record, or to the removal of the directory. */
  isBeingMade(id: string): boolean {
    return this.#beingMade.has(id);
  }

  /** Ids from the lowest layer to the record itself. */
  chainOf(record: SnapshotRecord | undefined): string[] {
    const chain: string[] = [];
    for (let at = record; at !== undefined; at = at.parent) chain.push(at.id);
    return chain.reverse();
  }

  /** The record of a snapshot that is there; one whose directory somebody deleted is forgotten. */
  find(id: string): SnapshotRecord | undefined {
    const record = this.records.get(id);
    if (record === undefined || record.kind !== 'committed') return undefined;
    if (existsSync(this.trees.treeOf(id))) return record;
    this.forgetUnused(record);
    return undefined;
  }

  hold(record: SnapshotRecord): void {
    record.refs += 1;
  }
  release(record: SnapshotRecord): void {
    if (record.refs === 0) throw new BuildError('internal', `snapshot ${record.id} released more often than it was taken`);
    record.refs -= 1;
    if (record.expendable) this.forgetUnused(record);
  }

  /** Holds the snapshot for as long as `work` takes, whatever becomes of those who asked for it. */
  async holding<T>(record: SnapshotRecord, work: () => Promise<T>): Promise<T> {
    this.hold(record);
    try {
      return await work();
    } finally {
      this.release(record);
    }
  }

  /** Removes a record that nobody holds and nothing stands on. */
  forgetUnused(record: SnapshotRecord): void {
    if (record.refs > 0 || record.children > 0 || this.records.get(record.id) !== record) return;
    this.forget(record);
    this.onExpired(record.id);
  }

  add(fresh: NewRecord): SnapshotRecord {
    this.#beingMade.delete(fresh.id);
    return this.records.add(fresh);
  }

  leaseBlob(record: SnapshotRecord, digest: Digest): void {
    const lease = this.#leases.get(record.id) ?? this.content.lease();
    this.#leases.set(record.id, lease);
    lease.add(digest);
  }

  /** Removes record, rows, blobs that only it named, and its directory (in the background). */
  forget(record: SnapshotRecord): void {
    const orphans = this.records.delete(record);
    this.#leases.get(record.id)?.[Symbol.dispose]();
    this.#leases.delete(record.id);
    void this.#inBackground(Promise.all(orphans.map((digest) => this.content.remove(digest))));
    void this.discard(record.id);
  }

  /** Removes the directory of a snapshot that has no row (any more). It leaves its place at once; the promise, which never rejects, is
   *  for those who need the space. */
  discard(id: string): Promise<void> {
    this.#beingMade.delete(id);
    const trash = join(this.dir, TRASH, id);
    try {
      renameSync(join(this.dir, id), trash);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Promise.resolve();
      throw BuildError.from(error);
    }
    return this.#emptyLater(trash);
  }

  /** Directories that leave in one turn of the loop go in one task. */
  #emptyLater(trash: string): Promise<void> {
    this.#leaving ??= { dirs: [], gone: this.#inBackground(nextTurn().then(() => this.#emptyLeaving())) };
    this.#leaving.dirs.push(trash);
    return this.#leaving.gone;
  }
  async #emptyLeaving(): Promise<void> {
    const dirs = this.#leaving?.dirs ?? [];
    this.#leaving = undefined;
    await this.emptyTrash(dirs);
  }

  /** A removal that fails is tried again at the next start, which finds it in the trash. */
  emptyTrash(dirs: readonly string[]): Promise<void> {
    if (dirs.length === 0) return Promise.resolve();
    return this.#inBackground(this.pool.run(removeTask, { dirs }, { signal: this.#stop.signal }));
  }

  get trash(): string {
    return join(this.dir, TRASH);
  }

  #inBackground(work: Promise<unknown>): Promise<void> {
    const settled: Promise<void> = work
      .then(() => undefined)
      .catch(() => undefined)
      .finally(() => this.#removals.delete(settled));
    this.#removals.add(settled);
    return settled;
  }

  /** Resolves when what was being removed at the call is gone, or failed to go. */
  async settled(): Promise<void> {
    await Promise.all(this.#removals);
  }

  /** Waits for removals; nothing is mounted afterwards. */
  async close(): Promise<void> {
    await this.settled();
    this.#stop.abort(new BuildError('cancelled', 'the daemon is stopping'));
    this.views.close();
    for (const lease of this.#leases.values()) lease[Symbol.dispose]();
    this.#leases.clear();
  }
}
