/** For finding out why: steps, phases, cache, calls, disk and the process itself. */
import { DASHBOARD_UIDS } from '../alerts/config.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import * as service from '../src/telemetry/catalog-service.ts';
import { cacheRow, collectionRow, remoteRow } from './debug-cache.ts';
import { callsRow, compareRow, processRow, telemetryRow, tracesRow } from './debug-daemon.ts';
import type { Dashboard, Row } from './grafana.ts';
import { aggregate, quantile, quantileOver, selector, sumIncrease, sumOf, sumRate, totalOf } from './query.ts';
import { series } from './series.ts';

const buildsRow: Row = {
  title: 'Builds and steps',
  panels: [
    {
      type: 'heatmap',
      title: 'Build time',
      description: 'Every successful build; the dots lead to its trace.',
      unit: 's',
      targets: [
        {
          expr: `sum by (le) (increase(${selector(catalog.BUILD_DURATION, { phase: 'total', result: 'success' }, '_bucket')}[$__rate_interval]))`,
          legend: '{{le}}',
          exemplar: true,
        },
      ],
      width: 8,
    },
    series(
      'Build phases, 95th percentile',
      'queue: accepted to admitted. solve: to the first export step. export: to the last.',
      's',
      quantile(0.95, catalog.BUILD_DURATION, { phase: 'queue|solve|export', result: 'success' }, 'phase'),
      '{{phase}}',
      { exemplar: true, emptyUntil: 'a build succeeds' },
    ),
    series(
      'Time to the first artifact, 95th percentile',
      'From the trigger when the client named one, else from acceptance, to the first output committed or pushed.',
      's',
      quantile(0.95, service.FIRST_ARTIFACT, {}, 'from'),
      'from {{from}}',
      { exemplar: true, emptyUntil: 'a build has an output' },
    ),
    series(
      'Steps, 95th percentile by kind',
      'Wall time of steps that ran, waiting for a slot excluded.',
      's',
      quantile(0.95, catalog.STEP_DURATION, { outcome: 'executed' }, 'op'),
      '{{op}}',
      { exemplar: true, emptyUntil: 'a step runs' },
    ),
    {
      type: 'table',
      title: 'Where the time of steps went',
      description:
        'By kind of step over the shown range: how many ran, how long altogether, how long the slowest of a hundred took. Single steps are not in metrics: the dots of the panel beside lead to one, `cooper builds` and the page of the daemon name them all.',
      unit: 'none',
      targets: [
        {
          expr: sumIncrease(catalog.STEP_DURATION, { outcome: 'executed' }, '$__range', 'op'),
          legend: '',
          column: { title: 'Steps', unit: 'short', decimals: 0 },
        },
        {
          expr: totalOf(catalog.STEP_DURATION, { outcome: 'executed' }, '$__range', 'op'),
          legend: '',
          column: { title: 'Time altogether', unit: 's' },
        },
        {
          expr: quantileOver(0.99, catalog.STEP_DURATION, { outcome: 'executed' }, '$__range', 'op'),
          legend: '',
          column: { title: '99th percentile', unit: 's' },
        },
      ],
      emptyUntil: 'a step runs',
      width: 8,
    },
    series(
      'Where step time goes',
      'Seconds per second spent in each phase, over all steps: 2 means two steps are in it at any moment.',
      'short',
      sumOf(catalog.STEP_PHASE_DURATION, {}, 'phase'),
      '{{phase}}',
      { stacked: true },
    ),
    series(
      'Context and image transfer, 95th percentile',
      'transfer: files from the client. pull: layers from a registry. unpack: layers to snapshots.',
      's',
      quantile(0.95, catalog.STEP_PHASE_DURATION, { phase: 'transfer|pull|unpack' }, 'phase'),
      '{{phase}}',
      { exemplar: true, emptyUntil: 'a build reads a context or an image' },
    ),
    series(
      'Waits and locks',
      'queue: for a slot. lookup: for the cache. mounts: for cache mounts that another step holds, and others. Seconds per second.',
      'short',
      sumOf(catalog.STEP_PHASE_DURATION, { phase: 'queue|lookup|mounts' }, 'phase'),
      '{{phase}}',
      { stacked: true },
    ),
    {
      ...series('Parallelism', 'Steps that run now.', 'short', aggregate('sum', catalog.STEPS_IN_FLIGHT, {}), 'running'),
      description:
        'Steps that run now, and steps per second that a build did not have to run because another was running the same.',
      targets: [
        { expr: aggregate('sum', catalog.STEPS_IN_FLIGHT, {}), legend: 'running' },
        { expr: sumRate(catalog.STEPS_SHARED, {}), legend: 'shared per second' },
      ],
    },
  ],
};

const resourcesRow: Row = {
  title: 'Resources of RUN steps',
  panels: [
    series(
      'Peak memory, 95th percentile',
      "Peak of the step's whole process tree.",
      'bytes',
      quantile(0.95, catalog.STEP_PEAK_MEMORY, {}),
      'p95',
      { emptyUntil: 'a RUN step has run' },
    ),
    {
      ...series('CPU', '', 'short', sumRate(catalog.STEP_CPU, {}), 'used'),
      description: 'Cores that steps use, and cores they were refused by a CPU limit.',
      targets: [
        { expr: sumRate(catalog.STEP_CPU, {}), legend: 'used' },
        { expr: sumRate(catalog.STEP_CPU_THROTTLED, {}), legend: 'throttled' },
      ],
    },
    series(
      'Disk',
      'Bytes per second that steps read and write.',
      'Bps',
      sumRate(catalog.STEP_IO_BYTES, {}, 'direction'),
      '{{direction}}',
    ),
    series(
      'Pressure',
      'Seconds per second in which processes of steps waited: some of them, or all (full).',
      'short',
      sumRate(catalog.STEP_PRESSURE, {}, 'resource', 'kind'),
      '{{resource}} {{kind}}',
    ),
    series(
      'Processes',
      'Of the steps now running.',
      'short',
      aggregate('sum', catalog.RUNNING_PROCESSES, {}, 'instance'),
      '{{instance}}',
    ),
    {
      ...series('Output', '', 'Bps', sumRate(catalog.STEP_LOG_BYTES, {}), 'printed'),
      description: 'Bytes per second that steps print, and those not kept because their build had printed too much.',
      targets: [
        { expr: sumRate(catalog.STEP_LOG_BYTES, {}), legend: 'printed' },
        { expr: sumRate(catalog.STEP_LOG_CLIPPED_BYTES, {}), legend: 'not kept' },
      ],
    },
    series(
      'Warnings',
      'Warnings shown to users, lint findings included.',
      'short',
      sumIncrease(catalog.STEP_WARNINGS, {}, '$__rate_interval'),
      'warnings',
      { bars: true },
    ),
    series(
      'Reproducibility checks',
      'Sampled rebuilds from nothing, by whether they gave the same digest.',
      'short',
      sumIncrease(service.REPRODUCIBILITY_CHECKS, {}, '$__rate_interval', 'result'),
      '{{result}}',
      { bars: true, stacked: true, alerts: ['CooperBuildNotReproducible'] },
    ),
    series(
      'Canary builds, median',
      'The same build every time: a change is a change of the machine.',
      's',
      quantile(0.5, service.CANARY_DURATION, {}),
      'median',
      { exemplar: true, emptyUntil: 'a canary build ends' },
    ),
  ],
};

export const DEBUG: Dashboard = {
  uid: DASHBOARD_UIDS.debug,
  title: 'Cooper / Debug',
  description: 'Steps, phases, cache, calls, disk and the process.',
  question: 'Why is it slow, why was it not cached, and what does the daemon itself do?',
  from: 'now-1h',
  refresh: '30s',
  links: [
    { title: 'On-call', uid: DASHBOARD_UIDS.oncall },
    { title: 'SLO detail', uid: DASHBOARD_UIDS.slo },
  ],
  drillDown: DASHBOARD_UIDS.debug,
  sources: ['loki', 'tempo'],
  textVariables: [{ name: 'trace', label: 'Trace id', value: '' }],
  labelVariables: [
    {
      name: 'version_a',
      label: 'Compare version',
      query: 'label_values(cooper_build_info{job=~"$job"}, version)',
      value: '',
    },
    { name: 'version_b', label: 'with', query: 'label_values(cooper_build_info{job=~"$job"}, version)', value: '' },
  ],
  rows: [buildsRow, resourcesRow, cacheRow, remoteRow, collectionRow, callsRow, processRow, telemetryRow, compareRow, tracesRow],
};
