/**
 * BuildKit's cache configuration (`application/vnd.buildkit.cacheconfig.v0`, buildkit-wire.md section 7.6): records of keys, linked to
 * the records of their inputs, and the layers that are their results. Read with every index checked, written as Go's encoder does.
 */
import { rfc3339 } from '../../../core/clock.ts';
import { type DiffId, type Digest, diffIdOf, isDigest, parseDigest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { type GoValue, goJson, parseJson } from '../../registry/go-json.ts';

export const CACHE_CONFIG_TYPE = 'application/vnd.buildkit.cacheconfig.v0';
/** A configuration above this is not read: 100 000 records take about 30 MB. */
export const MAX_CONFIG_BYTES = 64 * 1024 * 1024;

/** What has to be known of a blob to use it as a layer. */
export interface CacheLayer {
  readonly descriptor: Descriptor;
  readonly diffId: DiffId;
  readonly createdAtNs: bigint;
  readonly description: string;
}
export interface ConfigLayer {
  readonly blob: Digest;
  /** Index of the layer below; -1 for none. */
  readonly parent: number;
  /** Undefined where the place keeps it elsewhere, or does not have the blob. */
  readonly layer?: CacheLayer;
}
export interface ConfigInput {
  readonly selector: string;
  /** Index of a record. */
  readonly link: number;
}
export interface ConfigRecord {
  readonly digest: Digest;
  /** Alternatives per input. */
  readonly inputs: readonly (readonly ConfigInput[])[];
  /** A layer with all below it. */
  readonly results: readonly { readonly layer: number; readonly createdAtNs: bigint }[];
  /** Layers named one by one, lowest first. */
  readonly chains: readonly { readonly layers: readonly number[]; readonly createdAtNs: bigint }[];
}
export interface CacheConfig {
  readonly layers: readonly ConfigLayer[];
  readonly records: readonly ConfigRecord[];
}

/** @throws BuildError `corrupt` that says what is wrong. */
export function parseCacheConfig(bytes: Uint8Array): CacheConfig {
  if (bytes.byteLength > MAX_CONFIG_BYTES) throw bad(`it has ${bytes.byteLength} bytes, more than ${MAX_CONFIG_BYTES}`);
  const json = objectOf(jsonOf(bytes));
  const isOther = Object.keys(json).length > 0 && json.layers === undefined && json.records === undefined;
  if (isOther) throw bad('it has neither layers nor records');
  const layers = listOf(json.layers).map(parseLayer);
  const records = parseRecords(json.records);
  checkIndexes({ layers, records });
  return { layers, records };
}

/** Records alone, as an image's config carries them. @throws BuildError `corrupt`. */
export function parseRecords(value: unknown): ConfigRecord[] {
  return listOf(value).map((entry): ConfigRecord => {
    const { digest, inputs, layers, chains } = objectOf(entry);
    return {
      digest: digestOf(digest),
      inputs: listOf(inputs).map((alternatives) =>
        listOf(alternatives).map((input) => {
          const { selector, link } = objectOf(input);
          return { selector: typeof selector === 'string' ? selector : '', link: indexOf(link ?? 0) };
        }),
      ),
      results: listOf(layers).map((result) => {
        const { layer, createdAt } = objectOf(result);
        return { layer: indexOf(layer ?? 0), createdAtNs: timeOf(createdAt) };
      }),
      chains: listOf(chains).map((chain) => {
        const members = objectOf(chain);
        return { layers: listOf(members.layers).map(indexOf), createdAtNs: timeOf(members.createdAt) };
      }),
    };
  });
}

/** @throws BuildError `corrupt` for an index that leads nowhere. */
export function checkIndexes({ layers, records }: CacheConfig): void {
  for (const { parent } of layers) if (parent >= layers.length) throw bad(`layer ${parent} is named and not there`);
  for (const { inputs, results, chains } of records) {
    for (const { link } of inputs.flat()) if (link >= records.length) throw bad(`record ${link} is named and not there`);
    for (const alternatives of inputs) if (alternatives.length === 0) throw bad('a record has an input without a link');
    for (const layer of [...results.map((result) => result.layer), ...chains.flatMap((chain) => chain.layers)])
      if (layer >= layers.length) throw bad(`layer ${layer} is named and not there`);
  }
}

/** `annotated`: with what the layers are, for places that keep no manifest beside the configuration. */
export function encodeCacheConfig({ layers, records }: CacheConfig, annotated: boolean): Uint8Array {
  return new TextEncoder().encode(
    goJson({
      layers: layers.length === 0 ? undefined : layers.map((layer) => goLayer(layer, annotated)),
      records: records.length === 0 ? undefined : goRecords(records),
    }),
  );
}

/** For goJson: fields in the order of the Go structs, empty ones left out. */
export function goRecords(records: readonly ConfigRecord[]): GoValue {
  return records.map(({ digest, inputs, results, chains }) => ({
    layers:
      results.length === 0 ? undefined : results.map(({ layer, createdAtNs }) => ({ layer, createdAt: rfc3339(createdAtNs) })),
    chains:
      chains.length === 0 ? undefined : chains.map((chain) => ({ layers: chain.layers, createdAt: rfc3339(chain.createdAtNs) })),
    digest,
    inputs:
      inputs.length === 0
        ? undefined
        : inputs.map((alternatives) =>
            alternatives.map(({ selector, link }) => ({ selector: selector === '' ? undefined : selector, link })),
          ),
  }));
}

function goLayer({ blob, parent, layer }: ConfigLayer, annotated: boolean): GoValue {
  return {
    blob,
    parent: parent === 0 ? undefined : parent, // omitempty
    annotations:
      layer === undefined || !annotated
        ? undefined
        : {
            mediaType: layer.descriptor.mediaType,
            diffID: layer.diffId,
            size: layer.descriptor.size === 0 ? undefined : layer.descriptor.size,
            createdAt: rfc3339(layer.createdAtNs),
          },
  };
}

function parseLayer(value: unknown): ConfigLayer {
  const { blob, parent, annotations } = objectOf(value);
  const digest = digestOf(blob);
  const base = { blob: digest, parent: parent === -1 ? -1 : indexOf(parent ?? 0) };
  if (annotations === undefined || annotations === null) return base;
  const { mediaType, diffID, size, createdAt } = objectOf(annotations);
  if (typeof mediaType !== 'string' || typeof diffID !== 'string' || !isDigest(diffID)) return base;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw bad(`the size of ${digest} is not a size`);
  const layer: CacheLayer = {
    descriptor: { mediaType, digest, size },
    diffId: diffIdOf(diffID),
    createdAtNs: timeOf(createdAt),
    description: '',
  };
  return { ...base, layer };
}

/** The annotations by which a manifest tells what its layers are. Undefined when it does not. */
export function layerOfDescriptor(descriptor: Descriptor): CacheLayer | undefined {
  const { annotations = {}, ...rest } = descriptor;
  const diffId = annotations['containerd.io/uncompressed'];
  if (diffId === undefined || !isDigest(diffId)) return undefined;
  return {
    descriptor: rest,
    diffId: diffIdOf(diffId),
    createdAtNs: timeOf(annotations['buildkit/createdat']),
    description: annotations['buildkit/description'] ?? '',
  };
}
export function annotatedDescriptor({ descriptor, diffId, createdAtNs }: CacheLayer): Descriptor {
  return {
    ...descriptor,
    annotations: {
      ...(createdAtNs === 0n ? {} : { 'buildkit/createdat': rfc3339(createdAtNs) }),
      'containerd.io/uncompressed': diffId,
    },
  };
}

/** Nanoseconds since the epoch; 0 for a time that is not there, is Go's zero time, or cannot be read. */
export function timeOf(value: unknown): bigint {
  if (typeof value !== 'string' || value.startsWith('0001-')) return 0n;
  const ms = Date.parse(value);
  if (Number.isNaN(ms)) return 0n;
  const fraction = /\.(\d{1,9})/.exec(value)?.[1] ?? '';
  return BigInt(Math.floor(ms / 1000)) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0') || '0');
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return parseJson(new TextDecoder().decode(bytes), 'the cache configuration');
  } catch (error) {
    throw bad(BuildError.from(error).message);
  }
}
function objectOf(value: unknown): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw bad('an object was expected');
  return value as Record<string, unknown>;
}
function listOf(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw bad('a list was expected');
  return value;
}
function indexOf(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw bad(`${String(value)} is not an index`);
  return value;
}
function digestOf(value: unknown): Digest {
  if (typeof value !== 'string' || !isDigest(value)) throw bad(`"${String(value)}" is not a sha256 digest`);
  return parseDigest(value);
}
const bad = (why: string): BuildError => new BuildError('corrupt', `invalid cache configuration: ${why}`);
