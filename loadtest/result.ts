/** What a load run leaves: the same shape whoever drove it, and what follows from it. Plain TypeScript: k6 runs it too. */
import { SCENARIOS, type ScenarioName, THRESHOLDS } from './scenarios.ts';

export interface Stats {
  readonly count: number;
  readonly avg: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}
export const METRICS = ['build_seconds', 'queue_seconds', 'first_artifact_seconds', 'hit_ratio'] as const;
export type MetricName = (typeof METRICS)[number];
export interface LoadResult {
  readonly scenario: ScenarioName;
  readonly driver: 'k6' | 'node';
  readonly durationSeconds: number;
  readonly builds: number;
  readonly failed: number;
  /** Arrivals that were not driven: then the load was not the load that was asked for. */
  readonly dropped: number;
  readonly metrics: Readonly<Record<MetricName, Stats>>;
  readonly verdicts: readonly Verdict[];
}
export interface Verdict {
  readonly rule: string;
  readonly ok: boolean;
}

/** Nearest-rank percentiles; all 0 without samples. */
export function statsOf(samples: readonly number[]): Stats {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  const sum = sorted.reduce((total, value) => total + value, 0);
  return {
    count: sorted.length,
    avg: sorted.length === 0 ? 0 : sum / sorted.length,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

/** Adds the verdicts. A run without builds, or with arrivals left out, keeps no threshold. */
export function judged(result: Omit<LoadResult, 'verdicts'>): LoadResult {
  const { builds, failed, dropped, metrics, scenario } = result;
  const verdicts = SCENARIOS[scenario].thresholds.map((name): Verdict => {
    const threshold = THRESHOLDS[name];
    const value = threshold.metric === 'builds_failed' ? failed / Math.max(1, builds) : metrics[threshold.metric][threshold.stat];
    const measured = threshold.metric === 'builds_failed' ? builds : metrics[threshold.metric].count;
    const [sign, limit] = 'below' in threshold ? ['<', threshold.below] : ['>=', threshold.above];
    const ok = measured > 0 && (sign === '<' ? value < limit : value >= limit);
    return { rule: `${threshold.metric} ${threshold.stat} ${value.toFixed(3)} ${sign} ${limit.toFixed(3)}`, ok };
  });
  return { ...result, verdicts: [...verdicts, { rule: `${dropped} arrivals left out`, ok: dropped === 0 }] };
}

export const isOk = ({ verdicts }: LoadResult): boolean => verdicts.every(({ ok }) => ok);

export function markdownOf(result: LoadResult): string {
  const rows = METRICS.map((name) => {
    const { count, p50, p95, p99, max } = result.metrics[name];
    return `| ${name} | ${[count, ...[p50, p95, p99, max].map((value) => value.toFixed(3))].join(' | ')} |`;
  });
  const verdicts = result.verdicts.map(({ rule, ok }) => `- ${ok ? 'kept' : '**broken**'}: ${rule}`);
  return `# Load: ${result.scenario}

${result.builds} builds in ${result.durationSeconds.toFixed(0)} s by ${result.driver}, ${result.failed} failed.

| metric | count | p50 | p95 | p99 | max |
|---|---|---|---|---|---|
${rows.join('\n')}

${verdicts.join('\n')}
`;
}

export function junitOf({ scenario, verdicts }: LoadResult): string {
  const text = (value: string): string => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
  const cases = verdicts.map(
    ({ rule, ok }) =>
      `  <testcase classname="load.${scenario}" name="${text(rule)}">${ok ? '' : '<failure message="broken"/>'}</testcase>`,
  );
  const failures = verdicts.filter(({ ok }) => !ok).length;
  return `<testsuite name="load ${scenario}" tests="${verdicts.length}" failures="${failures}">\n${cases.join('\n')}\n</testsuite>\n`;
}

/** The files of a run, by name. */
export const filesOf = (result: LoadResult): Readonly<Record<string, string>> => ({
  'result.json': `${JSON.stringify(result, undefined, 2)}\n`,
  'result.md': markdownOf(result),
  'result.xml': junitOf(result),
});

const NOISE = 1.2; // two runs of the same thing differ by so much on a busy machine
const SMALL_SECONDS = 0.05;

/** B against A: ratios, and what got worse by more than noise. */
export function compare(a: LoadResult, b: LoadResult): { readonly lines: readonly string[]; readonly worse: readonly string[] } {
  const rows = METRICS.flatMap((metric) =>
    (['p50', 'p95', 'p99'] as const).map((stat) => {
      const [was, is] = [a.metrics[metric][stat], b.metrics[metric][stat]];
      const isWorse = metric === 'hit_ratio' ? is * NOISE < was : is > was * NOISE && is - was > SMALL_SECONDS;
      return { name: `${metric} ${stat}`, was, is, isWorse };
    }),
  );
  const rate = ({ builds, failed }: LoadResult): number => failed / Math.max(1, builds);
  const all = [...rows, { name: 'failed builds', was: rate(a), is: rate(b), isWorse: rate(b) > rate(a) }];
  return {
    lines: all.map(({ name, was, is, isWorse }) => {
      const ratio = was === 0 ? (is === 0 ? '1.00' : 'new') : (is / was).toFixed(2);
      return `${name.padEnd(28)}${was.toFixed(3).padStart(10)}${is.toFixed(3).padStart(10)}${ratio.padStart(8)}${isWorse ? '  worse' : ''}`;
    }),
    worse: all.filter(({ isWorse }) => isWorse).map(({ name }) => name),
  };
}
