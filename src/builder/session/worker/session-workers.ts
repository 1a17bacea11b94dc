/** The threads that sessions live in: started when the first session makes its first call, shared by many, ended when idle. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { BuildError } from '../../../core/errors.ts';
import { createRing, RingWriter } from './byte-ring.ts';
import type { OpenSession } from './protocol.ts';

/** A place for one session in a thread. Dispose it to leave. */
export interface SessionSeat extends Disposable {
  readonly port: MessagePort;
  /** For the client's bytes. */
  readonly ring: RingWriter;
  /** Aborts with `internal` when the thread has died. */
  readonly lost: AbortSignal;
}

/** Sessions a thread takes before another one is started; a start costs about what fifty small sessions do. */
const SESSIONS_PER_THREAD = 8;
const IDLE_MS = 30_000; // a start costs a build some 60 ms, so it spans the gaps between builds; an idle daemon holds no thread

export class SessionWorkers implements AsyncDisposable {
  readonly #size: number;
  readonly #threads = new Set<Thread>();

  /** `size`: threads at most. */
  constructor(size: number) {
    this.#size = size;
  }

  /** Threads running now. */
  get threads(): number {
    return this.#threads.size;
  }

  open(): SessionSeat {
    let best: Thread | undefined;
    for (const thread of this.#threads) if (best === undefined || thread.sessions < best.sessions) best = thread;
    if (best === undefined || (best.sessions >= SESSIONS_PER_THREAD && this.#threads.size < this.#size)) {
      const thread = new Thread(() => this.#threads.delete(thread)); // before it ends, so that nobody sits down in a thread that goes
      this.#threads.add(thread);
      best = thread;
    }
    return best.open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => thread.stop()));
  }
}

class Thread {
  readonly #worker: Worker;
  readonly #lost = new AbortController();
  #idleTimer: NodeJS.Timeout | undefined;
  #sessions = 0;

  readonly #retire: () => void;

  /** `retire` is called when the thread takes no more sessions. */
  constructor(retire: () => void) {
    this.#retire = retire;
    this.#worker = new Worker(
      new URL(import.meta.url.endsWith('.ts') ? './session-worker.ts' : './session-worker.js', import.meta.url),
    );
    this.#worker.unref(); // the sessions' ports keep the process alive while they are open
    this.#worker.on('error', (error) =>
      this.#lose(new BuildError('internal', `session thread died: ${error}`, {}, { cause: error })),
    );
    this.#worker.on('exit', () => {
      clearTimeout(this.#idleTimer);
      this.#lose(new BuildError('internal', 'session thread ended'));
      retire();
    });
  }

  get sessions(): number {
    return this.#sessions;
  }

  open(): SessionSeat {
    clearTimeout(this.#idleTimer);
    this.#sessions += 1;
    const { port1, port2 } = new MessageChannel();
    const ring = createRing();
    this.#worker.postMessage({ port: port2, ring } satisfies OpenSession, [port2]);
    let open = true;
    const leave = (): void => {
      if (!open) return;
      open = false;
      port1.close();
      this.#sessions -= 1;
      if (this.#sessions === 0) this.#becomeIdle();
    };
    return { port: port1, ring: new RingWriter(ring), lost: this.#lost.signal, [Symbol.dispose]: leave };
  }

  stop(): Promise<number> {
    return this.#worker.terminate();
  }

  #becomeIdle(): void {
    this.#idleTimer = setTimeout(() => {
      this.#retire();
      void this.#worker.terminate();
    }, IDLE_MS);
    this.#idleTimer.unref();
  }

  #lose(error: BuildError): void {
    if (!this.#lost.signal.aborted) this.#lost.abort(error);
  }
}
