/**
 * Writes streams to files and hashes them on the way, in one thread for all of them, so that a download costs the event loop only a
 * copy of its chunks. A stream may be a few MiB ahead of the disk; then its producer waits. The thread starts with the first stream and
 * ends when none has come for a while.
 */
import { Worker } from 'node:worker_threads';
import { abortable } from '../../core/abort.ts';
import { type Digest, digestFromHex } from '../../core/digest.ts';
import { BuildError, type ErrorKind } from '../../core/errors.ts';

export type WriterRequest =
  | { readonly type: 'open'; readonly id: number; readonly path: string }
  | { readonly type: 'data'; readonly id: number; readonly bytes: Uint8Array }
  /** Sync the file and answer with its digest. */
  | { readonly type: 'finish'; readonly id: number }
  | { readonly type: 'abort'; readonly id: number };
export type WriterReply =
  | { readonly type: 'written'; readonly id: number; readonly bytes: number }
  | { readonly type: 'finished'; readonly id: number; readonly hex: string; readonly sizeBytes: number }
  | { readonly type: 'failed'; readonly id: number; readonly kind: ErrorKind; readonly message: string };

export interface Written {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

const WINDOW_BYTES = 4 * 1024 * 1024;
const BATCH_BYTES = 256 * 1024;
const IDLE_MS = 10_000;

/** One stream on its way to the disk. */
interface Stream {
  ahead: number;
  /** Set while the producer waits for the disk. */
  wake: (() => void) | undefined;
  failed: BuildError | undefined;
  readonly finished: PromiseWithResolvers<Written>;
}

export class BlobWriter {
  readonly #streams = new Map<number, Stream>();
  #worker: Worker | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #nextId = 1;
  #closed = false;

  /**
   * Writes all of `bytes` to a new file at `path`, syncs it and tells digest and size. More than `maxBytes` is `corrupt`. On failure or
   * abort the file may be left behind; the caller removes it.
   */
  async write(
    path: string,
    bytes: AsyncIterable<Uint8Array> | Uint8Array,
    signal: AbortSignal,
    maxBytes?: number,
  ): Promise<Written> {
    if (this.#closed) throw new BuildError('cancelled', 'the content store is closed');
    const id = this.#nextId++;
    const stream: Stream = { ahead: 0, wake: undefined, failed: undefined, finished: Promise.withResolvers<Written>() };
    stream.finished.promise.catch(() => {}); // may fail before anybody waits for it
    this.#streams.set(id, stream);
    const worker = this.#start();
    const post = (request: WriterRequest): void => worker.postMessage(request);
    post({ type: 'open', id, path });
    let done = false;
    try {
      let total = 0;
      for await (const batch of batches(bytes, signal)) {
        total += batch.byteLength;
        if (maxBytes !== undefined && total > maxBytes)
          throw new BuildError('corrupt', `more than the expected ${maxBytes} bytes`);
        if (stream.failed !== undefined) throw stream.failed;
        stream.ahead += batch.byteLength;
        post({ type: 'data', id, bytes: batch });
        if (stream.ahead > WINDOW_BYTES) await abortable(roomIn(stream), signal);
      }
      post({ type: 'finish', id });
      const written = await abortable(stream.finished.promise, signal);
      done = true;
      return written;
    } finally {
      if (!done) post({ type: 'abort', id });
      this.#streams.delete(id);
      this.#whenIdle();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idleTimer);
    await this.#worker?.terminate();
  }

  #start(): Worker {
    clearTimeout(this.#idleTimer);
    if (this.#worker !== undefined) {
      this.#worker.ref();
      return this.#worker;
    }
    const module = import.meta.url.endsWith('.ts') ? './blob-writer-thread.ts' : './blob-writer-thread.js';
    const worker = new Worker(new URL(module, import.meta.url));
    worker.on('message', (reply: WriterReply) => this.#onReply(reply));
    worker.on('error', (error) =>
      this.#failAll(new BuildError('internal', `blob writer died: ${error.message}`, {}, { cause: error })),
    );
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      this.#failAll(new BuildError('cancelled', 'the content store is closed'));
    });
    this.#worker = worker;
    return worker;
  }

  #onReply(reply: WriterReply): void {
    const stream = this.#streams.get(reply.id);
    if (stream === undefined) return;
    switch (reply.type) {
      case 'written':
        stream.ahead -= reply.bytes;
        break;
      case 'finished':
        stream.finished.resolve({ digest: digestFromHex(reply.hex), sizeBytes: reply.sizeBytes });
        break;
      case 'failed':
        fail(stream, new BuildError(reply.kind, reply.message));
        break;
    }
    stream.wake?.();
  }

  #failAll(error: BuildError): void {
    for (const stream of this.#streams.values()) fail(stream, error);
  }

  #whenIdle(): void {
    if (this.#streams.size > 0 || this.#worker === undefined) return;
    this.#worker.unref();
    const worker = this.#worker;
    this.#idleTimer = setTimeout(() => {
      if (this.#worker === worker) this.#worker = undefined;
      void worker.terminate();
    }, IDLE_MS);
    this.#idleTimer.unref();
  }
}

function fail(stream: Stream, error: BuildError): void {
  stream.failed ??= error;
  stream.finished.reject(error);
  stream.wake?.();
}

/** Waits until the disk has caught up to half the window, or the stream failed. */
async function roomIn(stream: Stream): Promise<void> {
  while (stream.ahead > WINDOW_BYTES / 2 && stream.failed === undefined) {
    await new Promise<void>((resolve) => {
      stream.wake = resolve;
    });
    stream.wake = undefined;
  }
}

/** Small chunks put together, large ones cut, so that a message is worth its cost. Every batch owns its memory. */
async function* batches(bytes: AsyncIterable<Uint8Array> | Uint8Array, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  let batch: Uint8Array[] = [];
  let size = 0;
  const flush = (): Uint8Array => {
    const joined = Buffer.concat(batch, size);
    batch = [];
    size = 0;
    // A small Buffer may live in Node's shared slab; posting it would copy the whole slab.
    return joined.byteLength < joined.buffer.byteLength ? new Uint8Array(joined) : joined;
  };
  const iterator = bytes instanceof Uint8Array ? [bytes][Symbol.iterator]() : bytes[Symbol.asyncIterator]();
  try {
    while (true) {
      const next = await abortable(Promise.resolve(iterator.next()), signal);
      if (next.done === true) break;
      for (let at = 0; at < next.value.byteLength; at += WINDOW_BYTES) {
        const piece = next.value.subarray(at, at + WINDOW_BYTES);
        batch.push(piece);
        size += piece.byteLength;
        if (size >= BATCH_BYTES) yield flush();
      }
    }
    if (size > 0) yield flush();
  } finally {
    void Promise.resolve(iterator.return?.()).catch(() => {}); // on failure the producer is told; it may hang, so nobody waits
  }
}
