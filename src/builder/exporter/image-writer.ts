/**
 * Makes images of build results and puts them in the content store: layers, config, manifest, and an index when the result has
 * several platforms. Byte for byte what BuildKit's exporter makes of the same input; pushing and packing come after.
 */
import { rfc3339 } from '../../core/clock.ts';
import { type Digest, digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Descriptor, Lease } from '../content/ports.ts';
import { encodeIndex, encodeManifest, type Index, type Manifest, MEDIA } from '../registry/manifest.ts';
import type { Layer } from '../snapshot/ports.ts';
import { type AnnotationSet, mergeAnnotations, parseAnnotations } from './annotations.ts';
import type { ImageOptions } from './attributes.ts';
import { epochOf } from './epoch.ts';
import { completeConfig } from './image-config.ts';
import { layerMediaType } from './layer-media.ts';
import { descriptorPlatform, type ExportPlatform, exportPlatforms, metadataFor, resultFor } from './platforms.ts';
import type { ExportContext, ExportSource } from './ports.ts';
import { oneOff } from './progress.ts';
import { rewriteTimes } from './rewrite-times.ts';

/** A blob small enough to be held: a manifest, an index or a config. */
export interface SmallBlob {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}
export interface PlatformImage {
  readonly manifest: SmallBlob;
  readonly config: SmallBlob;
  readonly layers: readonly Descriptor[];
}
export interface WrittenImage {
  /** Index, or the only manifest. */
  readonly root: SmallBlob;
  /** In the order of the index. */
  readonly images: readonly PlatformImage[];
  readonly isIndex: boolean;
}

export interface ImageWriterDeps {
  readonly content: ContentStore;
  readonly pool: WorkerPool;
}

/** Layers are made by the snapshots. `lease` keeps every blob of the image from removal until the caller is done with it. */
export async function writeImage(
  deps: ImageWriterDeps,
  source: ExportSource,
  options: ImageOptions,
  lease: Lease,
  context: ExportContext,
): Promise<WrittenImage> {
  const platforms = exportPlatforms(source);
  const annotations = mergeAnnotations(options.annotations, parseAnnotations(textMetadata(source)));
  for (const id of annotations.platforms)
    if (source.multiPlatform && !platforms.some((platform) => platform.id === id))
      throw new BuildError('invalid-input', `invalid annotation: no platform ${id} found in source`);
  if (!source.multiPlatform && annotations.hasIndex)
    throw new BuildError('invalid-input', 'index annotations not supported for single platform export');
  const write = { deps, source, options, lease, context };
  const layers = await exportLayers(write, platforms);
  const images: PlatformImage[] = [];
  for (const [at, platform] of platforms.entries())
    images.push(
      await writePlatform(write, platform, layers[at] ?? [], annotations.of(source.multiPlatform ? platform.id : undefined)),
    );
  const [only] = images;
  if (!source.multiPlatform && only !== undefined) return { root: only.manifest, images, isIndex: false };
  return { root: await writeIndex(write, images, annotations.of(undefined)), images, isIndex: true };
}

interface Write {
  readonly deps: ImageWriterDeps;
  readonly source: ExportSource;
  readonly options: ImageOptions;
  readonly lease: Lease;
  readonly context: ExportContext;
}

async function exportLayers(
  { source, options, lease, context }: Write,
  platforms: readonly ExportPlatform[],
): Promise<readonly (readonly Layer[])[]> {
  return await oneOff(context.progress, 'exporting layers', async () => {
    const exported = platforms.map(async (platform) => {
      const layers = await resultFor(source, platform)?.layers({
        compression: options.compression,
        ...(options.compressionLevel === undefined ? {} : { level: options.compressionLevel }),
        force: options.forceCompression,
        signal: context.signal,
      });
      for (const { descriptor } of layers ?? []) lease.add(descriptor.digest);
      return layers ?? [];
    });
    return await Promise.all(exported);
  });
}

async function writePlatform(
  write: Write,
  platform: ExportPlatform,
  exported: readonly Layer[],
  annotations: AnnotationSet,
): Promise<PlatformImage> {
  const { source, options, context } = write;
  const baseConfig = nonEmpty(metadataFor(source, 'containerimage.base.config', platform));
  const epochSeconds = epochOf(source, options.epoch, platform);
  const layers = await rewritten(write, exported, epochSeconds, baseConfig);
  const config = completeConfig({
    config: nonEmpty(metadataFor(source, 'containerimage.config', platform)),
    baseConfig,
    layers,
    epochSeconds,
    inlineCache: await inlineRecords(write, platform, exported, layers),
  });
  const configBlob = smallBlob(config, options.ociTypes ? MEDIA.ociConfig : MEDIA.dockerConfig);
  const descriptors = layers.map(({ descriptor }) => layerDescriptor(descriptor, options));
  const manifest: Manifest = {
    mediaType: options.ociTypes ? MEDIA.ociManifest : MEDIA.dockerManifest,
    config: configBlob.descriptor,
    layers: descriptors,
    annotations: annotations.manifest,
  };
  const blob = smallBlob(encodeManifest(manifest), manifest.mediaType, {
    annotations: annotations.manifestDescriptor,
    platform: descriptorPlatform(platform),
  });
  await oneOff(context.progress, `exporting manifest ${blob.descriptor.digest}`, () => store(write, blob));
  await oneOff(context.progress, `exporting config ${configBlob.descriptor.digest}`, () => store(write, configBlob));
  return { manifest: blob, config: configBlob, layers: descriptors };
}

/** Rewritten layers are other layers than the cached ones. */
async function inlineRecords(
  { source, context }: Write,
  platform: ExportPlatform,
  exported: readonly Layer[],
  layers: readonly Layer[],
): Promise<Uint8Array | undefined> {
  const result = resultFor(source, platform);
  const { inlineCache } = source;
  if (inlineCache === undefined || result === undefined || layers !== exported) return undefined;
  return await oneOff(context.progress, 'preparing layers for inline cache', () => inlineCache(result, exported));
}

async function rewritten(
  { deps, options, lease, context }: Write,
  layers: readonly Layer[],
  epochSeconds: bigint | undefined,
  baseConfig: Uint8Array | undefined,
): Promise<readonly Layer[]> {
  if (!options.rewriteTimestamp || epochSeconds === undefined || layers.length === 0) return layers;
  const id = `rewriting layers with source-date-epoch ${epochSeconds} (${goTimeText(epochSeconds)})`;
  const withEpoch = { ...options, epochSeconds, baseConfig };
  return await oneOff(context.progress, id, () => rewriteTimes(deps, layers, withEpoch, lease, context.signal));
}

async function writeIndex(write: Write, images: readonly PlatformImage[], annotations: AnnotationSet): Promise<SmallBlob> {
  const index: Index = {
    mediaType: write.options.ociTypes ? MEDIA.ociIndex : MEDIA.dockerList,
    manifests: images.map(({ manifest }) => manifest.descriptor),
    annotations: annotations.index,
  };
  const blob = smallBlob(encodeIndex(index), index.mediaType, { annotations: annotations.indexDescriptor });
  await oneOff(write.context.progress, `exporting manifest list ${blob.descriptor.digest}`, () => store(write, blob));
  return blob;
}

function smallBlob(
  bytes: Uint8Array,
  mediaType: string,
  extra: { annotations?: Readonly<Record<string, string>>; platform?: NonNullable<Descriptor['platform']> } = {},
): SmallBlob {
  const { annotations, platform } = extra;
  const descriptor: Descriptor = {
    mediaType,
    digest: digestOf(bytes),
    size: bytes.byteLength,
    ...(annotations === undefined || Object.keys(annotations).length === 0 ? {} : { annotations }),
    ...(platform === undefined ? {} : { platform }),
  };
  return { descriptor, bytes };
}

async function store({ deps, lease, context }: Write, { descriptor, bytes }: SmallBlob): Promise<void> {
  lease.add(descriptor.digest);
  await deps.content.put(bytes, { expected: descriptor.digest, signal: context.signal });
}

/** What a manifest says of a layer: our own annotations stay out, and Docker's manifests have none. */
function layerDescriptor(descriptor: Descriptor, options: ImageOptions): Descriptor {
  const { annotations = {}, ...rest } = descriptor;
  const kept = Object.entries(annotations).filter(
    ([key]) =>
      key !== 'containerd.io/uncompressed' &&
      key !== 'buildkit/createdat' &&
      !key.startsWith('containerd.io/distribution.source.'),
  );
  return {
    ...rest,
    mediaType: layerMediaType(descriptor.mediaType, options),
    ...(options.ociTypes && kept.length > 0 ? { annotations: Object.fromEntries(kept) } : {}),
  };
}

/** Every blob of the image, each once. */
export function blobsOf({ root, images }: WrittenImage): readonly Digest[] {
  const digests = images.flatMap(({ manifest, config, layers }) => [
    ...layers.map(({ digest }) => digest),
    config.descriptor.digest,
    manifest.descriptor.digest,
  ]);
  return [...new Set([...digests, root.descriptor.digest])];
}

/** Frontends may pass annotations as metadata under the names that attributes have. */
function textMetadata(source: ExportSource): ReadonlyMap<string, string> {
  const decoder = new TextDecoder();
  return new Map(
    [...source.metadata].filter(([key]) => key.startsWith('annotation')).map(([key, value]) => [key, decoder.decode(value)]),
  );
}
/** As Go's time.Time prints itself: `2023-11-14 22:13:20 +0000 UTC`. */
const goTimeText = (seconds: bigint): string =>
  rfc3339(seconds * 1_000_000_000n)
    .replace('T', ' ')
    .replace('Z', ' +0000 UTC');
const nonEmpty = (bytes: Uint8Array | undefined): Uint8Array | undefined => (bytes?.byteLength === 0 ? undefined : bytes);
