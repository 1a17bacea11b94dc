/**
 * Bytes from a worker thread to the control loop through a ring in shared memory: the thread blocks when the ring is full, the loop
 * awaits when it is empty, and what is in flight never exceeds the ring. For archives that a thread packs while they are sent.
 */
import { BuildError } from '../../core/errors.ts';
import type { TaskContext, TaskRef, WorkerPool } from '../../core/worker-pool.ts';

/** What crosses into the thread. */
export interface PipeMemory {
  /** Bytes written and read so far, modulo 2^32, and the state. */
  readonly control: SharedArrayBuffer;
  readonly ring: SharedArrayBuffer;
}

const WRITTEN = 0;
const READ = 1;
const STATE = 2;
const OPEN = 0;
const ENDED = 1;
const CANCELLED = 2;
const RING_BYTES = 4 * 1024 * 1024; // must divide 2^32, so that the counters may wrap
const MAX_CHUNK_BYTES = 512 * 1024;
const POLL_MS = 100; // how long a blocked thread goes without looking at its abort flag

/** The thread's end. */
export class PipeWriter {
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #ring: Uint8Array;
  readonly #context: TaskContext;

  constructor(memory: PipeMemory, context: TaskContext) {
    this.#control = new Int32Array(memory.control);
    this.#ring = new Uint8Array(memory.ring);
    this.#context = context;
  }

  /** Blocks until everything is in the ring. Throws `cancelled` once the reader has gone or the task was aborted. */
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength; ) at += this.#writeSome(bytes.subarray(at));
  }

  /** The reader sees the end after what was written. */
  end(): void {
    Atomics.compareExchange(this.#control, STATE, OPEN, ENDED);
    Atomics.notify(this.#control, WRITTEN);
  }

  #writeSome(bytes: Uint8Array): number {
    const written = Atomics.load(this.#control, WRITTEN);
    const read = Atomics.load(this.#control, READ);
    const room = RING_BYTES - ((written - read) | 0);
    if (Atomics.load(this.#control, STATE) === CANCELLED || this.#context.aborted())
      throw new BuildError('cancelled', 'nobody reads this archive any more');
    if (room === 0) {
      Atomics.wait(this.#control, READ, read, POLL_MS);
      return 0;
    }
    const at = (written >>> 0) % RING_BYTES;
    const size = Math.min(room, RING_BYTES - at, bytes.byteLength);
    this.#ring.set(bytes.subarray(0, size), at);
    Atomics.store(this.#control, WRITTEN, (written + size) | 0);
    Atomics.notify(this.#control, WRITTEN);
    return size;
  }
}

/**
 * Runs a task that writes to a PipeWriter and yields what it writes. The task's failure is the iteration's; leaving the iteration
 * early stops the task.
 */
export async function* bytesFromTask<Args extends object>(
  pool: WorkerPool,
  task: TaskRef<Args & { readonly pipe: PipeMemory }, void>,
  args: Args,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const pipe: PipeMemory = { control: new SharedArrayBuffer(12), ring: new SharedArrayBuffer(RING_BYTES) };
  const control = new Int32Array(pipe.control);
  const close = (state: number): void => {
    Atomics.compareExchange(control, STATE, OPEN, state);
    Atomics.notify(control, WRITTEN);
    Atomics.notify(control, READ);
  };
  const done = pool.run(task, { ...args, pipe }, { signal });
  done.then(
    () => close(ENDED),
    () => close(ENDED),
  );
  try {
    yield* readPipe(control, new Uint8Array(pipe.ring));
    await done;
  } finally {
    close(CANCELLED);
    Atomics.store(control, STATE, CANCELLED);
    await done.catch(() => undefined); // the thread has let go of its files before the caller removes them
  }
}

async function* readPipe(control: Int32Array<SharedArrayBuffer>, ring: Uint8Array): AsyncGenerator<Uint8Array> {
  for (;;) {
    const ended = Atomics.load(control, STATE) !== OPEN; // before the counter: what is written before the end is seen
    const written = Atomics.load(control, WRITTEN);
    const read = Atomics.load(control, READ);
    const waiting = (written - read) | 0;
    if (waiting === 0) {
      if (ended) return;
      const { async, value } = Atomics.waitAsync(control, WRITTEN, written, 1000);
      if (async) await value;
      continue;
    }
    const at = (read >>> 0) % RING_BYTES;
    const size = Math.min(waiting, RING_BYTES - at, MAX_CHUNK_BYTES);
    const chunk = Buffer.from(ring.subarray(at, at + size)); // a copy: the place in the ring is given back
    Atomics.store(control, READ, (read + size) | 0);
    Atomics.notify(control, READ);
    yield chunk;
  }
}
