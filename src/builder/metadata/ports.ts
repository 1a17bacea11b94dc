/**
 * The metadata store: one SQLite file, one thread that owns it. Rooms declare their tables, read them whole at start into maps, and
 * queue changes; nobody else opens the file. One implementation: metadata.ts (node:sqlite, WAL).
 */
export type SqlValue = string | number | bigint | Uint8Array | null;
export type SqlRow = Readonly<Record<string, SqlValue>>;

export interface Metadata {
  /** Runs `create table if not exists ...` of one room; call before anything else of that room. */
  define(statements: readonly string[]): Promise<void>;
  /** Queues a change; committed in order with its neighbours within 10 ms. */
  write(sql: string, params: readonly SqlValue[]): void;
  /**
   * Resolves when everything queued before is committed and survives kill -9; with `durable`, a power cut too (fsync). Rejects with
   * `exhausted` while the disk takes no writes; what is queued stays queued and is tried again.
   */
  flush(options?: { readonly durable?: boolean }): Promise<void>;
  /** Rows in the order of the query; integers above 2^53 come as bigint. */
  read(sql: string, params: readonly SqlValue[]): Promise<SqlRow[]>;
  close(): Promise<void>;
}
