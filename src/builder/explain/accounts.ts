/**
 * Accounts of finished builds: the newest of each line in memory to compare running builds with, all of them deflated in the metadata
 * store, bounded in number, size and by the history they belong to. Written after the client has its answer.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { deflateRaw, inflateRaw } from 'node:zlib';
import type { EventSink } from '../events.ts';
import type { Metadata, SqlRow } from '../metadata/ports.ts';
import type { DigestLists } from '../snapshot/digest-lists.ts';
import { BuildAccount } from './account.ts';
import type { FileChanges } from './compare.ts';
import { Comparison } from './compare.ts';
import { type CacheTotals, type Explanation, explanationOf, totalsOf } from './explanation.ts';
import { matchSteps } from './match.ts';
import { type Keep, keeper } from './parts.ts';
import { ACCOUNT_VERSION, type AccountRecord, type ReadRecord, type StepRecord } from './record.ts';

export interface AccountsOptions {
  readonly metadata: Metadata;
  readonly lists: DigestLists;
  readonly findEviction: (key: string) => { readonly policy: string; readonly atNs: bigint } | undefined;
  readonly onProblem: (error: unknown) => void;
  readonly limits?: Partial<AccountLimits>;
}
export interface AccountLimits {
  /** Builds kept. */
  readonly maxBuilds: number;
  /** Of all of them together, deflated. */
  readonly maxBytes: number;
  /** Accounts of a line in memory: what a build is compared with. */
  readonly nearest: number;
  /** Steps of all accounts in memory; one takes about 1 KB. */
  readonly maxStepsInMemory: number;
}
const DEFAULT_LIMITS: AccountLimits = { maxBuilds: 500, maxBytes: 32 * 1024 ** 2, nearest: 4, maxStepsInMemory: 8_000 };
const MAX_FILES = 20;
const STORE_AFTER_MS = 30;

export interface BuildIdentity {
  readonly ref: string;
  readonly options: ReadonlyMap<string, string>;
  readonly startedAtMs: number;
}
export interface Accounts {
  /** The account of a build that begins; it stands before `next`. */
  begin(build: BuildIdentity, next: EventSink): BuildAccount;
  /** The build is over. Returns at once; the account is stored later, and may be lost with the process. */
  finished(account: BuildAccount): void;
  /** Why steps of a finished build missed, by its own account, or compared with another build. Undefined when one has no account. */
  explain(ref: string, against?: string): Promise<Explanation | undefined>;
  find(ref: string): Promise<AccountRecord | undefined>;
  /** How a finished build was served, at once; undefined before it is stored. */
  totals(ref: string): CacheTotals | undefined;
  /** Forgets a build whose record was deleted. */
  forget(ref: string): void;
  /** Resolves when what was finished is stored. */
  flush(): Promise<void>;
}

const TABLES = [
  `create table if not exists cache_accounts (n integer primary key, ref text not null, line text not null, totals text not null,
    record blob not null)`,
  'create table if not exists cache_accounts_key (one integer primary key, key blob not null)',
];
const deflate = promisify(deflateRaw);
const inflate = promisify(inflateRaw);

export async function openAccounts(options: AccountsOptions): Promise<Accounts> {
  const { metadata } = options;
  await metadata.define(TABLES);
  const [[known], rows] = await Promise.all([
    metadata.read('select key from cache_accounts_key', []),
    metadata.read('select n, ref, line, totals, length(record) as bytes from cache_accounts order by n', []),
  ]);
  const key = known === undefined ? randomBytes(32) : (known.key as Uint8Array);
  if (known === undefined) metadata.write('insert into cache_accounts_key (one, key) values (1, ?)', [key]);
  return new StoredAccounts(options, keeper(key), rows);
}

interface Entry {
  readonly n: number;
  readonly line: string;
  readonly totals: CacheTotals;
  readonly bytes: number;
}

class StoredAccounts implements Accounts {
  readonly #options: AccountsOptions;
  readonly #limits: AccountLimits;
  readonly #keep: Keep;
  /** By ref; the oldest first. */
  readonly #stored = new Map<string, Entry>();
  /** By line, the newest first; the line used longest ago is first. Replaced, never changed. */
  readonly #recent = new Map<string, readonly AccountRecord[]>();
  /** Lines that were looked for in the store. */
  readonly #loaded = new Map<string, Promise<void>>();
  readonly #pending = new Map<string, Promise<AccountRecord | undefined>>();
  #bytes = 0;
  #next = 1;

  constructor(options: AccountsOptions, keep: Keep, rows: readonly SqlRow[]) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#keep = keep;
    for (const { n, ref, line, totals, bytes } of rows)
      this.#remember(String(ref), { n: Number(n), line: String(line), totals: JSON.parse(String(totals)), bytes: Number(bytes) });
  }

  begin({ ref, options, startedAtMs }: BuildIdentity, next: EventSink): BuildAccount {
    const line = lineOf(options);
    void this.#load(line);
    const args = new Map(
      [...options].filter(([name]) => name.startsWith('build-arg:')).map(([name, value]) => [name.slice(10), value]),
    );
    return new BuildAccount(
      {
        ref,
        line,
        startedAtMs,
        args: Object.fromEntries([...args].map(([name, value]) => [name, this.#keep(name, value)])),
        keep: this.#keep,
        earlier: () => this.#recent.get(line) ?? NONE,
        findEviction: this.#options.findEviction,
        keepList: (read, resultId) => this.#keepList(read, resultId),
        compareLists: (now, before) => this.#compareLists(now, before),
        onProblem: this.#options.onProblem,
      },
      next,
    );
  }

  finished(account: BuildAccount): void {
    const { ref } = account;
    // The client's answer goes first.
    const work = setTimeout(STORE_AFTER_MS)
      .then(() => account.finish())
      .then((record) => this.#store(record))
      .catch((error: unknown) => {
        this.#options.onProblem(error);
        return undefined;
      })
      .finally(() => this.#pending.delete(ref));
    this.#pending.set(ref, work);
  }

  async find(ref: string): Promise<AccountRecord | undefined> {
    const pending = await this.#pending.get(ref);
    if (pending !== undefined) return pending;
    const entry = this.#stored.get(ref);
    if (entry === undefined) return undefined;
    const recent = this.#recent.get(entry.line)?.find((record) => record.ref === ref);
    return recent ?? (await this.#read('where ref = ?', [ref]))[0];
  }

  totals(ref: string): CacheTotals | undefined {
    return this.#stored.get(ref)?.totals;
  }

  async explain(ref: string, against?: string): Promise<Explanation | undefined> {
    const record = await this.find(ref);
    if (record === undefined || against === undefined) return record && explanationOf(record);
    const other = await this.find(against);
    return other === undefined ? undefined : explanationOf(await this.#compared(record, other));
  }

  forget(ref: string): void {
    const entry = this.#stored.get(ref);
    if (entry === undefined) return;
    this.#drop(ref, entry);
    const recent = this.#recent.get(entry.line);
    if (recent !== undefined)
      this.#recent.set(
        entry.line,
        recent.filter((record) => record.ref !== ref),
      );
  }

  async flush(): Promise<void> {
    await Promise.all(this.#pending.values());
  }

  /** The causes as they would have been, had the build been compared with `other`. */
  async #compared(record: AccountRecord, other: AccountRecord): Promise<AccountRecord> {
    const steps: StepRecord[] = record.steps.map((step) => ({ ...step }));
    const comparison = new Comparison({ ...record, steps }, other, matchSteps(steps, other));
    for (const [at, step] of steps.entries()) {
      if (step.miss === undefined) continue;
      const found = await Promise.all(comparison.changedReads(at).map(({ now, before }) => this.#compareLists(now, before)));
      const files = found.find((one) => one !== undefined && one.changes.length > 0);
      step.cause = comparison.causeOf(at, step.miss, files);
    }
    return { ...record, against: other.ref, steps };
  }

  async #store(record: AccountRecord): Promise<AccountRecord> {
    const { ref, line } = record;
    await this.#loaded.get(line);
    this.#recent.set(line, this.#moved(line, [record, ...(this.#recent.get(line) ?? [])].slice(0, this.#limits.nearest)));
    this.#forgetOldLines();
    const bytes = await deflate(JSON.stringify(record), { level: 1 });
    const before = this.#stored.get(ref);
    if (before !== undefined) this.#drop(ref, before);
    const n = this.#next;
    const totals = totalsOf(record);
    this.#remember(ref, { n, line, totals, bytes: bytes.byteLength });
    this.#options.metadata.write('insert into cache_accounts (n, ref, line, totals, record) values (?, ?, ?, ?, ?)', [
      n,
      ref,
      line,
      JSON.stringify(totals),
      bytes,
    ]);
    for (const [old, entry] of this.#stored) {
      if (this.#stored.size <= this.#limits.maxBuilds && this.#bytes <= this.#limits.maxBytes) break;
      this.#drop(old, entry);
    }
    return record;
  }

  /** Reads the newest accounts of a line once; a build that is faster than this is explained without them. */
  #load(line: string): Promise<void> {
    const known = this.#loaded.get(line);
    if (known !== undefined) return known;
    const work = this.#read('where line = ? order by n desc limit ?', [line, this.#limits.nearest])
      .then((records) => {
        if (records.length > 0) this.#recent.set(line, records);
      })
      .catch(this.#options.onProblem);
    this.#loaded.set(line, work);
    return work;
  }

  async #read(where: string, params: (string | number)[]): Promise<AccountRecord[]> {
    const rows = await this.#options.metadata.read(`select record from cache_accounts ${where}`, params);
    const records = await Promise.all(rows.map(async (row) => JSON.parse((await inflate(row.record as Uint8Array)).toString())));
    return (records as AccountRecord[]).filter(({ version }) => version === ACCOUNT_VERSION);
  }

  #moved(line: string, records: readonly AccountRecord[]): readonly AccountRecord[] {
    this.#recent.delete(line); // used now, so it moves to the end
    return records;
  }

  #forgetOldLines(): void {
    let steps = 0;
    for (const records of this.#recent.values()) for (const record of records) steps += record.steps.length;
    for (const [line, records] of this.#recent) {
      if (steps <= this.#limits.maxStepsInMemory || this.#recent.size === 1) return;
      for (const record of records) steps -= record.steps.length;
      this.#recent.delete(line);
      this.#loaded.delete(line);
    }
  }

  #remember(ref: string, entry: Entry): void {
    this.#stored.set(ref, entry);
    this.#bytes += entry.bytes;
    this.#next = Math.max(this.#next, entry.n + 1);
  }

  #drop(ref: string, { n, bytes }: Entry): void {
    this.#stored.delete(ref);
    this.#bytes -= bytes;
    this.#options.metadata.write('delete from cache_accounts where n = ?', [n]);
  }

  async #keepList(read: ReadRecord, resultId: string): Promise<string | undefined> {
    const name = createHash('sha256')
      .update(`${read.content}\n${JSON.stringify(read.reads)}`)
      .digest('hex');
    return (await this.#options.lists.keep(name, resultId)) ? name : undefined;
  }

  async #compareLists(now: ReadRecord, before: ReadRecord): Promise<FileChanges | undefined> {
    if (now.list === undefined || before.list === undefined) return undefined;
    const found = await this.#options.lists.compare(before.list, now.list, now.reads, MAX_FILES, NEVER);
    return (
      found && {
        total: found.total,
        more: found.more,
        changes: found.changes.map(({ path, old, now: is }) => ({
          what: 'file',
          name: path,
          ...(old === undefined ? {} : { old }),
          ...(is === undefined ? {} : { new: is }),
        })),
      }
    );
  }
}

/** Which file of which context, and how far; the client's way of asking for it makes no difference. */
function lineOf(options: ReadonlyMap<string, string>): string {
  const [file, ...others] = ['filename', 'target', 'context', 'source'].map((name) => options.get(name) ?? '');
  return JSON.stringify([file || 'Dockerfile', ...others]);
}

const NONE: readonly AccountRecord[] = [];
const NEVER = new AbortController().signal;
