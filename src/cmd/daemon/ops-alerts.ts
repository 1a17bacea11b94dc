/**
 * What fires, judged without Prometheus: the burning objectives, and what the daemon sees of itself. The names are those of the rules,
 * so the runbooks are the same; rules that look at a history (a disk that fills, registries) are left to Prometheus.
 */
import type { SloReport, SloStatus } from '../../slo/report.ts';
import type { Alert, Status } from '../../web/api/model.ts';

const DISK_FULL = 0.03;
const STUCK_SECONDS = 600;

type Bare = Omit<Alert, 'runbook'>;
export interface Seen {
  readonly report: SloReport;
  /** Alert name by objective. */
  readonly alertNames: ReadonlyMap<string, string>;
  readonly status: Pick<Status, 'builds' | 'cache' | 'breakers'>;
  readonly unknownKeys: number;
}

/** Worst first. */
export function firingOf({ report, alertNames, status, unknownKeys }: Seen): Bare[] {
  return [...report.objectives.flatMap((slo) => burning(slo, alertNames.get(slo.name))), ...symptoms(status, unknownKeys)].sort(
    (a, b) => rankOf(a.severity) - rankOf(b.severity),
  );
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

function symptoms({ builds, cache, breakers }: Seen['status'], unknownKeys: number): Bare[] {
  const free = cache.diskBytes === 0 ? 1 : cache.diskFreeBytes / cache.diskBytes;
  const open = breakers.filter(({ state }) => state === 'open');
  return [
    ...(free < DISK_FULL
      ? [
          {
            name: 'CooperDiskFull',
            severity: 'critical',
            summary: 'The disk under the build state is full.',
            detail: `${round(free * 100)} % of it is free; builds are about to fail.`,
          },
        ]
      : []),
    ...(builds.oldestQueuedSeconds > STUCK_SECONDS
      ? [
          {
            name: 'CooperBuildsStuck',
            severity: 'critical',
            summary: 'Builds wait for admission.',
            detail: `The oldest has waited ${Math.round(builds.oldestQueuedSeconds / 60)} minutes; ${builds.queued} wait.`,
          },
        ]
      : []),
    ...open.map(({ name, detail }) => ({
      name: 'CooperRemoteCacheDown',
      severity: 'warning',
      summary: `The remote cache ${name} is not used: its breaker is open.`,
      detail: detail ?? 'Builds go on without it, slower.',
    })),
    ...(unknownKeys > 0
      ? [
          {
            name: 'CooperConfigUnknownKeys',
            severity: 'info',
            summary: 'The configuration holds keys the daemon does not know.',
            detail: `${unknownKeys} keys; the log names each with the nearest real one.`,
          },
        ]
      : []),
  ];
}

const round = (value: number): number => Math.round(value * 10) / 10;
