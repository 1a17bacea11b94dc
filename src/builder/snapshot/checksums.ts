/** Content digests of snapshots, remembered: a committed snapshot never changes, so an answer holds as long as the snapshot lives. */
import type { CacheDigest } from '../../core/digest.ts';
import { taskRef } from '../../core/worker-pool.ts';
import type { ChecksumArgs } from './checksum/checksum-task.ts';
import type { SnapshotCore } from './core.ts';
import { Flights } from './flights.ts';
import { digestFile } from './named.ts';
import type { Selector } from './ports.ts';
import type { SnapshotRecord } from './records.ts';

const checksumTask = taskRef<ChecksumArgs, CacheDigest>(new URL('./checksum/checksum-task.ts', import.meta.url), 'checksum');
const REMEMBERED = 10_000; // answers of about 500 bytes

export class Checksums {
  readonly #core: SnapshotCore;
  readonly #flights = new Flights<CacheDigest>();
  readonly #known = new Map<string, CacheDigest>();

  constructor(core: SnapshotCore) {
    this.#core = core;
  }

  /** The caller holds the record. */
  async of(record: SnapshotRecord, selectors: readonly Selector[], signal: AbortSignal): Promise<CacheDigest> {
    const asked = selectors.length === 0 ? [WHOLE] : selectors;
    const key = `${record.id} ${JSON.stringify(asked)}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    return await this.#flights.join(key, signal, (flight) =>
      this.#core.holding(record, async () => {
        await using view = this.#core.views.open(this.#core.chainOf(record));
        const args: ChecksumArgs = { dir: view.dir, digests: digestFile(this.#core, record.id), selectors: asked };
        const digest = await this.#core.pool.run(checksumTask, args, { signal: flight });
        this.#remember(key, digest);
        return digest;
      }),
    );
  }

  #remember(key: string, digest: CacheDigest): void {
    const [oldest] = this.#known.keys();
    if (this.#known.size >= REMEMBERED && oldest !== undefined) this.#known.delete(oldest);
    this.#known.set(key, digest);
  }
}

const WHOLE: Selector = {
  path: '',
  wildcard: false,
  followLinks: false,
  includePatterns: [],
  excludePatterns: [],
  requiredPaths: [],
};
