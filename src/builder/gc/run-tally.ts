/** What one run of garbage collection did, counted while it goes. */
import { type Clock, nsToSeconds } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { usedAt } from './order.ts';
import type { Rule } from './policy.ts';
import type { Removal } from './victims.ts';

/** After a build or at the configured interval; asked for by somebody; the disk was short of space or inodes. */
export type GcTrigger = 'schedule' | 'prune' | 'pressure';
export interface GcRun {
  readonly trigger: GcTrigger;
  readonly ok: boolean;
  readonly seconds: number;
  readonly freedBytes: number;
  readonly removedRecords: number;
  readonly removedByRule: Readonly<Partial<Record<Rule, number>>>;
  /** How long the record removed last had not been used; undefined when none was removed. */
  readonly lastRemovedUnusedSeconds?: number;
  readonly error?: BuildError;
}

export class RunTally {
  readonly #trigger: GcTrigger;
  readonly #clock: Clock;
  readonly #startedAtNs: bigint;
  readonly #byRule: Partial<Record<Rule, number>> = {};
  #freedBytes = 0;
  #removedRecords = 0;
  #unusedNs: bigint | undefined;
  #error: BuildError | undefined;

  constructor(trigger: GcTrigger, clock: Clock) {
    this.#trigger = trigger;
    this.#clock = clock;
    this.#startedAtNs = clock.nowNs();
  }

  add({ record, rule }: Removal): void {
    this.#freedBytes += record.sizeBytes;
    this.#removedRecords += 1;
    this.#byRule[rule] = (this.#byRule[rule] ?? 0) + 1;
    const unusedNs = this.#clock.nowNs() - usedAt(record);
    this.#unusedNs = unusedNs > 0n ? unusedNs : 0n; // the clock may have been set back
  }
  failed(error: unknown): void {
    this.#error = BuildError.from(error);
  }
  result(): GcRun {
    const stopped = this.#error?.kind === 'cancelled';
    return {
      trigger: this.#trigger,
      ok: this.#error === undefined || stopped,
      seconds: Math.max(0, nsToSeconds(this.#clock.nowNs() - this.#startedAtNs)),
      freedBytes: this.#freedBytes,
      removedRecords: this.#removedRecords,
      removedByRule: this.#byRule,
      ...(this.#unusedNs === undefined ? {} : { lastRemovedUnusedSeconds: nsToSeconds(this.#unusedNs) }),
      ...(this.#error === undefined ? {} : { error: this.#error }),
    };
  }
}
