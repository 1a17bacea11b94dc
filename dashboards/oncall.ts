/** For whoever was paged: what is wrong, whom it hits, since when, and where to look next. */
import { DASHBOARD_UIDS, SITE } from '../alerts/config.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import * as service from '../src/telemetry/catalog-service.ts';
import { boundOf } from './alert-bounds.ts';
import type { Dashboard, Mapping, Row } from './grafana.ts';
import { queueRow, resourceRow } from './oncall-daemon.ts';
import { aggregate, SCOPED, sumIncrease, sumRate } from './query.ts';
import { budgetPanel, burnPanel, statePanel } from './slo-panels.ts';

const UP: readonly Mapping[] = [
  { value: 0, text: 'down', color: 'red' },
  { value: 1, text: 'up', color: 'green' },
];
const DOWN: readonly Mapping[] = [
  { value: 0, text: 'works', color: 'green' },
  { value: 1, text: 'down', color: 'red' },
];
const BREAKER: readonly Mapping[] = [
  { value: 0, text: 'closed', color: 'green' },
  { value: 1, text: 'half-open', color: 'yellow' },
  { value: 2, text: 'open', color: 'red' },
];

const now: Row = {
  title: 'What is wrong',
  panels: [
    {
      type: 'alertlist',
      title: 'Alerts',
      description:
        'Firing and pending alerts of the builders, worst first. Which of them are silenced or inhibited is shown by Alertmanager: the link Silences above.',
      unit: 'none',
      targets: [],
      width: 8,
      height: 10,
    },
    {
      type: 'state-timeline',
      title: 'Daemons',
      description: 'Whether each daemon answers its metrics port.',
      unit: 'none',
      targets: [{ expr: `min by (instance) (up${SCOPED})`, legend: '{{instance}}' }],
      mappings: UP,
      alerts: ['CooperDaemonDown'],
      width: 8,
      height: 5,
    },
    {
      type: 'state-timeline',
      title: 'Components',
      description:
        'What a daemon depends on, as its own calls see it: remote caches, registries, the collector, the disk, the builder.',
      unit: 'none',
      targets: [
        {
          expr: `max by (component) (${aggregate('max', service.OUTAGE_ACTIVE, {}, 'component')} > bool 0)`,
          legend: '{{component}}',
        },
      ],
      mappings: DOWN,
      alerts: ['CooperOutageLong'],
      width: 8,
      height: 5,
    },
    {
      type: 'state-timeline',
      title: 'Breakers of remote caches',
      description:
        'open: builds go on without that cache, and are slower. Whether that is a ticket or a page depends on whether builds fail meanwhile.',
      unit: 'none',
      targets: [{ expr: aggregate('max', service.BREAKER_STATE, {}, 'backend'), legend: '{{backend}}' }],
      mappings: BREAKER,
      alerts: ['CooperRemoteCacheOutage'],
      width: 8,
      height: 5,
    },
    {
      type: 'stat',
      title: 'Last good canary build',
      description: 'Every daemon builds something small every few minutes. Old: it cannot build, whoever asks.',
      unit: 'dateTimeFromNow',
      targets: [{ expr: `${aggregate('min', service.CANARY_LAST_SUCCESS, {}, 'instance')} * 1000`, legend: '{{instance}}' }],
      emptyUntil: 'a canary build succeeds',
      width: 4,
      height: 5,
    },
    {
      type: 'timeseries',
      title: 'Canary builds',
      description: 'By result; failures here are never the fault of an input.',
      unit: 'short',
      targets: [{ expr: sumIncrease(service.CANARY_BUILDS, {}, '$__rate_interval', 'result'), legend: '{{result}}' }],
      stacked: true,
      bars: true,
      alerts: ['CooperCanaryFailing'],
      width: 4,
      height: 5,
    },
  ],
};

const promised: Row = {
  title: 'What is promised',
  panels: [
    statePanel(12),
    budgetPanel(12),
    burnPanel('build-success', 8),
    burnPanel('build-latency', 8),
    burnPanel('cache-hit', 8),
  ],
};

const refused = 'CooperRegistryErrors';
const failing = sumRate(catalog.REGISTRY_REQUESTS, { code_class: '429|5xx|network' });

const fails: Row = {
  title: 'What fails',
  panels: [
    {
      type: 'timeseries',
      title: 'Builds that did not succeed, by class',
      description: "Class of error as in docs/errors.md. A rise in `failure` alone is somebody's broken input, not an incident.",
      unit: 'short',
      targets: [
        {
          expr: sumIncrease(catalog.BUILDS, { result: '!success' }, '$__rate_interval', 'result', 'error_class'),
          legend: '{{result}}: {{error_class}}',
        },
      ],
      stacked: true,
      bars: true,
      alerts: ['CooperSliAbsent'],
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
          expr: sumRate(catalog.REGISTRY_REQUESTS, { code_class: '429|5xx|network' }, 'code_class'),
          legend: '{{code_class}}',
        },
      ],
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Share of registry requests that failed',
      description: `Above ${boundOf(refused, '>') * 100} % for a while, ${refused} tells.`,
      unit: 'percentunit',
      targets: [{ expr: `${failing} / (${sumRate(catalog.REGISTRY_REQUESTS, {})} > 0)`, legend: 'failed' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: boundOf(refused, '>'), color: 'orange' },
      ],
      thresholdLines: true,
      alerts: [refused],
      emptyUntil: 'a registry is asked',
      width: 6,
    },
    {
      type: 'timeseries',
      title: 'Operations on remote caches that failed',
      description:
        'By backend, operation and result; op="export" is a push. skipped ones were not tried, because the breaker was open.',
      unit: 'short',
      targets: [
        {
          expr: sumIncrease(
            service.REMOTE_OPERATIONS,
            { result: 'error|timeout|denied|corrupt|skipped' },
            '$__rate_interval',
            'backend',
            'op',
            'result',
          ),
          legend: '{{backend}} {{op}} {{result}}',
        },
      ],
      stacked: true,
      bars: true,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Secrets and other uses worth a record',
      description: 'Records of the audit log by type; `cooper audit` names build and secret, never a value.',
      unit: 'short',
      targets: [{ expr: sumIncrease(service.AUDIT_EVENTS, {}, '$__rate_interval', 'type'), legend: '{{type}}' }],
      stacked: true,
      bars: true,
      width: 8,
    },
    {
      type: 'stat',
      title: 'Secrets left behind by steps',
      description: 'Found in the results of steps in the shown range. Each is a secret to replace.',
      unit: 'short',
      decimals: 0,
      targets: [{ expr: sumIncrease(service.SECRET_LEAKS, {}, '$__range'), legend: 'leaks' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: 0.5, color: 'red' },
      ],
      alerts: ['CooperSecretLeak'],
      width: 4,
    },
    {
      type: 'timeseries',
      title: 'Steps killed for lack of memory',
      description:
        'The kernel killed a process of a RUN step: at its own limit (step), or because the machine was full (daemon).',
      unit: 'short',
      targets: [
        {
          expr: sumIncrease(catalog.WORKER_OOM_KILLS, {}, '$__rate_interval', 'instance', 'scope'),
          legend: '{{instance}} {{scope}}',
        },
      ],
      bars: true,
      alerts: ['CooperWorkerOomKills'],
      width: 4,
    },
  ],
};

export const ONCALL: Dashboard = {
  uid: DASHBOARD_UIDS.oncall,
  title: 'Cooper / On-call',
  description: 'The first board of an incident.',
  question: 'What is wrong, whom does it hit, since when, and where do I look next?',
  from: 'now-3h',
  refresh: '30s',
  links: [
    { title: 'SLO detail', uid: DASHBOARD_UIDS.slo },
    { title: 'Debug', uid: DASHBOARD_UIDS.debug },
    { title: 'Executive', uid: DASHBOARD_UIDS.executive },
  ],
  drillDown: DASHBOARD_UIDS.debug,
  rows: [
    now,
    promised,
    fails,
    queueRow,
    resourceRow,
    {
      title: 'Where to read on',
      panels: [
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
