/** What k6 hands to handleSummary, and the same as a table for people. */
export interface SummaryMetric {
  readonly type: string;
  readonly values: Readonly<Record<string, number>>;
  readonly thresholds?: Readonly<Record<string, { readonly ok: boolean }>>;
}
export interface SummaryData {
  readonly metrics: Readonly<Record<string, SummaryMetric>>;
  readonly state: { readonly testRunDurationMs: number };
}

/** Builds that k6 asked for, its warm-up included. */
export const buildsOf = ({ metrics }: SummaryData): number => metrics.builds_started?.values.count ?? 0;
/** Builds that did not succeed. */
export const failuresOf = ({ metrics }: SummaryData): number => metrics.builds_failed?.values.passes ?? 0; // a Rate passes when true
export const thresholdsOf = ({
  metrics,
}: SummaryData): { readonly metric: string; readonly rule: string; readonly ok: boolean }[] =>
  Object.entries(metrics).flatMap(([metric, { thresholds = {} }]) =>
    Object.entries(thresholds).map(([rule, { ok }]) => ({ metric, rule, ok })),
  );

export function markdownOf(data: SummaryData): string {
  const row = (kind: string): string => {
    const values = data.metrics[`build_seconds{kind:${kind}}`]?.values ?? {};
    const cells = ['count', 'min', 'med', 'p(95)', 'p(99)', 'max'].map((name) => {
      const value = values[name] ?? 0;
      return name === 'count' ? String(value) : value.toFixed(3);
    });
    return `| ${kind} | ${cells.join(' | ')} |`;
  };
  const verdicts = thresholdsOf(data).map(({ metric, rule, ok }) => `- ${ok ? 'kept' : '**broken**'}: \`${metric}\` ${rule}`);
  const seconds = (data.state.testRunDurationMs / 1000).toFixed(0);
  return `# Builds under load

${buildsOf(data)} builds in ${seconds} s, ${failuresOf(data)} failed. Seconds per build, as the client saw them:

| kind | builds | min | median | p95 | p99 | max |
|---|---|---|---|---|---|---|
${row('run')}
${row('noop')}

${verdicts.join('\n')}
`;
}
