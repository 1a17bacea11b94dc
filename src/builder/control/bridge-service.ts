/**
 * LLBBridge on the daemon's port: a frontend that runs in the client drives its build through it. Calls name their build in the header
 * `buildkit-controlapi-buildid` and may arrive before the build itself (buildkit-wire.md sections 1.3, 2.6).
 */
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import { BuildError, type ErrorSource, GRPC } from '../../core/errors.ts';
import type { Build } from '../build/build.ts';
import { importsOfOptions } from '../build/build-caches.ts';
import type { Builder } from '../build/builder.ts';
import type { FrontendRef, FrontendResult, ImageConfigRequest } from '../frontend/ports.ts';
import {
  EvaluateResponseSchema,
  InputsResponseSchema,
  type LLBBridge,
  PongResponseSchema,
  ReadDirResponseSchema,
  ReadFileResponseSchema,
  type Ref,
  RefMapSchema,
  RefSchema,
  ResolveImageConfigResponseSchema,
  ResolveSourceHTTPResponseSchema,
  ResolveSourceImageResponseSchema,
  ResolveSourceMetaResponseSchema,
  type Result,
  ResultSchema,
  ReturnResponseSchema,
  SolveResponseSchema,
  StatFileResponseSchema,
  WarnResponseSchema,
} from '../proto/gen/moby/buildkit/v1/frontend/gateway_pb.ts';
import { type Platform, type Range, type SourceOp, SourceOpSchema } from '../proto/gen/pb/ops_pb.ts';
import type { CallContext, Handlers } from '../rpc/handlers.ts';
import { errorOf } from '../rpc/status.ts';
import { tellBuildFailures } from './build-failure.ts';
import { frontendCapabilities, llbCapabilities } from './capabilities.ts';
import { withoutTrigger } from './trigger-time.ts';
import { type WorkerInfo, workerRecordOf } from './worker-record.ts';

const BUILD_ID = 'buildkit-controlapi-buildid';
const WAIT_FOR_BUILD_MS = 3_000; // what clients of the real daemon expect before "unknown job"
const IMAGE_SCHEME = 'docker-image://';
const LAYOUT_SCHEME = 'oci-layout://';
type Resolver = NonNullable<ImageConfigRequest['resolver']>;

export function bridgeHandlers(builder: Builder, worker: WorkerInfo): Handlers<typeof LLBBridge> {
  const buildOf = async (context: CallContext): Promise<Build> => {
    const id = context.headers.get(BUILD_ID);
    if (id === undefined || id === '')
      throw new BuildError('invalid-input', 'no buildid found in context', { grpcCode: GRPC.UNKNOWN });
    return await builder.find(id, WAIT_FOR_BUILD_MS, context.signal);
  };
  return tellBuildFailures({
    async ping(_request, context) {
      await buildOf(context);
      return create(PongResponseSchema, {
        FrontendAPICaps: frontendCapabilities(),
        LLBCaps: llbCapabilities(),
        Workers: [workerRecordOf(worker)],
      });
    },
    async solve(request, context) {
      const build = await buildOf(context);
      const { bridge } = build;
      build.importCaches([
        ...request.CacheImports.map(({ Type, Attrs }) => ({ type: Type, attributes: new Map(Object.entries(Attrs)) })),
        ...importsOfOptions(new Map(Object.entries(request.FrontendOpt))),
      ]);
      if (request.Frontend === '') {
        const definition = request.Definition;
        const ref =
          definition === undefined || definition.def.length === 0
            ? undefined
            : await bridge.solve(definition, { evaluate: request.Evaluate });
        return create(SolveResponseSchema, { result: resultMessage({ refs: { kind: 'single', ref }, metadata: new Map() }) });
      }
      const options = new Map(Object.entries(request.FrontendOpt));
      withoutTrigger(options); // the solve has told it
      for (const [name, id] of options) if (name.startsWith('local-sessionid:')) build.addSession(id);
      const result = await bridge.forward({
        frontend: request.Frontend,
        options,
        inputs: new Map(Object.entries(request.FrontendInputs)),
      });
      if (request.Evaluate) await Promise.all(refsOf(result).map((ref) => bridge.evaluate(ref)));
      return create(SolveResponseSchema, { result: resultMessage(result) });
    },
    async return(request, context) {
      const build = await buildOf(context);
      build.return(
        request.error === undefined || request.error.code === 0 ? resultOf(request.result, build) : errorOf(request.error),
      );
      return create(ReturnResponseSchema);
    },
    async inputs(_request, context) {
      const build = await buildOf(context);
      return create(InputsResponseSchema, { Definitions: Object.fromEntries(build.request.inputs) });
    },
    async evaluate(request, context) {
      const { bridge } = await buildOf(context);
      if (request.Ref !== '') await bridge.evaluate(bridge.ref(request.Ref));
      return create(EvaluateResponseSchema);
    },
    async warn(request, context) {
      const { bridge } = await buildOf(context);
      const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
      const source = request.info === undefined ? undefined : errorSource(request.info, request.ranges);
      bridge.warn({
        vertex: request.digest,
        level: Number(request.level),
        short: text(request.short),
        detail: request.detail.map(text),
        url: request.url,
        ...(source === undefined ? {} : { source }),
      });
      return create(WarnResponseSchema);
    },
    async resolveImageConfig(request, context) {
      const { bridge } = await buildOf(context);
      const { Ref, Platform, ResolveMode, LogName } = request;
      const resolver =
        request.ResolverType === 1
          ? ({ kind: 'oci-layout', sessionId: request.SessionID, storeId: request.StoreID } as const)
          : ({ kind: 'registry' } as const);
      const { ref, digest, config } = await bridge.resolveImageConfig(
        imageRequest(Ref, Platform, ResolveMode, LogName, resolver),
      );
      return create(ResolveImageConfigResponseSchema, { Ref: ref, Digest: digest, Config: config });
    },
    async resolveSourceMeta(request, context) {
      const { bridge } = await buildOf(context);
      const source = request.Source ?? create(SourceOpSchema);
      if (/^https?:\/\//.test(source.identifier)) {
        const { digest, filename, lastModified } = await bridge.describeFile(source, request.LogName);
        const time = lastModified === undefined ? {} : { LastModified: timestampFromDate(lastModified) };
        const HTTP = create(ResolveSourceHTTPResponseSchema, { Checksum: digest, Filename: filename, ...time });
        return create(ResolveSourceMetaResponseSchema, { Source: source, HTTP });
      }
      const image = imageOf(source);
      if (image === undefined) return create(ResolveSourceMetaResponseSchema, { Source: source });
      const { digest, config } = await bridge.resolveImageConfig(
        imageRequest(image.reference, request.Platform, request.ResolveMode, request.LogName, image.resolver),
      );
      return create(ResolveSourceMetaResponseSchema, {
        Source: source,
        Image: create(ResolveSourceImageResponseSchema, { Digest: digest, Config: config }),
      });
    },
    async readFile(request, context) {
      const { bridge } = await buildOf(context);
      const range =
        request.Range === undefined ? undefined : { offset: Number(request.Range.Offset), length: Number(request.Range.Length) };
      const data = await bridge.readFile(refNamed(request.Ref, bridge), request.FilePath, range);
      return create(ReadFileResponseSchema, { Data: data });
    },
    async readDir(request, context) {
      const { bridge } = await buildOf(context);
      return create(ReadDirResponseSchema, {
        entries: await bridge.readDir(refNamed(request.Ref, bridge), request.DirPath, request.IncludePattern),
      });
    },
    async statFile(request, context) {
      const { bridge } = await buildOf(context);
      return create(StatFileResponseSchema, { stat: await bridge.statFile(refNamed(request.Ref, bridge), request.Path) });
    },
  });
}

/** Where an image source is to be looked up; undefined for a source of another kind. */
function imageOf({ identifier, attrs }: SourceOp): { reference: string; resolver: Resolver } | undefined {
  if (identifier.startsWith(IMAGE_SCHEME))
    return { reference: identifier.slice(IMAGE_SCHEME.length), resolver: { kind: 'registry' } };
  if (!identifier.startsWith(LAYOUT_SCHEME)) return undefined;
  const resolver = { kind: 'oci-layout', sessionId: attrs['oci.session'] ?? '', storeId: attrs['oci.store'] ?? '' } as const;
  return { reference: identifier.slice(LAYOUT_SCHEME.length), resolver };
}

function imageRequest(
  ref: string,
  platform: Platform | undefined,
  resolveMode: string,
  logName: string,
  resolver: Resolver,
): ImageConfigRequest {
  return { ref, platform, resolveMode, logName, resolver };
}

/** An empty id is scratch. */
const refNamed = (id: string, bridge: Build['bridge']): FrontendRef | undefined => (id === '' ? undefined : bridge.ref(id));
const refsOf = ({ refs }: FrontendResult): (FrontendRef | undefined)[] =>
  refs.kind === 'single' ? [refs.ref] : [...refs.refs.values()];

/** A Ref message must be present everywhere: clients dereference it without a check; an empty id is scratch. */
const refMessage = (ref: FrontendRef | undefined): Ref =>
  create(RefSchema, ref === undefined ? {} : { id: ref.id, def: ref.definition });

function resultMessage({ refs, metadata }: FrontendResult): Result {
  const entries = Object.fromEntries(metadata);
  if (refs.kind === 'single')
    return create(ResultSchema, { result: { case: 'ref', value: refMessage(refs.ref) }, metadata: entries });
  const messages = Object.fromEntries([...refs.refs].map(([platform, ref]) => [platform, refMessage(ref)]));
  return create(ResultSchema, { result: { case: 'refs', value: create(RefMapSchema, { refs: messages }) }, metadata: entries });
}

/** The result a client hands back: refs are looked up by id, definitions in it are ignored. */
function resultOf(result: Result | undefined, build: Build): FrontendResult {
  const metadata = new Map(Object.entries(result?.metadata ?? {}));
  const find = (id: string): FrontendRef | undefined => refNamed(id, build.bridge);
  switch (result?.result.case) {
    case 'refs':
      return {
        refs: {
          kind: 'map',
          refs: new Map(Object.entries(result.result.value.refs).map(([platform, ref]) => [platform, find(ref.id)])),
        },
        metadata,
      };
    case 'refsDeprecated':
      return {
        refs: {
          kind: 'map',
          refs: new Map(Object.entries(result.result.value.refs).map(([platform, id]) => [platform, find(id)])),
        },
        metadata,
      };
    case 'ref':
      return { refs: { kind: 'single', ref: find(result.result.value.id) }, metadata };
    case 'refDeprecated':
      return { refs: { kind: 'single', ref: find(result.result.value) }, metadata };
    default:
      return { refs: { kind: 'single', ref: undefined }, metadata };
  }
}

function errorSource(
  info: { readonly filename: string; readonly language: string; readonly data: Uint8Array },
  ranges: readonly Range[],
): ErrorSource {
  const position = (at: { readonly line: number; readonly character: number } | undefined) => ({
    line: at?.line ?? 0,
    character: at?.character ?? 0,
  });
  return {
    filename: info.filename,
    language: info.language,
    data: info.data,
    ranges: ranges.map((range) => ({ start: position(range.start), end: position(range.end) })),
  };
}
