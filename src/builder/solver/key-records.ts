/**
 * What a cache export writes of a build: the key of every edge below a result, how it is reached from the keys of its inputs, and the
 * result known for it, whether it was made, found or only seen in a remote cache. Nothing is evaluated and nothing is read from disk.
 */
import type { CacheDigest } from '../../core/digest.ts';
import type { EdgeServices, EdgeState } from './edge-state.ts';
import type { KeyRecord, KeyResult } from './ports.ts';

const CONTENT_OUTPUT = -1;

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
  readonly #contents = new Map<string, KeyRecord>();

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
    if (vertex.inputs.length === 0) return maps.map(({ digest }) => ({ digest, output, inputs: [] }));
    const [map] = maps;
    if (map === undefined) return [];
    const inputs = vertex.inputs.map((input, at) => {
      const selector = map.inputs[at]?.selector;
      const links: { selector?: CacheDigest; record: KeyRecord }[] = this.of(
        this.#services.edgeOf(input.state, input.output),
      ).map((record) => ({ record, ...(selector === undefined ? {} : { selector }) }));
      const content = vertex.contentKeys[at];
      if (content !== undefined) links.push({ record: this.#content(content) });
      return links;
    });
    if (inputs.some((links) => links.length === 0)) return [];
    const result = this.#resultOf(edge);
    return [{ digest: map.digest, output, inputs, ...(result === undefined ? {} : { result }) }];
  }

  #content(key: string): KeyRecord {
    const known = this.#contents.get(key);
    if (known !== undefined) return known;
    const digest = key.slice(0, key.lastIndexOf('@')) as CacheDigest; // made by contentKeyOf
    const record: KeyRecord = { digest, output: CONTENT_OUTPUT, inputs: [] };
    this.#contents.set(key, record);
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
