/** Lets builds in: a bound on how many run at once and on how many may wait, so that a flood is refused with a hint instead of piling up. */
import { BuildError, GRPC } from '../../core/errors.ts';
import { Semaphore } from '../../core/semaphore.ts';

export interface AdmissionLimits {
  readonly maxBuilds: number;
  readonly maxQueued: number;
}

const RETRY_AFTER_S = 5;

export class Admission {
  readonly #slots: Semaphore;
  readonly #limits: AdmissionLimits;
  #draining = false;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
    this.#slots = new Semaphore(limits.maxBuilds);
  }

  get running(): number {
    return this.#slots.inUse;
  }
  get queued(): number {
    return this.#slots.waiting;
  }

  /** From now on every new build is refused as `unavailable`; those inside go on. */
  drain(): void {
    this.#draining = true;
  }

  /** Waits for a slot. Rejects with `exhausted` when the queue is full, `unavailable` while draining. */
  async enter(signal: AbortSignal): Promise<Disposable> {
    if (this.#draining)
      throw new BuildError('unavailable', 'the builder is draining and takes no new builds', {
        retryAfterS: RETRY_AFTER_S,
        grpcCode: GRPC.UNAVAILABLE, // not the build's failure: clients may take it elsewhere
      });
    if (this.#slots.waiting >= this.#limits.maxQueued) {
      throw new BuildError('exhausted', `the build queue is full: ${this.#slots.inUse} running, ${this.#slots.waiting} waiting`, {
        retryAfterS: RETRY_AFTER_S,
        grpcCode: GRPC.RESOURCE_EXHAUSTED,
      });
    }
    return await this.#slots.acquire(signal);
  }
}
