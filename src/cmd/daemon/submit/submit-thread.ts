/** The one thread that acts as client of submitted builds: started with the first, ended after a while without any. */
import { Worker } from 'node:worker_threads';
import { BuildError } from '../../../core/errors.ts';
import type { FromWorker, ToWorker, WorkerOrder } from './submit-worker.ts';

const IDLE_MS = 10_000;
type Waiting = PromiseWithResolvers<Readonly<Record<string, string>>>;

export class SubmitThread implements AsyncDisposable {
  readonly #waiting = new Map<string, Waiting>();
  #worker: Worker | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  /** Builds through the unix socket. Rejects with the daemon's error, or with the abort reason's words when the build was cancelled. */
  async run(socket: string, order: WorkerOrder, signal: AbortSignal): Promise<Readonly<Record<string, string>>> {
    signal.throwIfAborted();
    clearTimeout(this.#idleTimer);
    const waiting: Waiting = Promise.withResolvers();
    this.#waiting.set(order.ref, waiting);
    const send = (message: ToWorker): void => this.#thread().postMessage(message);
    const onAbort = (): void => {
      const { kind, message } = BuildError.from(signal.reason);
      send({ type: 'abort', ref: order.ref, kind, message });
    };
    try {
      send({ type: 'build', socket, order });
      signal.addEventListener('abort', onAbort, { once: true });
      return await waiting.promise;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#waiting.delete(order.ref);
      if (this.#waiting.size === 0) this.#idleTimer = setTimeout(() => void this.#end(), IDLE_MS).unref();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#idleTimer);
    await this.#end();
  }

  #thread(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const file = import.meta.url.endsWith('.ts') ? './submit-worker.ts' : './submit-worker.js';
    const worker = new Worker(new URL(file, import.meta.url));
    worker.unref();
    worker.on('message', (message: FromWorker) => {
      const waiting = this.#waiting.get(message.ref);
      if (message.type === 'done') waiting?.resolve(message.response);
      else waiting?.reject(new BuildError(message.kind, message.message, message.detail));
    });
    const lost = (why: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      const error = new BuildError('internal', 'the thread of submitted builds ended', {}, { cause: why });
      for (const waiting of this.#waiting.values()) waiting.reject(error);
    };
    worker.on('error', lost).on('exit', lost);
    this.#worker = worker;
    return worker;
  }

  async #end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}
