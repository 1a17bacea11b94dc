/**
 * Records under the names of Sloth, made of ours, so that dashboards written for Sloth show these objectives. The ratios come from
 * event counts: unlike Sloth's own they are not averages of five-minute ratios, so a quiet night weighs nothing.
 */
import { BUDGET_RECORD } from './annotations.ts';
import { burnRecord, fraction, sloRecord, sloSelector } from './promql.ts';
import type { RecordingRule, RuleGroup } from './rules.ts';
import { type Objective, windowsOf } from './spec.ts';
import { secondsOf } from './windows.ts';

/** One group; composites that count nothing are left out. */
export function slothGroups(objectives: readonly Objective[]): RuleGroup[] {
  const counted = objectives.filter(({ indicator }) => indicator.kind !== 'worst-of');
  return [{ name: 'cooper-slo-sloth-names', interval: '1m', rules: counted.flatMap(rulesOf) }];
}

function rulesOf(objective: Objective): RecordingRule[] {
  const { name, service, target, period } = objective;
  const labels = { sloth_id: `${service}-${name}`, sloth_service: service, sloth_slo: name };
  const record = (as: string, expr: string, more: Record<string, string> = {}): RecordingRule => ({
    record: as,
    expr,
    labels: { ...labels, ...more },
  });
  const selector = sloSelector(objective);
  const days = secondsOf(period) / 86_400;
  const ratio = (window: Parameters<typeof burnRecord>[0]): string =>
    `sum(${sloRecord('bad', window)}${selector}) / sum(${sloRecord('events', window)}${selector} > 0.5)`;
  return [
    ...windowsOf(objective).map((window) => record(`slo:sli_error:ratio_rate${window}`, ratio(window), { sloth_window: window })),
    record('slo:objective:ratio', `vector(${target})`),
    record('slo:error_budget:ratio', `vector(${fraction(1 - target)})`),
    record('slo:time_period:days', `vector(${days})`),
    record('slo:current_burn_rate:ratio', `sum(${burnRecord('5m')}${selector})`),
    record('slo:period_burn_rate:ratio', `sum(${burnRecord(period)}${selector})`),
    record('slo:period_error_budget_remaining:ratio', `sum(${BUDGET_RECORD}${selector})`),
    record('sloth_slo_info', 'vector(1)', {
      sloth_version: 'cooper',
      sloth_objective: String(target * 100),
      sloth_mode: 'cli-gen-prom',
      sloth_spec: 'prometheus/v1',
    }),
  ];
}
