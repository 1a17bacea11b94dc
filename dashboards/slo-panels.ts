/** Panels about objectives, shared by the boards; their thresholds are the SLO specs', never copied. */
import { DASHBOARD_UIDS } from '../alerts/config.ts';
import { factorOf } from '../src/slo/arithmetic.ts';
import { OBJECTIVES } from '../src/slo/objectives.ts';
import type { Objective } from '../src/slo/spec.ts';
import { secondsOf } from '../src/slo/windows.ts';
import * as slo from '../src/telemetry/catalog-slo.ts';
import type { Labels } from '../src/telemetry/metric-spec.ts';
import { SLO_STATE_SCALE } from './colours.ts';
import type { Mapping, Panel, Threshold } from './grafana.ts';
import { aggregate } from './query.ts';

export function objectiveNamed(name: string): Objective {
  const found = OBJECTIVES.find((objective) => objective.name === name);
  if (found === undefined) throw new Error(`no objective ${name}`);
  return found;
}

const percent = (ratio: number): string => `${Number((ratio * 100).toFixed(3))} %`;
const drillDown = DASHBOARD_UIDS.slo;

/** Share of good events, over all daemons: counts are added, ratios are never averaged. */
export const achieved = (labels: Labels, ...groups: string[]): string =>
  `${aggregate('sum', slo.SLO_GOOD, labels, ...groups)} / (${aggregate('sum', slo.SLO_EVENTS, labels, ...groups)} > 0)`;
/** Bad events the budget still allows. */
export const eventsLeft = (labels: Labels, ...groups: string[]): string =>
  [
    aggregate('sum', slo.SLO_GOOD, labels, ...groups),
    `- ${aggregate('sum', slo.SLO_EVENTS, labels, ...groups)} * ${aggregate('max', slo.SLO_OBJECTIVE, labels, ...groups)}`,
  ].join(' ');

/** The state of objectives as a number, see SLO_STATE_SCALE; of several daemons the worst. */
export const stateRank = (labels: Labels): string =>
  `max by (slo) (${SLO_STATE_SCALE.map(({ state }, rank) => `${rank} * ${aggregate('max', slo.SLO_STATE, { ...labels, state }, 'instance', 'slo')}`).join(' + ')})`;
export const STATE_MAPPINGS: readonly Mapping[] = SLO_STATE_SCALE.map(({ state, color }, value) => ({
  value,
  text: state,
  color,
}));

export const targetThresholds = ({ target }: Objective): readonly Threshold[] => [
  { value: null, color: 'red' },
  { value: target, color: 'green' },
];
export const BUDGET_THRESHOLDS: readonly Threshold[] = [
  { value: null, color: 'red' },
  { value: 0, color: 'yellow' },
  { value: 0.5, color: 'green' },
];

/** Achieved share of good events over the period; red below the target. */
export function achievedPanel(name: string, width: number): Panel {
  const objective = objectiveNamed(name);
  return {
    type: 'stat',
    title: `${objective.title} (${objective.period})`,
    description: `${objective.description} Target: ${percent(objective.target)} over ${objective.period}.`,
    unit: 'percentunit',
    decimals: 3,
    targets: [{ expr: achieved({ slo: name }), legend: objective.title }],
    thresholds: targetThresholds(objective),
    emptyUntil: 'the period holds an event',
    drillDown,
    width,
    height: 5,
  };
}

export const budgetPanel = (width: number, labels: Labels = {}): Panel => ({
  type: 'timeseries',
  title: 'Error budget left',
  description:
    'Share of the budget of the period that is left, per objective; below 0 it is overspent. As the daemon judges it from its recorded counts, with adjustments.',
  unit: 'percentunit',
  targets: [{ expr: aggregate('min', slo.SLO_BUDGET, labels, 'slo'), legend: '{{slo}}' }],
  thresholds: BUDGET_THRESHOLDS,
  thresholdLines: true,
  drillDown,
  width,
});

/** The factors at which the pairs of an objective fire. */
export const factorsOf = (objective: Objective): { readonly value: number; readonly color: 'red' | 'orange' }[] =>
  objective.pairs
    .map((pair) => ({
      value: Math.round(factorOf(pair, objective.period) * 100) / 100,
      color: pair.severity === 'page' ? ('red' as const) : ('orange' as const),
    }))
    .sort((a, b) => a.value - b.value);

/** Burn rates of one objective over the windows its alerts look at, with a line at every factor that fires. */
export function burnPanel(name: string, width: number): Panel {
  const objective = objectiveNamed(name);
  const factors = factorsOf(objective);
  const windows = [...new Set(objective.pairs.flatMap(({ long, short }) => [long, short]))].sort(
    (a, b) => secondsOf(a) - secondsOf(b),
  );
  return {
    type: 'timeseries',
    title: `${objective.title}: burn rate`,
    description: `How fast the budget is spent; 1 spends it exactly over ${objective.period}. The lines are the factors of ${objective.alertName}: ${factors.map(({ value }) => value).join(', ')}. A pair fires when its long and its short window (${objective.pairs.map(({ long, short }) => `${long} and ${short}`).join(', ')}) are both above its line.`,
    unit: 'short',
    targets: [{ expr: aggregate('max', slo.SLO_BURN, { slo: name, window: windows.join('|') }, 'window'), legend: '{{window}}' }],
    thresholds: [{ value: null, color: 'green' }, ...factors],
    thresholdLines: true,
    alerts: [objective.alertName],
    drillDown,
    width,
  };
}

export const statePanel = (width: number): Panel => ({
  type: 'state-timeline',
  title: 'State of the objectives',
  description:
    'burning-page: act now. exhausted: the budget of the period is gone. burning-ticket: look today. idle: no events. unknown: nothing could be read.',
  unit: 'none',
  targets: [{ expr: stateRank({}), legend: '{{slo}}' }],
  mappings: STATE_MAPPINGS,
  drillDown,
  width,
});

/** Every objective in one table: where it is, what it promised, what is left. */
export const tablePanel = (width: number): Panel => ({
  type: 'table',
  title: 'Objectives',
  description:
    'State, target and achieved share of good events over the period; what is left of the budget, as a share and as events; how fast it went in the last hour; how much of the period could be read.',
  unit: 'none',
  targets: [
    { expr: stateRank({}), legend: '', column: { title: 'State', unit: 'none', mappings: STATE_MAPPINGS } },
    {
      expr: aggregate('max', slo.SLO_OBJECTIVE, {}, 'slo'),
      legend: '',
      column: { title: 'Target', unit: 'percentunit', decimals: 2 },
    },
    { expr: achieved({}, 'slo'), legend: '', column: { title: 'Achieved', unit: 'percentunit', decimals: 3 } },
    {
      expr: aggregate('min', slo.SLO_BUDGET, {}, 'slo'),
      legend: '',
      column: { title: 'Budget left', unit: 'percentunit', decimals: 1, thresholds: BUDGET_THRESHOLDS },
    },
    { expr: eventsLeft({}, 'slo'), legend: '', column: { title: 'Bad events left', unit: 'short', decimals: 1 } },
    {
      expr: aggregate('max', slo.SLO_BURN, { window: '1h' }, 'slo'),
      legend: '',
      column: { title: 'Burn rate, 1 h', unit: 'short', decimals: 2 },
    },
    {
      expr: aggregate('min', slo.SLO_COVERAGE, {}, 'slo'),
      legend: '',
      column: { title: 'Covered', unit: 'percentunit', decimals: 0 },
    },
  ],
  emptyUntil: 'the period holds an event',
  drillDown,
  width,
  height: 9,
});
