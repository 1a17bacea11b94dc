/** `docker-image://<reference>`: an image from a registry as a root filesystem (buildkit-wire.md sections 2.5 and 7.3). */
import type { Clock } from '../../core/clock.ts';
import { digestOf, parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { ContentStore } from '../content/ports.ts';
import type { Platform } from '../llb/platform.ts';
import type { ImageReference, Registry } from '../registry/ports.ts';
import { parseReference, withDefaultTag } from '../registry/reference.ts';
import type { RecordType, Snapshot, Snapshots } from '../snapshot/ports.ts';
import type { OpContext } from '../solver/ports.ts';
import type { BlobOrigins } from './blob-origins.ts';
import { type ImageOrigin, registryOrigin } from './image-origin.ts';
import { pullLayers } from './pull-layers.ts';
import { chainKey, manifestKey, type ResolvedImage, resolveImage } from './resolve-image.ts';
import { retryLog } from './retry-log.ts';
import type { SessionAuths } from './session-auth.ts';
import type { SourceInstance, SourceKey, SourceKind } from './source.ts';

export interface ImageSourceDeps {
  readonly clock: Clock;
  readonly registry: Registry;
  readonly content: ContentStore;
  readonly snapshots: Snapshots;
  readonly auths: SessionAuths;
  readonly origins: BlobOrigins;
}

export function imageSource(deps: ImageSourceDeps): SourceKind {
  return {
    schemes: ['docker-image'],
    open({ op: { attrs }, locator, platform }) {
      const reference = withDefaultTag(parseReference(locator));
      const checksum = attrs['image.checksum'];
      parseResolveMode(attrs['image.resolvemode']);
      const options: ImageOptions = {
        platform,
        layerLimit: parseLayerLimit(attrs['image.layerlimit']),
        recordType: parseRecordType(attrs['image.recordtype']),
        checksum: checksum === undefined ? undefined : parseDigest(checksum),
      };
      const originOf = (context: OpContext): ImageOrigin =>
        registryOrigin(deps.registry, reference, {
          auth: deps.auths.of(context.sessions()),
          onRetry: retryLog(context.progress),
        });
      return new ImageInstance(deps, reference, options, originOf);
    },
  };
}

export interface ImageOptions {
  readonly platform: Platform;
  /** Only this many layers from the bottom. */
  readonly layerLimit: number | undefined;
  readonly recordType: RecordType;
  /** Digest the reference must resolve to. */
  readonly checksum: string | undefined;
}

/** An image wherever it comes from; also serves oci-layout. */
export class ImageInstance implements SourceInstance {
  readonly #deps: Pick<ImageSourceDeps, 'clock' | 'content' | 'snapshots'> & { readonly origins?: BlobOrigins };
  readonly #reference: ImageReference;
  readonly #options: ImageOptions;
  readonly #originOf: (context: OpContext) => ImageOrigin;
  #resolved: ResolvedImage | undefined;

  constructor(
    deps: Pick<ImageSourceDeps, 'clock' | 'content' | 'snapshots'> & { readonly origins?: BlobOrigins },
    reference: ImageReference,
    options: ImageOptions,
    originOf: (context: OpContext) => ImageOrigin,
  ) {
    this.#deps = deps;
    this.#reference = reference;
    this.#options = options;
    this.#originOf = originOf;
  }

  async cacheKey(context: OpContext, index: number): Promise<SourceKey> {
    const { root, layers } = await this.#resolve(context);
    const { platform, layerLimit } = this.#options;
    const first = digestOf(manifestKey(root.digest, platform, layerLimit));
    return { key: index === 0 ? first : (chainKey(layers) ?? first), done: index > 0, pin: root.digest };
  }

  async fetch(context: OpContext): Promise<Snapshot | undefined> {
    const { layers } = await this.#resolve(context);
    const { clock, content, snapshots } = this.#deps;
    const record = { description: `pulled from ${this.#reference.text}`, recordType: this.#options.recordType };
    return await pullLayers({ clock, content, snapshots, origin: this.#originOf(context), layers, record }, context);
  }

  async #resolve(context: OpContext): Promise<ResolvedImage> {
    if (this.#resolved !== undefined) return this.#resolved;
    const { platform, checksum } = this.#options;
    const line = context.progress.status(`resolve ${this.#reference.text}`);
    const image = await resolveImage(this.#originOf(context), platform, context.signal);
    line.done();
    if (checksum !== undefined && image.root.digest !== checksum)
      throw new BuildError(
        'invalid-input',
        `image digest ${image.root.digest} for ${this.#reference.text} does not match expected checksum ${checksum}`,
      );
    this.#resolved = { ...image, layers: this.#limited(image) };
    for (const { descriptor } of image.layers) this.#deps.origins?.add(descriptor.digest, this.#reference);
    return this.#resolved;
  }

  #limited({ layers }: ResolvedImage): ResolvedImage['layers'] {
    const { layerLimit } = this.#options;
    if (layerLimit === undefined) return layers;
    if (layerLimit > layers.length)
      throw new BuildError(
        'invalid-input',
        `layer limit ${layerLimit} is greater than the number of layers in the image ${layers.length}`,
      );
    return layers.slice(0, layerLimit);
  }
}

export type ResolveMode = 'default' | 'pull' | 'local';

/** @throws BuildError `invalid-input`. */
export function parseResolveMode(text: string | undefined): ResolveMode {
  if (text === undefined || text === '') return 'default';
  if (text === 'default' || text === 'pull' || text === 'local') return text;
  throw new BuildError('invalid-input', `invalid resolvemode: ${text}`);
}

/** @throws BuildError `invalid-input`. */
export function parseLayerLimit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new BuildError('invalid-input', `invalid layer limit ${text}`);
}

function parseRecordType(text: string | undefined): RecordType {
  if (text === undefined || text === '') return 'regular';
  if (text === 'regular' || text === 'internal' || text === 'frontend') return text;
  throw new BuildError('invalid-input', `invalid record type ${text}`);
}
