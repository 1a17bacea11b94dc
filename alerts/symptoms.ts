/**
 * Alerts that no objective expresses: the daemon is away, builds do not move, a resource is about to run out, or something an
 * operator was promised no longer works. Symptoms first; what only explains is `info` and pages nobody.
 */

import type { AlertingRule } from '../src/slo/rules.ts';
import {
  BUILDS,
  CONFIG_UNKNOWN_KEYS,
  DISK_FREE_BYTES,
  DISK_SIZE_BYTES,
  EVENT_LOOP_DELAY,
  GC_RUNS,
  QUEUE_OLDEST_AGE,
  REGISTRY_REQUESTS,
  TELEMETRY_DROPPED,
  WORKER_OOM_KILLS,
} from '../src/telemetry/catalog.ts';
import { BREAKER_STATE, SECRET_LEAKS } from '../src/telemetry/catalog-service.ts';
import { linksOf } from './config.ts';
import { job, type Symptom } from './symptom.ts';
import { CAPACITY_SYMPTOMS } from './symptoms-capacity.ts';
import { TRUST_SYMPTOMS } from './symptoms-trust.ts';

/** A breaker that is open, by daemon and kind of cache, and daemons whose builds fail for reasons of their own meanwhile. */
const cacheIsOut = `max by (instance, backend) (${BREAKER_STATE.name}{${job}}) == 2`;
const buildsFail = `sum by (instance) (increase(${BUILDS.name}{${job},result=~"error|timeout"}[10m])) > 1.5`;

const SYMPTOMS: readonly Symptom[] = [
  {
    alert: 'CooperDaemonDown',
    expr: `up{${job}} == 0 or absent(up{${job}})`,
    for: '3m',
    severity: 'critical',
    rootCause: 'builder',
    summary: 'A build daemon does not answer its metrics port.',
    description:
      '{{ with $labels.instance }}{{ . }}{{ else }}Every daemon of this job{{ end }} has not been scraped for 3 minutes; builds sent there fail to connect.',
  },
  {
    alert: 'CooperBuildsStuck',
    expr: `max(${QUEUE_OLDEST_AGE.name}{${job}}) > 600 and sum(increase(${BUILDS.name}{${job}}[15m])) < 0.5`,
    for: '5m',
    severity: 'critical',
    rootCause: 'builder',
    summary: 'Builds wait for admission and none ends.',
    description: 'The oldest build has waited {{ $value | humanizeDuration }}; no build has ended in 15 minutes.',
  },
  {
    alert: 'CooperDiskFull',
    expr: `min by (instance) (${DISK_FREE_BYTES.name}{${job}} / (${DISK_SIZE_BYTES.name}{${job}} > 0)) < 0.03`,
    for: '2m',
    severity: 'critical',
    rootCause: 'capacity',
    summary: 'The disk under the build state is full.',
    description:
      '{{ $labels.instance }} has {{ $value | humanizePercentage }} of its disk left; builds are about to fail with `exhausted`.',
  },
  {
    alert: 'CooperDiskFilling',
    expr: [
      `min by (instance) (predict_linear(${DISK_FREE_BYTES.name}{${job}}[1h], 4 * 3600)) < 0`,
      `and min by (instance) (${DISK_FREE_BYTES.name}{${job}} / (${DISK_SIZE_BYTES.name}{${job}} > 0)) < 0.25`,
    ].join('\n'),
    for: '15m',
    severity: 'warning',
    rootCause: 'capacity',
    summary: 'The disk under the build state will be full within four hours.',
    description: 'At the pace of the last hour {{ $labels.instance }} runs out of disk within 4 hours.',
  },
  {
    alert: 'CooperEventLoopBlocked',
    expr: `max by (instance) (${EVENT_LOOP_DELAY.name}{${job},stat="p99"}) > 0.25`,
    for: '5m',
    severity: 'warning',
    rootCause: 'builder',
    summary: 'The control loop of a daemon answers late.',
    description:
      'The p99 event-loop delay of {{ $labels.instance }} is {{ $value | humanizeDuration }}; its budget is 50 ms. Progress stutters and calls queue.',
  },
  {
    // The same outage is a ticket while the fallback (building without that cache) works, and a page when builds fail with it.
    alert: 'CooperRemoteCacheOutage',
    expr: `(${cacheIsOut})\nunless on (instance) (${buildsFail})`,
    for: '2m',
    severity: 'warning',
    rootCause: 'cache',
    summary: 'A remote cache does not answer; builds go on without it.',
    description:
      'The breaker in front of the {{ $labels.backend }} cache is open on {{ $labels.instance }}. Builds are slower and do not fail: fix the cache in working hours.',
  },
  {
    alert: 'CooperRemoteCacheOutage',
    expr: `(${cacheIsOut})\nand on (instance) (${buildsFail})`,
    for: '2m',
    severity: 'critical',
    rootCause: 'cache',
    summary: 'A remote cache does not answer, and builds fail.',
    description:
      'The breaker in front of the {{ $labels.backend }} cache is open on {{ $labels.instance }} and builds fail for reasons that are not theirs: the fallback does not carry.',
  },
  {
    alert: 'CooperSecretLeak',
    expr: `sum by (instance) (increase(${SECRET_LEAKS.name}{${job}}[1h])) > 0.5`,
    severity: 'critical',
    rootCause: 'security',
    summary: 'The value of a secret was found in the result of a build step.',
    description:
      '{{ $value | printf "%.0f" }} files with secrets in them on {{ $labels.instance }} in the last hour; `cooper audit --type secret-leak` names build, secret and path. The secret must be replaced.',
  },
  {
    alert: 'CooperWorkerOomKills',
    expr: `sum by (instance) (increase(${WORKER_OOM_KILLS.name}{${job}}[30m])) > 2.5`,
    severity: 'warning',
    rootCause: 'capacity',
    summary: 'Build steps are killed for lack of memory.',
    description: '{{ $value | printf "%.0f" }} steps on {{ $labels.instance }} were killed by the kernel in 30 minutes.',
  },
  {
    alert: 'CooperRegistryErrors',
    expr: [
      `sum(rate(${REGISTRY_REQUESTS.name}{${job},code_class=~"429|5xx|network"}[10m]))`,
      `/ sum(rate(${REGISTRY_REQUESTS.name}{${job}}[10m])) > 0.2`,
      `and sum(increase(${REGISTRY_REQUESTS.name}{${job},code_class=~"429|5xx|network"}[10m])) > 9.5`,
    ].join('\n'),
    for: '5m',
    severity: 'warning',
    rootCause: 'registry',
    summary: 'Registries refuse or do not answer.',
    description: '{{ $value | humanizePercentage }} of registry requests of the last 10 minutes failed (429, 5xx or no answer).',
  },
  {
    alert: 'CooperGcFailing',
    expr: `sum by (instance) (increase(${GC_RUNS.name}{${job},result="error"}[1h])) > 0.5`,
    severity: 'warning',
    rootCause: 'capacity',
    board: 'debug',
    summary: 'Garbage collection of the build cache fails.',
    description:
      '{{ $value | printf "%.0f" }} runs on {{ $labels.instance }} failed in the last hour; the cache grows until the disk is full.',
  },
  {
    alert: 'CooperSliAbsent',
    expr: `count by (instance) (up{${job}} == 1) unless count by (instance) (${BUILDS.name}{${job}})`,
    for: '10m',
    severity: 'warning',
    rootCause: 'telemetry',
    summary: 'A daemon is scraped but reports no build counts.',
    description:
      '{{ $labels.instance }} answers scrapes without cooper_builds_total: every objective over it is blind, not good.',
  },
  {
    alert: 'CooperTelemetryDropping',
    expr: `sum by (instance, signal, reason) (increase(${TELEMETRY_DROPPED.name}{${job},reason!="malformed",signal!="audit"}[15m])) > 0.5`,
    for: '15m',
    severity: 'info',
    rootCause: 'telemetry',
    board: 'debug',
    summary: 'Telemetry is being given up.',
    description:
      '{{ $labels.instance }} dropped {{ $value | printf "%.0f" }} {{ $labels.signal }} in 15 minutes ({{ $labels.reason }}). Builds are not affected.',
  },
  {
    alert: 'CooperConfigUnknownKeys',
    expr: `max by (instance) (${CONFIG_UNKNOWN_KEYS.name}{${job}}) > 0`,
    for: '15m',
    severity: 'info',
    rootCause: 'config',
    board: 'debug',
    summary: 'The configuration file has keys that mean nothing.',
    description:
      '{{ $value }} keys in the configuration of {{ $labels.instance }} are unknown; `cooper config check` names them.',
  },
  ...TRUST_SYMPTOMS,
  ...CAPACITY_SYMPTOMS,
  {
    alert: 'CooperWatchdog',
    expr: 'vector(1)',
    severity: 'none',
    rootCause: 'telemetry',
    summary: 'Always fires: the proof that alerts travel.',
    description: 'A receiver outside this system must hear this all the time and raise an alarm when it stops.',
  },
];

export const SYMPTOM_ALERTS: readonly AlertingRule[] = SYMPTOMS.map((symptom) => ({
  alert: symptom.alert,
  expr: symptom.expr,
  ...(symptom.for !== undefined && { for: symptom.for }),
  labels: { severity: symptom.severity, service: 'cooper', root_cause: symptom.rootCause },
  annotations: { summary: symptom.summary, description: symptom.description, ...linksOf(symptom.alert, symptom.board) },
}));
