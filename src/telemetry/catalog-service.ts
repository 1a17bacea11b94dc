/**
 * The metrics of what surrounds builds: remote caches and their breakers, outages, registries, garbage collection,
 * reproducibility, canary builds, audit. Same rules as catalog.ts, which lists them all; the events behind them are `ServiceEvent` of
 * builder/events.ts where there is one, else the functions of recorders.ts.
 */
import {
  type BreakerState,
  type Component,
  REMOTE_CACHE_BACKENDS,
  type RemoteCacheOp,
  type RemoteCacheResult,
} from '../builder/events.ts';
import { listOf } from './closed-sets.ts';
import { declare, type MetricSpec } from './metric-spec.ts';

export const REMOTE_OPS = listOf<RemoteCacheOp>()('import', 'load', 'upload', 'export', 'probe');
export const REMOTE_RESULTS = listOf<RemoteCacheResult>()('ok', 'miss', 'error', 'timeout', 'denied', 'corrupt', 'skipped');
export const BREAKER_STATES = listOf<BreakerState>()('closed', 'half-open', 'open');
export const COMPONENTS = listOf<Component>()('remote-cache', 'registry', 'collector', 'disk', 'builder');
export const REPRODUCIBILITY_RESULTS = ['same', 'different', 'error', 'skipped'] as const;
export const CANARY_RESULTS = ['success', 'failure', 'error', 'timeout'] as const;
export const REGISTRY_OPS = ['ping', 'token', 'manifest-get', 'manifest-put', 'blob-get', 'blob-head', 'blob-upload'] as const;
/** Registries that say how much of their rate limit is left, or that everybody uses; any other is `other`. */
export const KNOWN_REGISTRIES = [
  'docker.io',
  'ghcr.io',
  'quay.io',
  'public.ecr.aws',
  'mcr.microsoft.com',
  'registry.k8s.io',
] as const;
export const AUDIT_TYPES = [
  ...['secret', 'ssh', 'entitlement', 'secret-leak'],
  ...['prune', 'drain', 'config-reload', 'slo-adjustment', 'history-delete', 'build-cancel', 'build-submit'],
  'denied',
] as const;

// ---- remote caches (M5, M10)
export const REMOTE_OPERATIONS = declare('counter', 'cooper_cache_remote_operations_total', {
  unit: 'count',
  help: 'Operations on remote caches by how they ended; skipped ones were not tried because the breaker was open. The push failure ratio (M5) is op="export" that ended neither ok nor skipped, over op="export".',
  labels: { backend: REMOTE_CACHE_BACKENDS, op: REMOTE_OPS, result: REMOTE_RESULTS },
  example:
    'sum(increase(cooper_cache_remote_operations_total{op="export",result=~"error|timeout|denied|corrupt"}[1h])) / sum(increase(cooper_cache_remote_operations_total{op="export"}[1h]))',
});
export const REMOTE_BYTES = declare('counter', 'cooper_cache_remote_bytes_total', {
  unit: 'bytes',
  help: 'Bytes moved from (import, load) and to (upload, export) remote caches.',
  labels: { backend: REMOTE_CACHE_BACKENDS, op: REMOTE_OPS },
  example: 'sum by (backend, op) (rate(cooper_cache_remote_bytes_total[5m]))',
});
export const REMOTE_DURATION = declare('histogram', 'cooper_cache_remote_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of operations on remote caches, whatever their result; skipped ones are not in it.',
  labels: { backend: REMOTE_CACHE_BACKENDS, op: REMOTE_OPS },
  buckets: [0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  exemplars: true,
  example: 'histogram_quantile(0.95, sum by (le, backend, op) (rate(cooper_cache_remote_duration_seconds_bucket[5m])))',
});
export const BREAKER_STATE = declare('gauge', 'cooper_backend_breaker_state', {
  unit: 'count',
  help: 'State of the breaker in front of a remote cache: 0 closed, 1 half-open, 2 open; the worst one when several caches of that kind are in use.',
  labels: { backend: REMOTE_CACHE_BACKENDS },
  example: 'max by (backend) (cooper_backend_breaker_state) == 2',
});
export const BREAKER_CHANGES = declare('counter', 'cooper_backend_breaker_changes_total', {
  unit: 'count',
  help: 'Changes of breakers in front of remote caches, by the state they went to.',
  labels: { backend: REMOTE_CACHE_BACKENDS, state: BREAKER_STATES },
  example: 'sum by (backend) (increase(cooper_backend_breaker_changes_total{state="open"}[1h]))',
});
export const QUARANTINED = declare('counter', 'cooper_cache_quarantined_total', {
  unit: 'count',
  help: 'Things that did not match their digest and were moved aside, by where they were found; their hits became misses.',
  labels: { origin: ['content', 'snapshot', 'remote-cache'] },
  example: 'sum by (origin) (increase(cooper_cache_quarantined_total[1h])) > 0',
});
export const OUTAGE = declare('histogram', 'cooper_outage_seconds', {
  unit: 'seconds',
  help: 'Length of outages that ended, from the first failure to the next success, by what was down (M10).',
  labels: { component: COMPONENTS },
  buckets: [1, 5, 15, 60, 180, 300, 600, 900, 1800, 3600, 14_400],
  example:
    'sum by (component) (increase(cooper_outage_seconds_bucket{le="900"}[30d])) / sum by (component) (increase(cooper_outage_seconds_count[30d]))',
});
export const OUTAGE_ACTIVE = declare('gauge', 'cooper_outage_active_seconds', {
  unit: 'seconds',
  help: 'For how long a component has been down; 0 while it works.',
  labels: { component: COMPONENTS },
  example: 'max by (component) (cooper_outage_active_seconds) > 900',
});

// ---- what users wait for and trust (M1, M4, M7, M8)
export const FIRST_ARTIFACT = declare('histogram', 'cooper_first_artifact_seconds', {
  unit: 'seconds',
  help: 'Time until the first output of a build was committed or pushed, from its trigger when the client named one, else from acceptance (M4).',
  labels: { from: ['trigger', 'acceptance'] },
  buckets: [1, 5, 10, 30, 60, 120, 180, 300, 600, 900, 1800, 3600],
  exemplars: true,
  example:
    'sum(increase(cooper_first_artifact_seconds_bucket{le="600"}[1d])) / sum(increase(cooper_first_artifact_seconds_count[1d]))',
});
export const REPRODUCIBILITY_CHECKS = declare('counter', 'cooper_reproducibility_checks_total', {
  unit: 'count',
  help: 'Sampled rebuilds from nothing, by whether they gave the same digest (M8).',
  labels: { result: REPRODUCIBILITY_RESULTS },
  example:
    'sum(increase(cooper_reproducibility_checks_total{result="same"}[7d])) / sum(increase(cooper_reproducibility_checks_total{result=~"same|different"}[7d]))',
});
export const CANARY_BUILDS = declare('counter', 'cooper_canary_builds_total', {
  unit: 'count',
  help: 'Synthetic builds of the daemon itself, by result; they keep the success objective alive when nobody builds.',
  labels: { result: CANARY_RESULTS },
  example: 'sum by (result) (increase(cooper_canary_builds_total[1h]))',
});
export const CANARY_DURATION = declare('histogram', 'cooper_canary_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of synthetic builds.',
  labels: {},
  buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
  exemplars: true,
  example: 'histogram_quantile(0.5, sum by (le) (rate(cooper_canary_duration_seconds_bucket[1h])))',
});
export const CANARY_LAST_SUCCESS = declare('gauge', 'cooper_canary_last_success_timestamp_seconds', {
  unit: 'timestamp',
  help: 'When a synthetic build last succeeded, seconds since the Unix epoch; absent until one has.',
  labels: {},
  series: [],
  maxSeries: 1,
  example: 'time() - max(cooper_canary_last_success_timestamp_seconds)',
});
export const AUDIT_EVENTS = declare('counter', 'cooper_audit_events_total', {
  unit: 'count',
  help: 'Records of the audit log: uses of secrets, ssh agents and entitlements, acts of administrators, refused requests (M7).',
  labels: { type: AUDIT_TYPES },
  example: 'sum by (type) (increase(cooper_audit_events_total[1h])) > 0',
});
export const SECRET_LEAKS = declare('counter', 'cooper_secret_leaks_total', {
  unit: 'count',
  help: 'Secrets whose value was found in what a step left behind, one per secret and file; each is a secret to replace (F2).',
  labels: {},
  example: 'increase(cooper_secret_leaks_total[1h]) > 0',
});

// ---- registries
export const REGISTRY_DURATION = declare('histogram', 'cooper_registry_request_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of requests to registries, by operation; the transfer of a blob is part of its request.',
  labels: { op: REGISTRY_OPS },
  buckets: [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120],
  example: 'histogram_quantile(0.95, sum by (le, op) (rate(cooper_registry_request_duration_seconds_bucket[5m])))',
});
export const RATE_LIMIT_REMAINING = declare('gauge', 'cooper_registry_rate_limit_remaining', {
  unit: 'count',
  help: 'Requests a registry still allows, as it said last (`ratelimit-remaining`); absent until it has said so.',
  labels: { registry: KNOWN_REGISTRIES },
  series: [],
  example: 'min by (registry) (cooper_registry_rate_limit_remaining)',
});
export const RATE_LIMIT = declare('gauge', 'cooper_registry_rate_limit', {
  unit: 'count',
  help: 'Requests a registry allows per its window, as it said last (`ratelimit-limit`); absent until it has said so.',
  labels: { registry: KNOWN_REGISTRIES },
  series: [],
  example: 'min by (registry) (cooper_registry_rate_limit_remaining / cooper_registry_rate_limit)',
});

// ---- disk and garbage collection (M9)
export const DISK_FREE_INODES = declare('gauge', 'cooper_disk_free_inodes', {
  unit: 'count',
  help: 'Inodes that the file system of the state directory still has.',
  labels: {},
  example: 'min(cooper_disk_free_inodes)',
});
export const DISK_INODES = declare('gauge', 'cooper_disk_inodes', {
  unit: 'count',
  help: 'Inodes of the file system of the state directory; 0 when it has no such limit.',
  labels: {},
  example: 'min(cooper_disk_free_inodes / (cooper_disk_inodes > 0))',
});
export const TIME_TO_FULL = declare('gauge', 'cooper_disk_time_to_full_seconds', {
  unit: 'seconds',
  help: 'When the disk will be full at the growth of the last hours; absent while it does not grow.',
  labels: {},
  series: [],
  maxSeries: 1,
  example: 'min(cooper_disk_time_to_full_seconds) / 86400',
});
/** Rules of policies (src/builder/gc/policy.ts), with spaces as underscores. */
export const GC_RULES = ['over_limit', 'low_disk', 'above_reserve', 'not_kept'] as const;
export const GC_REMOVED_RECORDS = declare('counter', 'cooper_gc_removed_records_total', {
  unit: 'count',
  help: 'Cache records that garbage collection and prune removed, by what started the run and by the rule they fell under (`gc plan` names the policy too).',
  labels: { trigger: ['schedule', 'prune', 'pressure'], rule: GC_RULES },
  example: 'sum by (trigger) (increase(cooper_gc_removed_records_total[1d]))',
});
export const GC_LAST_EVICTED_AGE = declare('gauge', 'cooper_gc_last_evicted_age_seconds', {
  unit: 'seconds',
  help: 'For how long the record that garbage collection removed last had not been used: how far back the cache reaches. Absent until one was removed.',
  labels: {},
  series: [],
  maxSeries: 1,
  example: 'min(cooper_gc_last_evicted_age_seconds) / 3600',
});
export const GC_LAST_RUN = declare('gauge', 'cooper_gc_last_run_timestamp_seconds', {
  unit: 'timestamp',
  help: 'When garbage collection or prune last ended, seconds since the Unix epoch; absent until one has.',
  labels: {},
  series: [],
  maxSeries: 1,
  example: 'time() - max(cooper_gc_last_run_timestamp_seconds)',
});

export const WARM_TARGETS = declare('counter', 'cooper_cache_warm_targets_total', {
  unit: 'count',
  help: 'Targets that `cooper cache warm` built, by how that ended.',
  labels: { result: ['built', 'failed'] },
  example: 'sum by (result) (increase(cooper_cache_warm_targets_total[1d]))',
});
export const WARM_LAST_RUN = declare('gauge', 'cooper_cache_warm_last_run_timestamp_seconds', {
  unit: 'timestamp',
  help: 'When `cooper cache warm` last ended, seconds since the Unix epoch; absent until it has.',
  labels: {},
  series: [],
  maxSeries: 1,
  example: 'time() - max(cooper_cache_warm_last_run_timestamp_seconds)',
});

// ---- the daemon
export const CERTIFICATE_NOT_AFTER = declare('gauge', 'cooper_tls_certificate_not_after_timestamp_seconds', {
  unit: 'timestamp',
  help: 'When a certificate the daemon uses expires, seconds since the Unix epoch; absent for what uses no TLS.',
  labels: { certificate: ['grpc-server', 'grpc-client-ca', 'ops-server'] },
  series: [],
  example: '(min by (certificate) (cooper_tls_certificate_not_after_timestamp_seconds) - time()) / 86400',
});
export const LOG_RECORDS = declare('counter', 'cooper_log_records_total', {
  unit: 'count',
  help: 'Records of the log of the daemon, by level.',
  labels: { level: ['debug', 'info', 'warn', 'error'] },
  example: 'sum by (level) (increase(cooper_log_records_total{level=~"warn|error"}[1h]))',
});

export const SERVICE_METRICS: readonly MetricSpec[] = [
  REMOTE_OPERATIONS,
  REMOTE_BYTES,
  REMOTE_DURATION,
  BREAKER_STATE,
  BREAKER_CHANGES,
  QUARANTINED,
  OUTAGE,
  OUTAGE_ACTIVE,
  FIRST_ARTIFACT,
  REPRODUCIBILITY_CHECKS,
  CANARY_BUILDS,
  CANARY_DURATION,
  CANARY_LAST_SUCCESS,
  AUDIT_EVENTS,
  SECRET_LEAKS,
  REGISTRY_DURATION,
  RATE_LIMIT_REMAINING,
  RATE_LIMIT,
  DISK_FREE_INODES,
  DISK_INODES,
  TIME_TO_FULL,
  GC_REMOVED_RECORDS,
  GC_LAST_EVICTED_AGE,
  GC_LAST_RUN,
  WARM_TARGETS,
  WARM_LAST_RUN,
  CERTIFICATE_NOT_AFTER,
  LOG_RECORDS,
];
