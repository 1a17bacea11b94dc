/**
 * The persistent key index: links from keys to the keys of what was made from them, and the results stored under each. Everything is
 * answered from maps; changes are queued for the metadata store in the order they are made, so after kill -9 a start finds a prefix
 * of them, which can only cost a hit. Keys of one session (`EPHEMERAL`) are never written. Both maps are bounded: what has not been
 * used for longest goes first.
 */
import type { CacheDigest } from '../../core/digest.ts';
import type { Metadata, SqlRow } from '../metadata/ports.ts';
import { type CacheIndex, type CacheLink, EPHEMERAL, type StoredResult } from '../solver/ports.ts';

export interface KeyIndexLimits {
  /** Links kept. A link with its names and one result takes about 1 KB of memory. */
  readonly maxLinks: number;
  /** Keys with results kept. */
  readonly maxKeysWithResults: number;
  /** Of these, keys that hold in one session only. */
  readonly maxEphemeralKeys: number;
}
export interface KeyIndex extends CacheIndex {
  /** The stored result is gone (collected). Its keys stay, so that a lookup can say `evicted`. Returns the keys that were for good. */
  removed(resultId: string): readonly string[];
  /** Ids of all results that keys lead to. */
  resultIds(): readonly string[];
  readonly size: { readonly links: number; readonly keysWithResults: number };
}

const DEFAULT_LIMITS: KeyIndexLimits = { maxLinks: 100_000, maxKeysWithResults: 100_000, maxEphemeralKeys: 10_000 };
const RESULTS_PER_KEY = 4; // a step that is run anew every day leaves one result a day under the same key

const TABLES = [
  'create table if not exists cache_names (n integer primary key, text text not null, had_result integer not null default 0)',
  `create table if not exists cache_links (n integer primary key, source integer not null, digest integer not null,
    input integer not null, output integer not null, selector integer not null, target integer not null)`,
  `create table if not exists cache_results (key integer not null, id text not null, created_ns integer not null,
    primary key (key, id)) without rowid`,
  'create table if not exists cache_runs (id text primary key, run_ns integer not null) without rowid',
];
const SQL = {
  addName: 'insert or replace into cache_names (n, text, had_result) values (?, ?, ?)',
  dropName: 'delete from cache_names where n = ?',
  addLink: 'insert or replace into cache_links (n, source, digest, input, output, selector, target) values (?, ?, ?, ?, ?, ?, ?)',
  dropLink: 'delete from cache_links where n = ?',
  addResult: 'insert or replace into cache_results (key, id, created_ns) values (?, ?, ?)',
  dropResult: 'delete from cache_results where key = ? and id = ?',
  addRun: 'insert or replace into cache_runs (id, run_ns) values (?, ?)',
  dropRun: 'delete from cache_runs where id = ?',
} as const;

/** Reads the index from the store. Rejects with the store's errors. */
export async function openKeyIndex(metadata: Metadata, limits: Partial<KeyIndexLimits> = {}): Promise<KeyIndex> {
  await metadata.define(TABLES);
  const [names, links, results] = await Promise.all([
    metadata.read('select n, text, had_result from cache_names', []),
    metadata.read('select n, source, digest, input, output, selector, target from cache_links order by n', []),
    metadata.read(
      `select key, results.id as id, created_ns, run_ns from cache_results as results
        left join cache_runs as runs on runs.id = results.id order by created_ns`,
      [],
    ),
  ]);
  const index = new StoredKeyIndex((sql, ...params) => metadata.write(SQL[sql], params), { ...DEFAULT_LIMITS, ...limits });
  index.restore(names, links, results);
  return index;
}

/** An index that forgets everything with the process. */
export function memoryKeyIndex(limits: Partial<KeyIndexLimits> = {}): KeyIndex {
  return new StoredKeyIndex(() => {}, { ...DEFAULT_LIMITS, ...limits });
}

type Write = (sql: keyof typeof SQL, ...params: (string | number | bigint)[]) => void;

/** A text that links and results refer to: a key, the digest of an op, or a selector. */
interface Name {
  readonly n: number;
  readonly text: string;
  readonly ephemeral: boolean;
  /** Links and results that mention it; at 0 it goes. */
  uses: number;
  /** Links that lead to it. */
  incoming: number;
  /** Those of them that come from names by content, by input; created on first use, as few keys have any. */
  contents: Map<Name, number> | undefined;
  /** Links that carry it as the digest of their op. */
  asDigest: number;
  hadResult: boolean;
}
interface Link {
  readonly n: number;
  readonly from: Name;
  readonly digest: Name;
  readonly selector: Name | undefined;
  readonly to: Name;
  /** The one added before it under the same key; nearly always there is none. */
  readonly older: Link | undefined;
}
function* chainOf(newest: Link | undefined): Generator<Link> {
  for (let link = newest; link !== undefined; link = link.older) yield link;
}

class StoredKeyIndex implements KeyIndex {
  readonly #write: Write;
  readonly #limits: KeyIndexLimits;
  readonly #names = new Map<string, Name>();
  /** By `source/digest/input/output/selector`; the least recently used first. */
  readonly #links = new Map<string, Link>();
  /** Newest first; the key that got one longest ago is first. */
  readonly #results = new Map<Name, StoredResult[]>();
  /** Nearly every result has one key. */
  readonly #keysOfResult = new Map<string, readonly Name[]>();
  readonly #ephemeralKeys = new Set<Name>();
  #linkCount = 0;
  #nextName = 1; // 0 stands for no selector
  #nextLink = 1;

  constructor(write: Write, limits: KeyIndexLimits) {
    this.#write = write;
    this.#limits = limits;
  }

  get size(): { readonly links: number; readonly keysWithResults: number } {
    return { links: this.#linkCount, keysWithResults: this.#results.size };
  }

  linked(from: string, link: CacheLink): readonly string[] {
    const key = this.#linkKey(from, link);
    const found = key === undefined ? undefined : this.#links.get(key);
    if (key === undefined || found === undefined) return [];
    this.#links.delete(key); // used now, so it moves to the end
    this.#links.set(key, found);
    const targets: string[] = [];
    for (const { to } of chainOf(found)) targets.unshift(to.text);
    return targets;
  }

  addLink(from: string, link: CacheLink, to: string): void {
    const key = this.#linkKey(from, link);
    if (key !== undefined && chainOf(this.#links.get(key)).some((known) => known.to.text === to)) return;
    const selector = link.selector === undefined ? undefined : this.#name(link.selector);
    const ends = { from: this.#name(from), digest: this.#name(link.digest), selector, to: this.#name(to) };
    const { n, input, output } = { n: this.#nextLink++, input: link.input, output: link.output };
    this.#insertLink(keyOf(ends.from, ends.digest, input, output, selector), { n, ...ends });
    if (!ends.from.ephemeral && !ends.to.ephemeral) {
      this.#write('addLink', n, ends.from.n, ends.digest.n, input, output, selector?.n ?? 0, ends.to.n);
    }
    while (this.#linkCount > this.#limits.maxLinks) this.#dropOldestLink();
  }

  contentNames(key: string, input: number): readonly string[] {
    const contents = this.#names.get(key)?.contents;
    if (contents === undefined) return [];
    return [...contents].filter(([, at]) => at === input).map(([{ text }]) => text);
  }

  results(key: string): readonly StoredResult[] {
    const name = this.#names.get(key);
    return (name === undefined ? undefined : this.#results.get(name)) ?? [];
  }

  addResult(key: string, result: StoredResult): void {
    const name = this.#name(key);
    name.uses += 1; // keeps the name while the same result is taken out and put in again
    if (!name.hadResult) {
      name.hadResult = true;
      if (!name.ephemeral) this.#write('addName', name.n, name.text, 1);
    }
    this.#dropResult(name, result.id);
    this.#insertResult(name, result);
    if (!name.ephemeral) this.#write('addResult', name.n, result.id ?? '', result.createdAtNs);
    if (!name.ephemeral && result.id !== undefined && result.runNs !== undefined) this.#write('addRun', result.id, result.runNs);
    for (const old of (this.#results.get(name) ?? []).slice(RESULTS_PER_KEY)) this.#dropResult(name, old.id);
    this.#release(name);
    this.#trimResults();
  }

  forgetResult(key: string, resultId: string): void {
    const name = this.#names.get(key);
    if (name !== undefined) this.#dropResult(name, resultId);
  }

  removed(resultId: string): readonly string[] {
    const names = this.#keysOfResult.get(resultId) ?? [];
    for (const name of names) this.#dropResult(name, resultId);
    return names.filter(({ ephemeral }) => !ephemeral).map(({ text }) => text);
  }

  resultIds(): readonly string[] {
    return [...this.#keysOfResult.keys()];
  }

  hadResult(key: string): boolean {
    return this.#names.get(key)?.hadResult ?? false;
  }

  seen(digest: CacheDigest): boolean {
    return (this.#names.get(digest)?.asDigest ?? 0) > 0;
  }

  /** Fills the maps from rows; what refers to a name that is not there was cut off by a crash and is dropped. */
  restore(names: readonly SqlRow[], links: readonly SqlRow[], results: readonly SqlRow[]): void {
    const byNumber = new Map<number, Name>();
    for (const row of names) {
      const [n, text] = [Number(row.n), String(row.text)];
      const name: Name = {
        n,
        text,
        ephemeral: false,
        uses: 0,
        incoming: 0,
        contents: undefined,
        asDigest: 0,
        hadResult: row.had_result === 1,
      };
      byNumber.set(n, name);
      this.#names.set(text, name);
      this.#nextName = Math.max(this.#nextName, n + 1);
    }
    for (const row of links) {
      const [n, input, output] = [Number(row.n), Number(row.input), Number(row.output)];
      this.#nextLink = Math.max(this.#nextLink, n + 1);
      const [from, digest, to] = [row.source, row.digest, row.target].map((at) => byNumber.get(Number(at)));
      const selector = byNumber.get(Number(row.selector));
      if (from === undefined || digest === undefined || to === undefined || (row.selector !== 0 && selector === undefined)) {
        this.#write('dropLink', n);
      } else this.#insertLink(keyOf(from, digest, input, output, selector), { n, from, digest, selector, to });
    }
    for (const row of results) {
      const name = byNumber.get(Number(row.key));
      const id = String(row.id);
      if (name === undefined) this.#write('dropResult', Number(row.key), id);
      else {
        const run = typeof row.run_ns === 'number' || typeof row.run_ns === 'bigint' ? { runNs: BigInt(row.run_ns) } : {};
        const createdAtNs = BigInt(row.created_ns as number | bigint);
        this.#insertResult(name, { id: id === '' ? undefined : id, createdAtNs, ...run });
      }
    }
    for (const name of byNumber.values()) this.#dropIfUnused(name);
  }

  #linkKey(from: string, { digest, input, output, selector }: CacheLink): string | undefined {
    const source = this.#names.get(from);
    const op = this.#names.get(digest);
    const selected = selector === undefined ? undefined : this.#names.get(selector);
    if (source === undefined || op === undefined || (selector !== undefined && selected === undefined)) return undefined;
    return keyOf(source, op, input, output, selected);
  }

  #name(text: string): Name {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    const ephemeral = text.startsWith(EPHEMERAL);
    const name: Name = {
      n: this.#nextName++,
      text,
      ephemeral,
      uses: 0,
      incoming: 0,
      contents: undefined,
      asDigest: 0,
      hadResult: false,
    };
    this.#names.set(text, name);
    if (!ephemeral) this.#write('addName', name.n, text, 0);
    return name;
  }

  #insertLink(key: string, ends: Omit<Link, 'older'>): void {
    this.#links.set(key, { ...ends, older: this.#links.get(key) });
    this.#linkCount += 1;
    for (const name of [ends.from, ends.digest, ends.to]) name.uses += 1;
    if (ends.selector !== undefined) ends.selector.uses += 1;
    ends.digest.asDigest += 1;
    ends.to.incoming += 1;
    if (!ends.from.text.endsWith(CONTENT)) return;
    ends.to.contents ??= new Map();
    ends.to.contents.set(ends.from, Number(key.split('/')[2]));
  }

  #dropOldestLink(): void {
    const [oldest] = this.#links;
    if (oldest === undefined) return;
    const [key, newest] = oldest;
    this.#links.delete(key);
    for (const link of chainOf(newest)) {
      this.#linkCount -= 1;
      if (!link.from.ephemeral && !link.to.ephemeral) this.#write('dropLink', link.n);
      link.digest.asDigest -= 1;
      link.to.incoming -= 1;
      link.to.contents?.delete(link.from);
      if (link.to.incoming === 0) this.#dropResultsOf([link.to]); // nothing finds them
      for (const name of [link.from, link.digest, link.to, link.selector]) if (name !== undefined) this.#release(name);
    }
  }

  #insertResult(name: Name, result: StoredResult): void {
    const others = this.#results.get(name) ?? [];
    this.#results.delete(name);
    this.#results.set(name, [result, ...others]);
    name.uses += 1;
    if (name.ephemeral) this.#ephemeralKeys.add(name);
    if (result.id === undefined) return;
    this.#keysOfResult.set(result.id, [...(this.#keysOfResult.get(result.id) ?? []), name]);
  }

  #dropResult(name: Name, id: string | undefined): void {
    const before = this.#results.get(name) ?? [];
    const after = before.filter((result) => result.id !== id);
    if (after.length === before.length) return;
    if (after.length > 0) this.#results.set(name, after);
    else {
      this.#results.delete(name);
      this.#ephemeralKeys.delete(name);
    }
    if (id !== undefined) {
      const keys = (this.#keysOfResult.get(id) ?? []).filter((key) => key !== name);
      if (keys.length === 0) {
        this.#keysOfResult.delete(id);
        if (before.some((result) => result.id === id && result.runNs !== undefined)) this.#write('dropRun', id);
      } else this.#keysOfResult.set(id, keys);
    }
    if (!name.ephemeral) this.#write('dropResult', name.n, id ?? '');
    this.#release(name);
  }

  #trimResults(): void {
    while (this.#ephemeralKeys.size > this.#limits.maxEphemeralKeys)
      this.#dropResultsOf([...this.#ephemeralKeys.values().take(1)]);
    while (this.#results.size > this.#limits.maxKeysWithResults) this.#dropResultsOf([...this.#results.keys().take(1)]);
  }
  #dropResultsOf(names: readonly Name[]): void {
    for (const name of names) for (const { id } of this.#results.get(name) ?? []) this.#dropResult(name, id);
  }

  #release(name: Name): void {
    name.uses -= 1;
    this.#dropIfUnused(name);
  }
  /** A key that had a result is kept for the answer `evicted` as long as links lead to it; a root key has none and goes. */
  #dropIfUnused(name: Name): void {
    if (name.uses > 0 || this.#names.get(name.text) !== name) return;
    this.#names.delete(name.text);
    if (!name.ephemeral) this.#write('dropName', name.n);
  }
}

/** How names by content end (solver/keys.ts, `contentKeyOf`). */
const CONTENT = '@-1';
const keyOf = (from: Name, digest: Name, input: number, output: number, selector: Name | undefined): string =>
  `${from.n}/${digest.n}/${input}/${output}/${selector?.n ?? 0}`;
