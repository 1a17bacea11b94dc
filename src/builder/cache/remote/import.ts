/**
 * Reads a cache that a build wants looked up, and fetches results out of it. A cache that cannot be read gives an empty one that says
 * why; a result that cannot be fetched is not offered again. Neither ever fails a build.
 */
import { type Clock, nsToSeconds } from '../../../core/clock.ts';
import type { CacheDigest, Digest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { ContentStore, Descriptor } from '../../content/ports.ts';
import type { SingleFlight } from '../../registry/single-flight.ts';
import type { Snapshots } from '../../snapshot/ports.ts';
import type { CacheLink, LoadedRemote, OpContext, RemoteCache, RemoteResult } from '../../solver/ports.ts';
import { pullLayers } from '../../source/pull-layers.ts';
import { type CacheConfig, type CacheLayer, parseCacheConfig } from './config.ts';
import type { GuardedStore } from './policy.ts';
import type { CacheObserver } from './ports.ts';
import type { Quarantine } from './quarantine.ts';
import { type FoundResult, RemoteIndex } from './remote-index.ts';

export interface ImportDeps {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly observer: CacheObserver;
  readonly quarantine: Quarantine;
  /** Shared by all builds: a blob that several want is fetched once. */
  readonly fetches: SingleFlight<void>;
}

/** Reads every configuration of the store. Rejects only with `cancelled`. */
export async function importCache(deps: ImportDeps, store: GuardedStore, signal: AbortSignal): Promise<ImportedCache> {
  const { clock, observer } = deps;
  const { backend, manifestNames } = store.store;
  const startedAtNs = clock.nowNs();
  const seconds = (): number => nsToSeconds(clock.nowNs() - startedAtNs);
  try {
    const texts = await Promise.all(manifestNames.map((name) => store.readManifest(name, signal)));
    const configs = texts.filter((bytes) => bytes !== undefined).map(parseCacheConfig);
    observer.imported(backend, configs.length === 0 ? 'empty' : 'ok', seconds());
    store.imported(seconds() * 1000);
    return new ImportedCache(deps, store, configs, undefined);
  } catch (thrown) {
    const error = BuildError.from(thrown);
    if (error.kind === 'cancelled') throw error;
    observer.imported(backend, error.kind, seconds());
    return new ImportedCache(deps, store, [], error);
  }
}

/** Stands for a cache that is still waited for: what misses meanwhile is told to be for want of it. */
export class LateCache implements RemoteCache {
  readonly label: string;
  readonly backend: string;
  /** Until the cache itself has been added, or given up. */
  failure: string | undefined;

  constructor({ label, backend }: Pick<GuardedStore['store'], 'label' | 'backend'>, failure: string) {
    this.label = label;
    this.backend = backend;
    this.failure = failure;
  }

  linked(): readonly string[] {
    return [];
  }
  rootNames(): readonly CacheDigest[] {
    return [];
  }
  results(): readonly RemoteResult[] {
    return [];
  }
}

/** A remote cache in the memory of one build. */
export class ImportedCache implements RemoteCache {
  readonly label: string;
  readonly backend: string;
  readonly error: BuildError | undefined;
  readonly #store: GuardedStore;
  readonly #indexes: readonly RemoteIndex[];

  constructor(deps: ImportDeps, store: GuardedStore, configs: readonly CacheConfig[], error: BuildError | undefined) {
    this.label = store.store.label;
    this.backend = store.store.backend;
    this.error = error;
    this.#store = store;
    this.#indexes = configs.map((config) => new RemoteIndex(config, (found) => new ImportedResult(deps, store, found)));
  }

  get failure(): string | undefined {
    return this.error?.message ?? this.#store.refusal;
  }
  get records(): number {
    return this.#indexes.reduce((sum, { records }) => sum + records, 0);
  }

  linked(from: string, link: CacheLink): readonly string[] {
    return this.#indexes.flatMap((index) => index.linked(from, link));
  }

  rootNames(key: string, input: number): readonly CacheDigest[] {
    return this.#indexes.flatMap((index) => index.rootNames(key, input));
  }

  /** Nothing while the breaker is open: to offer what cannot be had now would only cost the build time. */
  results(key: string): readonly RemoteResult[] {
    if (this.#store.refusal !== undefined) return [];
    return this.#indexes.flatMap((index) => index.results(key)).filter((result) => !(result as ImportedResult).isLost);
  }
}

export class ImportedResult implements RemoteResult {
  readonly createdAtNs: bigint;
  readonly layers: readonly string[];
  readonly chain: readonly CacheLayer[];
  readonly store: GuardedStore;
  readonly #deps: ImportDeps;
  #lost = false;

  constructor(deps: ImportDeps, store: GuardedStore, { createdAtNs, layers }: FoundResult) {
    this.#deps = deps;
    this.store = store;
    this.createdAtNs = createdAtNs;
    this.chain = layers;
    this.layers = layers.map(({ descriptor }) => descriptor.digest);
  }

  get isLost(): boolean {
    const { store } = this.store;
    return this.#lost || this.chain.some(({ descriptor }) => this.#deps.quarantine.has(store, descriptor.digest));
  }

  async load(context: OpContext): Promise<LoadedRemote> {
    const { clock, content, snapshots } = this.#deps;
    const layers = this.chain.map(({ descriptor, diffId, createdAtNs, description }) => ({
      descriptor,
      diffId,
      ...(createdAtNs === 0n ? {} : { createdAtNs }),
      ...(description === '' ? {} : { description }),
    }));
    const fetched = new Set<Digest>();
    const record = { description: `imported from ${this.store.store.label}` };
    const origin = {
      fetchBlob: async (descriptor: Descriptor, signal: AbortSignal, onProgress: (bytes: number) => void) => {
        if ((await content.info(descriptor.digest)) === undefined) fetched.add(descriptor.digest);
        await this.fetchBlob(descriptor, signal, onProgress);
      },
    };
    try {
      const snapshot = await pullLayers({ clock, content, snapshots, origin, layers, record }, context);
      if (snapshot === undefined) throw new BuildError('corrupt', 'the cached result has no layers');
      return { result: snapshot, prefixes: snapshot.chain() };
    } catch (thrown) {
      const error = BuildError.from(thrown);
      if (!context.signal.aborted) this.#lose(error);
      // What came of a result that cannot be had is no use, and on a full disk the step needs the room; a lease keeps what others use.
      await Promise.all([...fetched].map((digest) => content.remove(digest)));
      throw error;
    }
  }

  /** Into the content store, hashed; nothing when it is there. */
  async fetchBlob(descriptor: Descriptor, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void> {
    const { content, fetches } = this.#deps;
    const { store } = this.store;
    if ((await content.info(descriptor.digest)) !== undefined) return;
    const fetch = async (inner: AbortSignal, report: (bytes: number) => void): Promise<void> => {
      const put = async (bytes: AsyncIterable<Uint8Array>, own: AbortSignal): Promise<void> => {
        await content.put(bytes, { expected: descriptor.digest, expectedSize: descriptor.size, signal: own });
      };
      await this.store.readBlob(descriptor, inner, put, report);
    };
    const flight = `${store.backend} ${store.endpoint} ${descriptor.digest}`;
    try {
      await fetches.run(flight, signal, fetch, onProgress);
    } catch (thrown) {
      const error = BuildError.from(thrown);
      if (error.kind === 'corrupt') this.#deps.quarantine.add(store, descriptor.digest, error);
      throw error;
    }
  }

  /** Bytes that hash right and do not unpack to what the cache says are as bad as wrong ones. */
  #lose(error: BuildError): void {
    this.#lost = true;
    if (error.kind !== 'corrupt') return;
    const named = this.chain.find(({ descriptor }) => error.message.includes(descriptor.digest)) ?? this.chain.at(-1);
    const digest: Digest | undefined = named?.descriptor.digest;
    if (digest !== undefined) this.#deps.quarantine.add(this.store.store, digest, error);
  }
}
