/**
 * A configuration that was read, as the solver looks into it: keys of a remote cache, the links between them and their results. It
 * stays in memory for the builds that asked for it and is never mixed with the daemon's own index. Records are reached as BuildKit
 * reaches them: a record without inputs is named by the sha256 of `<digest>@<output>`, all others by links.
 */
import { type CacheDigest, cacheDigestOf, type Digest } from '../../../core/digest.ts';
import { type CacheLink, REMOTE, type RemoteResult } from '../../solver/ports.ts';
import type { CacheConfig, CacheLayer, ConfigRecord } from './config.ts';

/** Layers of one result, lowest first. */
export interface FoundResult {
  readonly createdAtNs: bigint;
  readonly layers: readonly CacheLayer[];
}

const ROOT_KEY = /^sha256:[0-9a-f]{64}@-?\d+$/;
const MAX_CHAIN = 1024; // layers in one result; more is a loop or an attack
let nextId = 0; // tells the keys of one cache from another's

export class RemoteIndex {
  readonly #config: CacheConfig;
  readonly #prefix = `${REMOTE}${nextId++}:`;
  readonly #roots = new Map<string, number[]>();
  /** By `<source>/<record digest>/<input>/<selector>`. */
  readonly #children = new Map<string, number[]>();
  readonly #makeResult: (found: FoundResult) => RemoteResult;
  readonly #results = new Map<number, readonly RemoteResult[]>();

  constructor(config: CacheConfig, makeResult: (found: FoundResult) => RemoteResult) {
    this.#config = config;
    this.#makeResult = makeResult;
    for (const [at, { digest, inputs }] of config.records.entries()) {
      if (inputs.length === 0) push(this.#roots, digest, at);
      for (const [input, alternatives] of inputs.entries())
        for (const { link, selector } of alternatives) push(this.#children, `${link}/${digest}/${input}/${selector}`, at);
    }
  }

  get records(): number {
    return this.#config.records.length;
  }

  /** Keys reached from a key of this cache, or from the name of a root or of content. */
  linked(from: string, { digest, input, output, selector = '' as CacheDigest }: CacheLink): readonly string[] {
    const sources = this.#recordsOf(from);
    if (sources.length === 0) return [];
    const record = cacheDigestOf(`${digest}@${output}`);
    const found = sources.flatMap((source) => this.#children.get(`${source}/${record}/${input}/${selector}`) ?? []);
    return [...new Set(found)].map((at) => `${this.#prefix}${at}`);
  }

  rootNames(key: string, input: number): readonly CacheDigest[] {
    const found = new Set<CacheDigest>();
    if (!key.startsWith(this.#prefix)) return [];
    for (const at of this.#recordsOf(key))
      for (const { link, selector } of this.#config.records[at]?.inputs[input] ?? []) {
        const source = this.#config.records[link];
        if (source?.inputs.length === 0 && selector === '') found.add(cacheDigest(source.digest));
      }
    return [...found];
  }

  /** Newest first. */
  results(key: string): readonly RemoteResult[] {
    return this.#recordsOf(key)
      .flatMap((at) => this.#resultsOf(at))
      .sort((a, b) => (a.createdAtNs < b.createdAtNs ? 1 : a.createdAtNs > b.createdAtNs ? -1 : 0));
  }

  #recordsOf(key: string): readonly number[] {
    if (key.startsWith(this.#prefix)) return [Number(key.slice(this.#prefix.length))];
    return ROOT_KEY.test(key) ? (this.#roots.get(cacheDigestOf(key)) ?? []) : [];
  }

  #resultsOf(at: number): readonly RemoteResult[] {
    const known = this.#results.get(at);
    if (known !== undefined) return known;
    const record = this.#config.records[at];
    const made = record === undefined ? [] : [...this.#chainsOf(record)].map((found) => this.#makeResult(found));
    this.#results.set(at, made);
    return made;
  }

  *#chainsOf({ results, chains }: ConfigRecord): Generator<FoundResult> {
    const { layers } = this.#config;
    for (const { layer, createdAtNs } of results) {
      const indexes: number[] = [];
      for (let at = layer; at !== -1 && indexes.length <= MAX_CHAIN; at = layers[at]?.parent ?? -1) indexes.unshift(at);
      const found = indexes.map((at) => layers[at]?.layer);
      if (indexes.length <= MAX_CHAIN && found.every((known) => known !== undefined)) yield { createdAtNs, layers: found };
    }
    for (const { layers: indexes, createdAtNs } of chains) {
      const found = indexes.map((at) => layers[at]?.layer);
      if (found.length > 0 && found.every((known) => known !== undefined)) yield { createdAtNs, layers: found };
    }
  }
}

/** A record's name is a digest of a key. */
const cacheDigest = (digest: Digest): CacheDigest => digest as string as CacheDigest;

function push(map: Map<string, number[]>, key: string, value: number): void {
  const known = map.get(key);
  if (known === undefined) map.set(key, [value]);
  else known.push(value);
}
