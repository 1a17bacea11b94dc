/** Several cache configurations as one, for a place where each export leaves its own. */
import type { CacheConfig, ConfigLayer, ConfigRecord } from './config.ts';

/**
 * Layers with the same blobs below them, and records with the same digest and inputs, become one with the results of all. Earlier
 * configurations come first.
 */
export function mergeConfigs(configs: readonly CacheConfig[]): CacheConfig {
  const layers: ConfigLayer[] = [];
  const records: ConfigRecord[] = [];
  const layerIds = new Map<string, number>();
  const recordIds = new Map<string, number>();
  for (const config of configs) {
    const layerAt = numbering(config.layers, (layer, at): number => {
      const parent = layer.parent === -1 ? -1 : at(layer.parent);
      return put(layers, layerIds, `${layer.blob} ${parent}`, { ...layer, parent }, (known, own) => ({ ...own, ...known }));
    });
    const recordAt = numbering(config.records, (record, at): number => {
      const inputs = record.inputs.map((alternatives) => alternatives.map((input) => ({ ...input, link: at(input.link) })));
      const results = record.results.map((result) => ({ ...result, layer: layerAt(result.layer) }));
      const chains = record.chains.map((chain) => ({ ...chain, layers: chain.layers.map(layerAt) }));
      const identity = `${record.digest} ${JSON.stringify(inputs)}`;
      return put(records, recordIds, identity, { digest: record.digest, inputs, results, chains }, joined);
    });
    for (const index of config.layers.keys()) layerAt(index);
    for (const index of config.records.keys()) recordAt(index);
  }
  return { layers, records };
}

const joined = (known: ConfigRecord, own: ConfigRecord): ConfigRecord => ({
  ...known,
  results: distinct([...known.results, ...own.results], ({ layer }) => String(layer)),
  chains: distinct([...known.chains, ...own.chains], ({ layers }) => layers.join()),
});

function distinct<T>(items: readonly T[], identity: (item: T) => string): T[] {
  return [...new Map(items.toReversed().map((item) => [identity(item), item])).values()].toReversed();
}

/** The new number of each item, asked from within as well; an item that leads back to itself gets the number of no other. */
function numbering<T>(items: readonly T[], place: (item: T, at: (index: number) => number) => number): (index: number) => number {
  const numbers = new Map<number, number | 'open'>();
  const at = (index: number): number => {
    const known = numbers.get(index);
    if (known === 'open') return 0; // a loop means nothing; BuildKit drops such records too
    if (known !== undefined) return known;
    numbers.set(index, 'open');
    const item = items[index];
    const number = item === undefined ? 0 : place(item, at);
    numbers.set(index, number);
    return number;
  };
  return at;
}

function put<T>(list: T[], ids: Map<string, number>, identity: string, item: T, join: (known: T, own: T) => T): number {
  const known = ids.get(identity);
  if (known === undefined) {
    ids.set(identity, list.length);
    return list.push(item) - 1;
  }
  list[known] = join(list[known] as T, item);
  return known;
}
