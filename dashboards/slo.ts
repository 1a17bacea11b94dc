/** For the review of an objective, and for whoever was paged by one: how it stands, what spent the budget, what would fire when. */
import { DASHBOARD_UIDS } from '../alerts/config.ts';
import { BUILD_LATENCY_SECONDS, CACHE_HIT_RATIO, OBJECTIVES, OUTAGE_SECONDS } from '../src/slo/objectives.ts';
import type { Objective } from '../src/slo/spec.ts';
import { secondsOf } from '../src/slo/windows.ts';
import * as catalog from '../src/telemetry/catalog.ts';
import { OUTAGE } from '../src/telemetry/catalog-service.ts';
import * as slo from '../src/telemetry/catalog-slo.ts';
import type { Dashboard, Panel, Row } from './grafana.ts';
import { aggregate, sumIncrease } from './query.ts';
import {
  achieved,
  BUDGET_THRESHOLDS,
  budgetPanel,
  burnPanel,
  eventsLeft,
  STATE_MAPPINGS,
  statePanel,
  stateRank,
  tablePanel,
  targetThresholds,
} from './slo-panels.ts';

const CHOSEN = { slo: '$slo' };

const stat = (title: string, description: string, expr: string, more: Partial<Panel> & Pick<Panel, 'unit'>): Panel => ({
  type: 'stat',
  title,
  description,
  targets: [{ expr, legend: title }],
  width: 4,
  height: 5,
  ...more,
});

/** Any objective, those of a site included: everything that needs no figure of the spec. */
const chosen: Row = {
  title: 'Chosen objective: $slo',
  panels: [
    stat('State', 'Of several daemons the worst.', stateRank(CHOSEN), { unit: 'none', mappings: STATE_MAPPINGS }),
    stat('Achieved', 'Share of good events in the period.', achieved(CHOSEN), {
      unit: 'percentunit',
      decimals: 3,
      emptyUntil: 'the period holds an event',
    }),
    stat('Target', 'Share of events that must be good.', aggregate('max', slo.SLO_OBJECTIVE, CHOSEN), {
      unit: 'percentunit',
      decimals: 2,
    }),
    stat('Bad events left', 'How many more bad events the budget of the period allows.', eventsLeft(CHOSEN), {
      unit: 'short',
      decimals: 1,
    }),
    stat('Covered', 'Share of the period in which the counters could be read.', aggregate('min', slo.SLO_COVERAGE, CHOSEN), {
      unit: 'percentunit',
      decimals: 0,
    }),
    stat('Period began', 'A calendar boundary, or one period ago.', `${aggregate('max', slo.SLO_PERIOD_START, CHOSEN)} * 1000`, {
      unit: 'dateTimeFromNow',
    }),
    {
      type: 'timeseries',
      title: 'Budget left, with and without adjustments',
      description:
        'Maintenance windows and corrections move the lines apart; `cooper audit --type slo-adjustment` says by whom and why.',
      unit: 'percentunit',
      targets: [
        { expr: aggregate('min', slo.SLO_BUDGET, CHOSEN), legend: 'as judged' },
        { expr: aggregate('min', slo.SLO_BUDGET_UNADJUSTED, CHOSEN), legend: 'without adjustments' },
      ],
      thresholds: BUDGET_THRESHOLDS,
      thresholdLines: true,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Burn rate by window',
      description:
        'The lines at which it pages are in the row of the objective below; 1 spends the budget exactly over the period.',
      unit: 'short',
      targets: [{ expr: aggregate('max', slo.SLO_BURN, CHOSEN, 'window'), legend: '{{window}}' }],
      thresholds: [
        { value: null, color: 'green' },
        { value: 1, color: 'orange' },
      ],
      thresholdLines: true,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Events of the period',
      description: 'Good and bad events as counted, with adjustments.',
      unit: 'short',
      targets: [
        { expr: aggregate('sum', slo.SLO_GOOD, CHOSEN), legend: 'good' },
        { expr: `${aggregate('sum', slo.SLO_EVENTS, CHOSEN)} - ${aggregate('sum', slo.SLO_GOOD, CHOSEN)}`, legend: 'bad' },
      ],
      width: 8,
    },
  ],
};

/** What one objective alone has: lines at its own thresholds. */
function objectiveRow(objective: Objective): Row {
  const { name, title, target, period } = objective;
  const one = { slo: name };
  return {
    title: `${title}: ${Number((target * 100).toFixed(3))} % over ${period}`,
    collapsed: true,
    panels: [
      {
        type: 'timeseries',
        title: `${title}: achieved`,
        description: `${objective.description} ${objective.reasoning}`,
        unit: 'percentunit',
        decimals: 3,
        targets: [{ expr: achieved(one), legend: title }],
        thresholds: targetThresholds(objective),
        thresholdLines: true,
        max: 1,
        emptyUntil: 'the period holds an event',
        width: 8,
      },
      { ...burnPanel(name, 10), drillDown: DASHBOARD_UIDS.oncall },
      {
        type: 'stat',
        title: `${title}: budget gone in`,
        description: 'When the rest of the budget is spent at the pace of the last hour.',
        unit: 's',
        targets: [
          {
            expr: `clamp_min(${aggregate('min', slo.SLO_BUDGET, one)}, 0) * ${secondsOf(period)} / (${aggregate('max', slo.SLO_BURN, { ...one, window: '1h' })} > 0)`,
            legend: 'left',
          },
        ],
        thresholds: [
          { value: null, color: 'red' },
          { value: 86_400, color: 'orange' },
          { value: secondsOf(period), color: 'green' },
        ],
        emptyUntil: 'a bad event in the last hour',
        width: 6,
      },
    ],
  };
}

/** What the bad events were, by the labels that tell causes apart. */
const causes: Row = {
  title: 'What spent the budget',
  panels: [
    {
      type: 'timeseries',
      title: 'Builds that count as bad',
      description: 'Errors and timeouts, by class of error (docs/errors.md).',
      unit: 'short',
      targets: [
        {
          expr: sumIncrease(catalog.BUILDS, { result: 'error|timeout' }, '$__rate_interval', 'result', 'error_class'),
          legend: '{{result}}: {{error_class}}',
        },
      ],
      stacked: true,
      bars: true,
      drillDown: DASHBOARD_UIDS.oncall,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Builds that were too slow',
      description: `Successful builds that took longer than ${BUILD_LATENCY_SECONDS} s.`,
      unit: 'short',
      targets: [
        {
          expr: `${sumIncrease(catalog.BUILD_DURATION, { phase: 'total', result: 'success' }, '$__rate_interval')} - ${sumIncrease(catalog.BUILD_DURATION, { phase: 'total', result: 'success', le: String(BUILD_LATENCY_SECONDS) }, '$__rate_interval')}`,
          legend: 'slow builds',
        },
      ],
      bars: true,
      drillDown: DASHBOARD_UIDS.debug,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Outages that lasted too long',
      description: `Outages that ended, and those of them that were longer than ${OUTAGE_SECONDS} s.`,
      unit: 'short',
      targets: [
        { expr: sumIncrease(OUTAGE, {}, '$__rate_interval', 'component'), legend: '{{component}}' },
        {
          expr: `${sumIncrease(OUTAGE, {}, '$__rate_interval', 'component')} - ${sumIncrease(OUTAGE, { le: String(OUTAGE_SECONDS) }, '$__rate_interval', 'component')}`,
          legend: '{{component}}, too long',
        },
      ],
      bars: true,
      drillDown: DASHBOARD_UIDS.oncall,
      width: 8,
    },
    {
      type: 'timeseries',
      title: 'Cache hit ratio in five minutes',
      description: `A slice below ${CACHE_HIT_RATIO * 100} % is a bad one. Shown with the resolution of the time axis.`,
      unit: 'percentunit',
      targets: [
        {
          expr: `${sumIncrease(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied' }, '$__rate_interval')} / (${sumIncrease(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied|miss' }, '$__rate_interval')} > 0)`,
          legend: 'hits',
        },
      ],
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
    {
      type: 'timeseries',
      title: 'Samples that could not be right',
      description: 'More good events than events, cut to fit: the indicator counts two different things.',
      unit: 'short',
      targets: [{ expr: sumIncrease(slo.SLO_INCONSISTENT, {}, '$__rate_interval', 'slo'), legend: '{{slo}}' }],
      drillDown: DASHBOARD_UIDS.debug,
      width: 12,
    },
  ],
};

export const SLO: Dashboard = {
  uid: DASHBOARD_UIDS.slo,
  title: 'Cooper / SLO detail',
  description: 'Every objective: state, budget, burn rates, and what spent it.',
  question: 'Do we keep what we promised, what spent the budget, and when is it gone?',
  from: 'now-7d',
  refresh: '1m',
  links: [
    { title: 'On-call', uid: DASHBOARD_UIDS.oncall },
    { title: 'Executive', uid: DASHBOARD_UIDS.executive },
    { title: 'Debug', uid: DASHBOARD_UIDS.debug },
  ],
  drillDown: DASHBOARD_UIDS.oncall,
  labelVariables: [
    {
      name: 'slo',
      label: 'Objective',
      query: 'label_values(cooper_slo_objective_ratio{job=~"$job",instance=~"$instance"}, slo)',
      value: 'build-success',
    },
  ],
  rows: [
    { title: 'All objectives', panels: [tablePanel(24), statePanel(12), budgetPanel(12)] },
    chosen,
    causes,
    ...OBJECTIVES.map(objectiveRow),
  ].map((row) => ({ ...row, panels: row.panels.map(ownDrillDown) })),
};

/** Shared panels lead here from the other boards; here they lead on. */
function ownDrillDown(panel: Panel): Panel {
  return panel.drillDown === DASHBOARD_UIDS.slo ? { ...panel, drillDown: DASHBOARD_UIDS.oncall } : panel;
}
