/**
 * `type=inline`: the records of an image's own layers, for the image's config. Layers are named by their place in the image, so only
 * results that are the image's lower part, or the image itself, can be in it.
 */

import { goJson } from '../../registry/go-json.ts';
import type { Layer, Snapshot } from '../../snapshot/ports.ts';
import type { KeyRecord } from '../../solver/ports.ts';
import { chainsOf, type ResolvedResult } from './chains.ts';
import { goRecords } from './config.ts';
import { type CacheRecords, cacheLayerOf, snapshotOf } from './export.ts';
import { ImportedResult } from './import.ts';

/** JSON of the records; undefined when none has a result. `layers` are those the image has, lowest first. */
export async function inlineCache(
  { records }: CacheRecords,
  result: Snapshot,
  layers: readonly Layer[],
): Promise<Uint8Array | undefined> {
  const ids = result.chain();
  const all = layers.map(cacheLayerOf);
  if (ids.length !== all.length) return undefined;
  const found = new Map<KeyRecord, ResolvedResult>();
  for (const record of records) {
    const known = record.result;
    if (known === undefined) continue;
    const height = await heightOf(known, ids, layers);
    if (height > 0) found.set(record, { createdAtNs: known.createdAtNs, layers: all.slice(0, height) });
  }
  const config = chainsOf(records, found);
  if (config.layers.length === 0) return undefined;
  const heights = config.layers.map(({ parent }) => {
    let height = 1;
    for (let at = parent; at !== -1; at = config.layers[at]?.parent ?? -1) height += 1;
    return height;
  });
  const placed = config.records.map((record) => ({
    ...record,
    results: record.results.map(({ layer, createdAtNs }) => ({ layer: (heights[layer] ?? 1) - 1, createdAtNs })),
  }));
  return new TextEncoder().encode(goJson(goRecords(placed)));
}

/** How many layers of the image the result is; 0 when it is no part of it. */
async function heightOf(
  result: NonNullable<KeyRecord['result']>,
  ids: readonly string[],
  layers: readonly Layer[],
): Promise<number> {
  if (result.remote instanceof ImportedResult) {
    const { layers: digests } = result.remote;
    return digests.every((digest, at) => layers[at]?.descriptor.digest === digest) ? digests.length : 0;
  }
  await using opened = await result.open?.();
  const chain = snapshotOf(opened)?.chain() ?? [];
  return chain.length > 0 && chain.every((id, at) => ids[at] === id) ? chain.length : 0;
}
