/**
 * Garbage collection of build results: what clients ask to prune, and the policies, after builds. One run at a time. The stores have
 * the last word: a record in use and a blob under a lease are kept whatever was decided here.
 */

import { throwIfAborted } from '../../core/abort.ts';
import type { Clock } from '../../core/clock.ts';
import { nsToSeconds } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { Semaphore } from '../../core/semaphore.ts';
import type { ContentStore } from '../content/ports.ts';
import type { Snapshots, SnapshotUsage } from '../snapshot/ports.ts';
import { compileFilter } from './filter.ts';
import type { DiskSpace, GcPolicy } from './policy.ts';
import { victims } from './victims.ts';

/** What a client may ask for is what a policy says. */
export type PruneRequest = GcPolicy;
export interface GcRun {
  readonly trigger: 'schedule' | 'prune' | 'pressure';
  readonly ok: boolean;
  readonly seconds: number;
  readonly freedBytes: number;
  readonly removedRecords: number;
  readonly error?: BuildError;
}
/** A record that would go, and the policy (counted from 0) that says so. */
export interface PlannedRemoval {
  readonly record: SnapshotUsage;
  readonly policy: number;
}
export interface CollectorOptions {
  readonly snapshots: Pick<Snapshots, 'usage' | 'remove'>;
  readonly content: Pick<ContentStore, 'list' | 'remove'>;
  readonly clock: Clock;
  /** Of the file system that holds the state folder. */
  readonly space: () => DiskSpace | Promise<DiskSpace>;
  /** Applied in order by every scheduled run; none when collection is off. */
  readonly policies: readonly GcPolicy[];
  /** True while no build runs and no record of one is being written: then a blob that no lease names is nobody's. */
  readonly quiet?: () => boolean;
  /** A record is gone, and what removed it: `policy 2` (counted from 1), `prune`, `pressure`. The key index forgets the result. */
  readonly onRemoved?: (record: SnapshotUsage, by: string) => void;
  readonly onRun?: (run: GcRun) => void;
}

const EVERY_MS = 60_000; // like BuildKit: at most one run a minute, however many builds end
const AFTER_BUILD_MS = 5_000; // lets the next build of a series begin before the disk is busy
/** Blobs nobody has named for this long: manifests and configs read once, and what a kill left between two steps. */
const ORPHAN_AGE_NS = 48n * 3_600_000_000_000n;
/** A blob this new may have arrived for a step that has not named it yet. */
const FRESH_NS = 3_600_000_000_000n;
const maxOf = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const never = new AbortController().signal;

export class Collector implements AsyncDisposable {
  readonly #options: CollectorOptions;
  readonly #oneRun = new Semaphore(1);
  readonly #closing = new AbortController();
  #policies: readonly GcPolicy[];
  #timer: NodeJS.Timeout | undefined;
  #lastRunAtNs: bigint | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#policies = options.policies;
  }

  /** Takes effect with the next run. */
  setPolicies(policies: readonly GcPolicy[]): void {
    this.#policies = policies;
  }

  /** Records that match any of `filters`, and were not used within `ageLimitNs` when that is not 0. */
  async usage(filters: readonly string[], ageLimitNs: bigint): Promise<SnapshotUsage[]> {
    const matches = compileFilter(filters);
    const usedBeforeNs = this.#options.clock.nowNs() - ageLimitNs;
    const records = await this.#options.snapshots.usage();
    return records.filter((record) => matches(record) && (ageLimitNs <= 0n || (record.lastUsedAtNs ?? 0n) <= usedBeforeNs));
  }

  /** Removes and yields one record at a time; waits for a run that is under way. Ends early when the signal aborts or nobody reads on. */
  async *prune(request: PruneRequest, signal: AbortSignal): AsyncIterable<SnapshotUsage> {
    compileFilter(request.filters); // refuses a bad filter before waiting for anything
    const run = new RunTally('prune', this.#options);
    try {
      using _turn = await this.#oneRun.acquire(signal);
      for await (const record of this.#apply(request, 'prune', signal)) {
        run.add(record);
        yield record;
      }
      if (request.all && request.filters.every((filter) => filter === '')) {
        const ageNs = this.#options.quiet?.() === true ? 0n : FRESH_NS;
        await this.#removeOrphanBlobs(maxOf(request.keepDurationNs, ageNs), signal);
      }
    } catch (error) {
      run.failed(error);
      throw error;
    } finally {
      run.report();
    }
  }

  /** What a run of the policies would remove now, in order. Removes nothing. */
  async plan(): Promise<PlannedRemoval[]> {
    const { snapshots, clock, space } = this.#options;
    let records = await snapshots.usage();
    let { totalBytes, freeBytes } = await space();
    const planned: PlannedRemoval[] = [];
    for (const [policy, rules] of this.#policies.entries()) {
      const gone = new Set<string>();
      const chosen = victims(records, rules, { nowNs: clock.nowNs(), space: { totalBytes, freeBytes } });
      for (let next = chosen.next(true); next.done !== true; next = chosen.next(true)) {
        planned.push({ record: next.value, policy });
        gone.add(next.value.id);
        freeBytes += next.value.sizeBytes;
      }
      records = records.filter(({ id }) => !gone.has(id));
    }
    return planned;
  }

  /** Tells that a build ended: a run follows soon, at most one a minute. */
  afterBuild(): void {
    if (this.#timer !== undefined || this.#policies.length === 0 || this.#closing.signal.aborted) return;
    const sinceMs =
      this.#lastRunAtNs === undefined ? EVERY_MS : nsToSeconds(this.#options.clock.nowNs() - this.#lastRunAtNs) * 1_000;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        void this.collect('schedule', this.#closing.signal);
      },
      Math.max(AFTER_BUILD_MS, EVERY_MS - sinceMs),
    );
    this.#timer.unref();
  }

  /** Applies every policy in order. Never rejects: a failure is reported by `onRun`, and the next run tries again. */
  collect(trigger: GcRun['trigger'], signal: AbortSignal = never): Promise<void> {
    const run = this.#collect(trigger, signal);
    this.#running = run;
    return run;
  }

  /** Stops what is scheduled and waits for the run under way, which ends after its current record. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#closing.abort(new BuildError('cancelled', 'the daemon is stopping'));
    await this.#running;
  }

  async #collect(trigger: GcRun['trigger'], signal: AbortSignal): Promise<void> {
    const run = new RunTally(trigger, this.#options);
    try {
      using _turn = await this.#oneRun.acquire(signal);
      this.#lastRunAtNs = this.#options.clock.nowNs();
      for (const [at, policy] of this.#policies.entries())
        for await (const record of this.#apply(policy, `policy ${at + 1}`, signal)) run.add(record);
      await this.#removeOrphanBlobs(ORPHAN_AGE_NS, signal);
    } catch (error) {
      run.failed(error);
    }
    run.report();
  }

  async *#apply(policy: GcPolicy, by: string, signal: AbortSignal): AsyncIterable<SnapshotUsage> {
    const { snapshots, clock, space, onRemoved } = this.#options;
    throwIfAborted(signal);
    const chosen = victims(await snapshots.usage(), policy, { nowNs: clock.nowNs(), space: await space() });
    let next = chosen.next(true);
    while (next.done !== true) {
      throwIfAborted(signal);
      const record = next.value;
      const gone = await snapshots.remove(record.id);
      if (gone) {
        onRemoved?.(record, by);
        yield record;
      }
      next = chosen.next(gone);
    }
  }

  async #removeOrphanBlobs(olderThanNs: bigint, signal: AbortSignal): Promise<void> {
    const { content, clock } = this.#options;
    const before = clock.nowNs() - olderThanNs;
    for await (const { digest, createdAtNs } of content.list()) {
      throwIfAborted(signal);
      if (createdAtNs < before) await content.remove(digest); // false when a lease names it
    }
  }
}

class RunTally {
  readonly #trigger: GcRun['trigger'];
  readonly #options: CollectorOptions;
  readonly #startedAtNs: bigint;
  #freedBytes = 0;
  #removedRecords = 0;
  #error: BuildError | undefined;

  constructor(trigger: GcRun['trigger'], options: CollectorOptions) {
    this.#trigger = trigger;
    this.#options = options;
    this.#startedAtNs = options.clock.nowNs();
  }

  add({ sizeBytes }: SnapshotUsage): void {
    this.#freedBytes += sizeBytes;
    this.#removedRecords += 1;
  }
  failed(error: unknown): void {
    this.#error = BuildError.from(error);
  }
  report(): void {
    const stopped = this.#error?.kind === 'cancelled';
    this.#options.onRun?.({
      trigger: this.#trigger,
      ok: this.#error === undefined || stopped,
      seconds: nsToSeconds(this.#options.clock.nowNs() - this.#startedAtNs),
      freedBytes: this.#freedBytes,
      removedRecords: this.#removedRecords,
      ...(this.#error === undefined ? {} : { error: this.#error }),
    });
  }
}
