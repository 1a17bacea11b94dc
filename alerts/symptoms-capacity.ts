/** Alerts about size: the disk, the cache and the workers are too small, or larger than needed. */
import { CACHE_LOOKUPS, GC_REGRET, WORKER_SLOTS } from '../src/telemetry/catalog.ts';
import { DISK_FREE_INODES, DISK_INODES, TIME_TO_FULL } from '../src/telemetry/catalog-service.ts';
import { job, type Symptom } from './symptom.ts';

const freeInodes = `min by (instance) (${DISK_FREE_INODES.name}{${job}} / (${DISK_INODES.name}{${job}} > 0))`;
const utilisation = (window: string): string =>
  [
    `sum(avg_over_time(${WORKER_SLOTS.name}{${job},state="busy"}[${window}]))`,
    `/ sum(avg_over_time(${WORKER_SLOTS.name}{${job},state=~"busy|free"}[${window}]))`,
  ].join('\n');

/** Share of slots in use that is neither a queue in waiting nor money for nothing. */
export const UTILISATION_LOW = 0.4;
export const UTILISATION_HIGH = 0.7;

export const CAPACITY_SYMPTOMS: readonly Symptom[] = [
  {
    alert: 'CooperInodesLow',
    expr: `${freeInodes} < 0.02`,
    for: '2m',
    severity: 'critical',
    rootCause: 'capacity',
    summary: 'The disk under the build state has almost no inodes left.',
    description:
      '{{ $labels.instance }} has {{ $value | humanizePercentage }} of its inodes left; builds are about to fail with `exhausted` although there is space.',
  },
  {
    alert: 'CooperInodesLow',
    expr: `(${freeInodes} < 0.1) >= 0.02`,
    for: '15m',
    severity: 'warning',
    rootCause: 'capacity',
    summary: 'The disk under the build state is running out of inodes.',
    description: '{{ $labels.instance }} has {{ $value | humanizePercentage }} of its inodes left.',
  },
  {
    alert: 'CooperDiskForecast',
    expr: `min by (instance) (${TIME_TO_FULL.name}{${job}}) < 3 * 86400`,
    for: '1h',
    severity: 'warning',
    rootCause: 'capacity',
    summary: 'The disk under the build state will be full within three days.',
    description: 'At the growth of the last hours the disk of {{ $labels.instance }} is full in {{ $value | humanizeDuration }}.',
  },
  {
    alert: 'CooperCacheTooSmall',
    expr: [
      `sum by (instance) (increase(${GC_REGRET.name}{${job}}[6h]))`,
      `/ sum by (instance) (increase(${CACHE_LOOKUPS.name}{${job}}[6h])) > 0.05`,
      `and sum by (instance) (increase(${GC_REGRET.name}{${job}}[6h])) > 19.5`,
    ].join('\n'),
    for: '15m',
    severity: 'warning',
    rootCause: 'capacity',
    board: 'debug',
    summary: 'Garbage collection removes what builds still need.',
    description:
      '{{ $value | humanizePercentage }} of the cache look-ups of the last 6 hours on {{ $labels.instance }} missed a result that was removed less than a day before.',
  },
  {
    alert: 'CooperWorkersSaturated',
    expr: `${utilisation('1h')} > ${UTILISATION_HIGH}`,
    for: '15m',
    severity: 'warning',
    rootCause: 'capacity',
    summary: 'The workers are busier than leaves room for a burst.',
    description: `{{ $value | humanizePercentage }} of all slots for RUN steps were busy in the last hour; above ${UTILISATION_HIGH * 100} % a burst means a queue.`,
  },
  {
    alert: 'CooperWorkersIdle',
    expr: `${utilisation('1d')} < ${UTILISATION_LOW}`,
    for: '6h',
    severity: 'info',
    rootCause: 'capacity',
    summary: 'There are more workers than the builds of a day use.',
    description: `{{ $value | humanizePercentage }} of all slots for RUN steps were busy in the last day; below ${UTILISATION_LOW * 100} % there is room to give some up.`,
  },
];
