/** From a reference to the image for one platform: its manifest, config and layers, checked against each other. */
import { chainIdsOf, type DiffId, type Digest, diffIdOf, isDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { type Platform, platformId } from '../llb/platform.ts';
import { goJson, parseJson } from '../registry/go-json.ts';
import { type Manifest, type ParsedManifest, parseManifest } from '../registry/manifest.ts';
import type { UnpackLayer } from '../snapshot/ports.ts';
import type { ImageOrigin } from './image-origin.ts';
import { matchingManifests } from './platform-match.ts';

export interface ResolvedImage {
  /** What the reference names: an index, or the manifest itself. */
  readonly root: Descriptor;
  /** Manifest and config; an index's other images are not fetched. */
  readonly manifest: Manifest;
  readonly config: Uint8Array;
  readonly layers: readonly UnpackLayer[];
}

const MAX_INDEX_DEPTH = 4;

/**
 * Rejects with `not-found` when nothing in the index runs on `platform`, and with `invalid-input` when manifest and config disagree.
 */
export async function resolveImage(origin: ImageOrigin, platform: Platform, signal: AbortSignal): Promise<ResolvedImage> {
  const { descriptor: root, bytes } = await origin.resolve(signal);
  const manifest = await manifestFor(origin, parseManifest(bytes, origin.reference.text), platform, signal, 1);
  const config = await origin.fetchSmall(manifest.config, signal);
  const diffIds = diffIdsOf(config, origin.reference.text);
  if (diffIds.length !== manifest.layers.length)
    throw new BuildError(
      'invalid-input',
      `${origin.reference.text}: mismatched image rootfs and manifest layers: ${diffIds.length} and ${manifest.layers.length}`,
    );
  const layers = manifest.layers.map((descriptor, at) => ({ descriptor, diffId: diffIds[at] as DiffId }));
  return { root, manifest, config, layers };
}

/** First key of an image source: the digest the reference names, with the platform it was resolved for. */
export function manifestKey(root: Digest, platform: Platform, layerLimit: number | undefined): string {
  return goJson({
    Digest: root,
    OS: platform.os,
    Arch: platform.architecture,
    Variant: platform.variant || undefined,
    OSVersion: platform.osVersion || undefined,
    OSFeatures: platform.osFeatures.length === 0 ? undefined : platform.osFeatures,
    Limit: layerLimit,
  });
}

/** Second key: the chain id of the layers, equal for the same image in any registry; undefined when there are no layers. */
export function chainKey(layers: readonly UnpackLayer[]): string | undefined {
  return chainIdsOf(layers.map(({ diffId }) => diffId)).at(-1);
}

async function manifestFor(
  origin: ImageOrigin,
  parsed: ParsedManifest,
  platform: Platform,
  signal: AbortSignal,
  depth: number,
): Promise<Manifest> {
  if (parsed.kind === 'manifest') return parsed.manifest;
  const [best] = matchingManifests(parsed.index.manifests, platform);
  if (best === undefined) throw noMatch(parsed.index.manifests, platform);
  if (depth >= MAX_INDEX_DEPTH)
    throw new BuildError('invalid-input', `${origin.reference.text}: indexes are nested more than ${MAX_INDEX_DEPTH} deep`);
  const bytes = await origin.fetchSmall(best, signal);
  return await manifestFor(origin, parseManifest(bytes, best.digest), platform, signal, depth + 1);
}

function noMatch(manifests: readonly Descriptor[], platform: Platform): BuildError {
  const offered = manifests.flatMap(({ platform: p }) =>
    p === undefined || p.os === 'unknown' ? [] : [[p.os, p.architecture, p.variant].filter(Boolean).join('/')],
  );
  return new BuildError('not-found', 'no match for platform in manifest: not found', {
    hint: `wanted ${platformId(platform)}; the image has ${[...new Set(offered)].join(', ') || 'no platforms'}`,
  });
}

function diffIdsOf(config: Uint8Array, what: string): readonly DiffId[] {
  const json = parseJson(new TextDecoder().decode(config), `${what}: image config`) as { rootfs?: { diff_ids?: unknown } } | null;
  const diffIds = json?.rootfs?.diff_ids ?? [];
  if (!Array.isArray(diffIds)) throw new BuildError('invalid-input', `${what}: the image config's diff_ids are not a list`);
  return diffIds.map((diffId: unknown) => {
    if (typeof diffId !== 'string' || !isDigest(diffId))
      throw new BuildError('invalid-input', `${what}: the image config has the invalid diff id ${String(diffId)}`);
    return diffIdOf(diffId);
  });
}
