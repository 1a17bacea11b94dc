/**
 * One client's session on the main thread: moves the bytes of its tunnel to and from a worker thread and hands calls to that thread.
 *
 *   waiting ─first call or health check─► seated ─client gone, health lost, thread lost─► closing ─last call settled─► closed
 *
 * While waiting, what the client sends first (its HTTP/2 settings) is kept here, so a session that is never called costs no thread.
 */
import type { MessagePort } from 'node:worker_threads';
import { type Digest, parseDigest } from '../../core/digest.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import { bytesMessagePieces, decodeBytesMessage } from '../rpc/bytes-message.ts';
import { fileSyncHeaders } from './file-sync-headers.ts';
import type { CallOptions, Headers, ReceivedFiles, ReceiveFiles, Session, SessionStream } from './ports.ts';
import { CallChannel } from './worker/call-channel.ts';
import {
  type FromWorker,
  fromWireError,
  ownBytes,
  type ReceiveOutput,
  type Task,
  type ToWorker,
  toWireError,
} from './worker/protocol.ts';
import type { SessionSeat, SessionWorkers } from './worker/session-workers.ts';

/** `Control.Session` from the daemon's side: BytesMessages both ways. */
export interface TunnelStream {
  pieces(): AsyncIterator<readonly Uint8Array[]>;
  sendData(data: Uint8Array): Promise<void>;
}

export interface SessionIdentity {
  readonly id: string;
  readonly sharedKey: string;
  readonly name: string;
  /** `/pkg.Service/Method` of everything the client serves. */
  readonly methods: readonly string[];
}

/** Kept before there is a thread; a client that sends more before it is called has to wait. */
const EARLY_BYTES = 64 * 1024;
/** Put into the ring before the thread is told: telling costs as much as copying this much. */
const BATCH_BYTES = 256 * 1024;

interface PendingCall {
  readonly channel: CallChannel;
  readonly onProgress: ((bytes: number) => void) | undefined;
  readonly onDigests: ((message: FromWorker & { type: 'digests' }) => void) | undefined;
  readonly resolve: (output: unknown) => void;
  readonly reject: (error: BuildError) => void;
}
type CallHooks = Pick<PendingCall, 'onProgress' | 'onDigests'>;
const NO_HOOKS: CallHooks = { onProgress: undefined, onDigests: undefined };

export class TunnelSession implements Session {
  readonly id: string;
  readonly sharedKey: string;
  readonly name: string;
  readonly #methods: ReadonlySet<string>;
  readonly #stream: TunnelStream;
  readonly #messages: AsyncIterator<readonly Uint8Array[]>;
  readonly #workers: SessionWorkers;
  readonly #closed = new AbortController();
  readonly #calls = new Map<number, PendingCall>();
  #nextCall = 1;
  #seat: SessionSeat | undefined;
  /** From the client, not in the ring yet: there is no thread, or the ring is full. */
  #early: Uint8Array[] = [];
  #earlyBytes = 0;
  /** In the ring, but the thread has not been told. */
  #untoldBytes = 0;
  #telling: NodeJS.Immediate | undefined;
  #room: (() => void) | undefined;

  constructor(identity: SessionIdentity, stream: TunnelStream, workers: SessionWorkers) {
    this.id = identity.id;
    this.sharedKey = identity.sharedKey;
    this.name = identity.name;
    this.#methods = new Set(identity.methods.map((method) => method.toLowerCase()));
    this.#stream = stream;
    this.#messages = stream.pieces();
    this.#workers = workers;
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  supports(method: string): boolean {
    return this.#methods.has(method.toLowerCase());
  }

  /** Takes a place in a thread before the first call, so that the call need not wait for the thread to start. */
  warmUp(): void {
    if (!this.closed.aborted) this.#sit();
  }

  /** Moves the client's bytes until it half-closes, goes away, or `close` is called. Never rejects; tells whether the client was lost. */
  async run(): Promise<'closed' | 'lost'> {
    try {
      while (!this.closed.aborted) {
        const next = await this.#messages.next();
        if (next.done === true) break;
        for (const data of bytesMessagePieces(next.value)) {
          if (data.byteLength === 0) continue;
          this.#early.push(data);
          this.#earlyBytes += data.byteLength;
        }
        this.#fillRing();
        while (this.#isFull() && !this.closed.aborted) await this.#waitForRoom();
      }
      const silent = this.closed.aborted && BuildError.from(this.closed.reason).kind === 'unavailable';
      this.close(cancelled(`session ${this.id} has ended: the client closed it`));
      return silent ? 'lost' : 'closed';
    } catch (error) {
      this.close(cancelled(`session ${this.id} has ended: ${BuildError.from(error).message}`));
      return 'lost';
    }
  }

  /** Ends the session: `closed` aborts with `reason` at once, running calls reject with it once the thread has let go of their files. */
  close(reason: BuildError): void {
    if (this.closed.aborted) return;
    this.#closed.abort(reason);
    void this.#messages.return?.();
    this.#room?.();
    clearImmediate(this.#telling);
    for (const call of this.#calls.keys()) this.#post({ type: 'abort', call, error: toWireError(reason) });
    this.#leaveIfDone();
  }

  async unary(method: string, request: Uint8Array, options: CallOptions): Promise<Uint8Array> {
    const { headers, timeoutMs } = optionsOf(options);
    const task: Task = { type: 'unary', method, request: ownBytes([request]), headers, ...timeoutMs };
    return (await this.#call(task, options.signal, NO_HOOKS).done) as Uint8Array;
  }

  stream(method: string, options: CallOptions): SessionStream {
    const { headers, timeoutMs } = optionsOf(options);
    const ended = new AbortController(); // leaving the iteration early gives the call up
    const signal = AbortSignal.any([options.signal, ended.signal]);
    const { channel, done } = this.#call({ type: 'stream', method, headers, ...timeoutMs }, signal, NO_HOOKS);
    done.catch(() => {}); // the channel has failed with it
    return {
      send: (message) => channel.send(message),
      end: () => channel.end(),
      async *[Symbol.asyncIterator]() {
        try {
          yield* channel;
        } finally {
          ended.abort(cancelled());
        }
      },
    };
  }

  async receiveFiles(request: ReceiveFiles): Promise<ReceivedFiles> {
    const { destination, differ, signal, onProgress } = request;
    const digests = new Map<string, Digest>();
    const onDigests = (message: FromWorker & { type: 'digests' }): void => {
      for (const [path, digest] of message.digests) digests.set(path, parseDigest(digest));
      for (const [path, target] of message.links) {
        const digest = digests.get(target);
        if (digest !== undefined) digests.set(path, digest);
      }
    };
    const task: Task = { type: 'receive-files', headers: fileSyncHeaders(request), destination, differ };
    const output = (await this.#call(task, signal, { onProgress, onDigests }).done) as ReceiveOutput;
    return { ...output, digests };
  }

  async sendFiles(request: Parameters<Session['sendFiles']>[0]): Promise<void> {
    const { dir, prefix = '', modTimeNs, headers, signal, onProgress } = request;
    const task: Task = { type: 'send-files', dir, prefix, headers, ...(modTimeNs === undefined ? {} : { modTimeNs }) };
    await this.#call(task, signal, { ...NO_HOOKS, onProgress }).done;
  }

  async sendBytes(request: Parameters<Session['sendBytes']>[0]): Promise<void> {
    const { source, headers, signal, onProgress } = request;
    const hooks = { ...NO_HOOKS, onProgress };
    if ('file' in source) {
      await this.#call({ type: 'send-bytes', headers, file: source.file }, signal, hooks).done;
      return;
    }
    const failed = new AbortController();
    const { channel, done } = this.#call({ type: 'send-bytes', headers }, AbortSignal.any([signal, failed.signal]), hooks);
    const pump = async (): Promise<void> => {
      for await (const bytes of piecesOf(source)) await channel.send(bytes);
      channel.end();
    };
    pump().catch((error) => failed.abort(error)); // when it is the call that failed, `done` has said so already
    await done;
  }

  async *pullUpload(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    const headers: Headers = [
      ['urlhost', 'buildkit-session'],
      ['urlpath', path.startsWith('/') ? path : `/${path}`],
    ];
    const stream = this.stream('/moby.upload.v1.Upload/Pull', { headers, signal });
    stream.end();
    for await (const message of stream) yield decodeBytesMessage(message);
  }

  #call(task: Task, signal: AbortSignal, hooks: CallHooks): { readonly channel: CallChannel; readonly done: Promise<unknown> } {
    const id = this.#nextCall++;
    const { promise: done, resolve, reject } = Promise.withResolvers<unknown>();
    const channel = new CallChannel(id, (message, transfer) => this.#post(message, transfer));
    const refusal = signal.aborted ? signal.reason : this.closed.aborted ? this.closed.reason : undefined;
    if (refusal !== undefined) {
      const error = BuildError.from(refusal);
      channel.fail(error);
      reject(error);
      return { channel, done };
    }
    const onAbort = (): void => this.#post({ type: 'abort', call: id, error: toWireError(signal.reason) });
    signal.addEventListener('abort', onAbort, { once: true });
    const settle = (): void => {
      signal.removeEventListener('abort', onAbort);
      this.#calls.delete(id);
      this.#leaveIfDone();
    };
    this.#calls.set(id, {
      channel,
      ...hooks,
      resolve: (output) => {
        channel.finish();
        settle();
        resolve(output);
      },
      reject: (error) => {
        channel.fail(error);
        settle();
        reject(error);
      },
    });
    this.#sit();
    this.#post({ type: 'start', call: id, task });
    return { channel, done };
  }

  /** Takes a seat in a worker thread and hands over what has come so far. */
  #sit(): void {
    if (this.#seat !== undefined) return;
    const seat = this.#workers.open();
    this.#seat = seat;
    seat.port.on('message', (message: FromWorker) => this.#receive(message, seat.port));
    seat.lost.addEventListener('abort', this.#onThreadLost, { once: true });
    this.#fillRing();
    this.#room?.();
  }

  #receive(message: FromWorker, port: MessagePort): void {
    switch (message.type) {
      case 'bytes': {
        const count = message.bytes.byteLength;
        const sent = (): void => port.postMessage({ type: 'sent', count } satisfies ToWorker);
        this.#stream.sendData(message.bytes).then(sent, () => {}); // a client that is gone shows on the other direction
        return;
      }
      case 'drained':
        this.#fillRing();
        this.#room?.();
        return;
      case 'end':
        this.close(new BuildError('unavailable', `session ${this.id} has ended: its connection broke`));
        return;
    }
    const call = this.#calls.get(message.call);
    if (call === undefined) return;
    if (message.type === 'progress') call.onProgress?.(message.bytes);
    else if (message.type === 'digests') call.onDigests?.(message);
    else if (message.type === 'done') call.resolve(message.output);
    else if (message.type === 'failed') call.reject(this.#meaningOf(fromWireError(message.error)));
    else call.channel.receive(message);
  }

  /** Once the session is over, a call fails because of that, however the thread came to notice. */
  #meaningOf(error: BuildError): BuildError {
    return this.closed.aborted && error.kind === 'unavailable' ? BuildError.from(this.closed.reason) : error;
  }

  readonly #onThreadLost = (): void => {
    const error = BuildError.from(this.#seat?.lost.reason);
    this.close(error);
    for (const call of this.#calls.values()) call.reject(error);
  };

  /** Moves what has come into the ring, as far as it has room, and tells the thread of it soon. */
  #fillRing(): void {
    const ring = this.#seat?.ring;
    if (ring === undefined) return;
    for (let first = this.#early[0]; first !== undefined; first = this.#early[0]) {
      const count = ring.write(first);
      this.#untoldBytes += count;
      this.#earlyBytes -= count;
      if (count === first.byteLength) this.#early.shift();
      else {
        this.#early[0] = first.subarray(count);
        this.#tell();
        if (ring.starve()) return; // the thread says when there is room
      }
    }
    if (this.#untoldBytes >= BATCH_BYTES) this.#tell();
    else if (this.#untoldBytes > 0) this.#telling ??= setImmediate(() => this.#tell());
  }

  #tell(): void {
    clearImmediate(this.#telling);
    this.#telling = undefined;
    if (this.#untoldBytes > 0) this.#post({ type: 'filled', count: this.#untoldBytes });
    this.#untoldBytes = 0;
  }

  #isFull(): boolean {
    return this.#seat === undefined ? this.#earlyBytes >= EARLY_BYTES : this.#earlyBytes > 0;
  }
  #waitForRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#room = () => {
        this.#room = undefined;
        resolve();
      };
    });
  }

  #post(message: ToWorker, transfer: ArrayBuffer[] = []): void {
    this.#seat?.port.postMessage(message, transfer);
  }

  #leaveIfDone(): void {
    if (!this.closed.aborted || this.#calls.size > 0) return;
    this.#seat?.lost.removeEventListener('abort', this.#onThreadLost);
    this.#seat?.[Symbol.dispose]();
    this.#seat = undefined;
  }
}

const PIECE_BYTES = 1024 * 1024;

/** No message larger than a piece, so that a few of them in flight stay a few MiB. */
async function* piecesOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const bytes of source) {
    for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
  }
}

function optionsOf(options: CallOptions): { readonly headers: Headers; readonly timeoutMs: { readonly timeoutMs?: number } } {
  const { headers = [], timeoutMs } = options;
  return { headers, timeoutMs: timeoutMs === undefined ? {} : { timeoutMs } };
}
