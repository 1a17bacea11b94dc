/**
 * Writes a build's cache to one place: results become layers, layers are uploaded, and the configuration that names them comes last,
 * so that a reader never finds a name without its bytes. What was prepared can be sent again after the build is gone.
 */

import { type Clock, nsToMs } from '../../../core/clock.ts';
import { BuildError } from '../../../core/errors.ts';
import { Semaphore } from '../../../core/semaphore.ts';
import type { ContentStore, Lease } from '../../content/ports.ts';
import type { Layer, Snapshot } from '../../snapshot/ports.ts';
import type { KeyRecord, Result, StepProgress } from '../../solver/ports.ts';
import type { ExportOptions } from './attributes.ts';
import { chainsOf, type ResolvedResult } from './chains.ts';
import { type CacheConfig, type CacheLayer, type ConfigLayer, encodeCacheConfig } from './config.ts';
import { ImportedResult } from './import.ts';
import { familyOf } from './oci-form.ts';
import type { GuardedStore } from './policy.ts';
import type { Quarantine } from './quarantine.ts';

/** What a build knows, as the solver hands it over. */
export interface CacheRecords {
  /** Inputs first. */
  readonly records: readonly KeyRecord[];
  /** Those of the build's own results. */
  readonly roots: ReadonlySet<KeyRecord>;
}
export interface PreparedExport extends Disposable {
  readonly config: CacheConfig;
  /** Layers that only another cache has, by digest: where they can be had. */
  readonly elsewhere: ReadonlyMap<string, ImportedResult>;
}

const PARALLEL_RESULTS = 4; // layers are packed in threads; more at once only fight for them

/** Makes the layers. They are leased until the export is disposed. */
export async function prepareExport(
  content: ContentStore,
  { records, roots }: CacheRecords,
  options: ExportOptions,
  signal: AbortSignal,
): Promise<PreparedExport> {
  const lease = content.lease();
  try {
    const results = await new Resolver(lease, options, signal).all(records, roots);
    const config = chainsOf(records, new Map([...results].map(([record, { resolved }]) => [record, resolved])));
    const elsewhere = new Map<string, ImportedResult>();
    for (const { resolved, remote } of results.values())
      if (remote !== undefined) for (const { descriptor } of resolved.layers) elsewhere.set(descriptor.digest, remote);
    for (const { resolved, remote } of results.values())
      if (remote === undefined) for (const { descriptor } of resolved.layers) elsewhere.delete(descriptor.digest);
    return { config, elsewhere, [Symbol.dispose]: () => lease[Symbol.dispose]() };
  } catch (error) {
    lease[Symbol.dispose]();
    throw error;
  }
}

interface Found {
  readonly resolved: ResolvedResult;
  readonly remote?: ImportedResult;
}

class Resolver {
  readonly #lease: Lease;
  readonly #options: ExportOptions;
  readonly #signal: AbortSignal;
  readonly #slots = new Semaphore(PARALLEL_RESULTS);
  /** Snapshot ids and layers of the build's own results: what `min` may name. */
  readonly #final: { readonly ids: readonly string[]; readonly layers: readonly CacheLayer[] }[] = [];

  constructor(lease: Lease, options: ExportOptions, signal: AbortSignal) {
    this.#lease = lease;
    this.#options = options;
    this.#signal = signal;
  }

  async all(records: readonly KeyRecord[], roots: ReadonlySet<KeyRecord>): Promise<Map<KeyRecord, Found>> {
    const found = new Map<KeyRecord, Found>();
    const take = async (record: KeyRecord, isFinal: boolean): Promise<void> => {
      using _slot = await this.#slots.acquire(this.#signal);
      const result = await this.#resolve(record, isFinal);
      if (result !== undefined) found.set(record, result);
    };
    await Promise.all([...roots].map((record) => take(record, true)));
    await Promise.all(records.filter((record) => !roots.has(record)).map((record) => take(record, false)));
    return found;
  }

  async #resolve({ result }: KeyRecord, isFinal: boolean): Promise<Found | undefined> {
    if (result === undefined) return undefined;
    if (result.remote instanceof ImportedResult) return this.#imported(result.remote, isFinal);
    await using opened = await result.open?.();
    const snapshot = snapshotOf(opened);
    if (snapshot === undefined) return undefined;
    const ids = snapshot.chain();
    const layers = isFinal || this.#options.mode === 'max' ? await this.#layersOf(snapshot) : this.#partOfFinal(ids);
    if (layers === undefined) return undefined;
    if (isFinal) this.#final.push({ ids, layers });
    return { resolved: { createdAtNs: result.createdAtNs, layers } };
  }

  /** A result this build never needed to fetch; its record goes on with the layers it has. */
  #imported(remote: ImportedResult, isFinal: boolean): Found | undefined {
    const { chain: layers, createdAtNs } = remote;
    const isPart = this.#final.some((final) =>
      layers.every(({ descriptor }, at) => final.layers[at]?.descriptor.digest === descriptor.digest),
    );
    if (!isFinal && this.#options.mode === 'min' && !isPart) return undefined;
    return { resolved: { createdAtNs, layers }, ...(isPart ? {} : { remote }) };
  }

  #partOfFinal(ids: readonly string[]): readonly CacheLayer[] | undefined {
    const final = this.#final.find((known) => ids.every((id, at) => known.ids[at] === id));
    return final?.layers.slice(0, ids.length);
  }

  async #layersOf(snapshot: Snapshot): Promise<readonly CacheLayer[]> {
    const { compression, level, force } = this.#options;
    const layers = await snapshot.layers({
      compression,
      force,
      signal: this.#signal,
      ...(level === undefined ? {} : { level }),
    });
    for (const { descriptor } of layers) this.#lease.add(descriptor.digest);
    return layers.map(cacheLayerOf);
  }
}

export const cacheLayerOf = ({ descriptor, diffId, createdAtNs, description }: Layer): CacheLayer => {
  const { annotations: _annotations, ...plain } = familyOf(descriptor, true);
  return { descriptor: plain, diffId, createdAtNs, description };
};

/** Results of this daemon are snapshots; scratch has no id. */
export const snapshotOf = (result: Result | undefined): Snapshot | undefined =>
  result?.id === undefined ? undefined : (result as Snapshot);

export interface SendDeps {
  readonly clock: Clock;
  readonly content: ContentStore;
  readonly quarantine: Quarantine;
}

/** Uploads what is not there and writes the configuration under every name. Rejects with the first failure, nothing left running. */
export async function sendExport(
  deps: SendDeps,
  target: GuardedStore,
  prepared: PreparedExport,
  progress: StepProgress | undefined,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const inner = AbortSignal.any([signal, stop.signal]);
  const slots = new Semaphore(target.store.parallelism);
  const config = withoutLarge(prepared.config, target.store.maxBlobBytes, progress);
  const layers = new Map(
    config.layers.flatMap(({ layer }) => (layer === undefined ? [] : [[layer.descriptor.digest, layer] as const])),
  );
  const uploads = [...layers.values()].map(async (layer) => {
    using _slot = await slots.acquire(inner);
    const line = progress?.status(`writing layer ${layer.descriptor.digest}`);
    await sendBlob(deps, target, layer, prepared.elsewhere.get(layer.descriptor.digest), inner);
    line?.done();
  });
  try {
    await Promise.all(uploads);
  } catch (error) {
    stop.abort(BuildError.from(error));
    await Promise.allSettled(uploads);
    throw error;
  }
  const bytes = encodeCacheConfig(config, true);
  for (const name of target.store.manifestNames) {
    const line = progress?.status(`writing cache manifest ${name}`);
    await target.writeManifest(name, bytes, signal);
    line?.done();
  }
}

/** Layers that the place does not take are named without what they are: nobody is offered a result that needs one. */
function withoutLarge(config: CacheConfig, maxBytes = Number.POSITIVE_INFINITY, progress?: StepProgress): CacheConfig {
  const isLarge = ({ layer }: ConfigLayer): boolean => layer !== undefined && layer.descriptor.size > maxBytes;
  for (const { blob } of config.layers.filter(isLarge))
    progress?.status(`leaving out layer ${blob}: larger than ${maxBytes} bytes`).done();
  return { ...config, layers: config.layers.map((each) => (isLarge(each) ? { blob: each.blob, parent: each.parent } : each)) };
}

async function sendBlob(
  { clock, content, quarantine }: SendDeps,
  target: GuardedStore,
  { descriptor }: CacheLayer,
  source: ImportedResult | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { store } = target;
  const { digest, size } = descriptor;
  const suspect = quarantine.has(store, digest);
  if (!suspect && source !== undefined && scopeOf(source.store) === scopeOf(target)) return; // it was read from there
  const present = suspect ? undefined : await target.statBlob(digest, signal);
  if (present !== undefined && present.sizeBytes === size) {
    const { refreshAfterMs } = store;
    const nowMs = nsToMs(clock.nowNs());
    const isOld = refreshAfterMs !== undefined && nowMs - (present.modifiedAtMs ?? nowMs) > refreshAfterMs;
    if (isOld) await target.touchBlob(digest, size, signal);
    return;
  }
  using lease = content.lease();
  lease.add(digest);
  await source?.fetchBlob(descriptor, signal, () => undefined);
  const read = (range: { readonly offset?: number; readonly length?: number } = {}): AsyncIterable<Uint8Array> =>
    content.read(digest, range);
  await target.writeBlob(descriptor, { path: content.path(digest), sizeBytes: size, read }, signal);
  quarantine.release(store, digest);
}

const scopeOf = ({ store }: GuardedStore): string => `${store.backend} ${store.endpoint} ${store.blobScope ?? store.label}`;
