/** `moby.buildkit.v1.Control`: messages in and out, no build logic (buildkit-wire.md sections 1.3 to 1.6, 2.1 to 2.3, 8.2). */
import { create } from '@bufbuild/protobuf';
import type { Clock } from '../../core/clock.ts';
import { rfc3339 } from '../../core/clock.ts';
import { BuildError, GRPC } from '../../core/errors.ts';
import type { TypedAttributes } from '../build/build.ts';
import type { Builder } from '../build/builder.ts';
import type { AuditSink, Client } from '../events.ts';
import type { PruneRequest as GcRequest } from '../gc/prune.ts';
import type { History } from '../history/history.ts';
import { timestampOf } from '../history/status-log.ts';
import {
  type CacheOptions,
  type Control,
  DiskUsageResponseSchema,
  InfoResponseSchema,
  ListWorkersResponseSchema,
  type SolveRequest,
  SolveResponseSchema,
  UpdateBuildHistoryResponseSchema,
  type UsageRecord,
  UsageRecordSchema,
} from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { type CallContext, type Handlers, type Peer, type RawStream, raw } from '../rpc/handlers.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';
import { asBuildFailure } from './build-failure.ts';
import { TRIGGER_HEADER, takeTrigger } from './trigger-time.ts';
import { buildkitVersionOf, type WorkerInfo, workerRecordOf } from './worker-record.ts';

const WAIT_FOR_JOB_MS = 6_000; // Status of an unknown ref waits this long for its solve
const NO_BUILDS: unique symbol = Symbol('no builds');

/** What Control needs of garbage collection. */
export interface DiskUsage {
  /** Records that match; `""` matches all. @throws BuildError `invalid-input` for a filter that cannot be read. */
  usage(filter: readonly string[], ageLimitNs: bigint): Promise<SnapshotUsage[]>;
  /** Removes and yields one record at a time. */
  prune(request: GcRequest, signal: AbortSignal): AsyncIterable<SnapshotUsage>;
}
export interface ControlDeps {
  readonly builder: Builder;
  readonly history: History;
  readonly disk: DiskUsage;
  readonly worker: WorkerInfo;
  readonly clock: Clock;
  /** Hears of what administrators do through this service. */
  readonly audit?: AuditSink;
  readonly acceptSession: (stream: RawStream, context: CallContext) => Promise<void>;
}

export function controlHandlers(deps: ControlDeps): Handlers<typeof Control> {
  const { builder, history, disk, worker, clock } = deps;
  const sendTimestamp = (context: CallContext): void =>
    context.sendHeaders([['buildkit-current-timestamp', rfc3339(clock.nowNs())]]);
  return {
    async solve(request, context) {
      const { response } = await builder.solve(solveRequest(request, context, clock.nowNs()), context.signal).catch((thrown) => {
        throw asBuildFailure(thrown);
      });
      return create(SolveResponseSchema, { ExporterResponse: Object.fromEntries(response) });
    },
    async *status(request, context) {
      sendTimestamp(context);
      const build = await findBuild(deps, request.Ref, context);
      yield* build === NO_BUILDS ? history.statusMessages(request.Ref) : build.status.read(context.signal);
    },
    session: raw((stream, context) => deps.acceptSession(stream, context)),
    async listWorkers() {
      return create(ListWorkersResponseSchema, { record: [workerRecordOf(worker)] });
    },
    async info() {
      return create(InfoResponseSchema, { buildkitVersion: buildkitVersionOf(worker) });
    },
    async diskUsage(request) {
      const records = await disk.usage(request.filter, request.ageLimit);
      return create(DiskUsageResponseSchema, { record: records.map(usageRecord) });
    },
    async *prune(request, context) {
      const { filter, all, keepDuration } = request;
      const bounds = {
        reservedBytes: Number(request.reservedSpace),
        maxUsedBytes: Number(request.maxUsedSpace),
        minFreeBytes: Number(request.minFreeSpace),
      };
      const what = `${all ? 'all ' : ''}${filter.filter((one) => one !== '').join(' ') || 'everything unused'}`;
      const removed = { records: 0, bytes: 0, ok: false };
      try {
        for await (const record of disk.prune(
          { filters: filter, all, keepDurationNs: keepDuration, ...bounds },
          context.signal,
        )) {
          removed.records += 1;
          removed.bytes += record.sizeBytes;
          yield usageRecord(record);
        }
        removed.ok = true;
      } finally {
        const detail = `${removed.records} records, ${removed.bytes} bytes`;
        const outcome = removed.ok ? 'ok' : 'failed';
        deps.audit?.record({ type: 'prune', outcome, client: clientOf(context.peer), what, detail });
      }
    },
    async *listenBuildHistory(request, context) {
      sendTimestamp(context);
      const { ActiveOnly, Ref, EarlyExit, Filter, Limit } = request;
      yield* history.listen(
        { activeOnly: ActiveOnly, ref: Ref, earlyExit: EarlyExit, filter: Filter, limit: Limit },
        context.signal,
      );
    },
    async updateBuildHistory(request, context) {
      const { Ref, Pinned, Delete, Finalize } = request;
      await history.update(Ref, { pinned: Pinned, delete: Delete, finalize: Finalize });
      if (Delete)
        deps.audit?.record({ type: 'history-delete', outcome: 'ok', client: clientOf(context.peer), what: Ref, build: Ref });
      return create(UpdateBuildHistoryResponseSchema);
    },
  };
}

/** A finished build that history still knows is served from there at once; an unknown one may still arrive. */
async function findBuild({ builder, history }: ControlDeps, ref: string, context: CallContext) {
  const build = builder.peek(ref);
  if (build !== undefined) return build;
  if (history.find(ref)?.logs !== undefined) return NO_BUILDS;
  return await builder.find(ref, WAIT_FOR_JOB_MS, context.signal);
}

const KNOWN_COMPATIBILITY = [0n, 10n, 20n, 30n];

function solveRequest(request: SolveRequest, context: CallContext, nowNs: bigint) {
  if (!KNOWN_COMPATIBILITY.includes(request.CompatibilityVersion)) {
    throw new BuildError(
      'unsupported',
      `compatibility version ${request.CompatibilityVersion} is not supported; known are ${KNOWN_COMPATIBILITY.slice(1).join(', ')}`,
    );
  }
  const options = new Map(Object.entries(request.FrontendAttrs));
  const trigger = takeTrigger(options, context.headers.get(TRIGGER_HEADER), nowNs);
  const exporters: TypedAttributes[] =
    request.Exporters.length > 0
      ? request.Exporters.map(({ Type, Attrs }) => ({ type: Type, attributes: new Map(Object.entries(Attrs)) }))
      : request.ExporterDeprecated === ''
        ? []
        : [{ type: request.ExporterDeprecated, attributes: new Map(Object.entries(request.ExporterAttrsDeprecated)) }];
  return {
    ref: request.Ref,
    sessionId: request.Session,
    frontend: request.Frontend,
    definition: request.Definition,
    options,
    inputs: new Map(Object.entries(request.FrontendInputs)),
    exporters,
    cacheExports: cacheExportsOf(request.Cache),
    cacheImports: cacheImportsOf(request.Cache),
    entitlements: request.Entitlements,
    internal: request.Internal,
    traceparent: context.headers.get('traceparent'),
    ...(Object.keys(trigger).length === 0 ? {} : { trigger }),
    client: { ...clientOf(context.peer), ...(request.Session === '' ? {} : { session: request.Session }) },
  };
}

/** A client on a unix socket has no address of its own. */
function clientOf({ transport, address, identity }: Peer): Client {
  const peer = transport === 'tls' || transport === 'tcp' ? `${transport} ${address}` : transport;
  return { peer, ...(identity === undefined ? {} : { identity }) };
}

function cacheImportsOf(cache: CacheOptions | undefined): TypedAttributes[] {
  if (cache === undefined) return [];
  return [
    ...cache.Imports.map(({ Type, Attrs }) => ({ type: Type, attributes: new Map(Object.entries(Attrs)) })),
    ...cache.ImportRefsDeprecated.map((ref) => ({ type: 'registry', attributes: new Map([['ref', ref]]) })),
  ];
}

/** @throws BuildError `invalid-input` for two exports of equal type and attributes. */
function cacheExportsOf(cache: CacheOptions | undefined): TypedAttributes[] {
  if (cache === undefined) return [];
  const entries = cache.Exports.map(({ Type, Attrs }) => ({ type: Type, attributes: new Map(Object.entries(Attrs)) }));
  if (cache.ExportRefDeprecated !== '')
    entries.push({
      type: 'registry',
      attributes: new Map([['ref', cache.ExportRefDeprecated], ...Object.entries(cache.ExportAttrsDeprecated)]),
    });
  const identities = entries.map(({ type, attributes }) => JSON.stringify([type, ...[...attributes].sort()]));
  if (new Set(identities).size !== identities.length)
    throw new BuildError('invalid-input', 'duplicate cache exports', { grpcCode: GRPC.UNKNOWN });
  return entries;
}

function usageRecord(usage: SnapshotUsage): UsageRecord {
  return create(UsageRecordSchema, {
    ID: usage.id,
    Mutable: usage.mutable,
    InUse: usage.inUse,
    Size: BigInt(usage.sizeBytes),
    CreatedAt: timestampOf(usage.createdAtNs),
    ...(usage.lastUsedAtNs === undefined ? {} : { LastUsedAt: timestampOf(usage.lastUsedAtNs) }),
    UsageCount: BigInt(usage.usageCount),
    Description: usage.description,
    RecordType: usage.recordType,
    Shared: usage.shared,
    Parents: [...usage.parents],
  });
}
