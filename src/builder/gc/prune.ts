/**
 * Garbage collection of build results: what clients ask to prune, and the policies, after builds, on a schedule and when the disk gets
 * short. One run at a time. The stores have the last word: a record in use and a blob under a lease are kept whatever was decided here.
 */

import { throwIfAborted } from '../../core/abort.ts';
import { Breather } from '../../core/breather.ts';
import type { Clock } from '../../core/clock.ts';
import { nsToSeconds } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { Semaphore } from '../../core/semaphore.ts';
import type { ContentStore } from '../content/ports.ts';
import type { Snapshots, SnapshotUsage } from '../snapshot/ports.ts';
import { compileFilter } from './filter.ts';
import { ageFrame } from './order.ts';
import { type Plan, planOf } from './plan.ts';
import type { DiskSpace, GcPolicy } from './policy.ts';
import { type GcRun, type GcTrigger, RunTally } from './run-tally.ts';
import { type Moment, type NamedPolicy, type Removal, sweep } from './victims.ts';

/** What a client may ask for is what a policy says. */
export type PruneRequest = GcPolicy;
/** The daemon's policies, one of them (counted from 1), or rules of one's own. */
export type Selection = 'policies' | { readonly policy: number } | { readonly rules: PruneRequest };

export interface CollectorOptions {
  readonly snapshots: Pick<Snapshots, 'usage' | 'remove'>;
  readonly content: Pick<ContentStore, 'list' | 'remove'>;
  readonly clock: Clock;
  /** Of the file system that holds the state folder. */
  readonly space: () => DiskSpace | Promise<DiskSpace>;
  /** Applied in order by every scheduled run; none when collection is off. */
  readonly policies: readonly GcPolicy[];
  /** Goes before the policies in the first run of this process, and in no other. */
  readonly once?: GcPolicy | undefined;
  /** Resolves when what was removed is off the disk; keeps a large run from piling up work. Must not reject. */
  readonly settled?: () => Promise<void>;
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
/** Removals between two waits for the disk: their rows and directories are what a run may have in flight. */
const BATCH = 256;
/** Under pressure the disk is looked at this often, since sizes on record do not tell inodes. */
const PRESSURE_BATCH = 16;
const EVERYTHING: GcPolicy = {
  filters: [],
  all: true,
  keepDurationNs: 0n,
  reservedBytes: 0,
  maxUsedBytes: 0,
  minFreeBytes: 0,
};
const maxOf = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const never = new AbortController().signal;

export class Collector implements AsyncDisposable {
  readonly #options: CollectorOptions;
  readonly #oneRun = new Semaphore(1);
  readonly #closing = new AbortController();
  #policies: readonly GcPolicy[];
  #once: GcPolicy | undefined;
  #setBackAtNs: bigint | undefined;
  #timer: NodeJS.Timeout | undefined;
  #period: NodeJS.Timeout | undefined;
  #lastRunAtNs: bigint | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#policies = options.policies;
    this.#once = options.once;
  }

  /** Takes effect with the next run. */
  setPolicies(policies: readonly GcPolicy[]): void {
    this.#policies = policies;
  }

  /** Runs every `periodMs` from now on, beside the runs after builds; 0 ends that. */
  every(periodMs: number): void {
    clearInterval(this.#period);
    this.#period = undefined;
    if (periodMs <= 0 || this.#closing.signal.aborted) return;
    this.#period = setInterval(() => void this.collect('schedule', this.#closing.signal), Math.min(periodMs, 2 ** 31 - 1));
    this.#period.unref();
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
    for await (const { record } of this.run({ rules: request }, signal)) yield record;
  }

  /** What `run` with the same selection would remove now, in order. Removes nothing. @throws BuildError `invalid-input`. */
  async plan(selection: Selection = 'policies'): Promise<Plan> {
    const policies = this.#named(selection);
    const records = await this.#options.snapshots.usage();
    const moment = await this.#moment(records);
    const removals: Removal[] = [];
    const chosen = sweep(records, policies, moment);
    for (let next = await chosen.next(true); next.done !== true; next = await chosen.next(true)) removals.push(next.value);
    return await planOf(records, removals, policies, moment.space);
  }

  /** As `prune`, for any selection, with the policy and the rule of each removal. @throws BuildError `invalid-input`. */
  async *run(selection: Selection, signal: AbortSignal): AsyncIterable<Removal> {
    for (const { rules } of this.#named(selection)) compileFilter(rules.filters); // refuses a bad filter before waiting for anything
    const tally = new RunTally('prune', this.#options.clock);
    try {
      using _turn = await this.#oneRun.acquire(signal);
      for await (const removal of this.#apply(this.#named(selection), signal)) {
        tally.add(removal);
        yield removal;
      }
      const rules = typeof selection === 'object' && 'rules' in selection ? selection.rules : undefined;
      if (rules?.all === true && rules.filters.every((filter) => filter === '')) {
        const ageNs = this.#options.quiet?.() === true ? 0n : FRESH_NS;
        await this.#removeOrphanBlobs(maxOf(rules.keepDurationNs, ageNs), signal);
      }
      if (selection === 'policies') this.#once = undefined;
    } catch (error) {
      tally.failed(error);
      throw error;
    } finally {
      this.#options.onRun?.(tally.result());
    }
  }

  /** Tells that a build ended: a run follows soon, at most one a minute. */
  afterBuild(): void {
    if (this.#timer !== undefined || this.#named('policies').length === 0 || this.#closing.signal.aborted) return;
    const sinceMs =
      this.#lastRunAtNs === undefined ? EVERY_MS : nsToSeconds(this.#options.clock.nowNs() - this.#lastRunAtNs) * 1_000;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        void this.collect('schedule', this.#closing.signal);
      },
      // A clock that was set back must not put the next run off for as long.
      Math.max(AFTER_BUILD_MS, Math.min(EVERY_MS, EVERY_MS - sinceMs)),
    );
    this.#timer.unref();
  }

  /** Applies every policy in order. Never rejects: a failure is reported by `onRun`, and the next run tries again. */
  collect(trigger: GcTrigger, signal: AbortSignal = never): Promise<void> {
    return this.#track(this.#collect(trigger, () => Promise.resolve(false), signal));
  }

  /** Applies the policies, then removes whatever nothing uses, the oldest first, until `isShort` says no. Never rejects. */
  relieve(isShort: () => Promise<boolean>): Promise<void> {
    return this.#track(this.#collect('pressure', isShort, this.#closing.signal));
  }

  /** Stops what is scheduled and waits for the run under way, which ends after its current record. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    clearInterval(this.#period);
    this.#closing.abort(new BuildError('cancelled', 'the daemon is stopping'));
    await this.#running;
  }

  #track(run: Promise<void>): Promise<void> {
    this.#running = Promise.all([this.#running, run]).then(() => undefined);
    return run;
  }

  async #collect(trigger: GcTrigger, isShort: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
    const tally = new RunTally(trigger, this.#options.clock);
    try {
      using _turn = await this.#oneRun.acquire(signal);
      this.#lastRunAtNs = this.#options.clock.nowNs();
      for await (const removal of this.#apply(this.#named('policies'), signal)) tally.add(removal);
      this.#once = undefined;
      await this.#removeOrphanBlobs(trigger === 'pressure' ? FRESH_NS : ORPHAN_AGE_NS, signal);
      if (await isShort()) await this.#removeUntil(async () => !(await isShort()), tally, signal);
    } catch (error) {
      tally.failed(error);
    }
    this.#options.onRun?.(tally.result());
  }

  async #removeUntil(isEnough: () => Promise<boolean>, tally: RunTally, signal: AbortSignal): Promise<void> {
    let removed = 0;
    for await (const removal of this.#apply([{ name: 'pressure', rules: EVERYTHING }], signal)) {
      tally.add(removal);
      removed += 1;
      if (removed % PRESSURE_BATCH !== 0) continue;
      await this.#options.settled?.();
      if (await isEnough()) return;
    }
  }

  async *#apply(policies: readonly NamedPolicy[], signal: AbortSignal): AsyncIterable<Removal> {
    const { snapshots, onRemoved, settled } = this.#options;
    throwIfAborted(signal);
    const records = await snapshots.usage();
    const chosen = sweep(records, policies, await this.#moment(records));
    let removed = 0;
    let next = await chosen.next(true);
    try {
      while (next.done !== true) {
        throwIfAborted(signal);
        const { record, policy } = next.value;
        const gone = await snapshots.remove(record.id);
        if (gone) {
          removed += 1;
          onRemoved?.(record, policy);
          yield next.value;
          if (removed % BATCH === 0) await settled?.();
        }
        next = await chosen.next(gone);
      }
    } finally {
      if (removed > 0) await settled?.();
    }
  }

  /** @throws BuildError `invalid-input` for a policy that is not there. */
  #named(selection: Selection): NamedPolicy[] {
    if (typeof selection === 'object' && 'rules' in selection) return [{ name: 'prune', rules: selection.rules }];
    const all = this.#policies.map((rules, at) => ({ name: `policy ${at + 1}`, rules }));
    if (selection === 'policies') return this.#once === undefined ? all : [{ name: 'gc.default.all', rules: this.#once }, ...all];
    const one = all[selection.policy - 1];
    if (one !== undefined) return [one];
    throw new BuildError('invalid-input', `there is no policy ${selection.policy}; there are ${all.length}`);
  }

  async #moment(records: readonly SnapshotUsage[]): Promise<Moment> {
    const nowNs = this.#options.clock.nowNs();
    const { setBack } = await ageFrame(records, nowNs, new Breather());
    if (!setBack) this.#setBackAtNs = undefined;
    else if (this.#setBackAtNs === undefined || this.#setBackAtNs > nowNs) this.#setBackAtNs = nowNs;
    return { nowNs, space: await this.#options.space(), setBackAtNs: this.#setBackAtNs };
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
