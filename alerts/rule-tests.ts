/**
 * promtool tests for every alert: one history in which it fires and one in which it must not. Boundaries are computed from the same
 * arithmetic the daemon judges with, so rules and daemon are held to one answer. Series are one sample a minute.
 */
import { gatePasses, thresholdOf } from '../src/slo/arithmetic.ts';
import { OBJECTIVES } from '../src/slo/objectives.ts';
import { ruleTestFile } from '../src/slo/rule-tests.ts';
import { alertLabelsOf, SEVERITY_LABEL } from '../src/slo/rules.ts';
import type { BurnPair, Objective } from '../src/slo/spec.ts';
import type { YamlValue } from '../src/slo/yaml.ts';
import { SITE, sloLinksOf } from './config.ts';
import { ALERTS, RULE_GROUPS, SYMPTOM_GROUP } from './rules.ts';
import { series as gauge, type History, type Scenario, target } from './scenario.ts';
import { MORE_SYMPTOM_SCENARIOS } from './symptom-scenarios.ts';

const builds = (result: string, errorClass: string): string =>
  `cooper_builds_total{${target},result="${result}",error_class="${errorClass}"}`;
const SUCCESS = builds('success', 'none');
const BROKEN = builds('failure', 'step-failed');
const FAULT = builds('error', 'internal');
const steps = (cache: string): string => `cooper_steps_total{${target},kind="exec",cache="${cache}"}`;
const latency = (suffix: string, le?: string): string =>
  `cooper_build_duration_seconds_${suffix}{${target},phase="total",result="success"${le === undefined ? '' : `,le="${le}"`}}`;

const objective = (name: string): Objective => {
  const found = OBJECTIVES.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no objective ${name}`);
  return found;
};
const success = objective('build-success');
const pageBurn = success.pairs[0] as BurnPair;
const allPairs = (of: Objective): string[] => of.pairs.map((pair) => `${SEVERITY_LABEL[pair.severity]} ${pair.long}`);

/** Fewest of `total` bad builds that the fastest pair believes, also when increase() stretches both counts by a sixtieth. */
function boundary(total: number): number {
  const threshold = thresholdOf(pageBurn, success);
  const passes = (bad: number, stretch: number): boolean =>
    gatePasses({ good: (total - bad) * stretch, total: total * stretch }, threshold);
  for (let bad = 1; bad <= total; bad++) {
    if (!passes(bad, 1)) continue;
    if (passes(bad - 1, 60 / 59))
      throw new Error(`${bad} of ${total} is too close to the threshold to test; choose another total`);
    return bad;
  }
  throw new Error('no boundary');
}
const atOnce = (count: number): string => `0x57 ${count}x10`;
const BOUNDARY_BUILDS = 40;
const k = boundary(BOUNDARY_BUILDS);

const FIRST_SCENARIOS: readonly (Scenario & { readonly slo: string })[] = [
  {
    slo: 'build-success',
    name: 'a daemon that fails 10 % of builds burns the budget and fires',
    history: { [SUCCESS]: '0+9x120', [FAULT]: '0+1x120' },
    at: [{ minute: 90, fires: ['critical 6h', 'warning 1d', 'warning 3d'] }],
  },
  {
    slo: 'build-success',
    name: 'a broken Dockerfile in every build fires nothing',
    history: { [SUCCESS]: '0+0x120', [BROKEN]: '0+10x120', [FAULT]: '0+0x120' },
    at: [{ minute: 90, fires: [] }],
  },
  {
    slo: 'build-success',
    name: 'a daemon that fails a third of builds fires the fast pair, which is silent once the short window is clean',
    history: { [SUCCESS]: '0+6x60 369+9x120', [FAULT]: '0+3x60 180x120' },
    at: [
      { minute: 30, fires: allPairs(success) },
      { minute: 75, fires: ['critical 6h', 'warning 1d', 'warning 3d'] },
      { minute: 120, fires: ['warning 1d', 'warning 3d'] },
    ],
  },
  {
    slo: 'build-success',
    name: `${k} failures of ${BOUNDARY_BUILDS} builds in an hour are enough for the fast pair`,
    history: { [SUCCESS]: atOnce(BOUNDARY_BUILDS - k), [FAULT]: atOnce(k) },
    at: [{ minute: 60, fires: allPairs(success) }],
  },
  {
    slo: 'build-success',
    name: `${k - 1} failures of ${BOUNDARY_BUILDS} builds in an hour are not`,
    history: { [SUCCESS]: atOnce(BOUNDARY_BUILDS - k + 1), [FAULT]: atOnce(k - 1) },
    at: [{ minute: 60, fires: ['critical 6h', 'warning 1d', 'warning 3d'] }],
  },
  {
    slo: 'build-success',
    name: 'a single failure among few builds fires nothing',
    history: { [SUCCESS]: atOnce(4), [FAULT]: atOnce(1) },
    at: [{ minute: 60, fires: [] }],
  },
  {
    slo: 'build-success',
    name: 'a daemon that builds nothing fires nothing',
    history: { [SUCCESS]: '7x120', [FAULT]: '3x120' },
    at: [{ minute: 60, fires: [] }],
  },
  {
    slo: 'build-success',
    name: 'a restart in the middle of healthy traffic fires nothing',
    history: { [SUCCESS]: '0+9x60 0+9x60', [FAULT]: '0x60 0x60' },
    at: [{ minute: 90, fires: [] }],
  },
  {
    slo: 'build-latency',
    name: 'builds of more than ten minutes burn the latency budget',
    history: { [latency('bucket', '600')]: '0+1x120', [latency('count')]: '0+10x120' },
    at: [{ minute: 60, fires: allPairs(objective('build-latency')) }],
  },
  {
    slo: 'build-latency',
    name: "builds that end in time do not, and newer servers' spelling of the bucket edge counts",
    history: { [latency('bucket', '600.0')]: '0+10x120', [latency('count')]: '0+10x120' },
    at: [{ minute: 60, fires: [] }],
  },
  {
    slo: 'cache-hit',
    name: 'a cold cache burns the cache budget, as tickets only',
    history: { [steps('hit_local')]: '0+3x240', [steps('miss')]: '0+7x240' },
    at: [{ minute: 180, fires: allPairs(objective('cache-hit')) }],
  },
  {
    slo: 'cache-hit',
    name: 'a cache that serves 80 % of steps does not',
    history: { [steps('hit_local')]: '0+8x240', [steps('miss')]: '0+2x240' },
    at: [{ minute: 180, fires: [] }],
  },
];

const series = (name: string, labels: Readonly<Record<string, string>>): string =>
  `${name}{${[target, ...Object.entries(labels).map(([label, value]) => `${label}="${value}"`)].join(',')}}`;
interface Pace {
  readonly bad: string;
  readonly good: string;
}
/** All bad, then all good, in promtool's notation, of one objective: what is counted at a steady pace for four hours. */
const STEADY: Readonly<Record<string, (pace: Pace) => History>> = {
  'queue-wait': ({ good, bad }) => ({
    [series('cooper_build_duration_seconds_bucket', { phase: 'queue', result: 'success', le: '60' })]: good,
    [series('cooper_build_duration_seconds_count', { phase: 'queue', result: 'success' })]: good,
    [series('cooper_build_duration_seconds_bucket', { phase: 'queue', result: 'failure', le: '60' })]: '0x240',
    [series('cooper_build_duration_seconds_count', { phase: 'queue', result: 'failure' })]: bad,
  }),
  'first-artifact': ({ good, bad }) => ({
    [series('cooper_first_artifact_seconds_bucket', { from: 'trigger', le: '600' })]: good,
    [series('cooper_first_artifact_seconds_count', { from: 'trigger' })]: good,
    [series('cooper_first_artifact_seconds_bucket', { from: 'acceptance', le: '600' })]: '0x240',
    [series('cooper_first_artifact_seconds_count', { from: 'acceptance' })]: bad,
  }),
  'cache-push': ({ good, bad }) => ({
    [series('cooper_cache_remote_operations_total', { backend: 's3', op: 'export', result: 'ok' })]: good,
    [series('cooper_cache_remote_operations_total', { backend: 's3', op: 'export', result: 'denied' })]: bad,
    [series('cooper_cache_remote_operations_total', { backend: 's3', op: 'export', result: 'skipped' })]: '0+9x240',
  }),
  reproducibility: ({ good, bad }) => ({
    [series('cooper_reproducibility_checks_total', { result: 'same' })]: good,
    [series('cooper_reproducibility_checks_total', { result: 'different' })]: bad,
    [series('cooper_reproducibility_checks_total', { result: 'error' })]: '0+9x240',
  }),
  'cache-growth': ({ bad }) => ({
    [series('cooper_cache_bytes', { kind: 'regular' })]: bad === NONE ? '109x240' : '111x240',
    [series('cooper_cache_limit_bytes', {})]: '100x240',
  }),
  'outage-recovery': ({ good, bad }) => ({
    [series('cooper_outage_seconds_bucket', { component: 'registry', le: '900' })]: good,
    [series('cooper_outage_seconds_count', { component: 'registry' })]: good,
    [series('cooper_outage_seconds_bucket', { component: 'remote-cache', le: '900' })]: '0x240',
    [series('cooper_outage_seconds_count', { component: 'remote-cache' })]: bad,
  }),
  canary: ({ good, bad }) => ({
    [series('cooper_canary_builds_total', { result: 'success' })]: good,
    [series('cooper_canary_builds_total', { result: 'timeout' })]: bad,
  }),
};
const NONE = '0x240';
const SOME = '0+1x240';
const STEADY_SCENARIOS = Object.entries(STEADY).flatMap(([slo, historyOf]) => [
  {
    slo,
    name: 'nothing but failures fire every pair',
    history: historyOf({ good: NONE, bad: SOME }),
    at: [{ minute: 120, fires: allPairs(objective(slo)) }],
  },
  { slo, name: 'no failure fires nothing', history: historyOf({ good: SOME, bad: NONE }), at: [{ minute: 120, fires: [] }] },
]);

const BURNING_UNTIL_GONE: Scenario & { readonly slo: string } = {
  slo: 'build-success',
  name: 'an alert whose data stops goes on',
  history: { [SUCCESS]: '0+6x60 stale', [FAULT]: '0+3x60 stale' },
  at: [
    { minute: 60, fires: allPairs(success) },
    { minute: 180, fires: allPairs(success) },
  ],
};

/** Every objective firing and silent, at the boundary where it matters, and when the data stops. */
export const SLO_SCENARIOS = [...FIRST_SCENARIOS, ...STEADY_SCENARIOS, BURNING_UNTIL_GONE];

/** One sample each quarter of an hour for days: a service that hardly builds. */
export const LOW_TRAFFIC_SCENARIOS: readonly (Scenario & { readonly slo: string })[] = [
  {
    slo: 'build-success',
    name: 'two builds a day, all failing, page although every short window is nearly empty',
    history: { [SUCCESS]: '0x288', [FAULT]: '0x46 1x47 2x47 3x47 4x90' },
    at: [{ minute: 48 * 60, fires: allPairs(success) }],
  },
  {
    slo: 'build-success',
    name: 'one good build after them ends every page, also hours later',
    history: { [SUCCESS]: '0x192 1x200', [FAULT]: '0x46 1x47 2x47 3x250' },
    at: [
      { minute: 49 * 60, fires: [] },
      { minute: 58 * 60, fires: [] },
    ],
  },
  {
    slo: 'build-success',
    name: 'one failed build a week is silence',
    history: { [SUCCESS]: '0x300', [FAULT]: '0x46 1x250' },
    at: [
      { minute: 12 * 60, fires: [] },
      { minute: 48 * 60, fires: [] },
    ],
  },
];

const BREAKER = `cooper_backend_breaker_state{${target},backend="s3"}`;
export const SYMPTOM_SCENARIOS: readonly Scenario[] = [
  { name: 'a daemon that is scraped', history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60' }, at: [{ minute: 30, fires: [] }] },
  {
    name: 'a daemon that is down',
    history: { [gauge('up')]: '1x10 0x60' },
    at: [
      { minute: 12, fires: [] },
      { minute: 20, fires: ['CooperDaemonDown'] },
    ],
  },
  { name: 'no daemon at all', history: { 'up{job="other"}': '1x60' }, at: [{ minute: 20, fires: ['CooperDaemonDown'] }] },
  {
    name: 'builds that wait while nothing ends',
    history: { [gauge('up')]: '1x60', [gauge('cooper_queue_oldest_age_seconds')]: '0+60x60', [SUCCESS]: '5x60' },
    at: [{ minute: 30, fires: ['CooperBuildsStuck'] }],
  },
  {
    name: 'builds that wait while others end',
    history: { [gauge('up')]: '1x60', [gauge('cooper_queue_oldest_age_seconds')]: '0+60x60', [SUCCESS]: '5+1x60' },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a remote cache that is out while builds go on',
    history: { [gauge('up')]: '1x60', [BREAKER]: '2x60', [SUCCESS]: '0+1x60', [FAULT]: '0x60' },
    at: [{ minute: 30, fires: ['CooperRemoteCacheOutage warning'] }],
  },
  {
    name: 'a remote cache that is out while builds fail',
    history: { [gauge('up')]: '1x60', [BREAKER]: '2x60', [SUCCESS]: '0+1x60', [FAULT]: '0+1x60' },
    at: [{ minute: 30, fires: ['CooperRemoteCacheOutage critical'] }],
  },
  {
    name: 'a breaker that is probing again, and builds that fail without any outage',
    history: { [gauge('up')]: '1x60', [BREAKER]: '1x60', [SUCCESS]: '0+1x60', [FAULT]: '0+1x60' },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a secret in a layer, for an hour after it was found',
    history: { [gauge('up')]: '1x120', [SUCCESS]: '0x120', [gauge('cooper_secret_leaks_total')]: '0x9 1x110' },
    at: [
      { minute: 12, fires: ['CooperSecretLeak'] },
      { minute: 90, fires: [] },
    ],
  },
  {
    name: 'a full disk',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_disk_free_bytes')]: '2x60',
      [gauge('cooper_disk_size_bytes')]: '100x60',
    },
    at: [{ minute: 30, fires: ['CooperDiskFull'] }],
  },
  {
    name: 'a disk with room',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_disk_free_bytes')]: '40x60',
      [gauge('cooper_disk_size_bytes')]: '100x60',
    },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a disk that fills by a tenth an hour and is at a fifth',
    history: {
      [gauge('up')]: '1x120',
      [SUCCESS]: '0x120',
      [gauge('cooper_disk_free_bytes')]: '24000-10x120',
      [gauge('cooper_disk_size_bytes')]: '100000x120',
    },
    at: [{ minute: 60, fires: [] }],
  },
  {
    name: 'a disk that will be full in two hours',
    history: {
      [gauge('up')]: '1x120',
      [SUCCESS]: '0x120',
      [gauge('cooper_disk_free_bytes')]: '24000-120x120',
      [gauge('cooper_disk_size_bytes')]: '100000x120',
    },
    at: [{ minute: 60, fires: ['CooperDiskFilling'] }],
  },
  {
    name: 'a control loop that answers late',
    history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60', [gauge('cooper_event_loop_delay_seconds', ',stat="p99"')]: '0.4x60' },
    at: [{ minute: 30, fires: ['CooperEventLoopBlocked'] }],
  },
  {
    name: 'one slow turn of the control loop',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_event_loop_delay_seconds', ',stat="p99"')]: '0.01x21 3 0.01x40',
    },
    at: [{ minute: 22, fires: [] }],
  },
  {
    name: 'four steps killed for lack of memory',
    history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60', [gauge('cooper_worker_oom_kills_total')]: '0x20 4x40' },
    at: [{ minute: 30, fires: ['CooperWorkerOomKills'] }],
  },
  {
    name: 'one step killed for lack of memory',
    history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60', [gauge('cooper_worker_oom_kills_total')]: '0x20 1x40' },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a registry that answers 500 to a third of requests',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_registry_requests_total', ',op="blob-get",code_class="2xx"')]: '0+20x60',
      [gauge('cooper_registry_requests_total', ',op="blob-get",code_class="5xx"')]: '0+10x60',
    },
    at: [{ minute: 30, fires: ['CooperRegistryErrors'] }],
  },
  {
    name: 'a registry that says 404 to lookups, as registries do',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_registry_requests_total', ',op="blob-head",code_class="2xx"')]: '0+20x60',
      [gauge('cooper_registry_requests_total', ',op="blob-head",code_class="4xx"')]: '0+20x60',
      [gauge('cooper_registry_requests_total', ',op="blob-head",code_class="5xx"')]: '0x60',
    },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a garbage collection that failed',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_gc_runs_total', ',trigger="schedule",result="error"')]: '0x20 1x40',
    },
    at: [{ minute: 30, fires: ['CooperGcFailing'] }],
  },
  {
    name: 'garbage collections that work',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_gc_runs_total', ',trigger="schedule",result="ok"')]: '0+1x60',
      [gauge('cooper_gc_runs_total', ',trigger="schedule",result="error"')]: '0x60',
    },
    at: [{ minute: 30, fires: [] }],
  },
  {
    name: 'a daemon that is scraped without its build counts',
    history: { [gauge('up')]: '1x60' },
    at: [{ minute: 30, fires: ['CooperSliAbsent'] }],
  },
  {
    name: 'spans that are given up',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_telemetry_dropped_total', ',signal="spans",reason="queue_full"')]: '0+5x60',
    },
    at: [{ minute: 46, fires: ['CooperTelemetryDropping'] }],
  },
  {
    name: 'a client that sends malformed spans',
    history: {
      [gauge('up')]: '1x60',
      [SUCCESS]: '0x60',
      [gauge('cooper_telemetry_dropped_total', ',signal="client_spans",reason="malformed"')]: '0+5x60',
    },
    at: [{ minute: 46, fires: [] }],
  },
  {
    name: 'two unknown keys in the configuration',
    history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60', [gauge('cooper_config_unknown_keys')]: '2x60' },
    at: [{ minute: 30, fires: ['CooperConfigUnknownKeys'] }],
  },
  {
    name: 'a configuration without unknown keys',
    history: { [gauge('up')]: '1x60', [SUCCESS]: '0x60', [gauge('cooper_config_unknown_keys')]: '0x60' },
    at: [{ minute: 30, fires: [] }],
  },
  ...MORE_SYMPTOM_SCENARIOS,
];

const seriesOf = (history: History): YamlValue[] => Object.entries(history).map(([series, values]) => ({ series, values }));

function sloTest(scenario: Scenario & { readonly slo: string }, interval: string): YamlValue {
  return {
    name: scenario.name,
    interval,
    input_series: seriesOf(scenario.history),
    promql_expr_test: verdicts(scenario),
  };
}

const verdicts = ({ slo, at }: Scenario & { readonly slo: string }): YamlValue[] =>
  at.map(({ minute, fires }) => ({
    expr: `count by (severity, long) (ALERTS{alertstate="firing",slo="${slo}"})`,
    eval_time: `${minute}m`,
    exp_samples: fires.map((pair) => {
      const [severity, long] = pair.split(' ');
      return { labels: `{severity="${severity}",long="${long}"}`, value: 1 };
    }),
  }));

/** Scenarios of several objectives that have one name, at once: every test evaluates every rule, so fewer tests are faster ones. */
function together(scenarios: readonly (Scenario & { readonly slo: string })[]): YamlValue[] {
  return [...new Set(scenarios.map(({ name }) => name))].map((name) => {
    const same = scenarios.filter((scenario) => scenario.name === name);
    return {
      name,
      interval: '1m',
      input_series: same.flatMap(({ history }) => seriesOf(history)),
      promql_expr_test: same.flatMap(verdicts),
    };
  });
}

function symptomTest(scenario: Scenario): YamlValue {
  return {
    name: scenario.name,
    interval: '1m',
    input_series: seriesOf(scenario.history),
    promql_expr_test: scenario.at.map(({ minute, fires }) => ({
      expr: 'count by (alertname, severity) (ALERTS{alertstate="firing",slo="",alertname!="CooperWatchdog"})',
      eval_time: `${minute}m`,
      exp_samples: fires.map((fired) => {
        const [alertname = '', severity = severityOf(alertname)] = fired.split(' ');
        return { labels: `{alertname="${alertname}",severity="${severity}"}`, value: 1 };
      }),
    })),
  };
}

/** The severity of an alert that has one; those that have several are written `Name severity` in scenarios. */
function severityOf(alertname: string): string {
  return ALERTS.find(({ alert }) => alert === alertname)?.labels.severity ?? '';
}

/** What a person reads: every annotation of every pair of an objective, with the numbers filled in. */
function annotationTest(
  slo: string,
  told: {
    readonly minute?: number;
    readonly history: History;
    readonly pairs?: readonly BurnPair[];
    readonly description: (pair: BurnPair, factor: string) => string;
    readonly sample: string;
  },
): YamlValue {
  const of = objective(slo);
  const links = sloLinksOf(of.alertName);
  const { minute = 60, history, pairs = of.pairs, description, sample } = told;
  return {
    name: `alerts of ${slo} say how much failed, how fast it burns, what is left, what failed most and where to look`,
    interval: '1m',
    input_series: seriesOf(history),
    alert_rule_test: [
      {
        eval_time: `${minute}m`,
        alertname: of.alertName,
        exp_alerts: pairs.map((pair, index) => ({
          exp_labels: alertLabelsOf(of, pair),
          exp_annotations: {
            summary: `${of.title}: the error budget burns fast enough to spend ${pair.budgetPercent} % of the budget of 7d in ${pair.long}.`,
            description: description(pair, ['13.44', '3.5', '1.4', '1'][index] ?? ''),
            sample_trace: sample,
            runbook_url: links.runbook_url,
            dashboard_url: filledIn(links.dashboard_url, minute * 60, slo),
          },
        })),
      },
    ],
  };
}
/** The templates of a link as Prometheus fills them in for an alert of `slo` without an instance, `seconds` after the epoch. */
const filledIn = (link: string, seconds: number, slo: string): string =>
  link
    .replaceAll(/\{\{ with query "\(time\(\) - (\d+)\).*?\{\{ end \}\}/g, (_, ago: string) =>
      String((seconds - Number(ago)) * 1000),
    )
    .replace('{{ with $labels.slo }}&var-slo={{ . | urlquery }}{{ end }}', `&var-slo=${slo}`)
    .replace('{{ with $labels.instance }}&var-instance={{ . | urlquery }}{{ end }}', '');

const PAGE = 'http://a:8470/#/builds lists builds; /api/v1/builds/REF/trace is the trace of one';
const ANNOTATION_TESTS: readonly YamlValue[] = [
  annotationTest('build-latency', {
    history: { [latency('bucket', '600')]: '0+1x120', [latency('count')]: '0+10x120' },
    description: ({ long, short }, factor) =>
      `540 of 600 builds in the last ${long} were bad. Burn rate 18.0 over ${long} and 18.0 over ${short}; this alert is for ${factor} and more in both. -1700% of the budget of 7d is left. Most of them: instance a:8470 (540).`,
    sample: `${PAGE}; exemplars of cooper_build_duration_seconds_bucket{job="cooper",phase="total",result="success"} carry trace_id`,
  }),
  // Two thousand good builds long ago, then ten of twelve fail: half of the budget is left, and only the fast pairs fire.
  annotationTest('build-success', {
    minute: 480,
    history: {
      [SUCCESS]: '0 1988x476 1990x10',
      [FAULT]: '0x477 8x10',
      [builds('error', 'exhausted')]: '0x477 2x10',
    },
    pairs: success.pairs.filter(({ severity }) => severity === 'page'),
    description: ({ long, short }, factor) =>
      `10 of 12 builds in the last ${long} were bad. Burn rate 83.3 over ${long} and 83.3 over ${short}; this alert is for ${factor} and more in both. 50% of the budget of 7d is left; at this pace it lasts 1h 0m 28s. Most of them: error_class internal (8), instance a:8470 (10).`,
    sample: PAGE,
  }),
];

const WATCHDOG_TEST: YamlValue = {
  name: 'the watchdog always fires',
  interval: '1m',
  input_series: seriesOf({ [gauge('up')]: '1x5' }),
  promql_expr_test: [
    {
      expr: 'count by (alertname) (ALERTS{alertstate="firing",alertname="CooperWatchdog"})',
      eval_time: '2m',
      exp_samples: [{ labels: '{alertname="CooperWatchdog"}', value: 1 }],
    },
  ],
};

/** Scenarios of hours: evaluated seldom, or promtool takes minutes. */
const isSlow = ({ at }: Scenario): boolean => at.some(({ minute }) => minute > 100);

const RULES = { name: 'rules.yaml', groups: RULE_GROUPS };
/** The same symptoms without the objectives, which are many rules and not asked about. */
const SYMPTOMS = { name: 'symptoms.yaml', groups: [SYMPTOM_GROUP] };

const file = (evaluationInterval: string, tests: readonly YamlValue[], { name: ruleFile, groups } = RULES): YamlValue => ({
  rule_files: [ruleFile],
  evaluation_interval: evaluationInterval,
  group_eval_order: groups.map(({ name }) => name), // else the order is random, and alerts may see records of the turn before
  tests,
});

/**
 * File name to content, for `promtool test rules`. The evaluation interval belongs to a file: objectives move slowly and are many
 * rules, symptoms have a `for` of minutes, low traffic is a matter of days.
 */
export const RULE_TEST_FILES: Readonly<Record<string, YamlValue>> = {
  'rules.test.yaml': file('5m', [...FIRST_SCENARIOS.map((scenario) => sloTest(scenario, '1m')), ...ANNOTATION_TESTS]),
  'rules-steady.test.yaml': file('4m', [...together(STEADY_SCENARIOS), sloTest(BURNING_UNTIL_GONE, '1m')]),
  'symptoms.test.yaml': file(
    '2m',
    [...SYMPTOM_SCENARIOS.filter((one) => !isSlow(one)).map(symptomTest), WATCHDOG_TEST],
    SYMPTOMS,
  ),
  'symptoms-slow.test.yaml': file('30m', SYMPTOM_SCENARIOS.filter(isSlow).map(symptomTest), SYMPTOMS),
  'rules-low-traffic.test.yaml': file(
    '30m',
    LOW_TRAFFIC_SCENARIOS.map((scenario) => sloTest(scenario, '15m')),
  ),
};

/** The boundary tests of one objective, for rules that are cut down to it: what the tests of the tests run. */
export const boundaryTestsOf = (slo: string): YamlValue =>
  file(
    '5m',
    FIRST_SCENARIOS.filter((scenario) => scenario.slo === slo).map((scenario) => sloTest(scenario, '1m')),
  );

/** In how many histories an alert is expected to fire or to be silent. */
export function testsOf(alertName: string): number {
  const slo = OBJECTIVES.find((candidate) => candidate.alertName === alertName)?.name;
  if (slo !== undefined) return [...SLO_SCENARIOS, ...LOW_TRAFFIC_SCENARIOS].filter((scenario) => scenario.slo === slo).length;
  if (alertName === 'CooperWatchdog') return 1;
  const metricsOf = ({ history }: Scenario): string[] => Object.keys(history).map((key) => key.replace(/\{.*/, ''));
  const fires = ({ at }: Scenario): boolean => at.some((one) => one.fires.some((fired) => fired.split(' ')[0] === alertName));
  const read = new Set(
    SYMPTOM_SCENARIOS.filter(fires)
      .flatMap(metricsOf)
      .filter((name) => name !== 'up' && name !== 'cooper_builds_total'),
  );
  return SYMPTOM_SCENARIOS.filter((scenario) => fires(scenario) || metricsOf(scenario).some((name) => read.has(name))).length;
}

/** Every test of one objective, for rules that are cut down to it. */
export const objectiveTests = (slo: string): YamlValue[] => [
  ruleTestFile([objective(slo)], { job: SITE.job, rulesFile: 'rules.yaml', groups: [] }),
  ...(slo === 'build-success' ? [boundaryTestsOf(slo), file('5m', ANNOTATION_TESTS.slice(1))] : []),
  ...(slo === 'build-success'
    ? [
        file(
          '30m',
          LOW_TRAFFIC_SCENARIOS.map((scenario) => sloTest(scenario, '15m')),
        ),
      ]
    : []),
  ...(slo === 'build-success' ? [file('4m', [sloTest(BURNING_UNTIL_GONE, '1m')])] : []),
];

/** Every test of one symptom alert, as if it were the only one. */
export function symptomTestsOf(alertname: string): YamlValue[] {
  if (alertname === 'CooperWatchdog') return [file('2m', [WATCHDOG_TEST])];
  const about = SYMPTOM_SCENARIOS.map((scenario) => ({
    ...scenario,
    at: scenario.at.map(({ minute, fires }) => ({ minute, fires: fires.filter((fired) => fired.split(' ')[0] === alertname) })),
  }));
  const metrics = new Set(
    about
      .filter(({ at }) => at.some(({ fires }) => fires.length > 0))
      .flatMap(({ history }) => Object.keys(history).map(metricOf)),
  );
  for (const everywhere of ['up', 'cooper_builds_total']) if (metrics.size > 2) metrics.delete(everywhere);
  const asked = about.filter(({ history }) => Object.keys(history).some((key) => metrics.has(metricOf(key))));
  return [
    file('2m', asked.filter((one) => !isSlow(one)).map(symptomTest)),
    ...(asked.some(isSlow) ? [file('30m', asked.filter(isSlow).map(symptomTest))] : []),
  ];
}
const metricOf = (series: string): string => series.replace(/\{.*/, '');
