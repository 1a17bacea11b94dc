/**
 * Digests of files of snapshots that may be gone: the saved digest tree of a snapshot (checksum/digest-file.ts) kept under another name,
 * as a hard link, so that keeping one costs a system call and a later comparison reads no file of either tree. Bounded in number and
 * size; the one kept longest ago goes first.
 */
import { link, mkdir, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { CompareArgs, CompareOutput } from './checksum/compare-task.ts';
import { digestFileIn } from './named.ts';
import type { Selector } from './ports.ts';

const compareTask = taskRef<CompareArgs, CompareOutput>(new URL('./checksum/compare-task.ts', import.meta.url), 'compareDigests');

export interface DigestListLimits {
  readonly maxLists: number;
  readonly maxBytes: number;
}
const DEFAULT_LIMITS: DigestListLimits = { maxLists: 1_000, maxBytes: 64 * 1024 ** 2 };

export interface DigestLists {
  /**
   * Keeps the digests of a snapshot under `name`, a file name. False when the snapshot has none. Keeping a name again only makes it
   * young. Rejects when the disk refuses.
   */
  keep(name: string, snapshotId: string): Promise<boolean>;
  /** What differs in the selected paths; undefined when a list is gone. */
  compare(
    old: string,
    now: string,
    selectors: readonly Selector[],
    limit: number,
    signal: AbortSignal,
  ): Promise<CompareOutput | undefined>;
  readonly sizeBytes: number;
}

/** Opens the lists below `root`; what an earlier run kept is found again. */
export async function openDigestLists(options: {
  readonly root: string;
  readonly pool: WorkerPool;
  readonly limits?: Partial<DigestListLimits>;
}): Promise<DigestLists> {
  const lists = new StoredLists(options.root, options.pool, { ...DEFAULT_LIMITS, ...options.limits });
  await lists.load();
  return lists;
}

class StoredLists implements DigestLists {
  readonly #dir: string;
  readonly #snapshots: string;
  readonly #pool: WorkerPool;
  readonly #limits: DigestListLimits;
  /** Bytes by name; the one kept longest ago first. */
  readonly #sizes = new Map<string, number>();
  sizeBytes = 0;

  constructor(root: string, pool: WorkerPool, limits: DigestListLimits) {
    this.#dir = join(root, 'explain');
    this.#snapshots = join(root, 'snapshots');
    this.#pool = pool;
    this.#limits = limits;
  }

  async load(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const found: { readonly name: string; readonly size: number; readonly atMs: number }[] = [];
    for (const name of await readdir(this.#dir)) {
      const { size, ctimeMs } = await stat(join(this.#dir, name));
      found.push({ name, size, atMs: ctimeMs });
    }
    for (const { name, size } of found.sort((a, b) => a.atMs - b.atMs)) this.#add(name, size);
    await this.#trim();
  }

  async keep(name: string, snapshotId: string): Promise<boolean> {
    const path = join(this.#dir, name);
    const size = this.#sizes.get(name);
    if (size !== undefined) {
      this.#add(name, size);
      return true;
    }
    try {
      await link(digestFileIn(this.#snapshots, snapshotId), path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT') return false;
      if (code !== 'EEXIST') throw error;
    }
    this.#add(name, (await stat(path)).size);
    await this.#trim();
    return true;
  }

  async compare(
    old: string,
    now: string,
    selectors: readonly Selector[],
    limit: number,
    signal: AbortSignal,
  ): Promise<CompareOutput | undefined> {
    if (!this.#sizes.has(old) || !this.#sizes.has(now)) return undefined;
    const args: CompareArgs = { old: join(this.#dir, old), now: join(this.#dir, now), selectors, limit };
    return await this.#pool.run(compareTask, args, { signal });
  }

  #add(name: string, size: number): void {
    this.sizeBytes += size - (this.#sizes.get(name) ?? 0);
    this.#sizes.delete(name);
    this.#sizes.set(name, size);
  }

  async #trim(): Promise<void> {
    for (const [name, size] of this.#sizes) {
      if (this.#sizes.size <= this.#limits.maxLists && this.sizeBytes <= this.#limits.maxBytes) return;
      this.#sizes.delete(name);
      this.sizeBytes -= size;
      await unlink(join(this.#dir, name)).catch(() => {});
    }
  }
}
