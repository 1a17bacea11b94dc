/**
 * Makes a configuration of what a build knows: one record per key, equal ones joined, each with its best result as a chain of layers.
 * Layers and records are sorted as BuildKit sorts them, so that the same cache gives the same bytes and an unchanged one uploads nothing.
 */
import { type Digest, digestOf, parseDigest } from '../../../core/digest.ts';
import type { KeyRecord } from '../../solver/ports.ts';
import type { CacheConfig, CacheLayer, ConfigInput, ConfigLayer, ConfigRecord } from './config.ts';

/** The result of a record as it goes out; undefined: the record has none. */
export interface ResolvedResult {
  readonly createdAtNs: bigint;
  readonly layers: readonly CacheLayer[];
}

/** `resultOf` is what `resolve` found for the records that have a result. Records are given inputs first. */
export function chainsOf(records: readonly KeyRecord[], resultOf: ReadonlyMap<KeyRecord, ResolvedResult>): CacheConfig {
  const layers = new LayerTable();
  const joined = new Map<string, Joined>();
  const of = new Map<KeyRecord, Joined>();
  for (const record of records) {
    const inputs = record.inputs.map((alternatives) => {
      const links = new Map<string, Link>();
      for (const { selector = '', record: source } of alternatives) {
        const to = of.get(source);
        if (to !== undefined) links.set(`${to.id} ${selector}`, { selector, to });
      }
      return links;
    });
    if (inputs.some((links) => links.size === 0)) continue; // what cannot be reached need not be kept
    const digest = parseDigest(record.name);
    const id = digestOf(JSON.stringify([digest, inputs.map((links) => [...links.keys()].sort())]));
    const known = joined.get(id) ?? { id, digest, inputs: inputs.map((links) => [...links.values()]), result: undefined };
    joined.set(id, known);
    of.set(record, known);
    const result = resultOf.get(record);
    if (result === undefined || result.layers.length === 0) continue;
    if (known.result !== undefined && known.result.createdAtNs >= result.createdAtNs) continue;
    known.result = { layer: layers.add(result.layers), createdAtNs: result.createdAtNs };
  }
  return sorted(layers.list, withoutDeadEnds([...joined.values()]));
}

interface Link {
  readonly selector: string;
  readonly to: Joined;
}
interface Joined {
  readonly id: string;
  readonly digest: Digest;
  readonly inputs: readonly (readonly Link[])[];
  result: { readonly layer: number; readonly createdAtNs: bigint } | undefined;
}

/** Records that lead to no result are no use to anybody. */
function withoutDeadEnds(records: readonly Joined[]): readonly Joined[] {
  const useful = new Set<Joined>();
  for (const record of records.toReversed()) {
    if (record.result !== undefined) useful.add(record);
    if (useful.has(record)) for (const { to } of record.inputs.flat()) useful.add(to);
  }
  return records.filter((record) => useful.has(record));
}

class LayerTable {
  readonly list: ConfigLayer[] = [];
  readonly #byChain = new Map<string, number>();

  /** Index of the top layer. */
  add(chain: readonly CacheLayer[]): number {
    let parent = -1;
    for (const layer of chain) {
      const key = `${parent} ${layer.descriptor.digest}`;
      const known = this.#byChain.get(key) ?? this.list.push({ blob: layer.descriptor.digest, parent, layer }) - 1;
      this.#byChain.set(key, known);
      parent = known;
    }
    return parent;
  }
}

function sorted(layers: readonly ConfigLayer[], records: readonly Joined[]): CacheConfig {
  const layerOrder = [...layers.keys()].sort((a, b) => {
    const [x, y] = [layers[a], layers[b]];
    if (x === undefined || y === undefined) return 0;
    return x.blob < y.blob ? -1 : x.blob > y.blob ? 1 : x.parent - y.parent;
  });
  const newLayer = new Map(layerOrder.map((old, at) => [old, at]));
  const recordOrder = [...records].sort((a, b) => (a.digest < b.digest ? -1 : a.digest > b.digest ? 1 : a.id < b.id ? -1 : 1));
  const newRecord = new Map(recordOrder.map((record, at) => [record, at]));
  return {
    layers: layerOrder.flatMap((old) => {
      const layer = layers[old];
      return layer === undefined ? [] : [{ ...layer, parent: newLayer.get(layer.parent) ?? -1 }];
    }),
    records: recordOrder.map(({ digest, inputs, result }): ConfigRecord => {
      const linkOf = ({ selector, to }: Link): ConfigInput => ({ selector, link: newRecord.get(to) ?? 0 });
      return {
        digest,
        inputs: inputs.map((links) => links.map(linkOf).sort((a, b) => a.link - b.link || (a.selector < b.selector ? -1 : 1))),
        results: result === undefined ? [] : [{ ...result, layer: newLayer.get(result.layer) ?? 0 }],
        chains: [],
      };
    }),
  };
}
