/**
 * Looks at running steps about once a second. One timer serves all of them and stops when none runs, so a short step costs nothing;
 * a look at one step is a dozen reads from kernel memory, about 0.2 ms.
 */
import type { Clock } from '../../core/clock.ts';
import type { ResourceSample } from '../events.ts';
import type { CgroupSlot } from './cgroups.ts';

export interface Sampled {
  readonly slot: CgroupSlot;
  /** 0 is none. */
  readonly memoryLimitBytes: number;
  readonly onSample: (sample: ResourceSample) => void;
}

const EVERY_MS = 1_000;
const YOUNGEST_NS = 500_000_000n; // what has just started is looked at a tick later

export class ResourceSampler {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #running = new Map<Sampled, bigint>();
  #timer: NodeJS.Timeout | undefined;

  constructor(clock: Clock, everyMs = EVERY_MS) {
    this.#clock = clock;
    this.#everyMs = everyMs;
  }

  /** Looks at the step until disposed. */
  watch(step: Sampled): Disposable {
    this.#running.set(step, this.#clock.nowNs());
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#look(), this.#everyMs);
      this.#timer.unref();
    }
    return {
      [Symbol.dispose]: () => {
        this.#running.delete(step);
        if (this.#running.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  #look(): void {
    for (const [step, startedAtNs] of this.#running) {
      const atNs = this.#clock.nowNs();
      if (atNs - startedAtNs < YOUNGEST_NS && this.#everyMs === EVERY_MS) continue;
      const reading = step.slot.reading();
      if (reading === undefined || Object.keys(reading).length === 0) continue;
      const limit = step.memoryLimitBytes > 0 ? { memoryLimitBytes: step.memoryLimitBytes } : {};
      step.onSample({ atNs, ...reading, ...limit });
    }
  }
}
