/**
 * What a remote cache needs of the place that keeps it. A place is named by its type (`s3`, `registry`, ...) and the attributes of
 * `--cache-to` and `--cache-from`; what is kept there, and what happens when it fails, is the same for all and lives beside this file.
 */
import type { Digest } from '../../../core/digest.ts';
import type { BuildError, ErrorKind } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';

/** Types a client or the configuration may name. Also the label `backend` of metrics. */
export const BACKENDS = ['registry', 'inline', 'local', 's3', 'azblob', 'gha', 'redis', 'filesystem'] as const;
export type BackendName = (typeof BACKENDS)[number];

export interface BlobStat {
  readonly sizeBytes: number;
  /** When the object was last written or touched, milliseconds since the epoch; undefined where the place does not say. */
  readonly modifiedAtMs?: number;
}

/** Bytes of a blob on this machine; leased by the caller until the write has ended. */
export interface BlobContent {
  /** The whole blob as a file that does not change. */
  readonly path: string;
  readonly sizeBytes: number;
  /** May be called several times, also at once. `length` 0 or absent reads to the end. */
  read(range?: { readonly offset?: number; readonly length?: number }): AsyncIterable<Uint8Array>;
}

/**
 * A place that keeps cache configurations by name and blobs by digest. One attempt per call: retries, deadlines, the breaker, hash
 * checks and counting are put around it (policy.ts), so a store never retries and never times out by itself, except that `signal`
 * ends every call at once with its reason.
 *
 * Calls may be repeated and raced in any order. A write is atomic: readers see the old state or the new one, never half. Failures are
 * BuildErrors, and the kind decides what the policy does:
 *   `unavailable` refused, reset, 5xx, cut off: tried again, counts against the breaker   `exhausted` 429 or throttled: tried again
 *   after `detail.retryAfterS`   `denied` 401, 403, expired credentials: not tried again   `not-found` the bucket, repository or blob
 *   does not exist   `corrupt` an answer that makes no sense   `invalid-input` attributes that can never work
 * No message contains a credential, a signed URL or a token.
 */
export interface CacheStore extends AsyncDisposable {
  readonly backend: BackendName;
  /** For people, in progress and warnings: `s3 bucket/prefix`. */
  readonly label: string;
  /** What fails together: host and port, bucket, account. The breaker of all builds is found by `backend` and this text. */
  readonly endpoint: string;
  /** Stores of one backend and endpoint with the same text share their blobs; `label` when absent. */
  readonly blobScope?: string;
  /** Where it answers TCP, when it is spoken to directly: a dead place is found out by connecting, long before a request times out. */
  readonly address?: { readonly host: string; readonly port: number } | undefined;
  /** Names under which configurations are written, and read and merged; at least one. */
  readonly manifestNames: readonly string[];
  /** Blobs written or read at once; 4 unless an attribute says otherwise. */
  readonly parallelism: number;
  /** A present blob older than this is touched by an export; undefined: never. */
  readonly refreshAfterMs?: number | undefined;
  /** Larger blobs are left out of an export, and with them the results that need them. */
  readonly maxBlobBytes?: number;

  /** Undefined when there is none of that name yet (a first build), which is no failure. */
  readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Called after every blob the configuration names is there. */
  writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void>;
  statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined>;
  /** From `offset` (0) to the end. Need not verify: the reader hashes. Rejects with `not-found` when it is gone. */
  readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /**
   * The same straight into the content store, hashed, off the main thread, where the store can do that; used instead of `readBlob`.
   * `onProgress` hears of bytes as they arrive, and negative counts when some have to be read again.
   */
  fetchBlob?(descriptor: Descriptor, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void>;
  /** Resolves when readers can see the blob; also when it was there already. */
  writeBlob(descriptor: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void>;
  /** Makes the blob look new to the place's own expiry. */
  touchBlob?(digest: Digest, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** What the client is told once the configuration is written (`cache.manifest`). */
  exporterResponse?(): ReadonlyMap<string, string>;
}

/** What opening a store may use. */
export interface StoreDeps {
  /** Sessions of the build whose client may be asked for credentials or files, the oldest first; none for a cache of the daemon's own. */
  readonly sessions: () => readonly string[];
  readonly nowMs: () => number;
  readonly userAgent: string;
  /** Defaults that BuildKit reads from the daemon's environment (`AWS_REGION`, ...). */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Makes a store of attributes, without talking to it: opening can only fail for what the user wrote. Common attributes (`mode`,
 * `compression`, `compression-level`, `force-compression`, `oci-mediatypes`, `image-manifest`, `ignore-error`) are not the store's.
 * @throws BuildError `invalid-input` that names the attribute.
 */
export type OpenCacheStore = (attributes: ReadonlyMap<string, string>, deps: StoreDeps) => CacheStore;

/** A type of store, one line each in backends.ts. */
export interface StoreBackend {
  readonly name: BackendName;
  /** The vertex of an export, as BuildKit names it: `exporting cache to Amazon S3`. */
  readonly exportTitle: string;
  /** What follows `importing cache manifest from ` for these attributes; BuildKit's text. */
  readonly importTitle: (attributes: ReadonlyMap<string, string>) => string;
  readonly open: OpenCacheStore;
}

/** What is asked of a store; the label `op` of metrics. */
export type CacheOp = 'manifest-read' | 'manifest-write' | 'blob-stat' | 'blob-read' | 'blob-write' | 'blob-touch';
/** miss: there is no such thing, which is an answer; skipped: not asked, the breaker is open. */
export type CallResult = 'ok' | 'miss' | 'skipped' | ErrorKind;
/** What a look-up or an export as a whole came to; the label `result` of metrics. */
export type CacheOutcome = 'ok' | 'empty' | 'retrying' | ErrorKind;

/** Told of everything that operators want to know of remote caches. Must return at once and not throw. */
export interface CacheObserver {
  /** One attempt of one call; `bytes` moved. */
  operation(backend: BackendName, op: CacheOp, result: CallResult, seconds: number, bytes: number): void;
  breaker(backend: BackendName, endpoint: string, state: 'closed' | 'half-open' | 'open'): void;
  outageStarted(backend: BackendName, endpoint: string, error: BuildError): void;
  outageEnded(backend: BackendName, endpoint: string, seconds: number): void;
  /** A blob did not hash to its name, or had another length. */
  quarantined(backend: BackendName, endpoint: string, digest: Digest, error: BuildError): void;
  imported(backend: BackendName, outcome: CacheOutcome, seconds: number): void;
  exported(backend: BackendName, outcome: CacheOutcome, seconds: number, inBackground: boolean): void;
}
