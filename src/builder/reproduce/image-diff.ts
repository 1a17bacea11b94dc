/** In what two images differ: fields of their configs, and files of their layers with what is different about each. */
import { rfc3339 } from '../../core/clock.ts';
import { type DiffId, type Digest, parseDigest } from '../../core/digest.ts';
import { taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore } from '../content/ports.ts';
import type { LayerEntry, ListArgs } from './layer-list-task.ts';

export interface Difference {
  readonly platform?: string;
  readonly where: 'manifest' | 'config' | 'layer';
  /** Of a layer, from 0. */
  readonly layer?: number;
  /** Path in the layer, or name of the field. */
  readonly path: string;
  /** `added` and `removed` stand alone. */
  readonly what: readonly ('added' | 'removed' | 'content' | 'mtime' | 'mode' | 'owner' | 'type' | 'link' | 'xattrs' | 'value')[];
  readonly was?: string;
  readonly now?: string;
}
export interface ImageDiff {
  /** The first MAX_DIFFERENCES; `more` counts the rest. */
  readonly differences: readonly Difference[];
  readonly more: number;
}

export const MAX_DIFFERENCES = 200;
const MAX_JSON_BYTES = 16 * 1024 * 1024;
const MAX_LAYER_BYTES = 64 * 1024 ** 3;
const MAX_ENTRIES = 2_000_000;
const listLayer = taskRef<ListArgs, ReadonlyMap<string, LayerEntry>>(
  new URL('./layer-list-task.ts', import.meta.url),
  'listLayer',
);

interface Manifest {
  readonly manifests?: readonly {
    readonly digest: string;
    readonly platform?: { readonly os: string; readonly architecture: string };
  }[];
  readonly config?: { readonly digest: string };
  readonly layers?: readonly { readonly digest: string; readonly mediaType: string }[];
}

/** Rejects with `not-found` when a blob of either image is gone. */
export async function diffImages(
  parts: { readonly content: ContentStore; readonly pool: WorkerPool; readonly signal: AbortSignal },
  was: string,
  now: string,
): Promise<ImageDiff> {
  const all = await new Comparison(parts).manifests(was, now);
  return { differences: all.slice(0, MAX_DIFFERENCES), more: Math.max(all.length - MAX_DIFFERENCES, 0) };
}

class Comparison {
  readonly #content: ContentStore;
  readonly #pool: WorkerPool;
  readonly #signal: AbortSignal;

  constructor({
    content,
    pool,
    signal,
  }: { readonly content: ContentStore; readonly pool: WorkerPool; readonly signal: AbortSignal }) {
    this.#content = content;
    this.#pool = pool;
    this.#signal = signal;
  }

  async manifests(was: string, now: string): Promise<Difference[]> {
    const [before, after] = [await this.#json<Manifest>(was), await this.#json<Manifest>(now)];
    if (before.manifests === undefined || after.manifests === undefined) return await this.#image(before, after);
    const found: Difference[] = [];
    if (before.manifests.length !== after.manifests.length)
      found.push(changed('manifest', 'manifests', String(before.manifests.length), String(after.manifests.length)));
    for (const [index, { digest, platform }] of before.manifests.entries()) {
      const other = after.manifests[index];
      if (other === undefined || other.digest === digest) continue;
      const name = platform === undefined ? String(index) : `${platform.os}/${platform.architecture}`;
      found.push(...(await this.manifests(digest, other.digest)).map((difference) => ({ platform: name, ...difference })));
    }
    return found;
  }

  async #image(before: Manifest, after: Manifest): Promise<Difference[]> {
    const [wasConfig, nowConfig] = [await this.#config(before), await this.#config(after)];
    const found = fieldDifferences('config', '', wasConfig, nowConfig);
    const [wasIds, nowIds] = [diffIdsOf(wasConfig), diffIdsOf(nowConfig)];
    for (let layer = 0; layer < Math.max(wasIds.length, nowIds.length); layer += 1) {
      if (wasIds[layer] === nowIds[layer]) continue;
      const [old, young] = [before.layers?.[layer]?.digest, after.layers?.[layer]?.digest];
      if (old === undefined || young === undefined)
        found.push({ where: 'layer', layer, path: '/', what: [old === undefined ? 'added' : 'removed'] });
      else
        found.push(
          ...layerDifferences(layer, await this.#entries(old, wasIds[layer]), await this.#entries(young, nowIds[layer])),
        );
    }
    const { config: _a, layers: _b, ...wasRest } = before;
    const { config: _c, layers: _d, ...nowRest } = after;
    return [...found, ...fieldDifferences('manifest', '', wasRest, nowRest)];
  }

  async #config({ config }: Manifest): Promise<Record<string, unknown>> {
    return config === undefined ? {} : await this.#json(config.digest);
  }
  async #json<T>(digest: string): Promise<T> {
    return JSON.parse(new TextDecoder().decode(await this.#content.readAll(parseDigest(digest), MAX_JSON_BYTES))) as T;
  }
  async #entries(digest: string, diffId: string | undefined): Promise<ReadonlyMap<string, LayerEntry>> {
    const blob: Digest = parseDigest(digest);
    const args = {
      blob: this.#content.path(blob),
      digest: blob,
      diffId: (diffId ?? digest) as DiffId,
      maxBytes: MAX_LAYER_BYTES,
    };
    return await this.#pool.run(listLayer, { ...args, maxEntries: MAX_ENTRIES }, { signal: this.#signal });
  }
}

const changed = (where: Difference['where'], path: string, was: string, now: string): Difference => ({
  where,
  path,
  what: ['value'],
  was,
  now,
});
const diffIdsOf = (config: Record<string, unknown>): readonly string[] =>
  (config.rootfs as { readonly diff_ids?: readonly string[] } | undefined)?.diff_ids ?? [];

/** Fields by path, `history[2].created`; which layers there are is told by the layers themselves. */
function fieldDifferences(where: Difference['where'], path: string, was: unknown, now: unknown): Difference[] {
  if (path === 'rootfs' || JSON.stringify(was) === JSON.stringify(now)) return [];
  if (isObject(was) && isObject(now)) {
    const isList = Array.isArray(was);
    const keys = [...new Set([...Object.keys(was), ...Object.keys(now)])];
    return keys.flatMap((key) =>
      fieldDifferences(where, isList ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`, was[key], now[key]),
    );
  }
  return [changed(where, path, shown(was), shown(now))];
}
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
const shown = (value: unknown): string => (JSON.stringify(value) ?? 'absent').slice(0, 200);

export function layerDifferences(
  layer: number,
  was: ReadonlyMap<string, LayerEntry>,
  now: ReadonlyMap<string, LayerEntry>,
): Difference[] {
  const found: Difference[] = [];
  for (const [path, before] of was) {
    const after = now.get(path);
    if (after === undefined) found.push({ where: 'layer', layer, path, what: ['removed'] });
    else found.push(...entryDifference(layer, path, before, after));
  }
  for (const path of now.keys()) if (!was.has(path)) found.push({ where: 'layer', layer, path, what: ['added'] });
  return found.length > 0
    ? found
    : [{ where: 'layer', layer, path: '/', what: ['content'], was: 'order of entries', now: 'order of entries' }];
}

function entryDifference(layer: number, path: string, was: LayerEntry, now: LayerEntry): Difference[] {
  const facts = (entry: LayerEntry) =>
    [
      ['type', entry.type],
      ['content', entry.content === '' ? `${entry.size} bytes` : `${entry.size} bytes, sha256:${entry.content.slice(0, 12)}`],
      ['mode', entry.mode.toString(8)],
      ['owner', entry.owner],
      ['mtime', rfc3339(entry.mtimeNs)],
      ['link', entry.link],
      ['xattrs', entry.xattrs],
    ] as const;
  const after = new Map<string, string>(facts(now));
  const differing = facts(was).filter(([name, value]) => after.get(name) !== value);
  if (differing.length === 0) return [];
  const text = (values: readonly (readonly [string, string])[]): string =>
    values.map(([name, value]) => `${name} ${value}`).join(', ');
  const what = differing.map(([name]) => name);
  return [
    {
      where: 'layer',
      layer,
      path,
      what,
      was: text(differing),
      now: text(differing.map(([name]) => [name, after.get(name) ?? ''])),
    },
  ];
}
