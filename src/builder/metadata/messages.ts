/** What metadata.ts and its thread say to each other. Each request has one answer, except `read`, which answers in chunks. */
import type { SqlValue } from './ports.ts';

export interface ThreadOptions {
  readonly path: string;
  /** Whether an unreadable file may be moved aside and replaced by an empty one. */
  readonly replaceCorrupt: boolean;
}

/** `sql` is an index into the statements both sides have seen; its text travels once, in `statements`. */
export interface QueuedRow {
  readonly sql: number;
  readonly params: readonly SqlValue[];
}
export type ThreadRequest =
  | { readonly type: 'batch'; readonly statements: readonly (readonly [number, string])[]; readonly rows: readonly QueuedRow[] }
  | { readonly type: 'define'; readonly id: number; readonly statements: readonly string[] }
  | { readonly type: 'flush'; readonly id: number; readonly durable: boolean }
  | { readonly type: 'read'; readonly id: number; readonly sql: string; readonly params: readonly SqlValue[] }
  | { readonly type: 'close'; readonly id: number };

export interface ThreadFailure {
  readonly kind: 'exhausted' | 'corrupt' | 'unavailable' | 'internal';
  readonly message: string;
}
export type ThreadReply =
  | { readonly type: 'opened'; readonly quarantined: string | undefined; readonly why: string | undefined }
  | { readonly type: 'open-failed'; readonly failure: ThreadFailure }
  /** So many queued rows are settled: committed, or refused for good and reported by `row-failed`. */
  | { readonly type: 'settled'; readonly rows: number }
  | { readonly type: 'row-failed'; readonly sql: string; readonly failure: ThreadFailure }
  | { readonly type: 'stalled'; readonly failure: ThreadFailure }
  | { readonly type: 'resumed' }
  | { readonly type: 'rows'; readonly id: number; readonly columns: readonly string[]; readonly rows: readonly SqlValue[][] }
  | { readonly type: 'done'; readonly id: number }
  | { readonly type: 'failed'; readonly id: number; readonly failure: ThreadFailure };
