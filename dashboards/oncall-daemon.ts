/** The lower half of the on-call board: what waits, and what a daemon runs out of. */

import { UTILISATION_HIGH, UTILISATION_LOW } from '../alerts/symptoms-capacity.ts';
import { QUEUE_WAIT_SECONDS } from '../src/slo/objectives.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import * as service from '../src/telemetry/catalog-service.ts';
import { boundOf } from './alert-bounds.ts';
import type { Row } from './grafana.ts';
import { aggregate, quantile, selector, sumRate } from './query.ts';

/** The event-loop budget: p99 below 50 ms with a hundred builds in flight. */
const EVENT_LOOP_BUDGET_S = 0.05;
const FULL_BELOW = boundOf('CooperDiskFull', '<');
const STUCK_AFTER_S = boundOf('CooperBuildsStuck', '>');

export const queueRow: Row = {
  title: 'What waits',
  panels: [
    {
      type: 'timeseries',
      title: 'Builds in flight',
      description: 'Builds accepted and not ended.',
      unit: 'short',
      targets: [{ expr: aggregate('sum', catalog.BUILDS_IN_FLIGHT, {}, 'state'), legend: '{{state}}' }],
      stacked: true,
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Oldest build in the queue',
      description: `Above ${STUCK_AFTER_S} s with no build ending, CooperBuildsStuck pages.`,
      unit: 's',
      targets: [{ expr: aggregate('max', catalog.QUEUE_OLDEST_AGE, {}, 'instance'), legend: '{{instance}}' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: STUCK_AFTER_S, color: 'red' },
      ],
      thresholdLines: true,
      alerts: ['CooperBuildsStuck'],
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Wait for admission, 95th percentile',
      description: `The objective queue-wait counts builds that wait no longer than ${QUEUE_WAIT_SECONDS} s.`,
      unit: 's',
      targets: [
        {
          expr: quantile(0.95, catalog.BUILD_DURATION, { phase: 'queue', result: 'success' }),
          legend: 'p95',
          exemplar: true,
        },
      ],
      thresholds: [
        { value: null, color: 'green' },
        { value: QUEUE_WAIT_SECONDS, color: 'red' },
      ],
      thresholdLines: true,
      emptyUntil: 'a build succeeds',
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Worker slots',
      description: 'Steps that run, free slots, and steps that wait for one.',
      unit: 'short',
      targets: [{ expr: aggregate('sum', catalog.WORKER_SLOTS, {}, 'state'), legend: '{{state}}' }],
      alerts: ['CooperWorkersSaturated', 'CooperWorkersIdle'],
      width: 6,
    },
    {
      type: 'stat',
      title: 'Worker utilisation',
      description: `Busy slots of all slots. ${UTILISATION_LOW * 100} to ${UTILISATION_HIGH * 100} % is healthy: below, machines are paid for nothing; above, steps start to wait.`,
      unit: 'percentunit',
      decimals: 0,
      targets: [
        {
          expr: `${aggregate('sum', catalog.WORKER_SLOTS, { state: 'busy' })} / (${aggregate('sum', catalog.WORKER_SLOTS, { state: 'busy|free' })} > 0)`,
          legend: 'busy',
        },
      ],
      thresholds: [
        { value: null, color: 'blue' },
        { value: UTILISATION_LOW, color: 'green' },
        { value: UTILISATION_HIGH, color: 'orange' },
      ],
      width: 6,
      height: 5,
    },
    {
      type: 'timeseries',
      title: 'Memory of running steps',
      description: 'Held by the RUN steps now running, sampled once a second.',
      unit: 'bytes',
      targets: [{ expr: aggregate('sum', catalog.RUNNING_MEMORY, {}, 'instance'), legend: '{{instance}}' }],
      width: 6,
      height: 5,
    },
    {
      type: 'timeseries',
      title: 'Nearest to its memory limit',
      description: 'The running step that is nearest to its own limit; at 100 % the kernel kills it.',
      unit: 'percentunit',
      targets: [{ expr: aggregate('max', catalog.RUNNING_MEMORY_OF_LIMIT, {}, 'instance'), legend: '{{instance}}' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: 1, color: 'red' },
      ],
      thresholdLines: true,
      max: 1,
      width: 6,
      height: 5,
    },
    {
      type: 'timeseries',
      title: 'Pressure on running steps',
      description: 'Share of the last 10 s in which all processes of the worst step waited for the resource.',
      unit: 'percentunit',
      targets: [{ expr: aggregate('max', catalog.RUNNING_PRESSURE, { kind: 'full' }, 'resource'), legend: '{{resource}}' }],
      max: 1,
      width: 6,
      height: 5,
    },
  ],
};

export const resourceRow: Row = {
  title: 'The daemon',
  panels: [
    {
      type: 'timeseries',
      title: 'Disk left',
      description: `Share of the disk under the build state that is free. CooperDiskFull pages below ${FULL_BELOW * 100} %.`,
      unit: 'percentunit',
      targets: [
        {
          expr: `min by (instance) (${selector(catalog.DISK_FREE_BYTES)} / ${selector(catalog.DISK_SIZE_BYTES)})`,
          legend: '{{instance}}',
        },
      ],
      thresholds: [
        { value: null, color: 'red' },
        { value: FULL_BELOW, color: 'green' },
      ],
      thresholdLines: true,
      max: 1,
      alerts: ['CooperDiskFull', 'CooperDiskFilling'],
      width: 6,
    },
    {
      type: 'stat',
      title: 'Disk full in',
      description: 'At the growth of the last hours.',
      unit: 's',
      targets: [{ expr: aggregate('min', service.TIME_TO_FULL, {}, 'instance'), legend: '{{instance}}' }],
      thresholds: [
        { value: null, color: 'red' },
        { value: 4 * 3600, color: 'orange' },
        { value: 24 * 3600, color: 'green' },
      ],
      emptyUntil: 'the disk fills',
      alerts: ['CooperDiskForecast'],
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Inodes left',
      description: 'Share of the inodes of that disk that are free; file systems without such a limit are not shown.',
      unit: 'percentunit',
      targets: [
        {
          expr: `min by (instance) (${selector(service.DISK_FREE_INODES)} / (${selector(service.DISK_INODES)} > 0))`,
          legend: '{{instance}}',
        },
      ],
      max: 1,
      emptyUntil: 'the disk has a limit of inodes',
      alerts: ['CooperInodesLow'],
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Event-loop delay, p99',
      description: `How late the control loop runs; its budget is ${EVENT_LOOP_BUDGET_S * 1000} ms, and the upper line is the alert's.`,
      unit: 's',
      targets: [{ expr: aggregate('max', catalog.EVENT_LOOP_DELAY, { stat: 'p99' }, 'instance'), legend: '{{instance}}' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: EVENT_LOOP_BUDGET_S, color: 'orange' },
        { value: boundOf('CooperEventLoopBlocked', '>'), color: 'red' },
      ],
      thresholdLines: true,
      alerts: ['CooperEventLoopBlocked'],
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Client sessions',
      description: 'Open sessions, and sessions per second that were lost with their connection.',
      unit: 'short',
      targets: [
        { expr: aggregate('sum', catalog.SESSIONS_ACTIVE, {}), legend: 'open' },
        { expr: sumRate(catalog.SESSIONS, { end: 'lost' }), legend: 'lost per second' },
      ],
      width: 6,
    },
    {
      type: 'stat',
      title: 'Up since',
      description: 'When each daemon started, and so when its counters began.',
      unit: 'dateTimeFromNow',
      targets: [{ expr: `max by (instance) (${selector(catalog.PROCESS_START)}) * 1000`, legend: '{{instance}}' }],
      width: 12,
      height: 4,
    },
    {
      type: 'stat',
      title: 'Certificates expire',
      description: 'When each certificate the daemon uses ends.',
      unit: 'dateTimeFromNow',
      targets: [
        { expr: `${aggregate('min', service.CERTIFICATE_NOT_AFTER, {}, 'certificate')} * 1000`, legend: '{{certificate}}' },
      ],
      emptyUntil: 'TLS is configured',
      alerts: ['CooperCertificateExpiring'],
      width: 12,
      height: 4,
    },
  ],
};
