/**
 * Blobs by digest, one file each: `<root>/content/blobs/sha256/<hex>`. A blob becomes visible by rename after fsync, so what is there
 * is whole as its writer saw it; a disk that rots is found by readers that verify, and the file goes to `<root>/quarantine`. Sizes and
 * times are held in memory; hashing and writing of streams happen in a thread of our own (blob-writer.ts).
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { throwIfAborted } from '../../core/abort.ts';
import type { Clock } from '../../core/clock.ts';
import { type Digest, digestFromHex, digestOf, hexOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import { BlobWriter } from './blob-writer.ts';
import type { BlobInfo, ContentStore, Lease } from './ports.ts';
import type { VerifyArgs, VerifyOutput } from './verify-task.ts';

const READ_CHUNK_BYTES = 1024 * 1024;
/** Up to here hashing costs less than handing the bytes to a thread (0.2 ms). */
const INLINE_HASH_BYTES = 256 * 1024;
const verifyTask = taskRef<VerifyArgs, VerifyOutput>(new URL('./verify-task.ts', import.meta.url), 'verify');

export interface ContentStoreOptions {
  /** The daemon's root; the store uses `content/` and `quarantine/` below it. */
  readonly root: string;
  readonly clock: Clock;
  readonly pool: WorkerPool;
  /** Told when a blob was found corrupt and moved aside. Must not throw. */
  readonly onQuarantine?: (digest: Digest, movedTo: string) => void;
}

/** What the store offers beyond the port. */
export interface DiskContentStore extends ContentStore, AsyncDisposable {
  /** Re-hashes the whole blob in a thread. Rejects with `not-found`, or with `corrupt` after moving the blob to quarantine. */
  verify(digest: Digest, signal: AbortSignal): Promise<void>;
  /** Moves a blob that a reader found corrupt out of the way, leased or not: nobody can use it. */
  quarantine(digest: Digest): Promise<void>;
  /** Undefined when the file is there and hashes to the digest; else what is wrong with it. Changes nothing. */
  inspect(digest: Digest, signal: AbortSignal): Promise<string | undefined>;
  /** Names in the folder of blobs that are no blob known here. */
  strays(): Promise<readonly string[]>;
  /** Moves a stray file out of the way. */
  quarantineStray(name: string): Promise<void>;
  /** Bytes held, all blobs. */
  readonly totalBytes: number;
  /** True while a lease names the blob. */
  isLeased(digest: Digest): boolean;
}

/** Opens the store below `root`; what an earlier run left half written is removed. */
export function openContentStore(options: ContentStoreOptions): DiskContentStore {
  const blobs = join(options.root, 'content/blobs/sha256');
  const temp = join(options.root, 'content/tmp');
  rmSync(temp, { recursive: true, force: true });
  mkdirSync(temp, { recursive: true });
  mkdirSync(blobs, { recursive: true });
  const known = new Map<Digest, BlobInfo>();
  for (const name of readdirSync(blobs)) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    const { size, mtimeMs } = statSync(join(blobs, name));
    const digest = digestFromHex(name);
    known.set(digest, { digest, sizeBytes: size, createdAtNs: BigInt(Math.round(mtimeMs * 1000)) * 1000n });
  }
  return new BlobDirectory(options, blobs, temp, known);
}

class BlobDirectory implements DiskContentStore {
  readonly #options: ContentStoreOptions;
  readonly #blobs: string;
  readonly #temp: string;
  readonly #known: Map<Digest, BlobInfo>;
  readonly #leases = new Map<Digest, number>();
  readonly #inMotion = new Map<Digest, number>();
  readonly #writer = new BlobWriter();
  #totalBytes = 0;

  constructor(options: ContentStoreOptions, blobs: string, temp: string, known: Map<Digest, BlobInfo>) {
    this.#options = options;
    this.#blobs = blobs;
    this.#temp = temp;
    this.#known = known;
    for (const { sizeBytes } of known.values()) this.#totalBytes += sizeBytes;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  async info(digest: Digest): Promise<BlobInfo | undefined> {
    return this.#known.get(digest);
  }

  path(digest: Digest): string {
    return join(this.#blobs, hexOf(digest));
  }

  tempPath(): string {
    return join(this.#temp, randomUUID());
  }

  async put(
    bytes: AsyncIterable<Uint8Array> | Uint8Array,
    options: { readonly expected?: Digest; readonly expectedSize?: number; readonly signal: AbortSignal },
  ): Promise<BlobInfo> {
    throwIfAborted(options.signal);
    const temp = this.tempPath();
    try {
      const written =
        bytes instanceof Uint8Array && bytes.byteLength <= INLINE_HASH_BYTES
          ? await writeSmall(temp, bytes)
          : await this.#writer.write(temp, bytes, options.signal, options.expectedSize);
      if (options.expectedSize !== undefined && written.sizeBytes !== options.expectedSize) {
        throw new BuildError(
          'corrupt',
          `${options.expected ?? 'blob'} has ${written.sizeBytes} bytes, expected ${options.expectedSize}`,
        );
      }
      if (options.expected !== undefined && written.digest !== options.expected) {
        throw new BuildError('corrupt', `bytes hash to ${written.digest}, expected ${options.expected}`);
      }
      throwIfAborted(options.signal);
      return await this.#publish(temp, written.digest, written.sizeBytes);
    } catch (error) {
      rmSync(temp, { force: true });
      throw BuildError.from(error);
    }
  }

  async adopt(tempPath: string, digest: Digest, sizeBytes: number): Promise<BlobInfo> {
    try {
      const file = await open(tempPath, 'r+');
      try {
        const { size } = await file.stat();
        if (size !== sizeBytes) throw new BuildError('internal', `${tempPath} has ${size} bytes, its writer said ${sizeBytes}`);
        if (!this.#known.has(digest)) await file.sync();
      } finally {
        await file.close();
      }
      return await this.#publish(tempPath, digest, sizeBytes);
    } catch (error) {
      rmSync(tempPath, { force: true });
      throw BuildError.from(error);
    }
  }

  /** The file is synced; an equal blob that came first wins. */
  async #publish(temp: string, digest: Digest, sizeBytes: number): Promise<BlobInfo> {
    const existing = this.#known.get(digest);
    if (existing !== undefined) {
      await unlink(temp);
      return existing;
    }
    const info = { digest, sizeBytes, createdAtNs: this.#options.clock.nowNs() };
    await this.#moving(digest, rename(temp, this.path(digest)));
    if (!this.#known.has(digest)) this.#totalBytes += sizeBytes; // else a racing put published the same bytes meanwhile
    this.#known.set(digest, info);
    return info;
  }

  async *read(digest: Digest, range: { readonly offset?: number; readonly length?: number } = {}): AsyncIterable<Uint8Array> {
    const info = this.#require(digest);
    const file = await this.#openBlob(digest);
    try {
      let at = range.offset ?? 0;
      const end = range.length === undefined || range.length === 0 ? info.sizeBytes : Math.min(info.sizeBytes, at + range.length);
      while (at < end) {
        const buffer = Buffer.allocUnsafe(Math.min(READ_CHUNK_BYTES, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw await this.#shortened(digest);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await file.close();
    }
  }

  async readAll(digest: Digest, maxBytes: number): Promise<Uint8Array> {
    const info = this.#require(digest);
    if (info.sizeBytes > maxBytes) {
      throw new BuildError('exhausted', `${digest} has ${info.sizeBytes} bytes, at most ${maxBytes} are read at once`);
    }
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.read(digest)) chunks.push(chunk);
    const bytes = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
    if (bytes.byteLength <= INLINE_HASH_BYTES && digestOf(bytes) !== digest) {
      await this.quarantine(digest);
      throw new BuildError('corrupt', `the stored bytes of ${digest} changed; they were moved to quarantine`);
    }
    return bytes;
  }

  async *list(): AsyncIterable<BlobInfo> {
    yield* [...this.#known.values()];
  }

  async remove(digest: Digest): Promise<boolean> {
    const info = this.#known.get(digest);
    if (info === undefined || this.isLeased(digest)) return false;
    this.#forget(info);
    await this.#moving(digest, unlink(this.path(digest)).catch(ignoreMissing));
    return true;
  }

  lease(): Lease {
    const named = new Set<Digest>();
    let open = true;
    return {
      add: (digest) => {
        if (!open || named.has(digest)) return;
        named.add(digest);
        this.#leases.set(digest, (this.#leases.get(digest) ?? 0) + 1);
      },
      [Symbol.dispose]: () => {
        open = false;
        for (const digest of named) {
          const left = (this.#leases.get(digest) ?? 1) - 1;
          if (left === 0) this.#leases.delete(digest);
          else this.#leases.set(digest, left);
        }
        named.clear();
      },
    };
  }

  isLeased(digest: Digest): boolean {
    return this.#leases.has(digest);
  }

  async verify(digest: Digest, signal: AbortSignal): Promise<void> {
    this.#require(digest);
    const found = await this.#options.pool.run(verifyTask, { path: this.path(digest) }, { signal });
    if (found.digest === digest) return;
    await this.quarantine(digest);
    throw new BuildError('corrupt', `the stored bytes of ${digest} hash to ${found.digest}; they were moved to quarantine`);
  }

  async inspect(digest: Digest, signal: AbortSignal): Promise<string | undefined> {
    const info = this.#require(digest);
    try {
      const found = await this.#options.pool.run(verifyTask, { path: this.path(digest) }, { signal });
      if (found.digest === digest) return undefined;
      return found.sizeBytes === info.sizeBytes
        ? `its bytes hash to ${found.digest}`
        : `${found.sizeBytes} of ${info.sizeBytes} bytes are there`;
    } catch (error) {
      throwIfAborted(signal);
      if (!this.#known.has(digest)) return undefined; // removed meanwhile
      return existsSync(this.path(digest)) ? `it cannot be read: ${BuildError.from(error).message}` : 'its file is gone';
    }
  }

  async strays(): Promise<readonly string[]> {
    return (await readdir(this.#blobs)).filter((name) => this.#isStray(name) && existsSync(join(this.#blobs, name)));
  }
  #isStray(name: string): boolean {
    if (!/^[0-9a-f]{64}$/.test(name)) return true;
    const digest = digestFromHex(name);
    return !this.#known.has(digest) && !this.#inMotion.has(digest);
  }

  /** A blob whose file comes or goes is no stray, though it is not known at that moment. */
  async #moving(digest: Digest, work: Promise<void>): Promise<void> {
    this.#inMotion.set(digest, (this.#inMotion.get(digest) ?? 0) + 1);
    try {
      await work;
    } finally {
      const left = (this.#inMotion.get(digest) ?? 1) - 1;
      if (left > 0) this.#inMotion.set(digest, left);
      else this.#inMotion.delete(digest);
    }
  }

  async quarantineStray(name: string): Promise<void> {
    if (!this.#isStray(name)) return;
    const dir = join(this.#options.root, 'quarantine');
    await mkdir(dir, { recursive: true });
    await rename(join(this.#blobs, basename(name)), join(dir, `${basename(name)}.${this.#options.clock.nowNs()}`)).catch(
      ignoreMissing,
    );
  }

  async quarantine(digest: Digest): Promise<void> {
    const info = this.#known.get(digest);
    if (info === undefined) return;
    this.#forget(info);
    const dir = join(this.#options.root, 'quarantine');
    await mkdir(dir, { recursive: true });
    const movedTo = join(dir, `${hexOf(digest)}.${this.#options.clock.nowNs()}`);
    await rename(this.path(digest), movedTo).catch(ignoreMissing);
    this.#options.onQuarantine?.(digest, movedTo);
  }

  #forget(info: BlobInfo): void {
    if (this.#known.delete(info.digest)) this.#totalBytes -= info.sizeBytes;
  }

  #require(digest: Digest): BlobInfo {
    const info = this.#known.get(digest);
    if (info === undefined) throw new BuildError('not-found', `blob ${digest} is not in the content store`);
    return info;
  }

  /** A file that somebody deleted under us is a blob we do not have. */
  async #openBlob(digest: Digest): Promise<Awaited<ReturnType<typeof open>>> {
    try {
      return await open(this.path(digest), 'r');
    } catch (error) {
      const info = this.#known.get(digest);
      if (info !== undefined && !existsSync(this.path(digest))) {
        this.#forget(info);
        throw new BuildError('not-found', `blob ${digest} is gone from the content store`, {}, { cause: error });
      }
      throw BuildError.from(error);
    }
  }

  async #shortened(digest: Digest): Promise<BuildError> {
    const { size } = await stat(this.path(digest));
    await this.quarantine(digest);
    return new BuildError('corrupt', `blob ${digest} was cut to ${size} bytes; it was moved to quarantine`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#writer.close();
  }
}

async function writeSmall(path: string, bytes: Uint8Array): Promise<{ digest: Digest; sizeBytes: number }> {
  const file = await open(path, 'wx', 0o644);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  return { digest: digestOf(bytes), sizeBytes: bytes.byteLength };
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw BuildError.from(error);
}
