/**
 * Work that several callers want at the same time runs once. It is aborted only when the last of them has gone, so one cancelled
 * build never takes a download away from another.
 */
import { abortable } from '../../core/abort.ts';
import { cancelled } from '../../core/errors.ts';

interface Flight<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  readonly listeners: Set<(bytes: number) => void>;
  waiting: number;
}

export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** Joins the work named `key` or starts it. `onProgress` hears what is reported from now on. Rejects with the abort reason. */
  async run(
    key: string,
    signal: AbortSignal,
    work: (signal: AbortSignal, report: (bytes: number) => void) => Promise<T>,
    onProgress?: (bytes: number) => void,
  ): Promise<T> {
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    if (onProgress !== undefined) flight.listeners.add(onProgress);
    flight.waiting += 1;
    try {
      return await abortable(flight.result, signal);
    } finally {
      flight.waiting -= 1;
      if (onProgress !== undefined) flight.listeners.delete(onProgress);
      if (flight.waiting === 0) {
        this.#forget(key, flight); // a newcomer must not join work that is being torn down
        flight.controller.abort(cancelled());
      }
    }
  }

  #start(key: string, work: (signal: AbortSignal, report: (bytes: number) => void) => Promise<T>): Flight<T> {
    const controller = new AbortController();
    const listeners = new Set<(bytes: number) => void>();
    const report = (bytes: number): void => {
      for (const listener of listeners) listener(bytes);
    };
    const flight: Flight<T> = { controller, listeners, waiting: 0, result: work(controller.signal, report) };
    this.#flights.set(key, flight);
    flight.result.then(
      () => this.#forget(key, flight),
      () => this.#forget(key, flight),
    );
    return flight;
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
