/** PromQL from the catalogue: a selector that names a label or value the daemon never emits does not come into being. */
import { exposedNamesOf, type Labels, type MetricSpec, valuesOf } from '../src/telemetry/metric-spec.ts';

/** Matchers every panel shares: the dashboard's variables. */
const SCOPE = ['job=~"$job"', 'instance=~"$instance"'];

export type Suffix = '' | '_bucket' | '_sum' | '_count';

/** `name{job=~"$job",instance=~"$instance",label="value"}`; a value of several words joined by `|` becomes a regular expression. */
export function selector(metric: MetricSpec, labels: Labels = {}, suffix: Suffix = ''): string {
  const name = metric.name + suffix;
  if (!exposedNamesOf(metric).includes(name)) throw new Error(`${name} is not exposed`);
  const matchers = Object.entries(labels).map(([label, value]) => matcher(metric, label, value));
  return `${name}{${[...SCOPE, ...matchers].join(',')}}`;
}

function matcher(metric: MetricSpec, label: string, value: string): string {
  const allowed = valuesOf(metric, label);
  if (allowed === undefined) throw new Error(`${metric.name} has no label ${label}`);
  const negated = value.startsWith('!');
  const values = value.replace(/^!/, '').split('|');
  for (const one of values) if (!allowed.includes(one)) throw new Error(`${metric.name}{${label}} is never "${one}"`);
  const operator = values.length > 1 ? (negated ? '!~' : '=~') : negated ? '!=' : '=';
  return `${label}${operator}"${values.join('|')}"`;
}

const by = (labels: readonly string[]): string => (labels.length === 0 ? '' : ` by (${labels.join(', ')})`);

export const sumRate = (metric: MetricSpec<'counter'>, labels: Labels, ...groups: string[]): string =>
  `sum${by(groups)} (rate(${selector(metric, labels)}[$__rate_interval]))`;
export const sumIncrease = (metric: MetricSpec<'counter'>, labels: Labels, window: string, ...groups: string[]): string =>
  `sum${by(groups)} (increase(${selector(metric, labels)}[${window}]))`;
export const aggregate = (how: 'sum' | 'max' | 'min', metric: MetricSpec<'gauge'>, labels: Labels, ...groups: string[]): string =>
  `${how}${by(groups)} (${selector(metric, labels)})`;
export const quantile = (
  q: number,
  metric: MetricSpec<'histogram'>,
  labels: Labels,
  window: string,
  ...groups: string[]
): string => `histogram_quantile(${q}, sum${by(['le', ...groups])} (rate(${selector(metric, labels, '_bucket')}[${window}])))`;
/** Seconds (or bytes) per second of wall time, by group. */
export const sumOf = (metric: MetricSpec<'histogram'>, labels: Labels, ...groups: string[]): string =>
  `sum${by(groups)} (rate(${selector(metric, labels, '_sum')}[$__rate_interval]))`;
