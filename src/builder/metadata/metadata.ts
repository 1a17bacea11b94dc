/**
 * The metadata store over node:sqlite. The file is owned by one thread (metadata-thread.ts), so neither a commit nor a disk that
 * stalls is felt by the event loop. Writes are queued here, sent in groups of at most 50 rows or 10 ms, and committed in the order
 * of the calls. Committed rows survive kill -9; a power cut may take the last commits but never the file (WAL, synchronous=NORMAL).
 */
import { Worker } from 'node:worker_threads';
import { BuildError } from '../../core/errors.ts';
import type { QueuedRow, ThreadOptions, ThreadReply, ThreadRequest } from './messages.ts';
import type { Metadata, SqlRow, SqlValue } from './ports.ts';

const GROUP_ROWS = 50;
const GROUP_MS = 10;
/** Rows that may wait for a disk that takes none. A row holds about 300 bytes, so 60 MB at most. */
const MAX_QUEUED_ROWS = 200_000;

/** Something an operator must know; queued writes go on behind it. */
export type MetadataProblem =
  /** The file could not be read and now lies at `movedTo`; the store began empty. */
  | { readonly type: 'quarantined'; readonly movedTo: string; readonly error: BuildError }
  /** The disk takes no writes (full, failing): they wait here and are tried again until `resumed`. */
  | { readonly type: 'stalled'; readonly error: BuildError }
  | { readonly type: 'resumed' }
  /** One change was refused for good: a bug in its statement, or a corrupt page. */
  | { readonly type: 'write-failed'; readonly sql: string; readonly error: BuildError }
  /** The queue was full; so many changes were dropped since the last report. */
  | { readonly type: 'dropped'; readonly rows: number };

export interface MetadataOptions {
  /** Move an unreadable file aside and begin empty, instead of rejecting with `corrupt`. A cache may be lost; a daemon must start. */
  readonly replaceCorrupt?: boolean;
  readonly onProblem?: (problem: MetadataProblem) => void;
}

export interface OpenedMetadata extends Metadata, AsyncDisposable {
  /** Where the unreadable file of an earlier run was moved, when this start began empty because of it. */
  readonly quarantined: string | undefined;
  /** Changes not yet committed. */
  readonly queuedRows: number;
}

/** Opens or creates the file at `path`. Rejects with `corrupt` (see options), `exhausted` or `unavailable`. */
export async function openMetadata(path: string, options: MetadataOptions = {}): Promise<OpenedMetadata> {
  const store = new SqliteMetadata(path, options);
  await store.opened;
  return store;
}

/** A view into a large buffer would take the whole buffer along to the thread. */
const toSent = (value: SqlValue): SqlValue =>
  value instanceof Uint8Array && value.byteLength < value.buffer.byteLength ? new Uint8Array(value) : value;

interface Pending {
  readonly rows: SqlRow[];
  readonly resolve: (rows: SqlRow[]) => void;
  readonly reject: (error: BuildError) => void;
}

class SqliteMetadata implements OpenedMetadata {
  readonly #worker: Worker;
  readonly #onProblem: (problem: MetadataProblem) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #statements = new Map<string, number>();
  readonly #opened = Promise.withResolvers<void>();
  #newStatements: [number, string][] = [];
  #group: QueuedRow[] = [];
  #groupTimer: NodeJS.Timeout | undefined;
  #queuedRows = 0;
  #droppedRows = 0;
  #nextId = 1;
  #dead: BuildError | undefined;
  #closing: Promise<void> | undefined;
  quarantined: string | undefined;

  constructor(path: string, options: MetadataOptions) {
    this.#onProblem = options.onProblem ?? (() => {});
    const module = import.meta.url.endsWith('.ts') ? './metadata-thread.ts' : './metadata-thread.js';
    const workerData: ThreadOptions = { path, replaceCorrupt: options.replaceCorrupt ?? false };
    this.#worker = new Worker(new URL(module, import.meta.url), { workerData });
    this.#worker.on('message', (reply: ThreadReply) => this.#onReply(reply));
    this.#worker.on('error', (error) =>
      this.#die(new BuildError('internal', `the metadata thread died: ${error.message}`, {}, { cause: error })),
    );
    this.#worker.on('exit', () => this.#die(new BuildError('cancelled', 'the metadata store is closed')));
  }

  get opened(): Promise<void> {
    return this.#opened.promise;
  }
  get queuedRows(): number {
    return this.#queuedRows;
  }

  async define(statements: readonly string[]): Promise<void> {
    await this.#request((id) => ({ type: 'define', id, statements }));
  }

  write(sql: string, params: readonly SqlValue[]): void {
    if (this.#dead !== undefined || this.#closing !== undefined || this.#queuedRows >= MAX_QUEUED_ROWS) {
      this.#droppedRows += 1;
      if (this.#droppedRows === 1) this.#onProblem({ type: 'dropped', rows: 1 });
      return;
    }
    this.#queuedRows += 1;
    this.#group.push({ sql: this.#statementIndex(sql), params: params.map(toSent) });
    if (this.#group.length >= GROUP_ROWS) this.#sendGroup();
    else this.#groupTimer ??= setTimeout(() => this.#sendGroup(), GROUP_MS);
  }

  async flush(options: { readonly durable?: boolean } = {}): Promise<void> {
    await this.#request((id) => ({ type: 'flush', id, durable: options.durable ?? false }));
  }

  read(sql: string, params: readonly SqlValue[]): Promise<SqlRow[]> {
    return this.#request((id) => ({ type: 'read', id, sql, params }));
  }

  /** Commits what is queued and ends the thread. Repeating it is harmless. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await this.#request((id) => ({ type: 'close', id }));
    } finally {
      await this.#worker.terminate();
    }
  }

  #statementIndex(sql: string): number {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const index = this.#statements.size;
    this.#statements.set(sql, index);
    this.#newStatements.push([index, sql]);
    return index;
  }

  #sendGroup(): void {
    clearTimeout(this.#groupTimer);
    this.#groupTimer = undefined;
    if (this.#group.length === 0 || this.#dead !== undefined) return;
    this.#post({ type: 'batch', statements: this.#newStatements, rows: this.#group });
    this.#newStatements = [];
    this.#group = [];
  }

  /** Queued rows go ahead of every request, so a read sees the writes made before it. */
  #request(make: (id: number) => ThreadRequest): Promise<SqlRow[]> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    this.#sendGroup();
    return new Promise<SqlRow[]>((resolve, reject) => {
      const id = this.#nextId++;
      this.#pending.set(id, { rows: [], resolve, reject });
      this.#post(make(id));
    });
  }

  #post(request: ThreadRequest): void {
    this.#worker.ref();
    this.#worker.postMessage(request);
  }

  #onReply(reply: ThreadReply): void {
    switch (reply.type) {
      case 'opened': {
        this.quarantined = reply.quarantined;
        if (reply.quarantined !== undefined) {
          const error = new BuildError('corrupt', reply.why ?? 'the metadata file is not readable');
          this.#onProblem({ type: 'quarantined', movedTo: reply.quarantined, error });
        }
        this.#opened.resolve();
        break;
      }
      case 'open-failed':
        this.#die(new BuildError(reply.failure.kind, reply.failure.message));
        break;
      case 'settled':
        this.#queuedRows -= reply.rows;
        break;
      case 'row-failed':
        this.#onProblem({
          type: 'write-failed',
          sql: reply.sql,
          error: new BuildError(reply.failure.kind, reply.failure.message),
        });
        break;
      case 'stalled':
        this.#onProblem({ type: 'stalled', error: new BuildError(reply.failure.kind, reply.failure.message) });
        break;
      case 'resumed':
        this.#reportDropped();
        this.#onProblem({ type: 'resumed' });
        break;
      case 'rows':
        this.#addRows(reply.id, reply.columns, reply.rows);
        break;
      case 'done':
      case 'failed':
        this.#settle(reply);
        break;
    }
    if (this.#pending.size === 0 && this.#queuedRows === 0) this.#worker.unref(); // an idle store does not keep a process alive
  }

  #addRows(id: number, columns: readonly string[], rows: readonly SqlValue[][]): void {
    const target = this.#pending.get(id)?.rows;
    for (const values of rows) {
      const row: Record<string, SqlValue> = {};
      for (let at = 0; at < columns.length; at += 1) row[columns[at] as string] = values[at] as SqlValue;
      target?.push(row);
    }
  }

  #settle(reply: Extract<ThreadReply, { type: 'done' | 'failed' }>): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if (reply.type === 'done') pending?.resolve(pending.rows);
    else pending?.reject(new BuildError(reply.failure.kind, reply.failure.message));
  }

  #reportDropped(): void {
    if (this.#droppedRows > 1) this.#onProblem({ type: 'dropped', rows: this.#droppedRows });
    this.#droppedRows = 0;
  }

  #die(error: BuildError): void {
    if (this.#dead !== undefined) return;
    this.#dead = error;
    clearTimeout(this.#groupTimer);
    this.#opened.reject(error);
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
    this.#queuedRows = 0;
    if (error.kind === 'internal') this.#onProblem({ type: 'stalled', error });
    void this.#worker.terminate();
  }
}
