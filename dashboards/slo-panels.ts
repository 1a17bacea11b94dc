/** Panels about objectives, shared by the boards; their thresholds are the SLO specs`, never copied. */
import { factorOf } from '../src/slo/arithmetic.ts';
import { OBJECTIVES } from '../src/slo/objectives.ts';
import type { Objective } from '../src/slo/spec.ts';
import { SLO_BUDGET, SLO_BURN, SLO_EVENTS, SLO_GOOD, SLO_STATE } from '../src/telemetry/catalog-slo.ts';
import type { Panel, Threshold } from './grafana.ts';
import { aggregate } from './query.ts';

export function objectiveNamed(name: string): Objective {
  const found = OBJECTIVES.find((objective) => objective.name === name);
  if (found === undefined) throw new Error(`no objective ${name}`);
  return found;
}

/** Achieved share of good events over the period; red below the target. */
export function achievedPanel(name: string, width: number): Panel {
  const objective = objectiveNamed(name);
  const slo = { slo: name };
  return {
    type: 'stat',
    title: `${objective.title} (${objective.period})`,
    description: `${objective.description} Target: ${objective.target * 100} % over ${objective.period}. Empty when the week holds no event.`,
    unit: 'percentunit',
    decimals: 2,
    targets: [
      { expr: `${aggregate('sum', SLO_GOOD, slo)} / (${aggregate('sum', SLO_EVENTS, slo)} > 0)`, legend: objective.title },
    ],
    thresholds: [
      { value: null, color: 'red' },
      { value: objective.target, color: 'green' },
    ],
    width,
    height: 5,
  };
}

export const budgetPanel = (width: number): Panel => ({
  type: 'timeseries',
  title: 'Error budget left',
  description:
    'Share of the budget of the period that is left, per objective; below 0 it is overspent. As the daemon judges it from its recorded counts.',
  unit: 'percentunit',
  targets: [{ expr: aggregate('min', SLO_BUDGET, {}, 'slo'), legend: '{{slo}}' }],
  thresholds: [
    { value: null, color: 'red' },
    { value: 0, color: 'yellow' },
    { value: 0.5, color: 'green' },
  ],
  thresholdLines: true,
  width,
});

/** Burn rates of one objective over the windows its alerts look at, with a line at every factor that fires. */
export function burnPanel(name: string, width: number): Panel {
  const objective = objectiveNamed(name);
  const factors = objective.pairs.map(
    (pair): Threshold => ({
      value: Math.round(factorOf(pair, objective.period) * 100) / 100,
      color: pair.severity === 'page' ? 'red' : 'orange',
    }),
  );
  const windows = [...new Set(objective.pairs.map(({ long }) => long))].join('|');
  return {
    type: 'timeseries',
    title: `${objective.title}: burn rate`,
    description: `How fast the budget is spent; 1 spends it exactly over ${objective.period}. The lines are the factors of the alert ${objective.alertName}: ${factors.map(({ value }) => value).join(', ')}.`,
    unit: 'short',
    targets: [{ expr: aggregate('max', SLO_BURN, { slo: name, window: windows }, 'window'), legend: '{{window}}' }],
    thresholds: [{ value: null, color: 'green' }, ...[...factors].sort((a, b) => Number(a.value) - Number(b.value))],
    thresholdLines: true,
    width,
  };
}

export const statePanel = (width: number): Panel => ({
  type: 'state-timeline',
  title: 'State of the objectives',
  description:
    'burning-page: act now. exhausted: the budget of the week is gone. burning-ticket: look today. idle: nothing was built.',
  unit: 'none',
  targets: [
    {
      expr: aggregate('max', SLO_STATE, { state: 'burning-page|exhausted|burning-ticket' }, 'slo', 'state'),
      legend: '{{slo}} {{state}}',
    },
  ],
  thresholds: [
    { value: null, color: 'green' },
    { value: 1, color: 'red' },
  ],
  width,
});
