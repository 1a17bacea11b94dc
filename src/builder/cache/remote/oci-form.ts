/**
 * A cache in the form that registries and OCI layouts keep (buildkit-wire.md section 7.6): a manifest or an index that names the
 * layers and the configuration, or an image whose own config carries the records. Read from wherever small blobs can be read, and
 * written as BuildKit writes it.
 */
import { type Digest, diffIdOf, digestOf, isDigest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { goJson, parseJson } from '../../registry/go-json.ts';
import { goDescriptor, isConfigType, isIndexType, type Manifest, MEDIA, parseManifest } from '../../registry/manifest.ts';
import type { ManifestOptions } from './attributes.ts';
import {
  annotatedDescriptor,
  CACHE_CONFIG_TYPE,
  type CacheConfig,
  type CacheLayer,
  type ConfigLayer,
  type ConfigRecord,
  checkIndexes,
  encodeCacheConfig,
  layerOfDescriptor,
  parseCacheConfig,
  parseRecords,
  timeOf,
} from './config.ts';

export type ReadSmall = (descriptor: Descriptor) => Promise<Uint8Array>;

export interface OciCache {
  readonly config: { readonly descriptor: Descriptor; readonly bytes: Uint8Array };
  readonly manifest: { readonly descriptor: Descriptor; readonly bytes: Uint8Array };
}

const INLINE_KEY = 'moby.buildkit.cache.v0';
const MAX_MANIFESTS = 256; // of one index that is searched for inline caches

/** @throws BuildError `corrupt` for a manifest that makes no sense, and what `read` rejects with. */
export async function readOciCache(manifest: Uint8Array, read: ReadSmall): Promise<CacheConfig> {
  const parsed = parsedManifest(manifest);
  const descriptors = parsed.kind === 'index' ? parsed.index.manifests : parsed.manifest.layers;
  const config =
    parsed.kind === 'index'
      ? descriptors.find(({ mediaType }) => mediaType === CACHE_CONFIG_TYPE)
      : parsed.manifest.config.mediaType === CACHE_CONFIG_TYPE
        ? parsed.manifest.config
        : undefined;
  if (config === undefined) return await readInline(manifest, read);
  const { layers, records } = parseCacheConfig(await read(config));
  const known = new Map(descriptors.map((descriptor) => [descriptor.digest, layerOfDescriptor(descriptor)]));
  return {
    records,
    layers: layers.map(({ blob, parent }) => {
      const layer = known.get(blob);
      return { blob, parent, ...(layer === undefined ? {} : { layer }) };
    }),
  };
}

export function writeOciCache(config: CacheConfig, options: ManifestOptions): OciCache {
  const bytes = encodeCacheConfig(config, false);
  const descriptor: Descriptor = { mediaType: CACHE_CONFIG_TYPE, digest: digestOf(bytes), size: bytes.byteLength };
  const layers = config.layers.flatMap(({ layer }) =>
    layer === undefined ? [] : [goDescriptor(familyOf(annotatedDescriptor(layer), options.ociTypes))],
  );
  const mediaType = options.imageManifest ? MEDIA.ociManifest : options.ociTypes ? MEDIA.ociIndex : MEDIA.dockerList;
  const members = options.imageManifest
    ? { config: goDescriptor(descriptor), layers }
    : { manifests: [...layers, goDescriptor(descriptor)] };
  const manifest = new TextEncoder().encode(goJson({ schemaVersion: 2, mediaType, ...members }));
  return {
    config: { descriptor, bytes },
    manifest: { descriptor: { mediaType, digest: digestOf(manifest), size: manifest.byteLength }, bytes: manifest },
  };
}

/** The records an image's config carries, with the image's own layers. Several platforms give one configuration. */
async function readInline(manifest: Uint8Array, read: ReadSmall): Promise<CacheConfig> {
  const layers: ConfigLayer[] = [];
  const records: ConfigRecord[] = [];
  for (const image of await imagesOf(manifest, read)) {
    const part = inlineOf(image, await read(image.config));
    if (part === undefined) continue;
    const [layerBase, recordBase] = [layers.length, records.length];
    for (const layer of part.layers) layers.push({ ...layer, parent: layer.parent === -1 ? -1 : layer.parent + layerBase });
    for (const record of part.records) records.push(moved(record, layerBase, recordBase));
  }
  return { layers, records };
}

const moved = ({ digest, inputs, results, chains }: ConfigRecord, layerBase: number, recordBase: number): ConfigRecord => ({
  digest,
  inputs: inputs.map((links) => links.map(({ selector, link }) => ({ selector, link: link + recordBase }))),
  results: results.map(({ layer, createdAtNs }) => ({ layer: layer + layerBase, createdAtNs })),
  chains: chains.map((chain) => ({ ...chain, layers: chain.layers.map((layer) => layer + layerBase) })),
});

async function imagesOf(root: Uint8Array, read: ReadSmall): Promise<readonly Manifest[]> {
  const images: Manifest[] = [];
  const seen = new Set<Digest>();
  const queue: Uint8Array[] = [root];
  for (let bytes = queue.shift(); bytes !== undefined; bytes = queue.shift()) {
    const parsed = parsedManifest(bytes);
    if (parsed.kind === 'manifest') {
      if (isConfigType(parsed.manifest.config.mediaType) && parsed.manifest.layers.length > 0) images.push(parsed.manifest);
      continue;
    }
    for (const descriptor of parsed.index.manifests) {
      if (seen.has(descriptor.digest) || seen.size >= MAX_MANIFESTS) continue;
      seen.add(descriptor.digest);
      if (isIndexType(descriptor.mediaType) || descriptor.platform?.os !== 'unknown') queue.push(await read(descriptor));
    }
  }
  return images;
}

function inlineOf({ layers }: Manifest, configBytes: Uint8Array): CacheConfig | undefined {
  const config = parseJson(new TextDecoder().decode(configBytes), 'image config') as {
    readonly rootfs?: { readonly diff_ids?: readonly unknown[] };
    readonly history?: readonly { readonly created?: string; readonly created_by?: string; readonly empty_layer?: boolean }[];
    readonly [INLINE_KEY]?: unknown;
  } | null;
  const text = config?.[INLINE_KEY];
  const diffIds = config?.rootfs?.diff_ids ?? [];
  if (typeof text !== 'string' || diffIds.length !== layers.length) return undefined;
  const records = parseRecords(recordsJson(text));
  const history = (config?.history ?? []).filter((entry) => entry.empty_layer !== true);
  const own = layers.map((descriptor, at): ConfigLayer => {
    const diffId = diffIds[at];
    const base = { blob: descriptor.digest, parent: at - 1 };
    if (typeof diffId !== 'string' || !isDigest(diffId)) return base;
    const { annotations: _annotations, ...plain } = descriptor;
    const layer: CacheLayer = {
      descriptor: plain,
      diffId: diffIdOf(diffId),
      createdAtNs: timeOf(history[at]?.created),
      description: history[at]?.created_by ?? '',
    };
    return { ...base, layer };
  });
  const inline = { layers: own, records };
  checkIndexes(inline);
  return inline;
}

function recordsJson(base64: string): unknown {
  try {
    return JSON.parse(Buffer.from(base64, 'base64').toString('utf8'));
  } catch (error) {
    throw new BuildError('corrupt', 'the cache in the image config is not JSON', {}, { cause: error });
  }
}

function parsedManifest(bytes: Uint8Array): ReturnType<typeof parseManifest> {
  try {
    return parseManifest(bytes, 'of the cache');
  } catch (error) {
    throw new BuildError('corrupt', BuildError.from(error).message, {}, { cause: error });
  }
}

const DOCKER_OF: Readonly<Record<string, string>> = {
  [MEDIA.ociLayer]: MEDIA.dockerLayer,
  [MEDIA.ociLayerGzip]: MEDIA.dockerLayerGzip,
  [MEDIA.ociLayerZstd]: MEDIA.dockerLayerZstd,
};
const OCI_OF: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(DOCKER_OF).map(([oci, docker]) => [docker, oci])),
  [MEDIA.dockerForeign]: MEDIA.ociForeign,
  [MEDIA.dockerForeignGzip]: MEDIA.ociForeignGzip,
};

/** The same layer in the OCI or the Docker family of media types; an unknown type stays. */
export function familyOf(descriptor: Descriptor, ociTypes: boolean): Descriptor {
  const mediaType = (ociTypes ? OCI_OF : DOCKER_OF)[descriptor.mediaType];
  return mediaType === undefined ? descriptor : { ...descriptor, mediaType };
}
