/** For people who pay for builds: are they reliable, fast, and worth their money? One week by default. */
import { DASHBOARD_UIDS } from '../alerts/config.ts';
import { BUILD_LATENCY_SECONDS, CACHE_HIT_RATIO, OUTAGE_SECONDS } from '../src/slo/objectives.ts';
import { BUILD_DURATION, BUILDS, CACHE_SAVED, STEP_CPU, STEP_PHASE_DURATION, STEPS } from '../src/telemetry/catalog.ts';
import { OUTAGE, OUTAGE_ACTIVE } from '../src/telemetry/catalog-service.ts';
import type { Dashboard, Panel, Row } from './grafana.ts';
import { aggregate, quantile, quantileOver, sumIncrease, sumRate, totalOf } from './query.ts';
import { achievedPanel, budgetPanel, tablePanel } from './slo-panels.ts';

const FINISHED = { phase: 'total', result: 'success' };
const HITS = 'hit_memory|hit_local|hit_remote|hit_implied';
const ENDED = 'success|failure|error|timeout';

const durationThresholds = [
  { value: null, color: 'green' },
  { value: BUILD_LATENCY_SECONDS, color: 'red' },
] as const;

const durationStat = (title: string, q: number): Panel => ({
  type: 'stat',
  title,
  description: `Over the shown range, successful builds only, waiting included. The objective is ${BUILD_LATENCY_SECONDS} s.`,
  unit: 's',
  targets: [{ expr: quantileOver(q, BUILD_DURATION, FINISHED, '$__range'), legend: title }],
  thresholds: durationThresholds,
  emptyUntil: 'a build succeeds',
  drillDown: DASHBOARD_UIDS.debug,
  width: 4,
  height: 5,
});

const hitRatio = (window: string): string =>
  `${sumIncrease(STEPS, { cache: HITS }, window)} / (${sumIncrease(STEPS, { cache: `${HITS}|miss` }, window)} > 0)`;
const goodBuilds = (window: string): string =>
  `${sumIncrease(BUILDS, { result: 'success|failure' }, window)} / (${sumIncrease(BUILDS, { result: ENDED }, window)} > 0)`;
const builds = (window: string): string => sumIncrease(BUILDS, {}, window);
/** The same question about the range before the shown one. */
const before = (expr: string): string => expr.replaceAll('[$__range]', '[$__range] offset $__range');
/** Change against the range before, in its own unit. */
const change = (expr: string): string => `(${expr}) - (${before(expr)})`;

const NO_PAST = 'there is as much history as the shown range, before it';

const thisWeek: Row = {
  title: 'This week',
  panels: [
    achievedPanel('build-success', 4),
    achievedPanel('build-latency', 4),
    achievedPanel('cache-hit', 4),
    durationStat('Median build', 0.5),
    durationStat('95th percentile build', 0.95),
    {
      type: 'stat',
      title: 'Builds',
      description: 'Builds that ended in the shown range, whatever their result.',
      unit: 'short',
      decimals: 0,
      targets: [{ expr: builds('$__range'), legend: 'builds' }],
      width: 4,
      height: 5,
    },
    tablePanel(24),
  ],
};

/** Less is better for `down`, more for `up`. */
function weekOverWeek(title: string, expr: string, unit: Panel['unit'], better: 'up' | 'down' | 'either'): Panel {
  const [low, high] = better === 'up' ? (['orange', 'green'] as const) : (['green', 'orange'] as const);
  return {
    type: 'stat',
    title: `${title}: change`,
    description: 'Against the range before, as long as the shown one: with seven days shown, week over week.',
    unit,
    decimals: 2,
    targets: [{ expr: change(expr), legend: 'change' }],
    ...(better !== 'either' && {
      thresholds: [
        { value: null, color: low },
        { value: 0, color: high },
      ],
    }),
    emptyUntil: NO_PAST,
    width: 6,
    height: 4,
  };
}

const trends: Row = {
  title: 'Trends',
  panels: [
    weekOverWeek('Good builds', goodBuilds('$__range'), 'percentunit', 'up'),
    weekOverWeek('95th percentile build', quantileOver(0.95, BUILD_DURATION, FINISHED, '$__range'), 's', 'down'),
    weekOverWeek('Cache hit ratio', hitRatio('$__range'), 'percentunit', 'up'),
    weekOverWeek('Builds', builds('$__range'), 'short', 'either'),
    budgetPanel(12),
    {
      type: 'timeseries',
      title: 'Builds by result',
      description: "failure is the input's fault, error and timeout are ours; only those spend the budget.",
      unit: 'short',
      targets: [{ expr: sumIncrease(BUILDS, {}, '$__rate_interval', 'result'), legend: '{{result}}' }],
      stacked: true,
      bars: true,
      width: 12,
    },
    {
      type: 'timeseries',
      title: 'Build time',
      description: 'Median and 95th percentile of successful builds. Dots lead to the trace of one build.',
      unit: 's',
      targets: [
        { expr: quantile(0.5, BUILD_DURATION, FINISHED), legend: 'median', exemplar: true },
        { expr: quantile(0.95, BUILD_DURATION, FINISHED), legend: '95th percentile', exemplar: true },
      ],
      thresholds: durationThresholds,
      thresholdLines: true,
      emptyUntil: 'a build succeeds',
      drillDown: DASHBOARD_UIDS.debug,
      width: 12,
    },
    {
      type: 'timeseries',
      title: 'Cache hit ratio',
      description: `Share of cacheable steps that did not have to run. The objective asks for ${CACHE_HIT_RATIO * 100} % in every five minutes.`,
      unit: 'percentunit',
      targets: [{ expr: hitRatio('$__rate_interval'), legend: 'steps from cache' }],
      thresholds: [
        { value: null, color: 'red' },
        { value: CACHE_HIT_RATIO, color: 'green' },
      ],
      thresholdLines: true,
      max: 1,
      emptyUntil: 'a build has a cacheable step',
      drillDown: DASHBOARD_UIDS.debug,
      width: 12,
    },
  ],
};

const costStat = (title: string, description: string, expr: string, unit: Panel['unit'], more: Partial<Panel> = {}): Panel => ({
  type: 'stat',
  title,
  description,
  unit,
  decimals: 2,
  targets: [{ expr, legend: title }],
  drillDown: DASHBOARD_UIDS.debug,
  width: 4,
  height: 5,
  ...more,
});
const saved = sumIncrease(CACHE_SAVED, {}, '$__range');
const cpu = sumIncrease(STEP_CPU, {}, '$__range');

const cost: Row = {
  title: 'Cost, and what the cache saves',
  panels: [
    costStat(
      'CPU spend',
      'CPU time of RUN steps in the shown range times the price above. An estimate: machines that idle are not in it.',
      `${cpu} / 3600 * $cpu_hour_price`,
      'currencyUSD',
    ),
    costStat(
      'Spend saved by the cache',
      'Run time that cache hits saved, times the CPU that a second of a RUN step used on average in the shown range, times the price.',
      `${saved} * ${cpu} / (${totalOf(STEP_PHASE_DURATION, { phase: 'run' }, '$__range')} > 0) / 3600 * $cpu_hour_price`,
      'currencyUSD',
      { emptyUntil: 'a RUN step has run' },
    ),
    costStat(
      'Time saved by the cache',
      'How long the steps took, when they ran, whose results were used again in the shown range.',
      saved,
      's',
    ),
    costStat(
      'Steps not run',
      'Steps served from cache in the shown range.',
      sumIncrease(STEPS, { cache: HITS }, '$__range'),
      'short',
      {
        decimals: 0,
      },
    ),
    {
      type: 'timeseries',
      title: 'CPU time of steps',
      description: 'CPU seconds per second that RUN steps use: how many cores builds keep busy.',
      unit: 'short',
      targets: [{ expr: sumRate(STEP_CPU, {}), legend: 'cores' }],
      drillDown: DASHBOARD_UIDS.debug,
      width: 8,
      height: 5,
    },
  ],
};

const incidents: Row = {
  title: 'Incidents',
  panels: [
    {
      type: 'table',
      title: 'Outages by component',
      description: `Outages that ended in the shown range: how many, how long they lasted on average (MTTR), the share of them over within ${OUTAGE_SECONDS} s, and how long the present one has lasted.`,
      unit: 'none',
      targets: [
        {
          expr: sumIncrease(OUTAGE, {}, '$__range', 'component'),
          legend: '',
          column: { title: 'Outages', unit: 'short', decimals: 0 },
        },
        {
          expr: `${totalOf(OUTAGE, {}, '$__range', 'component')} / (${sumIncrease(OUTAGE, {}, '$__range', 'component')} > 0)`,
          legend: '',
          column: {
            title: 'Mean time to recovery',
            unit: 's',
            decimals: 0,
            thresholds: [
              { value: null, color: 'green' },
              { value: OUTAGE_SECONDS, color: 'red' },
            ],
          },
        },
        {
          expr: `${sumIncrease(OUTAGE, { le: String(OUTAGE_SECONDS) }, '$__range', 'component')} / (${sumIncrease(OUTAGE, {}, '$__range', 'component')} > 0)`,
          legend: '',
          column: { title: 'Over in time', unit: 'percentunit', decimals: 0 },
        },
        {
          expr: aggregate('max', OUTAGE_ACTIVE, {}, 'component'),
          legend: '',
          column: { title: 'Down for', unit: 's', decimals: 0 },
        },
      ],
      emptyUntil: 'an outage ends',
      drillDown: DASHBOARD_UIDS.oncall,
      width: 12,
    },
    {
      type: 'timeseries',
      title: 'Time in outage',
      description: 'For how long each component has been down; the height of a tooth is the length of the outage.',
      unit: 's',
      targets: [{ expr: aggregate('max', OUTAGE_ACTIVE, {}, 'component'), legend: '{{component}}' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: OUTAGE_SECONDS, color: 'red' },
      ],
      thresholdLines: true,
      drillDown: DASHBOARD_UIDS.oncall,
      width: 12,
    },
  ],
};

export const EXECUTIVE: Dashboard = {
  uid: DASHBOARD_UIDS.executive,
  title: 'Cooper / Executive',
  description: 'Reliability, speed and cost of builds.',
  question: 'Are builds reliable, fast, and worth their money, and is it getting better?',
  from: 'now-7d',
  refresh: '5m',
  links: [
    { title: 'SLO detail', uid: DASHBOARD_UIDS.slo },
    { title: 'On-call', uid: DASHBOARD_UIDS.oncall },
  ],
  drillDown: DASHBOARD_UIDS.oncall,
  textVariables: [{ name: 'cpu_hour_price', label: 'Price of a CPU hour', value: '0.05' }],
  rows: [thisWeek, trends, cost, incidents],
};
