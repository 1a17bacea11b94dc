/** Work that several callers want at once and is done once. It is cancelled when the last of them has gone. */
import { abortable, throwIfAborted } from '../../core/abort.ts';
import { cancelled } from '../../core/errors.ts';

interface Flight<T> {
  readonly promise: Promise<T>;
  readonly controller: AbortController;
  waiters: number;
}

export class Flights<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** Starts `work`, or joins it when it runs under the same key. Rejects with the abort reason as soon as `signal` aborts. */
  async join(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    throwIfAborted(signal);
    let flight = this.#flights.get(key);
    if (flight === undefined || flight.controller.signal.aborted) {
      const controller = new AbortController();
      const started: Flight<T> = { promise: work(controller.signal), controller, waiters: 0 };
      this.#flights.set(key, started);
      const over = (): void => {
        if (this.#flights.get(key) === started) this.#flights.delete(key);
      };
      started.promise.then(over, over);
      flight = started;
    }
    flight.waiters += 1;
    try {
      return await abortable(flight.promise, signal);
    } finally {
      flight.waiters -= 1;
      if (flight.waiters === 0) flight.controller.abort(cancelled());
    }
  }
}
