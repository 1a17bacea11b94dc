/**
 * What garbage collection removed, by cache key: a look-up that misses can say "evicted by policy X at T", and a key that is wanted
 * again soon after counts as regret, the sign of a cache that is too small. Bounded in number and age; the oldest goes first.
 */
import type { Clock } from '../../core/clock.ts';
import type { Metadata, SqlRow } from '../metadata/ports.ts';

export interface Eviction {
  /** Id of the record that was removed. */
  readonly recordId: string;
  /** A key of the key index under which its result was found. */
  readonly key: string;
  /** What removed it: `policy 2`, `prune`, `pressure`. */
  readonly policy: string;
  readonly atNs: bigint;
  readonly sizeBytes: number;
}
export interface EvictionLimits {
  /** Keys remembered. One takes about 400 bytes of memory. */
  readonly maxKeys: number;
  readonly maxAgeNs: bigint;
  /** A key that is wanted within this time of its eviction counts as regret. */
  readonly regretWithinNs: bigint;
}
export interface Evictions {
  /** Remembers that the record went, under each of its keys. */
  add(record: { readonly id: string; readonly sizeBytes: number }, keys: readonly string[], policy: string): void;
  /** The latest eviction of what was stored under the key; undefined when none is remembered. */
  findEviction(key: string): Eviction | undefined;
  /** A look-up missed this key. True the first time this happens to an eviction within the regret window. */
  wanted(key: string): boolean;
  /** The key has a result again. */
  restored(key: string): void;
  readonly size: number;
}

const DAY_NS = 86_400_000_000_000n;
const DEFAULT_LIMITS: EvictionLimits = { maxKeys: 50_000, maxAgeNs: 14n * DAY_NS, regretWithinNs: DAY_NS };

const TABLES = [
  `create table if not exists gc_evictions (n integer primary key, key text not null, record text not null, policy text not null,
    at_ns integer not null, size_bytes integer not null)`,
];
const ADD = 'insert or replace into gc_evictions (n, key, record, policy, at_ns, size_bytes) values (?, ?, ?, ?, ?, ?)';
const DROP = 'delete from gc_evictions where n = ?';

/** Reads what is remembered. Rejects with the store's errors. */
export async function openEvictions(metadata: Metadata, clock: Clock, limits: Partial<EvictionLimits> = {}): Promise<Evictions> {
  await metadata.define(TABLES);
  const evictions = new StoredEvictions(metadata, clock, { ...DEFAULT_LIMITS, ...limits });
  evictions.restore(await metadata.read('select * from gc_evictions order by n', []));
  return evictions;
}

interface Entry extends Eviction {
  readonly n: number;
  regretted: boolean;
}

class StoredEvictions implements Evictions {
  readonly #metadata: Metadata;
  readonly #clock: Clock;
  readonly #limits: EvictionLimits;
  /** The oldest first. */
  readonly #byKey = new Map<string, Entry>();
  #next = 1;

  constructor(metadata: Metadata, clock: Clock, limits: EvictionLimits) {
    this.#metadata = metadata;
    this.#clock = clock;
    this.#limits = limits;
  }

  get size(): number {
    return this.#byKey.size;
  }

  restore(rows: readonly SqlRow[]): void {
    for (const row of rows) {
      this.#next = Math.max(this.#next, Number(row.n) + 1);
      this.#remember({
        n: Number(row.n),
        key: String(row.key),
        recordId: String(row.record),
        policy: String(row.policy),
        atNs: BigInt(row.at_ns as number | bigint),
        sizeBytes: Number(row.size_bytes),
        regretted: false,
      });
    }
    this.#trim();
  }

  add(record: { readonly id: string; readonly sizeBytes: number }, keys: readonly string[], policy: string): void {
    const atNs = this.#clock.nowNs();
    for (const key of keys) {
      const n = this.#next++;
      this.#remember({ n, key, recordId: record.id, policy, atNs, sizeBytes: record.sizeBytes, regretted: false });
      this.#metadata.write(ADD, [n, key, record.id, policy, atNs, record.sizeBytes]);
    }
    this.#trim();
  }

  findEviction(key: string): Eviction | undefined {
    return this.#byKey.get(key);
  }

  wanted(key: string): boolean {
    const entry = this.#byKey.get(key);
    if (entry === undefined || entry.regretted) return false;
    const ageNs = this.#clock.nowNs() - entry.atNs;
    if (ageNs > this.#limits.regretWithinNs) return false;
    entry.regretted = true;
    return true;
  }

  restored(key: string): void {
    const entry = this.#byKey.get(key);
    if (entry !== undefined) this.#drop(entry);
  }

  #remember(entry: Entry): void {
    const before = this.#byKey.get(entry.key);
    if (before !== undefined) this.#drop(before);
    this.#byKey.set(entry.key, entry);
  }

  #drop(entry: Entry): void {
    this.#byKey.delete(entry.key);
    this.#metadata.write(DROP, [entry.n]);
  }

  #trim(): void {
    const before = this.#clock.nowNs() - this.#limits.maxAgeNs;
    for (const entry of this.#byKey.values()) {
      if (this.#byKey.size <= this.#limits.maxKeys && entry.atNs >= before) return;
      this.#drop(entry);
    }
  }
}
