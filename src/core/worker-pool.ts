/**
 * Threads for bulk work: hashing, tar, compression, walking, big files. A task is a function exported by a module; the module is
 * loaded in a thread on first use, so start-up and the control loop never pay for it. Threads start when needed and end when idle.
 */
import { Worker } from 'node:worker_threads';
import { BuildError, type ErrorKind } from './errors.ts';

/** What a task sees of its caller. Tasks use synchronous file calls, so abort is polled, not awaited. */
export interface TaskContext {
  /** True once the caller gave up: stop, clean up and throw anything. */
  readonly aborted: () => boolean;
  /** Adds to the caller's progress; call at most every few hundred KiB. */
  readonly progress: (bytes: number) => void;
}
export type Task<Args, Output> = (args: Args, context: TaskContext) => Output | Promise<Output>;

/** Names a task: the module's URL and the exported function. `taskRef<typeof import('./pack-task.ts'), 'pack'>(url, 'pack')`. */
export interface TaskRef<Args, Output> {
  readonly module: string;
  readonly name: string;
  /** Never set; carries the types. */
  readonly types?: (args: Args) => Output;
}
export function taskRef<Args, Output>(module: URL, name: string): TaskRef<Args, Output> {
  return { module: module.href, name };
}

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (bytes: number) => void;
  readonly transfer?: readonly ArrayBuffer[];
}

/** Messages between the pool and worker-main.ts. */
export interface TaskMessage {
  readonly id: number;
  readonly module: string;
  readonly name: string;
  readonly args: unknown;
  readonly abortFlag: SharedArrayBuffer;
}
export type TaskReply =
  | { readonly id: number; readonly type: 'progress'; readonly bytes: number }
  | { readonly id: number; readonly type: 'done'; readonly output: unknown }
  | {
      readonly id: number;
      readonly type: 'failed';
      readonly kind: ErrorKind;
      readonly message: string;
      readonly detail: unknown;
      readonly stack: string;
    };

interface Job {
  readonly message: TaskMessage;
  readonly transfer: readonly ArrayBuffer[];
  readonly onProgress: ((bytes: number) => void) | undefined;
  readonly resolve: (output: unknown) => void;
  readonly reject: (error: BuildError) => void;
}

const IDLE_MS = 10_000; // long enough to span the gaps inside one build, short enough that an idle daemon holds no thread

export class WorkerPool implements AsyncDisposable {
  readonly #size: number;
  readonly #queue: Job[] = [];
  readonly #idle: Thread[] = [];
  readonly #threads = new Set<Thread>();
  #nextId = 1;
  #closed = false;

  /** `size`: threads at most; tasks above that wait in order. */
  constructor(size: number) {
    this.#size = size;
  }

  /** Tasks that wait for a thread. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Runs a task. Rejects with the task's BuildError, with the abort reason, or with `internal` when its thread dies. */
  run<Args, Output>(task: TaskRef<Args, Output>, args: Args, options: RunOptions): Promise<Output> {
    const { signal } = options;
    if (signal.aborted) return Promise.reject(BuildError.from(signal.reason));
    if (this.#closed) return Promise.reject(new BuildError('cancelled', 'the daemon is stopping'));
    return new Promise<Output>((resolve, reject) => {
      const abortFlag = new SharedArrayBuffer(4);
      const settle = (): void => signal.removeEventListener('abort', onAbort);
      const job: Job = {
        message: { id: this.#nextId++, module: task.module, name: task.name, args, abortFlag },
        transfer: options.transfer ?? [],
        onProgress: options.onProgress,
        resolve: (output) => {
          settle();
          resolve(output as Output);
        },
        reject: (error) => {
          settle();
          reject(signal.aborted ? BuildError.from(signal.reason) : error);
        },
      };
      // A queued task is dropped at once; a running one is told and answers when it has cleaned up.
      const onAbort = (): void => {
        Atomics.store(new Int32Array(abortFlag), 0, 1);
        const at = this.#queue.indexOf(job);
        if (at === -1) return;
        this.#queue.splice(at, 1);
        job.reject(BuildError.from(signal.reason));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#queue.push(job);
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#queue.length > 0) {
      const thread = this.#idle.pop() ?? (this.#threads.size < this.#size ? this.#start() : undefined);
      if (thread === undefined) return;
      thread.run(this.#queue.shift() as Job);
    }
  }

  #start(): Thread {
    const thread = new Thread(
      () => {
        this.#idle.push(thread);
        this.#dispatch();
      },
      () => {
        this.#threads.delete(thread);
        const at = this.#idle.indexOf(thread);
        if (at !== -1) this.#idle.splice(at, 1);
        this.#dispatch();
      },
    );
    this.#threads.add(thread);
    return thread;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const job of this.#queue.splice(0)) job.reject(new BuildError('cancelled', 'the daemon is stopping'));
    await Promise.all([...this.#threads].map((thread) => thread.stop()));
  }
}

/** One thread, one task at a time. */
class Thread {
  readonly #worker: Worker;
  readonly #onIdle: () => void;
  readonly #onExit: () => void;
  #job: Job | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(onIdle: () => void, onExit: () => void) {
    this.#onIdle = onIdle;
    this.#onExit = onExit;
    this.#worker = new Worker(
      new URL(import.meta.url.endsWith('.ts') ? './worker-main.ts' : './worker-main.js', import.meta.url),
    );
    this.#worker.unref();
    this.#worker.on('message', (reply: TaskReply) => this.#onReply(reply));
    this.#worker.on('error', (error) =>
      this.#fail(new BuildError('internal', `worker thread died: ${error.message}`, {}, { cause: error })),
    );
    this.#worker.on('exit', () => {
      this.#fail(new BuildError('internal', 'worker thread ended in the middle of a task'));
      onExit();
    });
  }

  run(job: Job): void {
    clearTimeout(this.#idleTimer);
    this.#job = job;
    this.#worker.ref();
    try {
      this.#worker.postMessage(job.message, job.transfer);
    } catch (error) {
      this.#fail(BuildError.from(error));
      this.#becomeIdle();
    }
  }

  stop(): Promise<number> {
    clearTimeout(this.#idleTimer);
    return this.#worker.terminate();
  }

  #onReply(reply: TaskReply): void {
    const job = this.#job;
    if (job === undefined) return;
    if (reply.type === 'progress') {
      job.onProgress?.(reply.bytes);
      return;
    }
    this.#job = undefined;
    if (reply.type === 'done') job.resolve(reply.output);
    else {
      const error = new BuildError(reply.kind, reply.message, reply.detail as BuildError['detail']);
      error.stack = reply.stack;
      job.reject(error);
    }
    this.#becomeIdle();
  }

  #becomeIdle(): void {
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => {
      this.#onExit(); // leaves the pool before it ends, or a task could be given to it meanwhile and die with it
      void this.#worker.terminate();
    }, IDLE_MS);
    this.#idleTimer.unref();
    this.#onIdle();
  }

  #fail(error: BuildError): void {
    this.#job?.reject(error);
    this.#job = undefined;
  }
}
