/** For whoever was paged: what is wrong, whom it hits, since when, and where to look next. */
import { DASHBOARD_UIDS, SITE } from '../alerts/config.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import type { Dashboard } from './grafana.ts';
import { aggregate, selector, sumIncrease, sumRate } from './query.ts';
import { budgetPanel, burnPanel, statePanel } from './slo-panels.ts';

/** The event-loop budget: p99 below 50 ms with a hundred builds in flight. */
const EVENT_LOOP_BUDGET_S = 0.05;

export const ONCALL: Dashboard = {
  uid: DASHBOARD_UIDS.oncall,
  title: 'Cooper / On-call',
  description: 'The first board of an incident.',
  from: 'now-3h',
  refresh: '30s',
  links: [
    { title: 'Debug', uid: DASHBOARD_UIDS.debug },
    { title: 'Executive', uid: DASHBOARD_UIDS.executive },
  ],
  rows: [
    {
      title: 'What is promised',
      panels: [
        statePanel(12),
        budgetPanel(12),
        burnPanel('build-success', 8),
        burnPanel('build-latency', 8),
        burnPanel('cache-hit', 8),
      ],
    },
    {
      title: 'What fails',
      panels: [
        {
          type: 'timeseries',
          title: 'Builds that did not succeed, by class',
          description:
            "Class of error as in docs/errors.md. A rise in `failure` alone is somebody's broken input, not an incident.",
          unit: 'short',
          targets: [
            {
              expr: sumIncrease(catalog.BUILDS, { result: '!success' }, '$__rate_interval', 'result', 'error_class'),
              legend: '{{result}}: {{error_class}}',
            },
          ],
          stacked: true,
          bars: true,
          width: 12,
        },
        {
          type: 'timeseries',
          title: 'Registry requests that failed',
          description:
            'Answers 429 and 5xx, and no answer at all (network), per second. 404 is how registries say "not here" and is left out.',
          unit: 'ops',
          targets: [
            {
              expr: sumRate(catalog.REGISTRY_REQUESTS, { code_class: '429|5xx|network' }, 'op', 'code_class'),
              legend: '{{op}} {{code_class}}',
            },
          ],
          width: 6,
        },
        {
          type: 'timeseries',
          title: 'Steps killed for lack of memory',
          description: 'The kernel killed a process of a RUN step.',
          unit: 'short',
          targets: [{ expr: sumIncrease(catalog.WORKER_OOM_KILLS, {}, '$__rate_interval', 'instance'), legend: '{{instance}}' }],
          bars: true,
          width: 6,
        },
      ],
    },
    {
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
          description: 'Above ten minutes with no build ending, CooperBuildsStuck pages.',
          unit: 's',
          targets: [{ expr: aggregate('max', catalog.QUEUE_OLDEST_AGE, {}, 'instance'), legend: '{{instance}}' }],
          thresholds: [
            { value: null, color: 'green' },
            { value: 600, color: 'red' },
          ],
          thresholdLines: true,
          width: 6,
        },
        {
          type: 'timeseries',
          title: 'Worker slots',
          description: 'Steps that run, free slots, and steps that wait for one.',
          unit: 'short',
          targets: [{ expr: aggregate('sum', catalog.WORKER_SLOTS, {}, 'state'), legend: '{{state}}' }],
          width: 6,
        },
        {
          type: 'stat',
          title: 'Worker utilisation',
          description:
            'Busy slots of all slots. 40 to 70 % is healthy: below, machines are paid for nothing; above, steps start to wait.',
          unit: 'percentunit',
          decimals: 0,
          targets: [
            {
              expr: `${aggregate('sum', catalog.WORKER_SLOTS, { state: 'busy' })} / ${aggregate('sum', catalog.WORKER_SLOTS, { state: 'busy|free' })}`,
              legend: 'busy',
            },
          ],
          thresholds: [
            { value: null, color: 'blue' },
            { value: 0.4, color: 'green' },
            { value: 0.7, color: 'orange' },
          ],
          width: 6,
        },
      ],
    },
    {
      title: 'The daemon',
      panels: [
        {
          type: 'timeseries',
          title: 'Disk left',
          description: 'Share of the disk under the build state that is free. CooperDiskFull pages below 3 %.',
          unit: 'percentunit',
          targets: [
            {
              expr: `min by (instance) (${selector(catalog.DISK_FREE_BYTES)} / ${selector(catalog.DISK_SIZE_BYTES)})`,
              legend: '{{instance}}',
            },
          ],
          thresholds: [
            { value: null, color: 'red' },
            { value: 0.03, color: 'green' },
          ],
          thresholdLines: true,
          max: 1,
          width: 6,
        },
        {
          type: 'timeseries',
          title: 'Event-loop delay, p99',
          description: 'How late the control loop runs; its budget is 50 ms.',
          unit: 's',
          targets: [{ expr: aggregate('max', catalog.EVENT_LOOP_DELAY, { stat: 'p99' }, 'instance'), legend: '{{instance}}' }],
          thresholds: [
            { value: null, color: 'green' },
            { value: EVENT_LOOP_BUDGET_S, color: 'orange' },
            { value: 0.25, color: 'red' },
          ],
          thresholdLines: true,
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
          width: 6,
        },
        {
          type: 'text',
          title: 'Runbooks',
          description: 'Where every alert leads.',
          unit: 'none',
          targets: [],
          content: `Every alert links to its runbook: [${SITE.runbooksUrl}](${SITE.runbooksUrl}). On the machine: \`cooper slo status\`, \`cooper builds\`, \`cooper trace REF\`.`,
          width: 24,
          height: 3,
        },
      ],
    },
  ],
};
