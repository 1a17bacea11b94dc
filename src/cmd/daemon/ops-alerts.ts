/**
 * What fires, judged without Prometheus: the burning objectives, and what the daemon sees of itself. The names are those of the rules,
 * so the runbooks are the same; rules that look at a history (a disk that fills, registries) are left to Prometheus.
 */
import type { SloReport, SloStatus } from '../../slo/report.ts';
import type { Alert, GcRun, Status } from '../../web/api/model.ts';

const DISK_FULL = 0.03;
const STUCK_SECONDS = 600;
const GC_MS = 3_600_000;

type Bare = Omit<Alert, 'runbook'>;
export interface Seen {
  readonly report: SloReport;
  /** Alert name by objective. */
  readonly alertNames: ReadonlyMap<string, string>;
  readonly status: Pick<Status, 'builds' | 'cache' | 'breakers'>;
  /** Collections, newest first. */
  readonly runs: readonly GcRun[];
  readonly unknownKeys: number;
  readonly nowMs: number;
}

/** Worst first. */
export function firingOf(seen: Seen): Bare[] {
  const slos = seen.report.objectives.flatMap((slo) => burning(slo, seen.alertNames.get(slo.name)));
  const symptoms = SYMPTOMS.flatMap((symptom) => symptom(seen));
  return [...slos, ...symptoms].sort((a, b) => rankOf(a.severity) - rankOf(b.severity));
}

const RANKS = ['critical', 'warning', 'info'];
const rankOf = (severity: string): number => RANKS.indexOf(severity) + (RANKS.includes(severity) ? 0 : RANKS.length + 1);

/** One alert per objective: its worst firing pair. */
function burning(slo: SloStatus, name: string | undefined): Bare[] {
  const firing = slo.pairs.filter((pair) => pair.firing);
  const worst = firing.find(({ severity }) => severity === 'page') ?? firing[0];
  if (worst === undefined || name === undefined) return [];
  const rate = slo.burn.find(({ window }) => window === worst.long)?.burnRate;
  const bad = slo.total - slo.good;
  return [
    {
      name,
      severity: worst.severity === 'page' ? 'critical' : 'warning',
      summary: `${slo.title} burns its error budget${rate == null ? '' : ` ${round(rate)} times as fast as it may`}.`,
      detail: `Over ${worst.long} and ${worst.short}; ${bad} of ${slo.total} ${slo.events} were bad in ${slo.period}, ${round(slo.budgetLeft * 100)} % of the budget is left.`,
      slo: slo.name,
    },
  ];
}

/** Each says what fires of it: nothing, one, or one per subject. Thresholds are those of alerts/symptoms.ts. */
const SYMPTOMS: readonly ((seen: Seen) => readonly Bare[])[] = [
  ({ status: { cache } }) => {
    const free = cache.diskBytes === 0 ? 1 : cache.diskFreeBytes / cache.diskBytes;
    if (free >= DISK_FULL) return [];
    return [
      {
        name: 'CooperDiskFull',
        severity: 'critical',
        summary: 'The disk under the build state is full.',
        detail: `${round(free * 100)} % of it is free; builds are about to fail.`,
      },
    ];
  },
  ({ status: { builds } }) => {
    if (builds.oldestQueuedSeconds <= STUCK_SECONDS) return [];
    return [
      {
        name: 'CooperBuildsStuck',
        severity: 'critical',
        summary: 'Builds wait for admission.',
        detail: `The oldest has waited ${Math.round(builds.oldestQueuedSeconds / 60)} minutes; ${builds.queued} wait.`,
      },
    ];
  },
  ({ status: { breakers } }) =>
    breakers
      .filter(({ state }) => state === 'open')
      .map(({ name, detail }) => ({
        name: 'CooperRemoteCacheOutage',
        severity: 'warning',
        summary: `The remote cache ${name} does not answer; builds go on without it.`,
        detail: detail ?? 'Its breaker is open; builds are slower and do not fail.',
      })),
  ({ runs, nowMs }) => {
    const failed = runs.filter(({ ok, at }) => !ok && nowMs - Date.parse(at) < GC_MS);
    if (failed.length === 0) return [];
    return [
      {
        name: 'CooperGcFailing',
        severity: 'warning',
        summary: 'Garbage collection of the build cache fails.',
        detail: `${failed.length} of the runs of the last hour failed: ${failed[0]?.error ?? 'the log says why'}.`,
      },
    ];
  },
  ({ unknownKeys }) => {
    if (unknownKeys === 0) return [];
    return [
      {
        name: 'CooperConfigUnknownKeys',
        severity: 'info',
        summary: 'The configuration holds keys the daemon does not know.',
        detail: `${unknownKeys} of them; the log names each with the nearest real one.`,
      },
    ];
  },
];

const round = (value: number): number => Math.round(value * 10) / 10;
