/**
 * Checks a whole image, from its root descriptor down to the bytes inside its layers, against the OCI image-spec v1.1. Every image
 * that a test writes passes through here, whichever exporter wrote it. It decompresses all layers, so it is for tests and doctors.
 */
import { createHash } from 'node:crypto';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { type Digest, digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { isConfigType, isIndexType, isManifestType, type Manifest, parseManifest } from '../registry/manifest.ts';

export interface ValidatedImage {
  readonly manifest: Manifest;
  /** The config as JSON. */
  readonly config: ImageConfigJson;
  readonly configBytes: Uint8Array;
}
export interface ImageConfigJson {
  readonly architecture: string;
  readonly os: string;
  readonly created?: string | null;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly rootfs: { readonly type: string; readonly diff_ids: readonly string[] | null };
  readonly history?:
    | readonly { readonly created?: string; readonly created_by?: string; readonly empty_layer?: boolean }[]
    | null;
}

/** The images below `root`, one per manifest. @throws BuildError `corrupt` that says what is wrong with which blob. */
export async function validateImage(
  root: Descriptor,
  read: (digest: Digest) => Promise<Uint8Array>,
): Promise<readonly ValidatedImage[]> {
  const bytes = await readVerified(root, read);
  const parsed = parseManifest(bytes, root.digest);
  if (parsed.kind === 'manifest') {
    if (!isManifestType(root.mediaType) || parsed.manifest.mediaType !== root.mediaType)
      throw wrong(root, `is a manifest of type ${parsed.manifest.mediaType} but is called ${root.mediaType}`);
    return [await validateManifest(root, parsed.manifest, read)];
  }
  if (!isIndexType(root.mediaType) || parsed.index.mediaType !== root.mediaType)
    throw wrong(root, `is an index of type ${parsed.index.mediaType} but is called ${root.mediaType}`);
  const images: ValidatedImage[] = [];
  for (const child of parsed.index.manifests) {
    const below = await validateImage(child, read);
    for (const { config } of below)
      if (child.platform !== undefined && child.platform.architecture !== config.architecture)
        throw wrong(child, `is listed for ${child.platform.architecture} but is for ${config.architecture}`);
    images.push(...below);
  }
  return images;
}

async function validateManifest(
  root: Descriptor,
  manifest: Manifest,
  read: (digest: Digest) => Promise<Uint8Array>,
): Promise<ValidatedImage> {
  const docker = root.mediaType.includes('docker');
  if (!isConfigType(manifest.config.mediaType)) throw wrong(root, `has a config of type ${manifest.config.mediaType}`);
  for (const { mediaType } of [manifest.config, ...manifest.layers])
    if (mediaType.includes('docker') !== docker) throw wrong(root, `mixes the two families of media types: ${mediaType}`);
  const configBytes = await readVerified(manifest.config, read);
  const config = JSON.parse(new TextDecoder().decode(configBytes)) as ImageConfigJson;
  if (!config.os || !config.architecture) throw wrong(manifest.config, 'names no platform');
  if (config.rootfs?.type !== 'layers') throw wrong(manifest.config, 'has no rootfs of type layers');
  const diffIds = config.rootfs.diff_ids ?? [];
  if (diffIds.length !== manifest.layers.length)
    throw wrong(root, `has ${manifest.layers.length} layers and ${diffIds.length} diff ids`);
  for (const [at, layer] of manifest.layers.entries()) {
    const found = `sha256:${createHash('sha256')
      .update(decompressed(layer, await readVerified(layer, read)))
      .digest('hex')}`;
    if (found !== diffIds[at]) throw wrong(layer, `unpacks to ${found}, the config says ${diffIds[at]}`);
  }
  const { history } = config;
  if (history !== undefined && history !== null) {
    const filled = history.filter(({ empty_layer }) => empty_layer !== true).length;
    if (filled !== diffIds.length)
      throw wrong(manifest.config, `has ${filled} history entries with a layer for ${diffIds.length} layers`);
  }
  return { manifest, config, configBytes };
}

async function readVerified(descriptor: Descriptor, read: (digest: Digest) => Promise<Uint8Array>): Promise<Uint8Array> {
  const bytes = await read(descriptor.digest);
  if (bytes.byteLength !== descriptor.size)
    throw wrong(descriptor, `has ${bytes.byteLength} bytes, its descriptor says ${descriptor.size}`);
  const digest = digestOf(bytes);
  if (digest !== descriptor.digest) throw wrong(descriptor, `hashes to ${digest}`);
  return bytes;
}

function decompressed(layer: Descriptor, bytes: Uint8Array): Uint8Array {
  const gzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  const zstd = bytes[0] === 0x28 && bytes[1] === 0xb5 && bytes[2] === 0x2f && bytes[3] === 0xfd;
  const said = /gzip$/.test(layer.mediaType) ? 'gzip' : /zstd$/.test(layer.mediaType) ? 'zstd' : 'plain';
  const is = gzip ? 'gzip' : zstd ? 'zstd' : 'plain';
  if (said !== is) throw wrong(layer, `is called ${layer.mediaType} but is ${is}`);
  if (gzip) return gunzipSync(bytes);
  return zstd ? zstdDecompressSync(bytes) : bytes;
}

const wrong = (descriptor: Descriptor, what: string): BuildError =>
  new BuildError('corrupt', `invalid image: ${descriptor.digest} ${what}`);
