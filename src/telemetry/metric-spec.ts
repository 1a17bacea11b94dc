/** How a metric is declared: the types behind catalog.ts, and what can be derived from a declaration without running anything. */

export type MetricKind = 'counter' | 'gauge' | 'histogram';
/** What one unit of the value is; decides the Grafana unit and must match the suffix of the name. */
export type MetricUnit = 'seconds' | 'bytes' | 'ratio' | 'count' | 'info' | 'timestamp';
/** Label name to its closed set of values. An empty set means one value that is known only at start (build_info). */
export type LabelSets = Readonly<Record<string, readonly string[]>>;
export type Labels = Readonly<Record<string, string>>;

/** Value that any value outside a closed set becomes, so that nothing a client sends can grow the metric surface. */
export const OTHER = 'other';

export interface MetricSpec<K extends MetricKind = MetricKind, L extends LabelSets = LabelSets> {
  readonly kind: K;
  readonly name: string;
  readonly unit: MetricUnit;
  readonly help: string;
  readonly labels: L;
  /** Label sets that exist from the start with value 0; all combinations unless given. */
  readonly series: readonly Labels[];
  /** Label sets this metric may ever have; further ones are folded into `other`. */
  readonly maxSeries: number;
  /** Upper bounds of a histogram, ascending, +Inf left out. */
  readonly buckets: readonly number[];
  /** True when observations carry the trace id of their build. */
  readonly exemplars: boolean;
  /** A PromQL query that answers the question the metric exists for. */
  readonly example: string;
}

/** Labels an instrument call must name; values outside the closed set become `other` at run time. */
export type LabelsOf<M extends MetricSpec> = Readonly<Record<keyof M['labels'] & string, string>>;

/** A histogram's bucket, or the value of a counter or gauge, summed over matching label sets. */
export interface Selection {
  readonly metric: string;
  /** Label name to the values that count; a label not named matches everything. */
  readonly where: Readonly<Record<string, readonly string[]>>;
  /** For a histogram: observations up to this edge; all of them when absent. */
  readonly le?: number;
}

interface Declaration<L extends LabelSets> {
  readonly unit: MetricUnit;
  readonly help: string;
  readonly labels: L;
  readonly series?: readonly Labels[];
  readonly maxSeries?: number;
  readonly example: string;
}

const NONE = {} as const;

export function declare<K extends MetricKind, L extends LabelSets>(
  kind: K,
  name: string,
  declaration: Declaration<L> & { readonly buckets?: readonly number[]; readonly exemplars?: boolean },
): MetricSpec<K, L> {
  const series = declaration.series ?? combinations(declaration.labels);
  return {
    kind,
    name,
    unit: declaration.unit,
    help: declaration.help,
    labels: declaration.labels,
    series,
    maxSeries: declaration.maxSeries ?? budgetOf(declaration.labels),
    buckets: declaration.buckets ?? [],
    exemplars: declaration.exemplars ?? false,
    example: declaration.example,
  };
}

/** Every combination of the closed sets; none when a label is known only at start. */
export function combinations(labels: LabelSets): Labels[] {
  let found: Labels[] = [NONE];
  for (const [name, values] of Object.entries(labels)) {
    found = found.flatMap((labelsSoFar) => values.map((value) => ({ ...labelsSoFar, [name]: value })));
  }
  return found;
}

/** All combinations plus `other` in each place. */
function budgetOf(labels: LabelSets): number {
  return Object.values(labels).reduce((product, values) => product * (values.length + 1), 1);
}

/** Lines one label set costs in a scrape: buckets, +Inf, sum and count for a histogram. */
export const linesPerSeries = (spec: MetricSpec): number => (spec.kind === 'histogram' ? spec.buckets.length + 3 : 1);

/** Names a scrape shows for a metric. */
export function exposedNamesOf(spec: MetricSpec): string[] {
  return spec.kind === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => spec.name + suffix) : [spec.name];
}

/** Values a label can have as far as they are known: its closed set, or those of the series that exist from the start. */
export function valuesOf({ labels, series }: MetricSpec, label: string): readonly string[] | undefined {
  const closed = labels[label];
  if (closed === undefined || closed.length > 0) return closed;
  return [...new Set(series.map((one) => one[label] ?? ''))];
}
