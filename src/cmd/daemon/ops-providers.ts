/** What the ops server shows and does of a running daemon, behind the server's own interface. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Admission } from '../../builder/build/admission.ts';
import type { ContentStore } from '../../builder/content/ports.ts';
import type { AdminAct } from '../../builder/events.ts';
import type { Accounts } from '../../builder/explain/accounts.ts';
import { nsOfTimestamp } from '../../builder/history/status-log.ts';
import { type Clock, nsToSeconds } from '../../core/clock.ts';
import { parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { SloEvaluator } from '../../slo/evaluator.ts';
import { readGoSpanStubs } from '../../telemetry/read-span-stubs.ts';
import { type FinishedSpan, spanJson } from '../../telemetry/span.ts';
import type { Telemetry } from '../../telemetry/telemetry.ts';
import type { Alert, SloSeries, Status } from '../../web/api/model.ts';
import type { OpsProviders, OpsWrites, ReadyCheck, WriteRecord } from '../../web/ops-providers.ts';
import { firingOf } from './ops-alerts.ts';
import { type BuildParts, buildProviders } from './ops-builds.ts';
import { type CacheParts, cacheProviders, collect, limitOf, prune } from './ops-cache.ts';
import type { SloService } from './slo-service.ts';

const MAX_TRACE_BYTES = 64 * 1024 * 1024;
const RUNBOOKS = join(import.meta.dirname, '..', '..', '..', 'runbooks');

export interface OpsParts extends Omit<BuildParts, 'traceIdOf'>, CacheParts {
  readonly version: string;
  readonly clock: Clock;
  readonly addresses: readonly string[];
  readonly content: ContentStore;
  readonly accounts: Accounts;
  readonly telemetry: Telemetry;
  readonly slo: SloService;
  readonly admission: Admission;
  readonly maxBuilds: number;
  readonly slots: () => Status['slots'];
  readonly sessions: () => number;
  readonly cacheBytes: () => number;
  readonly unknownKeys: number;
  readonly ready: () => readonly ReadyCheck[];
  readonly submit: NonNullable<OpsWrites['submit']>;
  readonly drain: () => void;
  readonly used: () => void;
  readonly onError: (error: unknown) => void;
}

export function opsProviders(parts: OpsParts): OpsProviders {
  const { telemetry, clock } = parts;
  return {
    version: parts.version,
    scrape: (accept) => telemetry.metrics.scrape(accept),
    ready: parts.ready,
    status: () => statusOf(parts),
    slo: () => parts.slo.evaluator.report(),
    sloSeries: (name, count) => seriesOf(parts.slo.evaluator.series(name, count), nsToSeconds(clock.nowNs())),
    sloRecords: (fromS, toS, slo) => parts.slo.records(fromS, toS, slo),
    sloAdjustments: () => parts.slo.adjustments(),
    alerts: () => alertsOf(parts),
    runbook: readRunbook,
    ...buildProviders({ ...parts, traceIdOf: (ref) => telemetry.traceIdOf(ref) }),
    explain: (ref, against) => parts.accounts.explain(ref, against),
    trace: (ref) => spansOf(parts, ref),
    traceJson: async (ref) => (await spansOf(parts, ref))?.map(spanJson),
    ...cacheProviders(parts),
    writes: writesOf(parts),
    audit: (record) => audit(telemetry, record),
    used: parts.used,
    onError: parts.onError,
  };
}

function statusOf(parts: OpsParts): ReturnType<OpsProviders['status']> {
  const { admission, builder, history, memory, clock } = parts;
  const oldest = builder.waiting()[0];
  const created = oldest === undefined ? undefined : history.find(oldest)?.CreatedAt;
  const disk = parts.disk();
  return {
    startedAt: memory.startedAt,
    addresses: [...parts.addresses],
    builds: {
      running: admission.running,
      queued: admission.queued,
      limit: parts.maxBuilds,
      oldestQueuedSeconds: created === undefined ? 0 : Math.round(nsToSeconds(clock.nowNs() - nsOfTimestamp(created))),
    },
    slots: parts.slots(),
    sessions: parts.sessions(),
    cache: {
      bytes: parts.cacheBytes(),
      limitBytes: limitOf(parts.policies),
      diskFreeBytes: disk.freeBytes,
      diskBytes: disk.totalBytes,
    },
    breakers: [...memory.breakers],
    ...(memory.canary === undefined ? {} : { canary: memory.canary }),
  };
}

function seriesOf(series: ReturnType<SloEvaluator['series']>, nowS: number): SloSeries | undefined {
  return (
    series && {
      periodSeconds: series.periodSeconds,
      endsAt: new Date(nowS * 1000).toISOString(),
      good: series.counts.map(({ good }) => good),
      total: series.counts.map(({ total }) => total),
    }
  );
}

/** What fires now, worst first. */
export async function alertsOf(parts: OpsParts): Promise<Alert[]> {
  const firing = firingOf({
    report: await parts.slo.evaluator.report(),
    alertNames: new Map(parts.slo.objectives.map(({ name, alertName }) => [name, alertName])),
    status: statusOf(parts),
    runs: parts.memory.runs,
    unknownKeys: parts.unknownKeys,
    nowMs: Date.now(),
  });
  const withRunbooks = firing.map(async (alert) => ({ ...alert, runbook: (await readRunbook(alert.name)) !== undefined }));
  return parts.memory.withSince(await Promise.all(withRunbooks));
}

/** Runbooks are shipped beside the code. */
async function readRunbook(name: string): Promise<string | undefined> {
  if (!/^\w+$/.test(name)) return undefined;
  return await readFile(join(RUNBOOKS, `${name}.md`), 'utf8').catch(() => undefined);
}

async function spansOf({ telemetry, history, content }: OpsParts, ref: string): Promise<readonly FinishedSpan[] | undefined> {
  const live = telemetry.traceOf(ref);
  if (live !== undefined) return live;
  const trace = history.find(ref)?.trace;
  return trace && readGoSpanStubs(await content.readAll(parseDigest(trace.digest), MAX_TRACE_BYTES));
}

function writesOf({ builder, gc, submit, drain, slo }: OpsParts): OpsWrites {
  return {
    cancelBuild: (ref, reason) =>
      builder.cancel(ref, new BuildError('cancelled', `context canceled: by an operator${reason === '' ? '' : `: ${reason}`}`)),
    collect: (signal) => collect(gc, signal),
    prune: (order, signal) => prune(gc, order, signal),
    submit,
    drain,
    adjustSlo: (wanted) => slo.adjust(wanted),
    removeSloAdjustment: (id, by) => slo.removeAdjustment(id, by),
  };
}

const ACTS: Readonly<Record<string, AdminAct>> = {
  'gc.run': 'prune',
  'cache.prune': 'prune',
  'build.cancel': 'build-cancel',
  'build.submit': 'build-submit',
  drain: 'drain',
  'slo.adjust': 'slo-adjustment',
  'slo.unadjust': 'slo-adjustment',
};

function audit({ audit: log }: Telemetry, { act, target, actor, from, outcome, reason }: WriteRecord): void {
  log.record({
    type: outcome === 'denied' ? 'denied' : (ACTS[act] ?? 'denied'),
    outcome: outcome === 'done' ? 'ok' : outcome === 'denied' ? 'refused' : 'failed',
    client: { peer: from, ...(actor === undefined ? {} : { identity: actor }) },
    what: target === '' ? act : `${act} ${target}`,
    ...(reason === undefined ? {} : { detail: reason }),
  });
}
