/** A scenario of scenarios.ts, driven by k6 through `POST /api/v1/builds`. Environment: README.md beside this file. */
import { check } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import { filesOf, judged, METRICS, type MetricName, markdownOf, type Stats } from './result.ts';
import { isScenario, SCENARIOS, workloadOf } from './scenarios.ts';
import { contextOf, tarOf } from './workloads.ts';

const setting = (name: string, otherwise: string): string => __ENV[name] || otherwise;
const chosen = setting('SCENARIO', 'steady');
if (!isScenario(chosen)) throw new Error(`there is no scenario ${chosen}; there are ${Object.keys(SCENARIOS).join(', ')}`);
const name = chosen;
const scenario = SCENARIOS[name];
const durationS = Number(setting('DURATION_S', '60'));
const ratePerMinute = Number(setting('RATE', '1')) * 60;
const url = `${setting('OPS_URL', 'http://127.0.0.1:8470')}/api/v1/builds`;
const headers = { authorization: `Bearer ${setting('TOKEN', '')}`, 'content-type': 'application/x-tar' };

const built = new Counter('builds_done');
const failed = new Counter('builds_failed');
const trends: Readonly<Record<MetricName, Trend>> = {
  build_seconds: new Trend('build_seconds'),
  queue_seconds: new Trend('queue_seconds'),
  first_artifact_seconds: new Trend('first_artifact_seconds'),
  hit_ratio: new Trend('hit_ratio'),
};

export const options = {
  scenarios: {
    builds: {
      exec: 'build',
      executor: 'ramping-arrival-rate' as const,
      startRate: Math.round(scenario.start * ratePerMinute),
      timeUnit: '1m',
      stages: scenario.stages.map(({ share, rate }) => ({
        duration: `${Math.max(1, Math.round(share * durationS * 1000))}ms`,
        target: Math.round(rate * ratePerMinute),
      })),
      preAllocatedVUs: 20,
      maxVUs: 500,
      gracefulStop: '600s', // what was asked for is waited for, so that no build ends half counted
    },
  },
  summaryTrendStats: ['avg', 'med', 'p(95)', 'p(99)', 'max', 'count'],
};

interface LastLine {
  readonly type: string;
  readonly error?: { readonly message: string };
  readonly times?: { readonly queuedMs?: number; readonly firstArtifactMs?: number };
  readonly steps?: { readonly total: number; readonly cached: number };
}

export function build(): void {
  const n = exec.scenario.iterationInTest;
  const kind = workloadOf(scenario, n);
  const tenant = n % scenario.tenants;
  const body = tarOf(contextOf(kind, setting('IMAGE', 'busybox'), tenant, `${Date.now()}-${n}`));
  const asked = JSON.stringify({ output: 'image', noCache: kind === 'cold', labels: { tenant: String(tenant) } });
  const startedMs = Date.now();
  const answer = http.post(`${url}?options=${encodeURIComponent(asked)}`, body.buffer, { headers, timeout: '600s' });
  const last = lastOf(answer.body);
  trends.build_seconds.add((Date.now() - startedMs) / 1000);
  if (last.times?.queuedMs !== undefined) trends.queue_seconds.add(last.times.queuedMs / 1000);
  if (last.times?.firstArtifactMs !== undefined) trends.first_artifact_seconds.add(last.times.firstArtifactMs / 1000);
  if (last.steps !== undefined && last.steps.total > 0) trends.hit_ratio.add(last.steps.cached / last.steps.total);
  const ok = check(last, { 'the build succeeded': ({ type }) => type === 'result' });
  built.add(1);
  failed.add(ok ? 0 : 1);
  if (!ok) console.error(`${kind}: ${answer.status} ${last.error?.message ?? answer.error}`);
}

function lastOf(body: unknown): LastLine {
  const lines = typeof body === 'string' ? body.trimEnd().split('\n') : [];
  try {
    return JSON.parse(lines[lines.length - 1] ?? '') as LastLine;
  } catch {
    return { type: 'none' };
  }
}

interface Summary {
  readonly metrics: Readonly<Record<string, { readonly values: Readonly<Record<string, number>> } | undefined>>;
  readonly state: { readonly testRunDurationMs: number };
}
export function handleSummary({ metrics, state }: Summary): Record<string, string> {
  const value = (metric: string, stat: string): number => metrics[metric]?.values[stat] ?? 0;
  const stats = (metric: MetricName): Stats => ({
    count: value(metric, 'count'),
    avg: value(metric, 'avg'),
    p50: value(metric, 'med'),
    p95: value(metric, 'p(95)'),
    p99: value(metric, 'p(99)'),
    max: value(metric, 'max'),
  });
  const result = judged({
    scenario: name,
    driver: 'k6',
    durationSeconds: state.testRunDurationMs / 1000,
    builds: value('builds_done', 'count'),
    failed: value('builds_failed', 'count'),
    dropped: value('dropped_iterations', 'count'),
    metrics: Object.fromEntries(METRICS.map((metric) => [metric, stats(metric)])) as Record<MetricName, Stats>,
  });
  const dir = setting('RESULT_DIR', '.');
  const files = Object.entries(filesOf(result)).map(([file, text]): [string, string] => [`${dir}/${file}`, text]);
  return { ...Object.fromEntries(files), stdout: markdownOf(result) };
}
