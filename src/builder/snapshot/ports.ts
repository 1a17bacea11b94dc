/** Root filesystems as the builder sees them. One implementation: snapshots.ts over overlayfs (native copies where overlay is missing). */
import type { CacheDigest, DiffId, Digest } from '../../core/digest.ts';
import type { Descriptor } from '../content/ports.ts';
import type { Result } from '../solver/ports.ts';

/** BuildKit's UsageRecord.RecordType values. */
export type RecordType = 'regular' | 'internal' | 'frontend' | 'source.local' | 'source.git.checkout' | 'exec.cachemount';
export interface RecordOptions {
  readonly description: string;
  readonly recordType?: RecordType;
  /** Fixed creation time of what the record holds (image layers); the clock's otherwise. */
  readonly createdAtNs?: bigint;
}

export type Compression = 'uncompressed' | 'gzip' | 'zstd';
export interface LayerOptions {
  readonly compression: Compression;
  readonly level?: number;
  /** Also convert layers that exist in another compression. */
  readonly force: boolean;
  readonly signal: AbortSignal;
}
/** A layer ready to be named in a manifest: its blob is in the content store. */
export interface Layer {
  readonly descriptor: Descriptor;
  readonly diffId: DiffId;
  readonly createdAtNs: bigint;
  readonly description: string;
}

/** A committed root filesystem: never changes again. Reference counted through `clone` and disposal, as a solver Result. */
export interface Snapshot extends Result {
  readonly id: string;
  /** This snapshot's own parent chain, lowest first, itself last. */
  chain(): readonly string[];
  /** A directory in which the merged tree can be read until disposed (an overlay mount, or the directory itself for one layer). */
  view(): Promise<View>;
  /** Layers of the whole chain, lowest first; missing blobs are made (diff, tar, compress, in threads) and remembered. */
  layers(options: LayerOptions): Promise<readonly Layer[]>;
  /** Digest of selected paths, buildkit-wire.md section 7.4. Rejects with `not-found` (`"/nosuch": not found`). */
  checksum(selectors: readonly Selector[], signal: AbortSignal): Promise<CacheDigest>;
}
export interface View extends AsyncDisposable {
  readonly dir: string;
}

export interface Selector {
  readonly path: string;
  readonly wildcard: boolean;
  readonly followLinks: boolean;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly requiredPaths: readonly string[];
}

/** A root filesystem being made. Disposing it without `commit` removes the directory; after commit, disposal is a no-op. */
export interface MutableSnapshot extends AsyncDisposable {
  readonly id: string;
  /**
   * The directory that holds only what this snapshot changes, in overlayfs's form, where there is one. As long as `mount` has not been
   * called, files may be put straight into it: it is then the upper directory of an overlay that nobody has mounted.
   */
  readonly layer?: string | undefined;
  /** Where what this snapshot changes can be read until it is committed; without overlayfs everything it holds. */
  readonly changes: string;
  /** Directories of the layers it lies on, lowest first. No inode may be in two layers of a stack; tree/shared-files.ts says why. */
  readonly below: readonly string[];
  /** The writable merged tree; mounted on first use, unmounted by commit or disposal. */
  mount(): Promise<string>;
  /** Freezes it. The same content is not searched for: two commits are two snapshots. */
  commit(): Promise<Snapshot>;
}

/** A named directory that outlives builds: a local source's last state, or a cache mount. At most one holder unless shared. */
export interface NamedDirectory extends AsyncDisposable {
  readonly id: string;
  readonly dir: string;
  /**
   * Freezes the present content as a snapshot and keeps the directory for the next build. Regular files are shared by hard links, so
   * whoever writes to the directory must replace files (a new file renamed over the old one), never write into them. With `received`
   * and nothing changed, the last snapshot itself is returned if it is still there.
   */
  snapshot(options: RecordOptions & { readonly received?: ReceivedChanges }): Promise<Snapshot>;
}
/** What a transfer into a named directory did, so that nothing is walked or hashed again. Session.receiveFiles returns it. */
export interface ReceivedChanges {
  /** Paths written or removed since the last snapshot of this directory. */
  readonly changed: number;
  /** Entry digests (buildkit-wire.md 7.4) of the regular files that were written, by path relative to the directory. */
  readonly digests: ReadonlyMap<string, Digest>;
}

export interface SnapshotUsage {
  readonly id: string;
  readonly mutable: boolean;
  readonly inUse: boolean;
  readonly shared: boolean;
  readonly sizeBytes: number;
  readonly parents: readonly string[];
  readonly createdAtNs: bigint;
  readonly lastUsedAtNs: bigint | undefined;
  readonly usageCount: number;
  readonly description: string;
  readonly recordType: RecordType;
}

/** One thing that is not as it should be. */
export interface CheckFinding {
  /** A word of docs/gc.md: `snapshot-missing`, `snapshot-stray`, `layer-blob-missing`, `layer-blob-size`, `row-stray`. */
  readonly kind: string;
  readonly subject: string;
  readonly detail: string;
  readonly repaired: boolean;
}

export interface Snapshots {
  /** A writable tree on top of `parent` (undefined: an empty root directory, mode 0755, owned by root). */
  prepare(parent: Snapshot | undefined, options: RecordOptions): Promise<MutableSnapshot>;
  /** Another reference to a committed snapshot; undefined when it is gone. Counts as a use. */
  open(id: string): Promise<Snapshot | undefined>;
  /**
   * The snapshot of a stack of image layers whose blobs are in the content store, unpacked in order; existing chain prefixes are
   * reused and two callers unpack a layer once. `onLayer` tells when a layer starts and ends.
   */
  unpack(
    layers: readonly UnpackLayer[],
    options: RecordOptions & {
      readonly signal: AbortSignal;
      readonly onLayer?: (digest: Digest, state: 'start' | 'done') => void;
    },
  ): Promise<Snapshot>;
  /** True when the chain is already unpacked, so that blobs need not be fetched. */
  findChain(diffIds: readonly DiffId[]): Promise<Snapshot | undefined>;
  /**
   * Takes the directory named `key`, made empty when new. `shared`: any number of holders; `locked`: waits for the other holder;
   * `private`: another directory when the first is taken. `fresh` gives the name to a new directory; the old one goes when its holders do.
   */
  openNamed(
    key: string,
    sharing: 'shared' | 'private' | 'locked',
    options: RecordOptions & { readonly parent?: Snapshot; readonly fresh?: boolean; readonly signal: AbortSignal },
  ): Promise<NamedDirectory>;
  /** True while there is a record of that id. */
  has(id: string): boolean;
  /** Every record with what it holds on disk: the blocks of its directory and its blobs, what several share counted once. */
  usage(): Promise<SnapshotUsage[]>;
  /** Removes a record and its blobs unless it is in use or has children; false when it was kept. */
  remove(id: string): Promise<boolean>;
  /** Resolves when directories and blobs of what was removed so far are off the disk, or failed to go. Never rejects. */
  settled(): Promise<void>;
  /** Compares records, directories, layer blobs and rows with one another. What is in use or being made is left alone. */
  check(options: { readonly repair: boolean }): Promise<CheckFinding[]>;
  close(): Promise<void>;
}
export interface UnpackLayer {
  readonly descriptor: Descriptor;
  readonly diffId: DiffId;
  /** The layer's own, instead of what the options say for all. */
  readonly createdAtNs?: bigint;
  readonly description?: string;
}
