/**
 * Image manifests and indexes (OCI image-spec v1.1, manifest.md and image-index.md, and their Docker forms): read with every field
 * checked, written byte for byte as Go's encoder writes them.
 */
import { isDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { type GoValue, goJson, parseJson } from './go-json.ts';

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeign: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeign: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
} as const;

export interface Manifest {
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}
export interface Index {
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}
export type ParsedManifest =
  | { readonly kind: 'manifest'; readonly manifest: Manifest }
  | { readonly kind: 'index'; readonly index: Index };

export const isIndexType = (mediaType: string): boolean => mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerList;
export const isManifestType = (mediaType: string): boolean =>
  mediaType === MEDIA.ociManifest || mediaType === MEDIA.dockerManifest;
export const isConfigType = (mediaType: string): boolean => mediaType === MEDIA.ociConfig || mediaType === MEDIA.dockerConfig;
/** Layers that must not be pushed (Windows base layers). */
export const isNonDistributable = (mediaType: string): boolean =>
  mediaType.includes('.nondistributable.') || mediaType.includes('.foreign.');

/**
 * Reads a manifest or an index. A missing media type is told from the members, as old registries and layouts need it.
 * @throws BuildError `invalid-input` that says what is wrong with `what`; `unsupported` for Docker schema 1.
 */
export function parseManifest(bytes: Uint8Array, what: string): ParsedManifest {
  const json = objectOf(parseJson(new TextDecoder().decode(bytes), what), what);
  const mediaType = json.mediaType;
  if (mediaType !== undefined && typeof mediaType !== 'string') throw bad(what, 'mediaType is not a text');
  if (json.schemaVersion === 1 || mediaType === MEDIA.dockerSchema1) throw schema1();
  const isIndex = Array.isArray(json.manifests);
  const isManifest = json.config !== undefined || json.layers !== undefined;
  // Both at once is how one blob is made to mean two images to two readers: CVE-2021-41190.
  if (isIndex && isManifest) throw bad(what, 'it has members of a manifest and of an index');
  const annotations = annotationsOf(json.annotations, what);
  if (isIndex) {
    if (mediaType !== undefined && !isIndexType(mediaType))
      throw bad(what, `its media type ${mediaType} is not that of an index`);
    const manifests = (json.manifests as unknown[]).map((entry) => parseDescriptor(entry, what));
    return { kind: 'index', index: { mediaType: mediaType ?? MEDIA.dockerList, manifests, ...annotations } };
  }
  if (!isManifest) throw bad(what, 'it is neither a manifest nor an index');
  if (mediaType !== undefined && !isManifestType(mediaType))
    throw bad(what, `its media type ${mediaType} is not that of a manifest`);
  const { artifactType } = json;
  const manifest: Manifest = {
    mediaType: mediaType ?? MEDIA.dockerManifest,
    ...(typeof artifactType === 'string' ? { artifactType } : {}),
    config: parseDescriptor(json.config, what),
    layers: arrayOf(json.layers ?? [], what).map((entry) => parseDescriptor(entry, what)),
    ...(json.subject === undefined || json.subject === null ? {} : { subject: parseDescriptor(json.subject, what) }),
    ...annotations,
  };
  return { kind: 'manifest', manifest };
}

/** json.MarshalIndent of the OCI Go struct. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  return encoded({
    schemaVersion: 2,
    mediaType: manifest.mediaType,
    artifactType: manifest.artifactType,
    config: goDescriptor(manifest.config),
    layers: manifest.layers.length === 0 ? null : manifest.layers.map(goDescriptor), // a nil slice, as the upstream exporter leaves it
    subject: manifest.subject === undefined ? undefined : goDescriptor(manifest.subject),
    annotations: goAnnotations(manifest.annotations),
  });
}

/** json.MarshalIndent of the OCI Go struct. */
export function encodeIndex(index: Index): Uint8Array {
  return encoded(goIndex(index));
}

/** For goJson: fields in the order of the Go struct. */
export function goIndex(index: Index): GoValue {
  return {
    schemaVersion: 2,
    mediaType: index.mediaType,
    manifests: index.manifests.map(goDescriptor),
    annotations: goAnnotations(index.annotations),
  };
}

/** For goJson: fields in the order of the Go struct. */
export function goDescriptor(descriptor: Descriptor): GoValue {
  const { platform } = descriptor;
  return {
    mediaType: descriptor.mediaType,
    digest: descriptor.digest,
    size: descriptor.size,
    urls: descriptor.urls === undefined || descriptor.urls.length === 0 ? undefined : descriptor.urls,
    annotations: goAnnotations(descriptor.annotations),
    data: descriptor.data,
    platform:
      platform === undefined
        ? undefined
        : {
            architecture: platform.architecture,
            os: platform.os,
            'os.version': platform['os.version'],
            'os.features': platform['os.features'],
            variant: platform.variant,
          },
    artifactType: descriptor.artifactType,
  };
}

const goAnnotations = (annotations: Readonly<Record<string, string>> | undefined): ReadonlyMap<string, string> | undefined =>
  annotations === undefined || Object.keys(annotations).length === 0 ? undefined : new Map(Object.entries(annotations));
const encoded = (value: GoValue): Uint8Array => new TextEncoder().encode(goJson(value, '  '));

function parseDescriptor(value: unknown, what: string): Descriptor {
  const json = objectOf(value, what);
  const { mediaType, digest, size, platform, artifactType, data, urls } = json;
  if (typeof mediaType !== 'string') throw bad(what, 'a descriptor has no media type');
  if (typeof digest !== 'string' || !isDigest(digest))
    throw bad(what, `a descriptor has no valid sha256 digest: ${String(digest)}`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw bad(what, `${digest} has no valid size`);
  return {
    mediaType,
    digest,
    size,
    ...(Array.isArray(urls) && urls.length > 0 ? { urls: urls.filter((url) => typeof url === 'string') } : {}),
    ...annotationsOf(json.annotations, what),
    ...(typeof data === 'string' ? { data } : {}),
    ...(platform === undefined || platform === null ? {} : { platform: parsePlatform(platform, what) }),
    ...(typeof artifactType === 'string' ? { artifactType } : {}),
  };
}

function parsePlatform(value: unknown, what: string): NonNullable<Descriptor['platform']> {
  const json = objectOf(value, what);
  const text = (name: string): string | undefined => {
    const field = json[name];
    return typeof field === 'string' && field !== '' ? field : undefined;
  };
  const variant = text('variant');
  const osVersion = text('os.version');
  const features = json['os.features'];
  return {
    architecture: text('architecture') ?? '',
    os: text('os') ?? '',
    ...(variant === undefined ? {} : { variant }),
    ...(osVersion === undefined ? {} : { 'os.version': osVersion }),
    ...(Array.isArray(features) ? { 'os.features': features.filter((feature) => typeof feature === 'string') } : {}),
  };
}

function annotationsOf(value: unknown, what: string): { readonly annotations?: Readonly<Record<string, string>> } {
  if (value === undefined || value === null) return {};
  const annotations = objectOf(value, what);
  for (const [key, text] of Object.entries(annotations))
    if (typeof text !== 'string') throw bad(what, `annotation ${key} is not a text`);
  return Object.keys(annotations).length === 0 ? {} : { annotations: annotations as Readonly<Record<string, string>> };
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw bad(what, 'a JSON object was expected');
  return value as Record<string, unknown>;
}
function arrayOf(value: unknown, what: string): unknown[] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw bad(what, 'layers is not a list');
  return value;
}
const bad = (what: string, why: string): BuildError => new BuildError('invalid-input', `invalid manifest ${what}: ${why}`);
const schema1 = (): BuildError =>
  new BuildError(
    'unsupported',
    'support Docker Image manifest version 2, schema 1 has been removed. More information at https://docs.docker.com/go/deprecated-image-specs/',
  );
