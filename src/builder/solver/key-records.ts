/**
 * What a cache export writes of a build: the key of every edge below a result, how it is reached from the keys of its inputs, and the
 * result known for it, whether it was made, found or only seen in a remote cache. Nothing is evaluated and nothing is read from disk.
 */
import { type CacheDigest, cacheDigestOf } from '../../core/digest.ts';
import type { EdgeServices, EdgeState } from './edge-state.ts';
import { rootKey } from './keys.ts';
import type { KeyRecord, KeyResult } from './ports.ts';

/** The wire format's name of a key that is `<digest>@<output>` here. */
const nameOf = (key: string): CacheDigest => cacheDigestOf(key);

/** Inputs come before what stands on them; `roots` are the records of the edges themselves. Keys that hold in one session only are left out. */
export function keyRecords(
  edges: readonly EdgeState[],
  services: EdgeServices,
): { readonly records: readonly KeyRecord[]; readonly roots: ReadonlySet<KeyRecord> } {
  const walk = new Walk(services);
  const roots = new Set(edges.flatMap((edge) => walk.of(edge)));
  return { records: walk.records, roots };
}

class Walk {
  readonly records: KeyRecord[] = [];
  readonly #services: EdgeServices;
  readonly #known = new Map<EdgeState, readonly KeyRecord[]>();
  readonly #roots = new Map<CacheDigest, KeyRecord>();

  constructor(services: EdgeServices) {
    this.#services = services;
  }

  of(edge: EdgeState): readonly KeyRecord[] {
    const known = this.#known.get(edge);
    if (known !== undefined) return known;
    this.#known.set(edge, []); // a graph has no circle; this only bounds the walk if one ever had
    const made = this.#recordsOf(edge);
    this.#known.set(edge, made);
    this.records.push(...made);
    return made;
  }

  #recordsOf(edge: EdgeState): readonly KeyRecord[] {
    const { vertex, output } = edge;
    const maps = vertex.maps.filter(({ ephemeral }) => ephemeral !== true);
    if (vertex.inputs.length === 0)
      return maps.map(({ digest }) => ({ name: nameOf(rootKey(digest, output, false)), inputs: [] }));
    const [map] = maps;
    if (map === undefined) return [];
    const inputs = vertex.inputs.map((input, at) => {
      const selector = map.inputs[at]?.selector;
      const links: { selector?: CacheDigest; record: KeyRecord }[] = this.of(
        this.#services.edgeOf(input.state, input.output),
      ).map((record) => ({ record, ...(selector === undefined ? {} : { selector }) }));
      for (const name of this.#rootNames(edge, at)) links.push({ record: this.#root(name) });
      return links;
    });
    if (inputs.some((links) => links.length === 0)) return [];
    const result = this.#resultOf(edge);
    return [{ name: nameOf(`${map.digest}@${output}`), inputs, ...(result === undefined ? {} : { result }) }];
  }

  /** Other ways to reach the edge than from what its input is: from what was read of it, in this build or before. */
  #rootNames({ vertex, keys }: EdgeState, at: number): ReadonlySet<CacheDigest> {
    const { index } = this.#services;
    const own = vertex.contentKeys[at];
    const stored = keys.flatMap((key) => [...index.contentNames(key, at)]);
    const remote = vertex.remoteCaches().flatMap((cache) => keys.flatMap((key) => [...cache.rootNames(key, at)]));
    return new Set([...(own === undefined ? [] : [nameOf(own)]), ...stored.map(nameOf), ...remote]);
  }

  #root(name: CacheDigest): KeyRecord {
    const known = this.#roots.get(name);
    if (known !== undefined) return known;
    const record: KeyRecord = { name, inputs: [] };
    this.#roots.set(name, record);
    this.records.push(record);
    return record;
  }

  /** What this build holds, then what is stored here, then what only a remote cache has. */
  #resultOf(edge: EdgeState): KeyResult | undefined {
    const { index, results, clock } = this.#services;
    const stored = edge.allKeys.flatMap((key) => index.results(key));
    const { outcome } = edge;
    if (outcome?.type === 'done') {
      const { result } = outcome;
      if (result.id === undefined) return undefined; // scratch has no layers
      const createdAtNs = stored.find(({ id }) => id === result.id)?.createdAtNs ?? clock.nowNs();
      return { createdAtNs, open: async () => result.clone() };
    }
    const newest = stored.sort((a, b) => (a.createdAtNs < b.createdAtNs ? 1 : -1))[0];
    if (newest !== undefined) {
      const { id, createdAtNs } = newest;
      return id === undefined ? undefined : { createdAtNs, open: () => results.load(id) };
    }
    const remote = edge.findRemote()?.remote;
    return remote === undefined ? undefined : { createdAtNs: remote.createdAtNs, remote };
  }
}
