/**
 * Steps of many small state machines, run one after another. Nothing here recurses and nothing runs inside its caller, so a graph may
 * be as deep as it likes; and the loop gives way after 5 ms, so it never keeps the process from its sockets.
 */
export interface Machine {
  /** Looks at everything it depends on and does what can be done now. Called once per `push`, however often it was pushed before. */
  advance(): void;
  /** `advance` threw: a bug. Whoever waits for the machine must be told. */
  crash(error: unknown): void;
}

const TURN_MS = 5;
const CHECK_EVERY = 64; // machines between two looks at the clock

export class WorkQueue {
  #waiting: Machine[] = [];
  readonly #queued = new Set<Machine>();
  #scheduled = false;

  /** Machines that wait for their turn. */
  get size(): number {
    return this.#queued.size;
  }

  push(machine: Machine): void {
    if (this.#queued.has(machine)) return;
    this.#queued.add(machine);
    this.#waiting.push(machine);
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#turn());
  }

  #turn(): void {
    const endMs = performance.now() + TURN_MS;
    let ran = 0;
    let at = 0;
    let turn = this.#waiting;
    this.#waiting = [];
    while (turn.length > 0) {
      for (; at < turn.length; at += 1) {
        ran += 1;
        if (ran % CHECK_EVERY === 0 && performance.now() >= endMs) {
          this.#waiting = [...turn.slice(at), ...this.#waiting];
          setImmediate(() => this.#turn());
          return;
        }
        this.#run(turn[at] as Machine);
      }
      turn = this.#waiting;
      this.#waiting = [];
      at = 0;
    }
    this.#scheduled = false;
  }

  #run(machine: Machine): void {
    this.#queued.delete(machine);
    try {
      machine.advance();
    } catch (error) {
      machine.crash(error);
    }
  }
}
