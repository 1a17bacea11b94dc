/** For people who pay for builds: are they reliable, fast, and worth their money? One week by default. */

import { DASHBOARD_UIDS } from '../alerts/config.ts';
import { BUILD_LATENCY_SECONDS, CACHE_HIT_RATIO } from '../src/slo/objectives.ts';
import { BUILD_DURATION, BUILDS, STEP_CPU, STEPS } from '../src/telemetry/catalog.ts';
import type { Dashboard, Panel } from './grafana.ts';
import { quantile, sumIncrease } from './query.ts';
import { achievedPanel, budgetPanel } from './slo-panels.ts';

const FINISHED = { phase: 'total', result: 'success' };
const HITS = 'hit_memory|hit_local|hit_remote|hit_implied';

const durationThresholds = [
  { value: null, color: 'green' },
  { value: BUILD_LATENCY_SECONDS, color: 'red' },
] as const;

const durationStat = (title: string, q: number): Panel => ({
  type: 'stat',
  title,
  description: `Over the shown range, successful builds only, waiting included. The objective is ${BUILD_LATENCY_SECONDS} s.`,
  unit: 's',
  targets: [{ expr: quantile(q, BUILD_DURATION, FINISHED, '$__range'), legend: title }],
  thresholds: durationThresholds,
  width: 4,
  height: 5,
});

export const EXECUTIVE: Dashboard = {
  uid: DASHBOARD_UIDS.executive,
  title: 'Cooper / Executive',
  description: 'Reliability, speed and cost of builds.',
  from: 'now-7d',
  refresh: '5m',
  links: [{ title: 'On-call', uid: DASHBOARD_UIDS.oncall }],
  textVariables: [{ name: 'cpu_hour_price', label: 'Price of a CPU hour', value: '0.05' }],
  rows: [
    {
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
          targets: [{ expr: sumIncrease(BUILDS, {}, '$__range'), legend: 'builds' }],
          width: 4,
          height: 5,
        },
      ],
    },
    {
      title: 'Trends',
      panels: [
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
            { expr: quantile(0.5, BUILD_DURATION, FINISHED, '$__rate_interval'), legend: 'median', exemplar: true },
            { expr: quantile(0.95, BUILD_DURATION, FINISHED, '$__rate_interval'), legend: '95th percentile', exemplar: true },
          ],
          thresholds: durationThresholds,
          thresholdLines: true,
          width: 12,
        },
        {
          type: 'timeseries',
          title: 'Cache hit ratio',
          description: `Share of cacheable steps that did not have to run. The objective asks for ${CACHE_HIT_RATIO * 100} % in every five minutes.`,
          unit: 'percentunit',
          targets: [
            {
              expr: `${sumIncrease(STEPS, { cache: HITS }, '$__rate_interval')} / ${sumIncrease(STEPS, { cache: `${HITS}|miss` }, '$__rate_interval')}`,
              legend: 'steps from cache',
            },
          ],
          thresholds: [
            { value: null, color: 'red' },
            { value: CACHE_HIT_RATIO, color: 'green' },
          ],
          thresholdLines: true,
          max: 1,
          width: 12,
        },
      ],
    },
    {
      title: 'Cost',
      panels: [
        {
          type: 'stat',
          title: 'CPU spend',
          description:
            'CPU time of RUN steps in the shown range times the price above. An estimate: machines that idle are not in it.',
          unit: 'currencyUSD',
          decimals: 2,
          targets: [{ expr: `${sumIncrease(STEP_CPU, {}, '$__range')} / 3600 * $cpu_hour_price`, legend: 'spend' }],
          width: 6,
          height: 5,
        },
        {
          type: 'stat',
          title: 'Steps not run',
          description: 'Steps served from cache in the shown range.',
          unit: 'short',
          decimals: 0,
          targets: [{ expr: sumIncrease(STEPS, { cache: HITS }, '$__range'), legend: 'steps' }],
          width: 6,
          height: 5,
        },
        {
          type: 'timeseries',
          title: 'CPU time of steps',
          description: 'CPU seconds per second that RUN steps use: how many cores builds keep busy.',
          unit: 'short',
          targets: [
            { expr: `sum (rate(${STEP_CPU.name}{job=~"$job",instance=~"$instance"}[$__rate_interval]))`, legend: 'cores' },
          ],
          width: 12,
          height: 5,
        },
      ],
    },
  ],
};
