/**
 * Sizes of snapshots, measured in threads when somebody asks. Copies are hard links where that is possible, and each name of a file
 * counts its share, so the sum is what the disk holds. A share changes when another snapshot with the same file comes or goes:
 * snapshots with such files are measured anew then, but no more than a twentieth of the time is spent on that.
 */
import { taskRef } from '../../core/worker-pool.ts';
import type { SnapshotCore } from './core.ts';
import type { SnapshotRecord } from './records.ts';
import type { DirectoryUsage, UsageArgs } from './tree/usage-task.ts';
import { directoryOf } from './trees.ts';

const usageTask = taskRef<UsageArgs, DirectoryUsage[]>(new URL('./tree/usage-task.ts', import.meta.url), 'diskUsage');
/** Directories that one task walks: a list of all of a large store would block the loop while it is handed over. */
const AT_ONCE = 1_000;
const SHARE_OF_TIME = 20;

export class Sizes {
  readonly #core: SnapshotCore;
  readonly #isHeld: (record: SnapshotRecord) => boolean;
  /** Snapshots with files that have other names. Their sizes are not kept across restarts. */
  readonly #linked = new Set<SnapshotRecord>();
  #stale = false;
  #nextMs = 0;
  #running: Promise<void> | undefined;

  /** `isHeld`: a directory that is in use goes on growing, so its size is told but not kept. */
  constructor(core: SnapshotCore, isHeld: (record: SnapshotRecord) => boolean) {
    this.#core = core;
    this.#isHeld = isHeld;
  }

  /** Measures what is unknown or no longer true. Who asks meanwhile joins, and then looks again. */
  async refresh(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    this.#running = this.#refresh().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** The files it shared belong to fewer now. */
  removed(record: SnapshotRecord): void {
    if (this.#linked.delete(record)) this.#stale = true;
  }

  async #refresh(): Promise<void> {
    const fresh = [...this.#core.records.all()].filter(({ sizeBytes }) => sizeBytes === undefined);
    if ((await this.#measure(fresh)) > 0) this.#stale = true;
    for (const record of this.#linked) if (this.#core.records.get(record.id) !== record) this.removed(record);
    if (!this.#stale || performance.now() < this.#nextMs) return;
    this.#stale = false;
    const startedMs = performance.now();
    await this.#measure([...this.#linked]);
    this.#nextMs = performance.now() + (performance.now() - startedMs) * SHARE_OF_TIME;
  }

  /** Returns how many have files with other names. */
  async #measure(records: readonly SnapshotRecord[]): Promise<number> {
    let linked = 0;
    for (let at = 0; at < records.length; at += AT_ONCE) {
      const some = records.slice(at, at + AT_ONCE);
      const dirs = some.map(({ id }) => directoryOf(this.#core.dir, id));
      const found = await this.#core.pool.run(usageTask, { dirs }, { signal: this.#core.stopping });
      for (const [index, record] of some.entries()) linked += this.#remember(record, found[index]) ? 1 : 0;
    }
    return linked;
  }

  #remember(record: SnapshotRecord, { sizeBytes, linked }: DirectoryUsage = { sizeBytes: 0, linked: false }): boolean {
    if (this.#core.records.get(record.id) !== record) return linked;
    if (linked) this.#linked.add(record);
    else this.#linked.delete(record);
    if (linked || this.#isHeld(record)) record.sizeBytes = sizeBytes;
    else this.#core.records.setSize(record, sizeBytes);
    return linked;
  }
}
