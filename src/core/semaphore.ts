/** A bound on how many may do something at once. Waiters are served in order of priority, then arrival. */
import { BuildError } from './errors.ts';

export class Semaphore {
  readonly #waiting: { readonly priority: number; readonly start: () => void }[] = [];
  readonly capacity: number;
  #inUse = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  get inUse(): number {
    return this.#inUse;
  }
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Waits for a slot; dispose the result to give it back. Higher `priority` goes first. Rejects with the abort reason. */
  async acquire(signal: AbortSignal, priority = 0): Promise<Disposable> {
    if (signal.aborted) throw BuildError.from(signal.reason);
    if (this.#inUse < this.capacity) this.#inUse += 1;
    else await this.#wait(signal, priority);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#release();
      },
    };
  }

  #wait(signal: AbortSignal, priority: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(BuildError.from(signal.reason));
      };
      const waiter = {
        priority,
        start: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const at = this.#waiting.findIndex((other) => other.priority < priority);
      this.#waiting.splice(at === -1 ? this.#waiting.length : at, 0, waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The slot goes straight to the next waiter, so `inUse` only falls when nobody waits. */
  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inUse -= 1;
    else next.start();
  }
}
