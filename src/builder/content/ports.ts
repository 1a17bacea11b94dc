/** What the rest of the builder may ask of stored blobs. One implementation: content-store.ts, on disk. */
import type { Digest } from '../../core/digest.ts';

export interface BlobInfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly createdAtNs: bigint;
}

/** Names a blob with its type, as in an OCI manifest (image-spec v1.1, descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly urls?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: {
    readonly architecture: string;
    readonly os: string;
    readonly variant?: string;
    readonly 'os.version'?: string;
    readonly 'os.features'?: readonly string[];
  };
  readonly artifactType?: string;
  readonly data?: string;
}

export interface ContentStore {
  /** Undefined when the blob is not here. */
  info(digest: Digest): Promise<BlobInfo | undefined>;
  /** File that holds the blob, for bulk work in threads. The caller holds a lease on the blob while it uses the path. */
  path(digest: Digest): string;
  /**
   * Safe to repeat and to race: when two callers put the same digest, both resolve and one copy is kept. Visible by rename after fsync.
   * Rejects with `corrupt`, keeping nothing, when the bytes do not hash to `expected`, or have another size.
   */
  put(
    bytes: AsyncIterable<Uint8Array> | Uint8Array,
    options: { readonly expected?: Digest; readonly expectedSize?: number; readonly signal: AbortSignal },
  ): Promise<BlobInfo>;
  /** A file path in the store's temporary folder for a thread that writes and hashes by itself; then `adopt` it. Removed at start-up if left. */
  tempPath(): string;
  /** Takes over a finished temporary file whose digest its writer computed while writing. */
  adopt(tempPath: string, digest: Digest, sizeBytes: number): Promise<BlobInfo>;
  /** Chunks of at most 1 MiB. Rejects with `not-found`. `length` 0 or absent reads to the end. */
  read(digest: Digest, range?: { readonly offset?: number; readonly length?: number }): AsyncIterable<Uint8Array>;
  /** A small blob, whole. Rejects with `exhausted` above `maxBytes`. */
  readAll(digest: Digest, maxBytes: number): Promise<Uint8Array>;
  list(): AsyncIterable<BlobInfo>;
  /** Removes the blob unless a lease names it; false when it was kept or absent. */
  remove(digest: Digest): Promise<boolean>;
  /** Keeps the named blobs from removal until disposed. In memory: after a crash nothing runs that could need them. */
  lease(): Lease;
}
export interface Lease extends Disposable {
  add(digest: Digest): void;
}
