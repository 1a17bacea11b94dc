/**
 * Every metric of the daemon: name, kind, unit, help, closed label sets, buckets and cardinality budget. The instruments
 * (metrics.ts), docs/metrics.md, the SLO specs, the alert rules and the dashboards all read this file; a name that is not here
 * exists nowhere. Bucket edges contain every SLO threshold, or the SLI could not be exact.
 */
import type { BuildResult, CacheLocation, MissReason, OpKind, StepPhase } from '../builder/events.ts';
import { ERROR_KINDS, type ErrorKind, GRPC } from '../core/errors.ts';

import { CICD_METRICS } from './catalog-cicd.ts';
import { REGISTRY_OPS, SERVICE_METRICS } from './catalog-service.ts';
import { SLO_METRICS } from './catalog-slo.ts';
import { listOf } from './closed-sets.ts';
import { declare, type MetricSpec } from './metric-spec.ts';

export type { Labels, LabelsOf, MetricKind, MetricSpec, MetricUnit, Selection } from './metric-spec.ts';

export const BUILD_RESULTS = listOf<BuildResult>()('success', 'failure', 'error', 'timeout', 'cancellation');
export const OP_KINDS = listOf<OpKind>()('source', 'exec', 'file', 'merge', 'diff', 'build', 'passthrough', 'internal', 'export');
export const CACHE_LOCATIONS = listOf<CacheLocation>()('memory', 'local', 'remote');
export const MISS_REASONS = listOf<MissReason>()(
  'never-seen',
  'input-changed',
  'evicted',
  'backend-down',
  'no-cache-asked',
  'unpinned-source',
  'base-image-changed',
  'source-moved',
  'instruction-changed',
  'build-arg-changed',
  'environment-changed',
  'mount-changed',
  'platform-changed',
  'parent-changed',
  'key-format-changed',
);
export const STEP_PHASES = listOf<StepPhase>()(
  'queue',
  'lookup',
  'transfer',
  'pull',
  'unpack',
  'mounts',
  'run',
  'commit',
  'export',
  'push',
);
const KINDS = Object.keys(ERROR_KINDS) as ErrorKind[];
export const ERROR_CLASSES: readonly string[] = ['none', ...KINDS];
export const GRPC_CODES = Object.keys(GRPC);

/** How a step counted against the cache; `hit_implied` is a step that was never looked up because a step above it hit. */
export const STEP_CACHE = ['hit_memory', 'hit_local', 'hit_remote', 'hit_implied', 'miss', 'not_cacheable', 'none'] as const;
export const STEP_OUTCOMES = ['executed', 'failed', 'cancelled'] as const;
export const BUILD_PHASES = ['queue', 'solve', 'export', 'total'] as const;
export const CACHE_KINDS = ['regular', 'internal', 'frontend', 'source.local', 'source.git.checkout', 'exec.cachemount'] as const;
export const PRESSURE_RESOURCES = ['cpu', 'memory', 'io'] as const;
export const CODE_CLASSES = ['2xx', '3xx', '4xx', '429', '5xx', 'network'] as const;
export const TELEMETRY_SIGNALS = ['spans', 'client_spans', 'logs', 'events', 'audit', 'alerts'] as const;
export const DROP_REASONS = ['queue_full', 'export_failed', 'over_limit', 'malformed', 'sink_error', 'disk_error'] as const;

/** Methods of the build API, as `Service/Method`; everything else is `other`. */
export const RPC_METHODS = [
  ...['Solve', 'Status', 'Session', 'ListWorkers', 'Info', 'DiskUsage', 'Prune', 'ListenBuildHistory', 'UpdateBuildHistory'].map(
    (method) => `Control/${method}`,
  ),
  ...['Ping', 'Solve', 'Return', 'ResolveImageConfig', 'ResolveSourceMeta', 'ReadFile', 'ReadDir', 'StatFile', 'Evaluate'].map(
    (method) => `LLBBridge/${method}`,
  ),
  'LLBBridge/Warn',
  'LLBBridge/Inputs',
  'Content/Info',
  'Content/Read',
  'Health/Check',
  'Health/Watch',
  'TraceService/Export',
];

/** Seconds. 600 is the build-latency objective. */
const BUILD_SECONDS = [0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180, 300, 600, 900, 1800, 3600, 7200];
const STEP_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800];
const PHASE_SECONDS = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 5, 10, 30, 60, 300, 900];
const RPC_SECONDS = [0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600];
const MIB = 1024 * 1024;

// ---- builds
export const BUILDS = declare('counter', 'cooper_builds_total', {
  unit: 'count',
  help: "Builds that ended, by result (failure: the user's input; error and timeout: ours) and by class of error.",
  labels: { result: BUILD_RESULTS, error_class: ERROR_CLASSES },
  series: [
    { result: 'success', error_class: 'none' },
    ...KINDS.filter((kind) => ERROR_KINDS[kind].fault === 'user' && kind !== 'cancelled').map((kind) => ({
      result: 'failure',
      error_class: kind,
    })),
    ...KINDS.filter((kind) => ERROR_KINDS[kind].fault !== 'user' && kind !== 'timed-out').map((kind) => ({
      result: 'error',
      error_class: kind,
    })),
    { result: 'timeout', error_class: 'timed-out' },
    { result: 'cancellation', error_class: 'cancelled' },
  ],
  maxSeries: 40,
  example: 'sum by (result, error_class) (increase(cooper_builds_total[1h])) > 0',
});
export const BUILD_DURATION = declare('histogram', 'cooper_build_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of a build and of its phases: queue (accepted to admitted), solve (to the first export step), export, total.',
  labels: { phase: BUILD_PHASES, result: BUILD_RESULTS },
  buckets: BUILD_SECONDS,
  exemplars: true,
  example:
    'histogram_quantile(0.95, sum by (le) (rate(cooper_build_duration_seconds_bucket{phase="total",result="success"}[1h])))',
});
export const BUILDS_IN_FLIGHT = declare('gauge', 'cooper_builds_in_flight', {
  unit: 'count',
  help: 'Builds that were accepted and have not ended.',
  labels: { state: ['queued', 'running'] },
  example: 'sum by (state) (cooper_builds_in_flight)',
});
export const QUEUE_LENGTH = declare('gauge', 'cooper_queue_length', {
  unit: 'count',
  help: 'Builds that wait for admission.',
  labels: {},
  example: 'sum(cooper_queue_length)',
});
export const QUEUE_OLDEST_AGE = declare('gauge', 'cooper_queue_oldest_age_seconds', {
  unit: 'seconds',
  help: 'Age of the build that has waited longest for admission; 0 when none waits.',
  labels: {},
  example: 'max(cooper_queue_oldest_age_seconds)',
});

// ---- steps and cache
export const STEPS = declare('counter', 'cooper_steps_total', {
  unit: 'count',
  help: 'Steps that ended, per build that wanted them, by how they counted against the cache. The hit ratio is hit_* over hit_* and miss.',
  labels: { kind: OP_KINDS, cache: STEP_CACHE },
  example: 'sum(increase(cooper_steps_total{cache=~"hit_.*"}[1h])) / sum(increase(cooper_steps_total{cache=~"hit_.*|miss"}[1h]))',
});
export const STEP_DURATION = declare('histogram', 'cooper_step_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of one step that ran, waiting for a slot excluded.',
  labels: { op: OP_KINDS, outcome: STEP_OUTCOMES },
  buckets: STEP_SECONDS,
  exemplars: true,
  example: 'histogram_quantile(0.95, sum by (le, op) (rate(cooper_step_duration_seconds_bucket{outcome="executed"}[1h])))',
});
export const STEP_PHASE_DURATION = declare('histogram', 'cooper_step_phase_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of one phase inside a step; queue is the wait for a slot.',
  labels: { phase: STEP_PHASES },
  buckets: PHASE_SECONDS,
  exemplars: true,
  example: 'sum by (phase) (rate(cooper_step_phase_duration_seconds_sum[5m]))',
});
export const CACHE_LOOKUPS = declare('counter', 'cooper_cache_lookups_total', {
  unit: 'count',
  help: 'Cache lookups of cacheable steps, counted at the lookup, by where the result was found.',
  labels: { result: ['hit_memory', 'hit_local', 'hit_remote', 'miss'] },
  example: 'sum by (result) (rate(cooper_cache_lookups_total[5m]))',
});
export const CACHE_MISSES = declare('counter', 'cooper_cache_misses_total', {
  unit: 'count',
  help: 'Cache lookups of cacheable steps that found nothing, by the first true cause; `cooper explain` and the span of a step show the same.',
  labels: { reason: MISS_REASONS },
  example: 'topk(3, sum by (reason) (increase(cooper_cache_misses_total[1h])))',
});
export const CACHE_SAVED = declare('counter', 'cooper_cache_saved_seconds_total', {
  unit: 'seconds',
  help: 'Execution time that cache hits of cacheable steps saved: of each, how long the run took whose result was used.',
  labels: { location: ['memory', 'local', 'remote', 'implied'] },
  example: 'sum by (location) (increase(cooper_cache_saved_seconds_total[1d]))',
});
export const STEP_CPU = declare('counter', 'cooper_step_cpu_seconds_total', {
  unit: 'seconds',
  help: 'CPU time that processes of RUN steps have used; grows while a step runs.',
  labels: {},
  example: 'sum(rate(cooper_step_cpu_seconds_total[5m]))',
});
export const STEP_CPU_THROTTLED = declare('counter', 'cooper_step_cpu_throttled_seconds_total', {
  unit: 'seconds',
  help: 'Time that processes of RUN steps were held back by a CPU limit.',
  labels: {},
  example: 'sum(rate(cooper_step_cpu_throttled_seconds_total[5m]))',
});
export const STEP_IO_BYTES = declare('counter', 'cooper_step_io_bytes_total', {
  unit: 'bytes',
  help: 'Bytes that RUN steps read from and wrote to disks; grows while a step runs.',
  labels: { direction: ['read', 'write'] },
  example: 'sum by (direction) (rate(cooper_step_io_bytes_total[5m]))',
});
export const STEP_PRESSURE = declare('counter', 'cooper_step_pressure_seconds_total', {
  unit: 'seconds',
  help: 'Time in which some, or all, processes of a finished RUN step waited for the resource (kernel pressure stall information).',
  labels: { resource: PRESSURE_RESOURCES, kind: ['some', 'full'] },
  example: 'sum by (resource, kind) (rate(cooper_step_pressure_seconds_total[5m]))',
});
export const RUNNING_MEMORY = declare('gauge', 'cooper_running_steps_memory_bytes', {
  unit: 'bytes',
  help: 'Memory that the RUN steps now running hold together; sampled about once a second, steps below a second left out.',
  labels: {},
  example: 'sum(cooper_running_steps_memory_bytes)',
});
export const RUNNING_PROCESSES = declare('gauge', 'cooper_running_steps_processes', {
  unit: 'count',
  help: 'Processes of the RUN steps now running.',
  labels: {},
  example: 'sum(cooper_running_steps_processes)',
});
export const RUNNING_MEMORY_OF_LIMIT = declare('gauge', 'cooper_running_steps_memory_limit_used_ratio', {
  unit: 'ratio',
  help: 'Memory of the running RUN step that is nearest to its own limit, as a share of the limit; 0 when none has a limit.',
  labels: {},
  example: 'max(cooper_running_steps_memory_limit_used_ratio)',
});
export const RUNNING_PRESSURE = declare('gauge', 'cooper_running_steps_pressure_ratio', {
  unit: 'ratio',
  help: 'Share of the last 10 s in which some, or all, processes of the worst running RUN step waited for the resource.',
  labels: { resource: PRESSURE_RESOURCES, kind: ['some', 'full'] },
  example: 'max by (resource) (cooper_running_steps_pressure_ratio{kind="full"})',
});
export const STEP_PEAK_MEMORY = declare('histogram', 'cooper_step_peak_memory_bytes', {
  unit: 'bytes',
  help: 'Peak memory of one RUN step.',
  labels: {},
  buckets: [16, 64, 256, 512, 1024, 2048, 4096, 8192, 16_384].map((mib) => mib * MIB),
  example: 'histogram_quantile(0.95, sum by (le) (rate(cooper_step_peak_memory_bytes_bucket[1h])))',
});
export const STEP_LOG_BYTES = declare('counter', 'cooper_step_log_bytes_total', {
  unit: 'bytes',
  help: 'Output of RUN steps.',
  labels: {},
  example: 'sum(rate(cooper_step_log_bytes_total[5m]))',
});
export const STEP_LOG_CLIPPED_BYTES = declare('counter', 'cooper_step_log_clipped_bytes_total', {
  unit: 'bytes',
  help: 'Output of RUN steps that was not kept because its build had reached cooper.log.max-build-bytes.',
  labels: {},
  example: 'sum(increase(cooper_step_log_clipped_bytes_total[1d])) > 0',
});
export const STEPS_IN_FLIGHT = declare('gauge', 'cooper_steps_in_flight', {
  unit: 'count',
  help: 'Steps that run now, each counted once however many builds wait for it.',
  labels: {},
  example: 'sum(cooper_steps_in_flight)',
});
export const STEPS_SHARED = declare('counter', 'cooper_steps_shared_total', {
  unit: 'count',
  help: 'Steps a build did not have to run because another build was running the same step at that moment.',
  labels: {},
  example: 'sum(increase(cooper_steps_shared_total[1h]))',
});
export const STEP_WARNINGS = declare('counter', 'cooper_step_warnings_total', {
  unit: 'count',
  help: 'Warnings shown to users, lint findings included.',
  labels: {},
  example: 'sum(increase(cooper_step_warnings_total[1d]))',
});

// ---- worker
export const WORKER_SLOTS = declare('gauge', 'cooper_worker_slots', {
  unit: 'count',
  help: 'Slots for RUN steps: busy ones, free ones, and steps that wait for one.',
  labels: { state: ['busy', 'free', 'waiting'] },
  example: 'sum(cooper_worker_slots{state="busy"}) / sum(cooper_worker_slots{state=~"busy|free"})',
});
export const WORKER_OOM_KILLS = declare('counter', 'cooper_worker_oom_kills_total', {
  unit: 'count',
  help: "RUN steps in which the kernel killed a process for lack of memory: at the step's own limit, or because the daemon's or the machine's was used up.",
  labels: { scope: ['step', 'daemon'] },
  example: 'sum by (scope) (increase(cooper_worker_oom_kills_total[1h]))',
});

// ---- disk
export const CACHE_BYTES = declare('gauge', 'cooper_cache_bytes', {
  unit: 'bytes',
  help: 'Bytes held by cache records, by kind of record (the kinds of `du`).',
  labels: { kind: CACHE_KINDS },
  example: 'sum by (kind) (cooper_cache_bytes)',
});
export const CACHE_LIMIT_BYTES = declare('gauge', 'cooper_cache_limit_bytes', {
  unit: 'bytes',
  help: 'Bytes the cache may hold before the garbage collector removes records; 0 when there is no limit.',
  labels: {},
  example: 'sum(cooper_cache_bytes) / sum(cooper_cache_limit_bytes > 0)',
});
export const CACHE_RECORDS = declare('gauge', 'cooper_cache_records', {
  unit: 'count',
  help: 'Cache records, by whether something uses them now.',
  labels: { in_use: ['true', 'false'] },
  example: 'sum by (in_use) (cooper_cache_records)',
});
export const DISK_FREE_BYTES = declare('gauge', 'cooper_disk_free_bytes', {
  unit: 'bytes',
  help: 'Bytes that the file system of the state directory still has for us.',
  labels: {},
  example: 'min(cooper_disk_free_bytes)',
});
export const DISK_SIZE_BYTES = declare('gauge', 'cooper_disk_size_bytes', {
  unit: 'bytes',
  help: 'Size of the file system of the state directory.',
  labels: {},
  example: 'min(cooper_disk_free_bytes / cooper_disk_size_bytes)',
});
export const GC_RUNS = declare('counter', 'cooper_gc_runs_total', {
  unit: 'count',
  help: 'Runs of the garbage collector and of prune, by what started them and how they ended.',
  labels: { trigger: ['schedule', 'prune', 'pressure'], result: ['ok', 'error'] },
  example: 'sum by (trigger, result) (increase(cooper_gc_runs_total[1d]))',
});
export const GC_FREED_BYTES = declare('counter', 'cooper_gc_freed_bytes_total', {
  unit: 'bytes',
  help: 'Bytes that garbage collection and prune gave back.',
  labels: {},
  example: 'sum(increase(cooper_gc_freed_bytes_total[1d]))',
});
export const GC_DURATION = declare('histogram', 'cooper_gc_duration_seconds', {
  unit: 'seconds',
  help: 'Wall time of one run of the garbage collector.',
  labels: {},
  buckets: [0.01, 0.1, 1, 5, 30, 120, 600],
  example: 'histogram_quantile(0.95, sum by (le) (rate(cooper_gc_duration_seconds_bucket[1d])))',
});
export const GC_REGRET = declare('counter', 'cooper_gc_regret_total', {
  unit: 'count',
  help: 'Look-ups that missed a result which garbage collection had removed within the last 24 hours: the cache is too small.',
  labels: {},
  example: 'sum(increase(cooper_gc_regret_total[1d]))',
});

// ---- edges (remote caches, breakers, certificates and the rest of M4-M10: catalog-service.ts)
export const REGISTRY_REQUESTS = declare('counter', 'cooper_registry_requests_total', {
  unit: 'count',
  help: 'Requests to registries, by operation and class of answer; network is no answer at all.',
  labels: { op: REGISTRY_OPS, code_class: CODE_CLASSES },
  example: 'sum by (code_class) (rate(cooper_registry_requests_total{code_class=~"429|5xx|network"}[5m]))',
});
export const RPC_DURATION = declare('histogram', 'cooper_rpc_duration_seconds', {
  unit: 'seconds',
  help: 'Duration of calls of the build API, by method and gRPC status; Session and Status last as long as their build.',
  labels: { method: RPC_METHODS, code: GRPC_CODES },
  series: RPC_METHODS.map((method) => ({ method, code: 'OK' })),
  maxSeries: 160,
  buckets: RPC_SECONDS,
  exemplars: true,
  example: 'sum by (method, code) (rate(cooper_rpc_duration_seconds_count{code!="OK"}[5m])) > 0',
});
export const SESSIONS_ACTIVE = declare('gauge', 'cooper_sessions_active', {
  unit: 'count',
  help: 'Client sessions open now.',
  labels: {},
  example: 'sum(cooper_sessions_active)',
});
export const SESSIONS = declare('counter', 'cooper_sessions_total', {
  unit: 'count',
  help: 'Client sessions that ended: closed by the client, or lost with its connection.',
  labels: { end: ['closed', 'lost'] },
  example: 'sum by (end) (increase(cooper_sessions_total[1h]))',
});

// ---- the daemon itself
export const BUILD_INFO = declare('gauge', 'cooper_build_info', {
  unit: 'info',
  help: 'Always 1; the labels say which version of the daemon runs on which Node.js.',
  labels: { version: [], node: [] },
  series: [],
  maxSeries: 1,
  example: 'count by (version) (cooper_build_info)',
});
export const CONFIG_UNKNOWN_KEYS = declare('gauge', 'cooper_config_unknown_keys', {
  unit: 'count',
  help: 'Keys of the configuration file that mean nothing to this daemon.',
  labels: {},
  example: 'max(cooper_config_unknown_keys)',
});
export const EVENT_LOOP_DELAY = declare('gauge', 'cooper_event_loop_delay_seconds', {
  unit: 'seconds',
  help: 'How late the control loop ran its timers in the last complete interval of 10 s.',
  labels: { stat: ['p50', 'p99', 'max'] },
  example: 'max(cooper_event_loop_delay_seconds{stat="p99"})',
});
export const TELEMETRY_DROPPED = declare('counter', 'cooper_telemetry_dropped_total', {
  unit: 'count',
  help: 'Telemetry given up so that no build had to wait for it.',
  labels: { signal: TELEMETRY_SIGNALS, reason: DROP_REASONS },
  example: 'sum by (signal, reason) (increase(cooper_telemetry_dropped_total[1h])) > 0',
});
export const TELEMETRY_EXPORTS = declare('counter', 'cooper_telemetry_exports_total', {
  unit: 'count',
  help: 'Batches sent to the OpenTelemetry collector, and alerts sent to the receivers of cooper.alerts.',
  labels: { signal: ['spans', 'client_spans', 'alerts'], result: ['ok', 'error'] },
  example: 'sum by (result) (rate(cooper_telemetry_exports_total[5m]))',
});
export const LABEL_OVERFLOW = declare('counter', 'cooper_metric_label_overflow_total', {
  unit: 'count',
  help: 'Observations folded into the label value `other`: the value was unknown, or the metric had spent its series budget.',
  labels: { reason: ['unknown_value', 'budget'] },
  example: 'sum by (reason) (increase(cooper_metric_label_overflow_total[1d]))',
});
export const PROCESS_CPU = declare('counter', 'process_cpu_seconds_total', {
  unit: 'seconds',
  help: 'CPU time of the daemon, user and system.',
  labels: {},
  example: 'sum(rate(process_cpu_seconds_total{job="cooper"}[5m]))',
});
export const PROCESS_RSS = declare('gauge', 'process_resident_memory_bytes', {
  unit: 'bytes',
  help: 'Resident memory of the daemon.',
  labels: {},
  example: 'max(process_resident_memory_bytes{job="cooper"})',
});
export const PROCESS_START = declare('gauge', 'process_start_time_seconds', {
  unit: 'timestamp',
  help: 'When the daemon started, seconds since the Unix epoch.',
  labels: {},
  example: 'time() - max(process_start_time_seconds{job="cooper"})',
});
export const PROCESS_OPEN_FDS = declare('gauge', 'process_open_fds', {
  unit: 'count',
  help: 'File descriptors the daemon has open.',
  labels: {},
  example: 'max(process_open_fds{job="cooper"} / process_max_fds{job="cooper"})',
});
export const PROCESS_MAX_FDS = declare('gauge', 'process_max_fds', {
  unit: 'count',
  help: 'File descriptors the daemon may open.',
  labels: {},
  example: 'min(process_max_fds{job="cooper"})',
});
export const HEAP_USED = declare('gauge', 'nodejs_heap_size_used_bytes', {
  unit: 'bytes',
  help: 'JavaScript heap in use.',
  labels: {},
  example: 'max(nodejs_heap_size_used_bytes{job="cooper"})',
});

// ---- aliases: the three metrics of the upstream daemon, so that boards made for it keep working
export const ALIAS_BUILDS = declare('counter', 'buildkit_builds_total', {
  unit: 'count',
  help: 'Alias of the upstream daemon: builds that ended; error_code is the gRPC status and empty on success.',
  labels: { status: ['success', 'failure'], error_code: ['', ...GRPC_CODES.map(goCodeName)] },
  series: [
    { status: 'success', error_code: '' },
    { status: 'failure', error_code: 'Unknown' },
    { status: 'failure', error_code: 'Canceled' },
  ],
  maxSeries: 20,
  example: 'sum by (status) (rate(buildkit_builds_total[5m]))',
});
export const ALIAS_STEPS = declare('counter', 'buildkit_builds_steps_total', {
  unit: 'count',
  help: 'Alias of the upstream daemon: steps of ended builds, internal ones included, and warnings.',
  labels: { kind: ['completed', 'cached', 'total', 'warnings'] },
  example: 'sum by (kind) (rate(buildkit_builds_steps_total[5m]))',
});
export const ALIAS_DURATION = declare('histogram', 'buildkit_build_duration_seconds', {
  unit: 'seconds',
  help: 'Alias of the upstream daemon: duration of ended builds (there an exponential histogram, here with fixed buckets).',
  labels: { status: ['success', 'failure'] },
  buckets: BUILD_SECONDS,
  exemplars: true,
  example: 'histogram_quantile(0.5, sum by (le) (rate(buildkit_build_duration_seconds_bucket[1h])))',
});

/** `INVALID_ARGUMENT` as Go prints it: `InvalidArgument`; CANCELLED has one l there. */
export function goCodeName(code: string): string {
  if (code === 'OK') return code;
  if (code === 'CANCELLED') return 'Canceled';
  return code.toLowerCase().replace(/(^|_)([a-z])/g, (_, __, letter: string) => letter.toUpperCase());
}

/** Everything above, in the order of the documentation. */
export const CATALOG: readonly MetricSpec[] = [
  BUILDS,
  BUILD_DURATION,
  BUILDS_IN_FLIGHT,
  QUEUE_LENGTH,
  QUEUE_OLDEST_AGE,
  STEPS,
  STEP_DURATION,
  STEP_PHASE_DURATION,
  CACHE_LOOKUPS,
  CACHE_MISSES,
  CACHE_SAVED,
  STEP_CPU,
  STEP_CPU_THROTTLED,
  STEP_IO_BYTES,
  STEP_PRESSURE,
  STEP_PEAK_MEMORY,
  RUNNING_MEMORY,
  RUNNING_PROCESSES,
  RUNNING_MEMORY_OF_LIMIT,
  RUNNING_PRESSURE,
  STEP_LOG_BYTES,
  STEP_LOG_CLIPPED_BYTES,
  STEPS_IN_FLIGHT,
  STEPS_SHARED,
  STEP_WARNINGS,
  WORKER_SLOTS,
  WORKER_OOM_KILLS,
  CACHE_BYTES,
  CACHE_LIMIT_BYTES,
  CACHE_RECORDS,
  DISK_FREE_BYTES,
  DISK_SIZE_BYTES,
  GC_RUNS,
  GC_FREED_BYTES,
  GC_DURATION,
  GC_REGRET,
  REGISTRY_REQUESTS,
  RPC_DURATION,
  SESSIONS_ACTIVE,
  SESSIONS,
  ...SERVICE_METRICS,
  BUILD_INFO,
  CONFIG_UNKNOWN_KEYS,
  EVENT_LOOP_DELAY,
  TELEMETRY_DROPPED,
  TELEMETRY_EXPORTS,
  LABEL_OVERFLOW,
  PROCESS_CPU,
  PROCESS_RSS,
  PROCESS_START,
  PROCESS_OPEN_FDS,
  PROCESS_MAX_FDS,
  HEAP_USED,
  ...SLO_METRICS,
  ALIAS_BUILDS,
  ALIAS_STEPS,
  ALIAS_DURATION,
  ...CICD_METRICS,
];

/** Lines a scrape may have at most when every metric has spent its budget; a test compares. */
export const MAX_SCRAPE_LINES = 12_000;
