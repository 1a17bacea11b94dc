/** What the ops server shows of a running daemon: history, telemetry and objectives behind the server's own interface. */
import { toJson } from '@bufbuild/protobuf';
import type { Builder } from '../../builder/build/builder.ts';
import type { ContentStore } from '../../builder/content/ports.ts';
import type { GcParts } from '../../builder/control/gc-service.ts';
import type { Accounts } from '../../builder/explain/accounts.ts';
import type { History } from '../../builder/history/history.ts';
import { nsOfTimestamp } from '../../builder/history/status-log.ts';
import { type BuildHistoryRecord, BuildHistoryRecordSchema } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { rfc3339 } from '../../core/clock.ts';
import { parseDigest } from '../../core/digest.ts';
import type { SloEvaluator } from '../../slo/evaluator.ts';
import { readGoSpanStubs } from '../../telemetry/read-span-stubs.ts';
import { spanJson } from '../../telemetry/span.ts';
import type { Telemetry } from '../../telemetry/telemetry.ts';
import type { BuildSummary, OpsProviders, ReadyCheck } from '../../web/ops-providers.ts';
import { planJson } from './gc-plan-json.ts';

const MAX_TRACE_BYTES = 64 * 1024 * 1024;

export interface OpsParts {
  readonly version: string;
  readonly addresses: readonly string[];
  readonly builder: Builder;
  readonly history: History;
  readonly accounts: Accounts;
  readonly content: ContentStore;
  readonly telemetry: Telemetry;
  readonly slo: SloEvaluator;
  readonly gc: Pick<GcParts, 'plan' | 'secondsToFull'>;
  readonly ready: () => readonly ReadyCheck[];
  readonly onError: (error: unknown) => void;
}

export function opsProviders(parts: OpsParts): OpsProviders {
  const { history, telemetry, content, accounts } = parts;
  return {
    version: parts.version,
    addresses: () => parts.addresses,
    scrape: (accept) => telemetry.metrics.scrape(accept),
    ready: parts.ready,
    slo: () => parts.slo.report(),
    builds: async (limit) =>
      [...history.active(), ...history.list()].slice(0, limit).map((record) => ({
        ...summaryOf(record, telemetry),
        ...servedFromCache(accounts, record),
        ...runningNow(parts.builder, record),
      })),
    build: async (ref) => {
      const record = history.find(ref);
      if (record === undefined) return undefined;
      return {
        ...summaryOf(record, telemetry),
        ...servedFromCache(accounts, record),
        record: toJson(BuildHistoryRecordSchema, record),
        ...(await parts.history.notes(ref)),
        ...liveResources(parts.builder, record),
      };
    },
    explain: (ref, against) => accounts.explain(ref, against),
    trace: async (ref) => {
      const live = telemetry.traceOf(ref);
      if (live !== undefined) return live.map(spanJson);
      const trace = history.find(ref)?.trace;
      if (trace === undefined) return undefined;
      return readGoSpanStubs(await content.readAll(parseDigest(trace.digest), MAX_TRACE_BYTES)).map(spanJson);
    },
    gcPlan: async () => planJson(await parts.gc.plan('policies'), parts.gc.secondsToFull()),
    onError: parts.onError,
  };
}

function runningNow(builder: Builder, { Ref, CompletedAt }: BuildHistoryRecord): Pick<BuildSummary, 'running'> {
  const build = CompletedAt === undefined ? builder.peek(Ref) : undefined;
  return build === undefined ? {} : { running: build.resources.running() };
}

/** What the steps of a running build use now; the record tells it of a finished one. */
function liveResources(builder: Builder, { Ref, CompletedAt }: BuildHistoryRecord): object {
  const build = CompletedAt === undefined ? builder.peek(Ref) : undefined;
  return build === undefined || build.resources.isEmpty ? {} : { resources: build.resources.toJson() };
}

function summaryOf(record: BuildHistoryRecord, telemetry: Telemetry): BuildSummary {
  const { Ref: ref, CreatedAt, CompletedAt, error } = record;
  const startedNs = CreatedAt === undefined ? 0n : nsOfTimestamp(CreatedAt);
  const endedNs = CompletedAt === undefined ? undefined : nsOfTimestamp(CompletedAt);
  const traceId = telemetry.traceIdOf(ref);
  return {
    ref,
    name: record.FrontendAttrs.target || record.FrontendAttrs.filename || 'Dockerfile',
    startedAt: rfc3339(startedNs),
    state: stateOf(record),
    ...(endedNs === undefined ? {} : { endedAt: rfc3339(endedNs), durationMs: Number((endedNs - startedNs) / 1_000_000n) }),
    ...(error === undefined ? {} : { error: error.message }),
    ...(endedNs === undefined
      ? {}
      : { steps: { total: record.numTotalSteps, completed: record.numCompletedSteps, cached: record.numCachedSteps } }),
    ...(traceId === undefined ? {} : { traceId }),
  };
}

function servedFromCache(accounts: Accounts, { Ref }: BuildHistoryRecord): Pick<BuildSummary, 'cache'> {
  const cache = accounts.totals(Ref);
  return cache === undefined ? {} : { cache };
}

/** The record keeps the status clients saw; whose fault it was stays with metrics and traces. */
function stateOf({ CompletedAt, error }: BuildHistoryRecord): BuildSummary['state'] {
  if (CompletedAt === undefined) return 'running';
  if (error === undefined || error.code === 0) return 'success';
  return error.message.includes('context canceled') ? 'cancellation' : 'failure';
}
