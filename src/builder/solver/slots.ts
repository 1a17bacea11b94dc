/**
 * Who runs next when more is ready than may run at once. The step with the longest chain of dependents goes first, because everything
 * behind it waits; but a build that already holds its fair share of the slots lets the others go before it, or one deep graph would
 * starve every small build beside it.
 */
import { BuildError } from '../../core/errors.ts';

/** A build as the scheduler sees it: how many slots of one kind it holds. */
export interface Claimant {
  running: number;
}
export interface Claim {
  /** Vertices on the longest way from this one up to a result somebody asked for. */
  readonly height: number;
  /** Every build that wants the step; one of them below its share is enough. */
  readonly claimants: () => Iterable<Claimant>;
}

interface Waiter extends Claim {
  readonly start: () => void;
}
interface Candidate {
  readonly at: number;
  readonly overShare: boolean;
  readonly height: number;
  readonly held: number;
}

export class Slots {
  readonly capacity: number;
  readonly #waiting: Waiter[] = [];
  #inUse = 0;

  /** `capacity` 0 means no bound. */
  constructor(capacity: number) {
    this.capacity = capacity === 0 ? Number.POSITIVE_INFINITY : capacity;
  }

  get inUse(): number {
    return this.#inUse;
  }
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Waits for a slot; dispose the answer to give it back. Rejects with the abort reason, holding nothing. */
  async acquire(claim: Claim, signal: AbortSignal): Promise<Disposable> {
    if (signal.aborted) throw BuildError.from(signal.reason);
    if (this.#inUse >= this.capacity) return await this.#wait(claim, signal);
    this.#inUse += 1;
    return this.#grant(claim);
  }

  #grant(claim: Claim): Disposable {
    const holders = [...claim.claimants()]; // a build that goes away meanwhile still gets its count back
    for (const holder of holders) holder.running += 1;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        for (const holder of holders) holder.running -= 1;
        this.#release();
      },
    };
  }

  #wait(claim: Claim, signal: AbortSignal): Promise<Disposable> {
    return new Promise<Disposable>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(BuildError.from(signal.reason));
      };
      const waiter: Waiter = {
        ...claim,
        start: () => {
          signal.removeEventListener('abort', onAbort);
          resolve(this.#grant(claim));
        },
      };
      this.#waiting.push(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The slot goes straight to the next waiter, so `inUse` only falls when nobody waits. */
  #release(): void {
    const [next] = this.#waiting.splice(this.#next(), 1);
    if (next === undefined) this.#inUse -= 1;
    else next.start();
  }

  #next(): number {
    const builds = new Set(this.#waiting.flatMap((waiter) => [...waiter.claimants()]));
    const share = Math.max(1, Math.floor(this.capacity / Math.max(1, builds.size)));
    let best: Candidate | undefined;
    for (const [at, waiter] of this.#waiting.entries()) {
      const held = Math.min(Number.POSITIVE_INFINITY, ...[...waiter.claimants()].map(({ running }) => running));
      const candidate = { at, overShare: held >= share, height: waiter.height, held };
      if (best === undefined || goesBefore(candidate, best)) best = candidate;
    }
    return best?.at ?? 0;
  }
}

/** Within the share by height, then by what the build holds; among those over it, the build that holds least. Arrival breaks ties. */
function goesBefore(one: Candidate, other: Candidate): boolean {
  if (one.overShare !== other.overShare) return other.overShare;
  if (one.overShare && one.held !== other.held) return one.held < other.held;
  if (one.height !== other.height) return one.height > other.height;
  return one.held < other.held;
}
