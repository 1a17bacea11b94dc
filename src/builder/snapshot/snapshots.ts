/**
 * Root filesystems as snapshots: prepared, committed, stacked, unpacked from layers, turned into layers. The kernel stacks them
 * (overlayfs), so a step costs a mount and a commit costs a row; everything that walks or hashes happens in threads, when it is asked for.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Breather } from '../../core/breather.ts';
import type { Clock } from '../../core/clock.ts';
import type { CacheDigest, DiffId, Digest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { DiskContentStore } from '../content/content-store.ts';
import type { Metadata } from '../metadata/ports.ts';
import type { Sys } from '../worker/sys/ports.ts';
import { checkSnapshots } from './check.ts';
import { Checksums } from './checksums.ts';
import { SnapshotCore, type SnapshotLimits } from './core.ts';
import { type HandleServices, SnapshotHandle, WritableSnapshot } from './handle.ts';
import { Layers } from './layers.ts';
import { NamedDirectories, type NamedOptions, type Sharing } from './named.ts';
import { openNativeTrees } from './native-trees.ts';
import { openOverlayTrees } from './overlay-trees.ts';
import type {
  CheckFinding,
  Layer,
  LayerOptions,
  MutableSnapshot,
  NamedDirectory,
  RecordOptions,
  Selector,
  Snapshot,
  Snapshots,
  SnapshotUsage,
  UnpackLayer,
} from './ports.ts';
import { leftovers, unmountBelow } from './reconcile.ts';
import { type SnapshotRecord, SnapshotRecords } from './records.ts';
import { Sizes } from './sizes.ts';
import { Unpacker, type UnpackOptions } from './unpack.ts';

/** A layer of an image can hold a whole operating system with its data; a bomb wants more. */
const DEFAULT_LIMITS: SnapshotLimits = { maxLayerBytes: 256 * 1024 ** 3, maxLayerEntries: 10_000_000 };

export interface SnapshotsOptions {
  /** The daemon's root; the store uses `snapshots/` below it. */
  readonly root: string;
  readonly metadata: Metadata;
  readonly content: DiskContentStore;
  readonly pool: WorkerPool;
  readonly clock: Clock;
  readonly sys: Sys;
  /** `auto`: overlayfs where it works here, whole copies otherwise. `overlay` fails where it does not. */
  readonly snapshotter?: 'auto' | 'overlay' | 'native';
  readonly limits?: Partial<SnapshotLimits>;
}

export interface OpenedSnapshots extends Snapshots, AsyncDisposable {
  readonly snapshotter: 'overlay' | 'native';
  /** Tells of snapshots that go by themselves from now on: frozen states that are superseded, directories that somebody deleted. */
  onExpired(listener: (id: string) => void): void;
  /** What start-up found half done and undid. */
  readonly recovered: {
    readonly mounts: number;
    readonly directories: number;
    /** Names of directories without a record. */
    readonly stray: readonly string[];
    /** Ids of records without a directory, or on top of one. */
    readonly lost: readonly string[];
  };
}

/** Opens the store below `root` after undoing what an earlier run left half done. Rejects with `unsupported` for a snapshotter that does
 *  not work here. */
export async function openSnapshots(options: SnapshotsOptions): Promise<OpenedSnapshots> {
  const dir = join(resolve(options.root), 'snapshots');
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  const mounts = unmountBelow(dir, options.sys);
  const { sys, pool, content, clock } = options;
  const overlay = options.snapshotter === 'native' ? undefined : openOverlayTrees(dir, sys);
  if (options.snapshotter === 'overlay' && overlay === undefined) {
    throw new BuildError('unsupported', `overlayfs does not work in ${dir}`, {
      hint: 'use the native snapshotter, or another file system',
    });
  }
  const trees = overlay ?? openNativeTrees(dir, pool);
  const records = new SnapshotRecords(options.metadata);
  const lost = await records.load((id) => existsSync(trees.treeOf(id)));
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const core = new SnapshotCore({ dir, records, trees, content, pool, clock, sys, limits });
  const { unknown, trashed } = leftovers(dir, core.trash, (id) => records.get(id) !== undefined);
  for (const id of unknown) void core.discard(id);
  void core.emptyTrash(trashed);
  return new SnapshotStore(core, options.metadata, {
    mounts,
    directories: unknown.length + trashed.length,
    stray: unknown,
    lost,
  });
}

class SnapshotStore implements OpenedSnapshots, HandleServices {
  readonly recovered: OpenedSnapshots['recovered'];
  readonly #core: SnapshotCore;
  readonly #metadata: Metadata;
  readonly #layers: Layers;
  readonly #checksums: Checksums;
  readonly #unpacker: Unpacker;
  readonly #named: NamedDirectories;
  readonly #sizes: Sizes;

  constructor(core: SnapshotCore, metadata: Metadata, recovered: OpenedSnapshots['recovered']) {
    this.#core = core;
    this.#metadata = metadata;
    this.recovered = recovered;
    this.#layers = new Layers(core);
    this.#checksums = new Checksums(core);
    this.#unpacker = new Unpacker(core);
    this.#named = new NamedDirectories(core, this);
    this.#sizes = new Sizes(core, (record) => this.#named.isHeld(record));
  }

  get snapshotter(): 'overlay' | 'native' {
    return this.#core.trees.kind;
  }

  async prepare(parent: Snapshot | undefined, options: RecordOptions): Promise<MutableSnapshot> {
    const below = parent === undefined ? undefined : this.#recordOf(parent);
    const id = this.#core.newId();
    if (below !== undefined) this.#core.hold(below);
    try {
      await this.#core.trees.create(id, this.#core.chainOf(below), this.#core.stopping);
      return new WritableSnapshot(this.#core, this, id, below, options);
    } catch (error) {
      void this.#core.discard(id);
      throw BuildError.from(error);
    } finally {
      if (below !== undefined) this.#core.release(below);
    }
  }

  async open(id: string): Promise<Snapshot | undefined> {
    const record = this.#core.find(id);
    if (record === undefined) return undefined;
    this.#core.records.markUsed(record, this.#core.clock.nowNs());
    return new SnapshotHandle(this.#core, this, record);
  }

  async unpack(layers: readonly UnpackLayer[], options: UnpackOptions): Promise<Snapshot> {
    if (layers.length === 0) {
      await using empty = await this.prepare(undefined, options);
      return await empty.commit();
    }
    return this.#handOver(await this.#unpacker.unpack(layers, options));
  }

  async findChain(diffIds: readonly DiffId[]): Promise<Snapshot | undefined> {
    const record = await this.#unpacker.find(diffIds);
    if (record === undefined) return undefined;
    this.#core.records.markUsed(record, this.#core.clock.nowNs());
    return new SnapshotHandle(this.#core, this, record);
  }

  openNamed(key: string, sharing: Sharing, options: NamedOptions): Promise<NamedDirectory> {
    return this.#named.open(key, sharing, options);
  }

  layersOf(record: SnapshotRecord, options: LayerOptions): Promise<readonly Layer[]> {
    return this.#layers.of(record, options);
  }

  checksumOf(record: SnapshotRecord, selectors: readonly Selector[], signal: AbortSignal): Promise<CacheDigest> {
    return this.#checksums.of(record, selectors, signal);
  }

  onExpired(listener: (id: string) => void): void {
    this.#core.onExpired = listener;
  }

  has(id: string): boolean {
    return this.#core.records.get(id) !== undefined;
  }

  async usage(): Promise<SnapshotUsage[]> {
    await this.#sizes.refresh();
    const breather = new Breather();
    const counted = new Set<Digest>();
    const usage: SnapshotUsage[] = [];
    for (const record of [...this.#core.records.all()]) {
      usage.push(usageOf(record, counted, this.#named.directoryOf(record)));
      if (breather.due) await breather.pause();
    }
    return usage;
  }

  async check({ repair }: { readonly repair: boolean }): Promise<CheckFinding[]> {
    const findings = await checkSnapshots(this.#core, this.#metadata, {
      repair,
      forget: (record) => {
        this.#named.forget(record);
        this.#core.forget(record);
      },
    });
    await this.settled();
    return findings;
  }

  settled(): Promise<void> {
    return this.#core.settled();
  }

  async remove(id: string): Promise<boolean> {
    const record = this.#core.records.get(id);
    if (record === undefined || record.refs > 0 || record.children > 0) return false;
    this.#named.forget(record);
    this.#core.forget(record);
    this.#sizes.removed(record);
    return true;
  }

  async close(): Promise<void> {
    this.#core.records.writeUses();
    await this.#core.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #recordOf(snapshot: Snapshot): SnapshotRecord {
    const record = snapshot.id === undefined ? undefined : this.#core.records.get(snapshot.id);
    if (record === undefined) throw new BuildError('internal', `snapshot ${snapshot.id} is not of this store`);
    return record;
  }

  /** A record that came held becomes a handle that holds it. */
  #handOver(record: SnapshotRecord): Snapshot {
    const handle = new SnapshotHandle(this.#core, this, record);
    this.#core.release(record);
    return handle;
  }
}

/** A blob that several records name is counted where it comes up first. */
function usageOf(record: SnapshotRecord, counted: Set<Digest>, directory: SnapshotRecord | undefined): SnapshotUsage {
  let sizeBytes = record.sizeBytes ?? 0;
  for (const blob of record.blobs) {
    if (!counted.has(blob.digest)) sizeBytes += blob.sizeBytes;
    counted.add(blob.digest);
  }
  return {
    id: record.id,
    mutable: record.kind === 'named',
    inUse: record.refs > 0,
    shared: false, // with images of another program, as a worker inside a container engine has them; we have none
    sizeBytes,
    // The frozen state of a directory goes before it: the directory takes it along.
    parents: [record.parent, directory].filter((below) => below !== undefined).map(({ id }) => id),
    createdAtNs: record.createdAtNs,
    lastUsedAtNs: record.lastUsedAtNs,
    usageCount: record.usageCount,
    description: record.description,
    recordType: record.recordType,
  };
}
