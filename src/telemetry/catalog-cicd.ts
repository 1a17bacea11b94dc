/**
 * The metrics of the OpenTelemetry CI/CD conventions (semantic conventions 1.44, release candidate), by the names and labels an
 * OpenTelemetry exporter would give them in Prometheus: https://opentelemetry.io/docs/specs/semconv/cicd/cicd-metrics/. They say again
 * what cooper_builds_* say, for boards and tools that know only these; the name of a pipeline is no label, because clients choose it.
 */
import type { BuildResult } from '../builder/events.ts';
import { ERROR_KINDS, type ErrorKind } from '../core/errors.ts';
import { listOf } from './closed-sets.ts';
import { declare, type MetricSpec } from './metric-spec.ts';

const RESULTS = listOf<BuildResult>()('success', 'failure', 'error', 'timeout', 'cancellation');
const STATES = ['pending', 'executing', 'finalizing'] as const;
const KINDS = Object.keys(ERROR_KINDS) as ErrorKind[];

export const CICD_DURATION = declare('histogram', 'cicd_pipeline_run_duration_seconds', {
  unit: 'seconds',
  help: 'cicd.pipeline.run.duration: time a build spent pending (queued), executing (solving) and finalizing (exporting).',
  labels: { cicd_pipeline_run_state: STATES, cicd_pipeline_result: RESULTS },
  buckets: [0.25, 1, 5, 10, 30, 60, 120, 180, 300, 600, 1800, 3600],
  exemplars: true,
  example:
    'histogram_quantile(0.5, sum by (le) (rate(cicd_pipeline_run_duration_seconds_bucket{cicd_pipeline_run_state="executing"}[1h])))',
});
export const CICD_ACTIVE = declare('gauge', 'cicd_pipeline_run_active', {
  unit: 'count',
  help: 'cicd.pipeline.run.active: builds that are pending or executing now.',
  labels: { cicd_pipeline_run_state: ['pending', 'executing'] },
  example: 'sum by (cicd_pipeline_run_state) (cicd_pipeline_run_active)',
});
export const CICD_ERRORS = declare('counter', 'cicd_pipeline_run_errors_total', {
  unit: 'count',
  help: 'cicd.pipeline.run.errors: builds that ended with an error, whoever’s fault, by class.',
  labels: { error_type: KINDS },
  example: 'topk(3, sum by (error_type) (increase(cicd_pipeline_run_errors_total[1h])))',
});
export const CICD_SYSTEM_ERRORS = declare('counter', 'cicd_system_errors_total', {
  unit: 'count',
  help: 'cicd.system.errors: builds that failed through no fault of the user, by class.',
  labels: { cicd_system_component: ['builder'], error_type: KINDS.filter((kind) => ERROR_KINDS[kind].fault !== 'user') },
  example: 'sum by (error_type) (increase(cicd_system_errors_total[1h])) > 0',
});
export const CICD_WORKERS = declare('gauge', 'cicd_worker_count', {
  unit: 'count',
  help: 'cicd.worker.count: slots for RUN steps; this daemon is one worker per slot.',
  labels: { cicd_worker_state: ['available', 'busy', 'offline'] },
  example: 'sum by (cicd_worker_state) (cicd_worker_count)',
});

export const CICD_METRICS: readonly MetricSpec[] = [CICD_DURATION, CICD_ACTIVE, CICD_ERRORS, CICD_SYSTEM_ERRORS, CICD_WORKERS];
