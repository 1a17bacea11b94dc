/**
 * What the main thread and a session's worker thread tell each other, over one MessagePort per session. The bytes of the tunnel go to
 * the thread through a ring of shared memory (byte-ring.ts), which is the larger and busier direction; those that come back are handed
 * over in messages, at most `TUNNEL_WINDOW_BYTES` of them unconfirmed.
 */
import type { MessagePort } from 'node:worker_threads';
import { BuildError, type ErrorDetail, type ErrorKind } from '../../../core/errors.ts';
import type { Headers } from '../ports.ts';
import type { SharedRing } from './byte-ring.ts';

/** Handed to the worker thread itself: a new session, spoken over `port`. */
export interface OpenSession {
  readonly port: MessagePort;
  readonly ring: SharedRing;
}

export type ToWorker =
  | ToTunnel
  | { readonly type: 'start'; readonly call: number; readonly task: Task }
  | { readonly type: 'abort'; readonly call: number; readonly error: WireError }
  | CallMessage;

export type FromWorker =
  | FromTunnel
  | CallMessage
  /** Bytes of a transfer since the last report. */
  | { readonly type: 'progress'; readonly call: number; readonly bytes: number }
  /** Digests of received files, and hard links, which have the digest of the file they name. */
  | { readonly type: 'digests'; readonly call: number; readonly digests: readonly Pair[]; readonly links: readonly Pair[] }
  | { readonly type: 'done'; readonly call: number; readonly output: unknown }
  | { readonly type: 'failed'; readonly call: number; readonly error: WireError };

type Pair = readonly [path: string, value: string];

export type ToTunnel =
  /** That many more bytes are in the ring. */
  | { readonly type: 'filled'; readonly count: number }
  /** That many bytes have gone to the client. */
  | { readonly type: 'sent'; readonly count: number };

export type FromTunnel =
  /** For the client. */
  | { readonly type: 'bytes'; readonly bytes: Uint8Array }
  /** The ring, which was full, has room again. */
  | { readonly type: 'drained' }
  /** The connection inside has ended. */
  | { readonly type: 'end' };

/** Messages of a call in flight, both ways. Each one is confirmed, so that the sender stays at most `CALL_WINDOW` ahead. */
export type CallMessage =
  | { readonly type: 'message'; readonly call: number; readonly bytes: Uint8Array }
  | { readonly type: 'room'; readonly call: number }
  | { readonly type: 'half-close'; readonly call: number };

export type Task =
  /** `request` in one message, `output` the answer's bytes. */
  | {
      readonly type: 'unary';
      readonly method: string;
      readonly request: Uint8Array;
      readonly headers: Headers;
      readonly timeoutMs?: number;
    }
  | { readonly type: 'stream'; readonly method: string; readonly headers: Headers; readonly timeoutMs?: number }
  | {
      readonly type: 'receive-files';
      readonly headers: Headers;
      readonly destination: string;
      readonly differ: 'none' | 'metadata';
    }
  | {
      readonly type: 'send-files';
      readonly headers: Headers;
      readonly dir: string;
      readonly prefix: string;
      readonly modTimeNs?: bigint;
    }
  /** Raw bytes, from a file or, when there is none, from the call's messages. */
  | { readonly type: 'send-bytes'; readonly headers: Headers; readonly file?: string };
export type TaskType = Task['type'];

export interface ReceiveOutput {
  readonly files: number;
  readonly bytes: number;
  readonly changed: number;
}

/** Bytes for the client on their way through the main thread; two round trips of a busy one at 300 MB/s. */
export const TUNNEL_WINDOW_BYTES = 2 * 1024 * 1024;
/** Unconfirmed messages of a call per direction. */
export const CALL_WINDOW = 8;

export interface WireError {
  readonly kind: ErrorKind;
  readonly message: string;
  readonly detail: ErrorDetail;
  readonly stack: string | undefined;
}

export function toWireError(thrown: unknown): WireError {
  const { kind, message, detail, stack } = BuildError.from(thrown);
  return { kind, message, detail, stack };
}

export function fromWireError({ kind, message, detail, stack }: WireError): BuildError {
  const error = new BuildError(kind, message, detail);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** The bytes alone in their buffer, so that posting them can hand the buffer over and never clones a neighbour. */
export function ownBytes(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
