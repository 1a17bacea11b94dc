/**
 * The thread that owns the metadata file. Batches are committed in order, one transaction each; a batch the disk refuses waits, is
 * tried again, and everything behind it waits with it, while reads go on. The WAL is checkpointed here, never inside a commit.
 */
import { existsSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { BuildError } from '../../core/errors.ts';
import type { QueuedRow, ThreadFailure, ThreadOptions, ThreadReply, ThreadRequest } from './messages.ts';
import type { SqlValue } from './ports.ts';

const CHECKPOINT_WAL_BYTES = 16 * 1024 * 1024; // few enough checkpoints under load, and read back fast after kill -9
const CHECKPOINT_IDLE_MS = 1_000;
const RETRY_MS = 250;
const READ_CHUNK_ROWS = 1_000; // keeps each message below the time budget of the loop that receives it
const MAX_STATEMENTS = 200;
const FULL_BYTES = 64 * 1024; // less than what the shared part of a log grows by
/** Primary result codes, https://www.sqlite.org/rescode.html: what passes by itself when there is room again. */
const SQLITE = { BUSY: 5, LOCKED: 6, NOMEM: 7, READONLY: 8, IOERR: 10, CORRUPT: 11, FULL: 13, CANTOPEN: 14, NOTADB: 26 } as const;
const WORTH_RETRYING: ReadonlySet<number> = new Set([SQLITE.BUSY, SQLITE.LOCKED, SQLITE.NOMEM, SQLITE.IOERR, SQLITE.FULL]);

const port = parentPort;
if (port === null) throw new BuildError('internal', 'metadata-thread.ts runs only inside a worker thread');
const reply = (message: ThreadReply): void => port.postMessage(message);

function resultCode(error: unknown): number {
  const code = (error as { readonly errcode?: unknown }).errcode;
  return typeof code === 'number' ? code & 0xff : 0;
}
function failureOf(error: unknown): ThreadFailure {
  const text = error instanceof Error ? error.message : String(error);
  // SQLite calls it an I/O error when the file that its log is shared through cannot grow.
  const full = resultCode(error) === SQLITE.IOERR && diskIsFull() ? ': no space left on device' : '';
  const message = `metadata: ${text}${full}`;
  switch (resultCode(error)) {
    case SQLITE.FULL:
    case SQLITE.NOMEM:
    case SQLITE.IOERR:
      return { kind: 'exhausted', message };
    case SQLITE.CORRUPT:
    case SQLITE.NOTADB:
      return { kind: 'corrupt', message };
    case SQLITE.BUSY:
    case SQLITE.LOCKED:
    case SQLITE.CANTOPEN:
    case SQLITE.READONLY:
      return { kind: 'unavailable', message };
    default:
      return { kind: 'internal', message };
  }
}

function diskIsFull(): boolean {
  const { bavail, bsize } = statfsSync(dirname((workerData as ThreadOptions).path));
  return bavail * bsize < FULL_BYTES;
}

/** The file, checked: a page that cannot be read is found here and not in the middle of a build. */
function openChecked(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 5_000 });
  try {
    db.exec('pragma journal_mode = wal');
    db.exec('pragma synchronous = normal');
    db.exec('pragma wal_autocheckpoint = 0');
    db.exec(`pragma journal_size_limit = ${CHECKPOINT_WAL_BYTES}`);
    db.exec('pragma cache_size = -8192');
    const [first] = Object.values(db.prepare('pragma quick_check(1)').get() ?? {});
    if (first !== 'ok') throw Object.assign(new BuildError('corrupt', String(first)), { errcode: SQLITE.CORRUPT });
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Moves the file and its log aside under a name no later start uses. */
function quarantine(path: string): string {
  let number = 1;
  while (existsSync(`${path}.corrupt-${number}`)) number += 1;
  const target = `${path}.corrupt-${number}`;
  renameSync(path, target);
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${target}-wal`);
  rmSync(`${path}-shm`, { force: true });
  return target;
}

class Store {
  readonly #db: DatabaseSync;
  readonly #walPath: string;
  readonly #texts = new Map<number, string>();
  readonly #prepared = new Map<string, StatementSync>();
  readonly #batches: (readonly QueuedRow[])[] = [];
  #stalled: ThreadFailure | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #checkpointTimer: NodeJS.Timeout | undefined;

  constructor(db: DatabaseSync, path: string) {
    this.#db = db;
    this.#walPath = `${path}-wal`;
  }

  handle(request: ThreadRequest): void {
    if (request.type === 'batch') {
      for (const [index, text] of request.statements) this.#texts.set(index, text);
      this.#batches.push(request.rows);
      if (this.#stalled === undefined) this.#commitAll();
      return;
    }
    try {
      this.#answer(request);
      reply({ type: 'done', id: request.id });
    } catch (error) {
      const failure = error instanceof BuildError ? { kind: 'exhausted' as const, message: error.message } : failureOf(error);
      reply({ type: 'failed', id: request.id, failure });
    }
  }

  #answer(request: Exclude<ThreadRequest, { type: 'batch' }>): void {
    switch (request.type) {
      case 'define':
        for (const statement of request.statements) this.#db.exec(statement);
        return;
      case 'read':
        this.#read(request.id, request.sql, request.params);
        return;
      case 'flush':
        this.#flush();
        // A complete checkpoint syncs the log and the file, so what was committed outlives a power cut.
        if (request.durable) this.#db.exec('pragma wal_checkpoint(full)');
        return;
      case 'close':
        clearTimeout(this.#checkpointTimer);
        try {
          this.#flush();
        } finally {
          clearTimeout(this.#retryTimer);
          this.#prepared.clear();
          this.#db.close(); // the last connection checkpoints and removes the log
        }
    }
  }

  #flush(): void {
    this.#commitAll();
    if (this.#stalled !== undefined) throw new BuildError('exhausted', this.#stalled.message);
  }

  #commitAll(): void {
    for (let rows = this.#batches[0]; rows !== undefined; rows = this.#batches[0]) {
      const failure = this.#commit(rows);
      if (failure !== undefined) {
        this.#stall(failure);
        return;
      }
      this.#batches.shift();
      reply({ type: 'settled', rows: rows.length });
    }
    if (this.#stalled !== undefined) reply({ type: 'resumed' });
    this.#stalled = undefined;
    this.#scheduleCheckpoint();
  }

  /** One transaction. Undefined when it is committed; a refusal that may pass leaves nothing of it behind. */
  #commit(rows: readonly QueuedRow[]): ThreadFailure | undefined {
    try {
      this.#db.exec('begin immediate');
      for (const row of rows) this.#run(row);
      this.#db.exec('commit');
      return undefined;
    } catch (error) {
      this.#rollBack();
      const failure = failureOf(error);
      if (WORTH_RETRYING.has(resultCode(error))) return failure;
      reply({ type: 'row-failed', sql: `commit of ${rows.length} changes`, failure });
      return undefined;
    }
  }

  #rollBack(): void {
    try {
      if (this.#db.isTransaction) this.#db.exec('rollback');
    } catch {
      // The disk refuses even this; SQLite rolls back by itself when the next transaction begins.
    }
  }

  /** A statement that can never work must not take its neighbours with it. */
  #run(row: QueuedRow): void {
    const sql = this.#texts.get(row.sql) ?? '';
    try {
      this.#prepare(sql).run(...row.params.map(toBound));
    } catch (error) {
      const code = resultCode(error);
      if (WORTH_RETRYING.has(code) || code === SQLITE.CORRUPT || !this.#db.isTransaction) throw error;
      reply({ type: 'row-failed', sql, failure: failureOf(error) });
    }
  }

  #read(id: number, sql: string, params: readonly SqlValue[]): void {
    const statement = this.#prepare(sql);
    const columns = statement.columns().map(({ name }) => name);
    let rows: SqlValue[][] = [];
    for (const row of statement.iterate(...params.map(toBound)) as Iterable<unknown>) {
      const values = row as SqlValue[];
      for (let at = 0; at < values.length; at += 1)
        if (typeof values[at] === 'bigint') values[at] = fromStored(values[at] as bigint);
      rows.push(values);
      if (rows.length < READ_CHUNK_ROWS) continue;
      reply({ type: 'rows', id, columns, rows });
      rows = [];
    }
    reply({ type: 'rows', id, columns, rows });
  }

  /** Kept in order of last use, the oldest dropped: queries built from filters come in many texts. */
  #prepare(sql: string): StatementSync {
    const known = this.#prepared.get(sql);
    const statement = known ?? this.#db.prepare(sql);
    if (known === undefined) {
      statement.setReadBigInts(true);
      statement.setReturnArrays(true);
      const [oldest] = this.#prepared.keys();
      if (this.#prepared.size >= MAX_STATEMENTS && oldest !== undefined) this.#prepared.delete(oldest);
    } else this.#prepared.delete(sql);
    this.#prepared.set(sql, statement);
    return statement;
  }

  #stall(failure: ThreadFailure): void {
    if (this.#stalled === undefined) reply({ type: 'stalled', failure });
    this.#stalled = failure;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#commitAll(), RETRY_MS);
  }

  #scheduleCheckpoint(): void {
    clearTimeout(this.#checkpointTimer);
    const walBytes = statSync(this.#walPath, { throwIfNoEntry: false })?.size ?? 0;
    if (walBytes === 0) return;
    if (walBytes >= CHECKPOINT_WAL_BYTES) this.#checkpoint('truncate');
    else this.#checkpointTimer = setTimeout(() => this.#checkpoint('passive'), CHECKPOINT_IDLE_MS);
  }

  #checkpoint(mode: 'passive' | 'truncate'): void {
    try {
      this.#db.exec(`pragma wal_checkpoint(${mode})`);
    } catch (error) {
      // A full disk stops checkpoints too. The log keeps everything; the next batch comes back here.
      if (!WORTH_RETRYING.has(resultCode(error))) reply({ type: 'row-failed', sql: 'wal_checkpoint', failure: failureOf(error) });
    }
  }
}

/** node:sqlite stores a JavaScript number as REAL; whole numbers must be INTEGER to compare and index as such. */
const toBound = (value: SqlValue): SqlValue => (typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value);
const fromStored = (value: bigint): number | bigint =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;

function start({ path, replaceCorrupt }: ThreadOptions): void {
  let quarantined: string | undefined;
  let why: string | undefined;
  let db: DatabaseSync;
  try {
    db = openChecked(path);
  } catch (error) {
    const failure = failureOf(error);
    if (failure.kind !== 'corrupt' || !replaceCorrupt) {
      reply({ type: 'open-failed', failure: { kind: failure.kind, message: `${failure.message} (${path})` } });
      return;
    }
    quarantined = quarantine(path);
    why = `${failure.message} (${path}); moved to ${quarantined}`;
    db = openChecked(path);
  }
  const store = new Store(db, path);
  parentPort?.on('message', (request: ThreadRequest) => store.handle(request));
  reply({ type: 'opened', quarantined, why });
}

start(workerData as ThreadOptions);
