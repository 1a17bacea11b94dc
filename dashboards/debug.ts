/** For finding out why: steps, phases, cache, calls, disk and the process itself. */
import { DASHBOARD_UIDS } from '../alerts/config.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import type { Dashboard, Panel, Unit } from './grafana.ts';
import { aggregate, quantile, selector, sumIncrease, sumOf, sumRate } from './query.ts';

const series = (
  title: string,
  description: string,
  unit: Unit,
  expr: string,
  legend: string,
  more: Partial<Panel> & { readonly exemplar?: boolean } = {},
): Panel => {
  const { exemplar = false, ...rest } = more;
  return { type: 'timeseries', title, description, unit, targets: [{ expr, legend, exemplar }], width: 8, ...rest };
};

export const DEBUG: Dashboard = {
  uid: DASHBOARD_UIDS.debug,
  title: 'Cooper / Debug',
  description: 'Steps, phases, cache, calls, disk and the process.',
  from: 'now-1h',
  refresh: '30s',
  links: [{ title: 'On-call', uid: DASHBOARD_UIDS.oncall }],
  rows: [
    {
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
          quantile(0.95, catalog.BUILD_DURATION, { phase: 'queue|solve|export', result: 'success' }, '$__rate_interval', 'phase'),
          '{{phase}}',
          { exemplar: true },
        ),
        series(
          'Steps, 95th percentile by kind',
          'Wall time of steps that ran, waiting for a slot excluded.',
          's',
          quantile(0.95, catalog.STEP_DURATION, { outcome: 'executed' }, '$__rate_interval', 'op'),
          '{{op}}',
          { exemplar: true },
        ),
        series(
          'Where step time goes',
          'Seconds per second spent in each phase, over all steps: 2 means two steps are in it at any moment.',
          'short',
          sumOf(catalog.STEP_PHASE_DURATION, {}, 'phase'),
          '{{phase}}',
          { stacked: true },
        ),
        series(
          'Steps by how they were served',
          'Per second. hit_implied: not looked up, because a step above it hit.',
          'ops',
          sumRate(catalog.STEPS, {}, 'cache'),
          '{{cache}}',
          {
            stacked: true,
          },
        ),
        series(
          'Peak memory of RUN steps, 95th percentile',
          "Peak of the step's whole process tree.",
          'bytes',
          quantile(0.95, catalog.STEP_PEAK_MEMORY, {}, '$__rate_interval'),
          'p95',
        ),
        series('Output of steps', 'Bytes per second that RUN steps print.', 'Bps', sumRate(catalog.STEP_LOG_BYTES, {}), 'bytes'),
        series(
          'Warnings',
          'Warnings shown to users, lint findings included.',
          'short',
          sumIncrease(catalog.STEP_WARNINGS, {}, '$__rate_interval'),
          'warnings',
          { bars: true },
        ),
      ],
    },
    {
      title: 'Cache',
      panels: [
        series(
          'Why lookups missed',
          'The reason that the span of a step shows, counted.',
          'ops',
          sumRate(catalog.CACHE_MISSES, {}, 'reason'),
          '{{reason}}',
          { stacked: true },
        ),
        series(
          'Lookups',
          'Where results of cacheable steps were found.',
          'ops',
          sumRate(catalog.CACHE_LOOKUPS, {}, 'result'),
          '{{result}}',
          { stacked: true },
        ),
        series(
          'Cache size by kind',
          'Bytes of records, by the kinds `du` shows.',
          'bytes',
          aggregate('sum', catalog.CACHE_BYTES, {}, 'kind'),
          '{{kind}}',
          { stacked: true },
        ),
        series(
          'Cache limit',
          'Bytes at which the garbage collector removes records; 0 means no limit.',
          'bytes',
          aggregate('sum', catalog.CACHE_LIMIT_BYTES, {}, 'instance'),
          '{{instance}}',
        ),
        series(
          'Records',
          'Records in use by a build, and others.',
          'short',
          aggregate('sum', catalog.CACHE_RECORDS, {}, 'in_use'),
          'in use: {{in_use}}',
          { stacked: true },
        ),
        series(
          'Garbage collection',
          'Runs by trigger and result.',
          'short',
          sumIncrease(catalog.GC_RUNS, {}, '$__rate_interval', 'trigger', 'result'),
          '{{trigger}} {{result}}',
          { bars: true },
        ),
        series(
          'Bytes given back',
          'By garbage collection and prune.',
          'bytes',
          sumIncrease(catalog.GC_FREED_BYTES, {}, '$__rate_interval'),
          'bytes',
          { bars: true },
        ),
        series(
          'Duration of garbage collection',
          'Seconds per second: 1 means it runs all the time.',
          'short',
          sumOf(catalog.GC_DURATION, {}),
          'share of time',
        ),
      ],
    },
    {
      title: 'Calls',
      panels: [
        series(
          'Calls of the build API',
          'Per second and method.',
          'ops',
          `sum by (method) (rate(${selector(catalog.RPC_DURATION, {}, '_count')}[$__rate_interval]))`,
          '{{method}}',
        ),
        series(
          'Calls by status',
          'Per second and gRPC status.',
          'ops',
          `sum by (code) (rate(${selector(catalog.RPC_DURATION, {}, '_count')}[$__rate_interval]))`,
          '{{code}}',
        ),
        series(
          'Call duration, 95th percentile',
          'Session, Status and Solve last as long as their build.',
          's',
          quantile(0.95, catalog.RPC_DURATION, {}, '$__rate_interval', 'method'),
          '{{method}}',
        ),
        series(
          'Registry requests',
          'Per second, by operation and class of answer.',
          'ops',
          sumRate(catalog.REGISTRY_REQUESTS, {}, 'op', 'code_class'),
          '{{op}} {{code_class}}',
        ),
      ],
    },
    {
      title: 'Process',
      panels: [
        series(
          'CPU',
          'Cores the daemon itself uses; RUN steps are not in it.',
          'short',
          sumRate(catalog.PROCESS_CPU, {}, 'instance'),
          '{{instance}}',
        ),
        {
          ...series(
            'Memory',
            'Resident memory and JavaScript heap of the daemon.',
            'bytes',
            aggregate('max', catalog.PROCESS_RSS, {}, 'instance'),
            '{{instance}} resident',
          ),
          targets: [
            { expr: aggregate('max', catalog.PROCESS_RSS, {}, 'instance'), legend: '{{instance}} resident' },
            { expr: aggregate('max', catalog.HEAP_USED, {}, 'instance'), legend: '{{instance}} heap' },
          ],
        },
        series(
          'Event-loop delay',
          'How late timers ran in the last ten seconds.',
          's',
          aggregate('max', catalog.EVENT_LOOP_DELAY, {}, 'stat'),
          '{{stat}}',
        ),
        series(
          'File descriptors',
          'Share of the allowed file descriptors that is open.',
          'percentunit',
          `max by (instance) (${selector(catalog.PROCESS_OPEN_FDS)} / ${selector(catalog.PROCESS_MAX_FDS)})`,
          '{{instance}}',
          { max: 1 },
        ),
        series(
          'Telemetry given up',
          'So that no build had to wait for it.',
          'ops',
          sumRate(catalog.TELEMETRY_DROPPED, {}, 'signal', 'reason'),
          '{{signal}} {{reason}}',
        ),
        series(
          'Batches sent to the collector',
          'Flat at 0 when no collector is configured.',
          'ops',
          sumRate(catalog.TELEMETRY_EXPORTS, {}, 'signal', 'result'),
          '{{signal}} {{result}}',
        ),
        series(
          'Label values folded into `other`',
          'Anything but 0 means the catalogue lacks a value.',
          'short',
          sumIncrease(catalog.LABEL_OVERFLOW, {}, '$__rate_interval', 'reason'),
          '{{reason}}',
        ),
        series(
          'Unknown configuration keys',
          '`cooper config check` names them.',
          'short',
          aggregate('max', catalog.CONFIG_UNKNOWN_KEYS, {}, 'instance'),
          '{{instance}}',
        ),
        {
          type: 'table',
          title: 'Versions',
          description: 'Which version of the daemon runs on which Node.js.',
          unit: 'none',
          targets: [{ expr: `count by (version, node) (${selector(catalog.BUILD_INFO)})`, legend: '{{version}}' }],
          width: 8,
        },
      ],
    },
  ],
};
