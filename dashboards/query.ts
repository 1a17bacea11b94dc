/** PromQL from the catalogue: a selector that names a label or value the daemon never emits does not come into being. */
import { exposedNamesOf, type Labels, type MetricSpec, valuesOf } from '../src/telemetry/metric-spec.ts';

/** Matchers every panel shares: the dashboard's variables. */
const SCOPE = ['job=~"$job"', 'instance=~"$instance"'];
/** Of one scrape target, also where the catalogue knows nothing of it (`up`). */
export const SCOPED = `{${SCOPE.join(',')}}`;

export type Suffix = '' | '_bucket' | '_sum' | '_count';

/**
 * `name{job=~"$job",instance=~"$instance",label="value"}`; a value of several words joined by `|` becomes a regular expression, one with a
 * leading `!` is excluded, and one with a leading `$` is a variable of the dashboard.
 */
export function selector(metric: MetricSpec, labels: Labels = {}, suffix: Suffix = ''): string {
  const name = metric.name + suffix;
  if (!exposedNamesOf(metric).includes(name)) throw new Error(`${name} is not exposed`);
  const matchers = Object.entries(labels).map(([label, value]) => matcher(metric, label, value));
  return `${name}{${[...SCOPE, ...matchers].join(',')}}`;
}

function matcher(metric: MetricSpec, label: string, value: string): string {
  if (label === 'le') return edgeMatcher(metric, value);
  const allowed = valuesOf(metric, label);
  if (allowed === undefined) throw new Error(`${metric.name} has no label ${label}`);
  if (value.startsWith('$')) return `${label}="${value}"`;
  const negated = value.startsWith('!');
  const values = value.replace(/^!/, '').split('|');
  for (const one of values) if (!allowed.includes(one)) throw new Error(`${metric.name}{${label}} is never "${one}"`);
  const operator = values.length > 1 ? (negated ? '!~' : '=~') : negated ? '!=' : '=';
  return `${label}${operator}"${values.join('|')}"`;
}

/** OpenMetrics writes an edge of 600 as 600.0 and the older format as 600; both match. */
function edgeMatcher(metric: MetricSpec, edge: string): string {
  if (!metric.buckets.includes(Number(edge))) throw new Error(`${metric.name} has no bucket edge ${edge}`);
  return Number.isInteger(Number(edge)) ? `le=~"${edge}([.]0)?"` : `le="${edge}"`;
}

const by = (labels: readonly string[]): string => (labels.length === 0 ? '' : ` by (${labels.join(', ')})`);

type Counted = MetricSpec<'counter'> | MetricSpec<'histogram'>;
/** Of a histogram: its observations. */
const counted = (metric: Counted, labels: Labels): string =>
  selector(metric, labels, metric.kind === 'counter' ? '' : 'le' in labels ? '_bucket' : '_count');

export const sumRate = (metric: Counted, labels: Labels, ...groups: string[]): string =>
  `sum${by(groups)} (rate(${counted(metric, labels)}[$__rate_interval]))`;
export const sumIncrease = (metric: Counted, labels: Labels, window: string, ...groups: string[]): string =>
  `sum${by(groups)} (increase(${counted(metric, labels)}[${window}]))`;
export const aggregate = (how: 'sum' | 'max' | 'min', metric: MetricSpec<'gauge'>, labels: Labels, ...groups: string[]): string =>
  `${how}${by(groups)} (${selector(metric, labels)})`;
/** Over the rate interval, for a line that moves. */
export const quantile = (q: number, metric: MetricSpec<'histogram'>, labels: Labels, ...groups: string[]): string =>
  `histogram_quantile(${q}, sum${by(['le', ...groups])} (rate(${selector(metric, labels, '_bucket')}[$__rate_interval])))`;
/** Over everything in `window`, for one figure. */
export const quantileOver = (
  q: number,
  metric: MetricSpec<'histogram'>,
  labels: Labels,
  window: string,
  ...groups: string[]
): string =>
  `histogram_quantile(${q}, sum${by(['le', ...groups])} (increase(${selector(metric, labels, '_bucket')}[${window}])))`;
/** Seconds (or bytes) per second of wall time, by group. */
export const sumOf = (metric: MetricSpec<'histogram'>, labels: Labels, ...groups: string[]): string =>
  `sum${by(groups)} (rate(${selector(metric, labels, '_sum')}[$__rate_interval]))`;
/** Seconds (or bytes) observed in `window`, by group. */
export const totalOf = (metric: MetricSpec<'histogram'>, labels: Labels, window: string, ...groups: string[]): string =>
  `sum${by(groups)} (increase(${selector(metric, labels, '_sum')}[${window}]))`;
