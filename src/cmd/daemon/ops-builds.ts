/** Builds as the ops API shows them: running ones from the builder, finished ones from the history. */
import { fromBinary } from '@bufbuild/protobuf';
import type { Builder } from '../../builder/build/builder.ts';
import type { Accounts } from '../../builder/explain/accounts.ts';
import type { History } from '../../builder/history/history.ts';
import { nsOfTimestamp } from '../../builder/history/status-log.ts';
import { type BuildHistoryRecord, StatusResponseSchema } from '../../builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { nsToMs, rfc3339 } from '../../core/clock.ts';
import type { BuildDetail, BuildSummary, LogLine } from '../../web/api/model.ts';
import type { BuildQuery, OpsProviders } from '../../web/ops-providers.ts';

export interface BuildParts {
  readonly builder: Builder;
  readonly history: History;
  readonly accounts: Pick<Accounts, 'totals'>;
  readonly traceIdOf: (ref: string) => string | undefined;
}
type BuildProviders = Pick<OpsProviders, 'builds' | 'build' | 'rawOptions' | 'logs'>;

export function buildProviders(parts: BuildParts): BuildProviders {
  const { history } = parts;
  return {
    builds: (query) => select(parts, query),
    build: async (ref) => {
      const record = history.find(ref);
      return record === undefined ? undefined : { ...detailOf(record, parts), ...(await notesOf(record, parts)) };
    },
    rawOptions: (ref) => ({ ...history.find(ref)?.FrontendAttrs }),
    logs: (ref, signal) => logsOf(parts, ref, signal),
  };
}

/** Records are made into summaries only as far as the page needs them; a filter looks at all of them. */
function select(parts: BuildParts, { limit, after, state, text }: BuildQuery): BuildSummary[] {
  const { history } = parts;
  const records = [...history.active(), ...history.list()];
  const from = after === undefined ? 0 : records.findIndex(({ Ref }) => Ref === after) + 1;
  if (after !== undefined && from === 0) return [];
  const wanted = text?.toLowerCase();
  const found: BuildSummary[] = [];
  for (let at = from; at < records.length && found.length < limit; at++) {
    const record = records[at];
    if (record === undefined) break;
    const summary = summaryOf(record, parts);
    const { ref, name, image = '', repository = '', error = '' } = summary;
    const holds = wanted === undefined || [ref, name, image, repository, error].join('\n').toLowerCase().includes(wanted);
    if (holds && (state === undefined || summary.state === state)) found.push(summary);
  }
  return found;
}

function summaryOf(record: BuildHistoryRecord, { builder, history, accounts, traceIdOf }: BuildParts): BuildSummary {
  const { Ref: ref, CreatedAt, CompletedAt, error, FrontendAttrs: options } = record;
  const startedNs = CreatedAt === undefined ? 0n : nsOfTimestamp(CreatedAt);
  const endedNs = CompletedAt === undefined ? undefined : nsOfTimestamp(CompletedAt);
  const queuePosition = endedNs === undefined ? builder.waiting().indexOf(ref) + 1 : 0;
  const build = endedNs === undefined ? builder.peek(ref) : undefined;
  const live = build?.status.counts();
  const cache = accounts.totals(ref);
  const traceId = traceIdOf(ref);
  const image = record.Exporters.map(({ Attrs }) => Attrs.name).find((name) => name !== undefined && name !== '');
  const repository =
    options['vcs:source'] ?? (/^(https?|git|ssh):|^git@/.test(options.context ?? '') ? options.context : undefined);
  return {
    ref,
    name: options.target || options.filename || 'default',
    ...(image === undefined ? {} : { image }),
    ...(repository === undefined ? {} : { repository }),
    startedAt: rfc3339(startedNs),
    state: endedNs === undefined ? (queuePosition > 0 ? 'queued' : 'running') : (history.resultOf(ref) ?? 'failure'),
    ...(queuePosition > 0 ? { queuePosition } : {}),
    ...(endedNs === undefined ? {} : { endedAt: rfc3339(endedNs), durationMs: Math.round(nsToMs(endedNs - startedNs)) }),
    ...(error === undefined || error.code === 0 ? {} : { error: error.message }),
    steps:
      live === undefined
        ? { total: record.numTotalSteps, completed: record.numCompletedSteps, cached: record.numCachedSteps }
        : { total: live.total, completed: live.completed, cached: live.cached },
    warnings: live?.warnings ?? record.numWarnings,
    ...(traceId === undefined ? {} : { traceId }),
    ...(cache === undefined ? {} : { cache }),
    ...(build === undefined ? {} : { running: build.resources.running() }),
  };
}

function detailOf(record: BuildHistoryRecord, parts: BuildParts): BuildDetail {
  return {
    ...summaryOf(record, parts),
    frontend: record.Frontend,
    options: shownOptions(record.FrontendAttrs),
    exporters: record.Exporters.map(({ Type, Attrs }) => ({ type: Type, attributes: { ...Attrs } })),
    response: { ...record.ExporterResponse },
    ...(record.logs === undefined ? {} : { logBytes: Number(record.logs.size) }),
  };
}

/** What was kept beside the record; of a running build, what its steps use now. */
async function notesOf({ Ref, CompletedAt }: BuildHistoryRecord, { builder, history }: BuildParts): Promise<object> {
  if (CompletedAt !== undefined) return await history.notes(Ref);
  const build = builder.peek(Ref);
  return build === undefined || build.resources.isEmpty ? {} : { resources: build.resources.toJson() };
}

/** People put tokens into build arguments, whatever the manuals say. */
const shownOptions = (options: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(options).map(([key, value]) => [key, key.startsWith('build-arg:') ? '(not shown)' : value]));

function logsOf({ builder, history }: BuildParts, ref: string, signal: AbortSignal): AsyncIterable<LogLine> | undefined {
  const running = builder.peek(ref);
  if (running !== undefined && !running.request.internal) return linesOf(running.status.read(signal));
  return history.find(ref)?.logs === undefined ? undefined : linesOf(history.statusMessages(ref));
}

async function* linesOf(messages: AsyncIterable<Uint8Array>): AsyncGenerator<LogLine> {
  const decoder = new TextDecoder();
  for await (const bytes of messages) {
    const { logs, warnings } = fromBinary(StatusResponseSchema, bytes);
    for (const { vertex, timestamp, stream, msg } of logs) {
      const atMs = timestamp === undefined ? 0 : Number(nsOfTimestamp(timestamp) / 1_000_000n);
      yield { kind: 'log', step: vertex, atMs, text: decoder.decode(msg), stream: Number(stream) };
    }
    for (const { vertex, short, detail, url, info, ranges } of warnings) {
      const line = ranges[0]?.start?.line;
      yield {
        kind: 'warning',
        step: vertex,
        atMs: 0,
        text: [short, ...detail].map((part) => decoder.decode(part)).join('\n'),
        ...(url === '' ? {} : { url }),
        ...(info === undefined ? {} : { place: line === undefined ? info.filename : `${info.filename}:${line}` }),
      };
    }
  }
}
