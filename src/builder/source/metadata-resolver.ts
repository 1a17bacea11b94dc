/**
 * What an image is, for frontends: digest and config of a reference, resolved once per build however many stages name it. The build
 * wraps a call in a progress step of its own.
 */
import type { Digest } from '../../core/digest.ts';
import type { ContentStore } from '../content/ports.ts';
import { type Platform, platformFromPb, platformId } from '../llb/platform.ts';
import type { Platform as PbPlatform, SourceOp } from '../proto/gen/pb/ops_pb.ts';
import type { Registry } from '../registry/ports.ts';
import { parseReference, withDefaultTag } from '../registry/reference.ts';
import { SingleFlight } from '../registry/single-flight.ts';
import type { Sessions } from '../session/ports.ts';
import type { StepProgress } from '../solver/ports.ts';
import { describeHttpFile, type HttpFile, type HttpSourceDeps } from './http-source.ts';
import { type ImageOrigin, registryOrigin } from './image-origin.ts';
import { parseResolveMode } from './image-source.ts';
import { layoutOrigin } from './oci-layout-source.ts';
import { resolveImage } from './resolve-image.ts';
import { retryLog } from './retry-log.ts';
import type { SessionAuths } from './session-auth.ts';

export interface MetadataRequest {
  readonly ref: string;
  readonly platform: PbPlatform | undefined;
  readonly resolveMode: string;
  readonly resolver?:
    | { readonly kind: 'registry' }
    | { readonly kind: 'oci-layout'; readonly sessionId: string; readonly storeId: string };
}
export interface MetadataContext {
  readonly sessions: () => readonly string[];
  readonly progress: StepProgress;
  readonly signal: AbortSignal;
}
export interface ImageMetadata {
  readonly ref: string;
  readonly digest: Digest;
  readonly config: Uint8Array;
}
export interface MetadataResolver {
  /** Of an `http(s)://` source. Rejects as the source itself would. */
  describeFile(op: SourceOp, context: MetadataContext): Promise<HttpFile>;
  /** Rejects with `not-found`, `denied`, `unavailable` or `invalid-input`; the message names the reference or the request that failed. */
  resolveImageConfig(request: MetadataRequest, context: MetadataContext): Promise<ImageMetadata>;
}

export interface MetadataResolverDeps extends HttpSourceDeps {
  readonly registry: Registry;
  readonly content: ContentStore;
  readonly sessions: Sessions;
  readonly auths: SessionAuths;
  readonly defaultPlatform: Platform;
}

/** One resolver per build: its memory keeps a tag from meaning two images, and an address two files, within the build. */
export function createMetadataResolver(deps: MetadataResolverDeps): MetadataResolver {
  const flights = new SingleFlight<ImageMetadata>();
  const known = new Map<string, ImageMetadata>();
  const fileFlights = new SingleFlight<HttpFile>();
  const files = new Map<string, HttpFile>();
  return {
    async describeFile(op, context) {
      const key = JSON.stringify([op.identifier, Object.entries(op.attrs).sort()]);
      const answered = files.get(key);
      if (answered !== undefined) return answered;
      const file = await fileFlights.run(key, context.signal, (signal) => describeHttpFile(deps, op, { ...context, signal }));
      files.set(key, file);
      return file;
    },
    async resolveImageConfig(request, context) {
      const platform = request.platform === undefined ? deps.defaultPlatform : platformFromPb(request.platform);
      const mode = parseResolveMode(request.resolveMode);
      const store = request.resolver?.kind === 'oci-layout' ? [request.resolver.sessionId, request.resolver.storeId] : [];
      const key = [request.ref, platformId(platform), mode, ...store].join('\n');
      const answered = known.get(key);
      if (answered !== undefined) return answered;
      const metadata = await flights.run(key, context.signal, async (signal) => {
        const image = await resolveImage(originOf(deps, request, context), platform, signal);
        return { ref: request.ref, digest: image.root.digest, config: image.config };
      });
      known.set(key, metadata);
      return metadata;
    },
  };
}

function originOf(deps: MetadataResolverDeps, request: MetadataRequest, context: MetadataContext): ImageOrigin {
  const reference = withDefaultTag(parseReference(request.ref));
  if (request.resolver?.kind === 'oci-layout') {
    const { sessionId, storeId } = request.resolver;
    return layoutOrigin(deps, { reference, storeId, sessions: () => (sessionId === '' ? context.sessions() : [sessionId]) });
  }
  return registryOrigin(deps.registry, reference, {
    auth: deps.auths.of(context.sessions()),
    onRetry: retryLog(context.progress),
  });
}
