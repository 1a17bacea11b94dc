/** The debug board's rows about the daemon: calls, the process, its telemetry, two versions compared, traces and logs. */
import * as catalog from '../src/telemetry/catalog.ts';
import * as service from '../src/telemetry/catalog-service.ts';
import type { MetricSpec } from '../src/telemetry/metric-spec.ts';
import type { Panel, Row } from './grafana.ts';
import { aggregate, quantile, SCOPED, type Suffix, selector, sumIncrease, sumRate } from './query.ts';
import { series } from './series.ts';

export const callsRow: Row = {
  title: 'Calls and registries',
  panels: [
    series('Calls of the build API', 'Per second and method.', 'ops', sumRate(catalog.RPC_DURATION, {}, 'method'), '{{method}}'),
    series('Calls by status', 'Per second and gRPC status.', 'ops', sumRate(catalog.RPC_DURATION, {}, 'code'), '{{code}}'),
    series(
      'Call duration, 95th percentile',
      'Session, Status and Solve last as long as their build.',
      's',
      quantile(0.95, catalog.RPC_DURATION, {}, 'method'),
      '{{method}}',
      { exemplar: true, emptyUntil: 'a client calls' },
    ),
    series(
      'Registry requests',
      'Per second, by operation and class of answer.',
      'ops',
      sumRate(catalog.REGISTRY_REQUESTS, {}, 'op', 'code_class'),
      '{{op}} {{code_class}}',
    ),
    series(
      'Registry requests, 95th percentile',
      'The transfer of a blob is part of its request.',
      's',
      quantile(0.95, service.REGISTRY_DURATION, {}, 'op'),
      '{{op}}',
      { emptyUntil: 'a registry is asked' },
    ),
    {
      ...series('Rate limits of registries', '', 'short', aggregate('min', service.RATE_LIMIT_REMAINING, {}, 'registry'), ''),
      description: 'Requests a registry still allows, and its limit, as it said last.',
      targets: [
        { expr: aggregate('min', service.RATE_LIMIT_REMAINING, {}, 'registry'), legend: '{{registry}} left' },
        { expr: aggregate('min', service.RATE_LIMIT, {}, 'registry'), legend: '{{registry}} limit' },
      ],
      alerts: ['CooperRegistryRateLimitLow'],
      emptyUntil: 'a registry tells its rate limit',
    },
  ],
};

export const processRow: Row = {
  title: 'Process',
  panels: [
    series(
      'CPU of the daemon',
      'Cores the daemon itself uses; RUN steps are not in it.',
      'short',
      sumRate(catalog.PROCESS_CPU, {}, 'instance'),
      '{{instance}}',
    ),
    {
      ...series('Memory', 'Resident memory and JavaScript heap of the daemon.', 'bytes', '', ''),
      targets: [
        { expr: aggregate('max', catalog.PROCESS_RSS, {}, 'instance'), legend: '{{instance}} resident' },
        { expr: aggregate('max', catalog.HEAP_USED, {}, 'instance'), legend: '{{instance}} heap' },
      ],
    },
    series(
      'Event-loop delay',
      'How late timers ran in the last ten seconds.',
      's',
      aggregate('max', catalog.EVENT_LOOP_DELAY, {}, 'stat'),
      '{{stat}}',
    ),
    series(
      'File descriptors',
      'Share of the allowed file descriptors that is open.',
      'percentunit',
      `max by (instance) (${selector(catalog.PROCESS_OPEN_FDS)} / ${selector(catalog.PROCESS_MAX_FDS)})`,
      '{{instance}}',
      { max: 1 },
    ),
    series(
      'Unknown configuration keys',
      '`cooper config check` names them.',
      'short',
      aggregate('max', catalog.CONFIG_UNKNOWN_KEYS, {}, 'instance'),
      '{{instance}}',
      { alerts: ['CooperConfigUnknownKeys'] },
    ),
    {
      type: 'table',
      title: 'Versions',
      description: 'Which version of the daemon runs on which Node.js.',
      unit: 'none',
      targets: [
        {
          expr: `count by (version, node) (${selector(catalog.BUILD_INFO)})`,
          legend: '',
          column: { title: 'Daemons', unit: 'short', decimals: 0 },
        },
      ],
      width: 8,
    },
  ],
};

export const telemetryRow: Row = {
  title: 'Telemetry itself',
  panels: [
    series(
      'Telemetry given up',
      'So that no build had to wait for it.',
      'ops',
      sumRate(catalog.TELEMETRY_DROPPED, {}, 'signal', 'reason'),
      '{{signal}} {{reason}}',
      { alerts: ['CooperAuditDropping', 'CooperTelemetryDropping'] },
    ),
    series(
      'Batches sent to the collector',
      'Flat at 0 when no collector is configured.',
      'ops',
      sumRate(catalog.TELEMETRY_EXPORTS, {}, 'signal', 'result'),
      '{{signal}} {{result}}',
    ),
    series(
      'Label values folded into `other`',
      'Anything but 0 means the catalogue lacks a value.',
      'short',
      sumIncrease(catalog.LABEL_OVERFLOW, {}, '$__rate_interval', 'reason'),
      '{{reason}}',
    ),
    series(
      'Records of the log',
      'Of the daemon, by level.',
      'short',
      sumIncrease(service.LOG_RECORDS, {}, '$__rate_interval', 'level'),
      '{{level}}',
      { bars: true, stacked: true },
    ),
    series(
      'Series per scrape',
      'How many samples each daemon answers with.',
      'short',
      `max by (instance) (scrape_samples_scraped${SCOPED})`,
      '{{instance}}',
    ),
    series(
      'Duration of scrapes',
      'How long each daemon takes to answer.',
      's',
      `max by (instance) (scrape_duration_seconds${SCOPED})`,
      '{{instance}}',
    ),
    {
      type: 'stat',
      title: 'Always firing',
      description:
        'CooperWatchdog fires all the time; its receiver raises an alarm when it stops. Here: daemons that are scraped.',
      unit: 'short',
      decimals: 0,
      targets: [{ expr: `count(up${SCOPED})`, legend: 'daemons' }],
      alerts: ['CooperWatchdog'],
      width: 8,
    },
  ],
};

/** Only the daemons that run a version; both drawn by the same query. */
const ofVersion = (metric: MetricSpec, labels: Readonly<Record<string, string>>, suffix: Suffix, variable: string): string =>
  `rate(${selector(metric, labels, suffix)}[$__rate_interval]) and on (job, instance) ${selector(catalog.BUILD_INFO, { version: variable })}`;

function compared(title: string, description: string, unit: Panel['unit'], of: (version: string) => string): Panel {
  return {
    ...series(title, description, unit, '', ''),
    targets: ['$version_a', '$version_b'].map((version) => ({ expr: of(version), legend: version })),
    emptyUntil: 'both versions run and build',
  };
}

export const compareRow: Row = {
  title: 'Compare $version_a with $version_b',
  panels: [
    compared(
      'Build time by version, 95th percentile',
      'Successful builds on the daemons that run each version. Single builds are compared by `cooper explain` and on the page of the daemon.',
      's',
      (version) =>
        `histogram_quantile(0.95, sum by (le) (${ofVersion(catalog.BUILD_DURATION, { phase: 'total', result: 'success' }, '_bucket', version)}))`,
    ),
    compared(
      'Good builds by version',
      'Share of builds that did not end with an error or a timeout.',
      'percentunit',
      (version) =>
        `sum (${ofVersion(catalog.BUILDS, { result: 'success|failure' }, '', version)}) / (sum (${ofVersion(catalog.BUILDS, { result: 'success|failure|error|timeout' }, '', version)}) > 0)`,
    ),
    compared(
      'Hit ratio by version',
      'Share of cacheable steps served from cache.',
      'percentunit',
      (version) =>
        `sum (${ofVersion(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied' }, '', version)}) / (sum (${ofVersion(catalog.STEPS, { cache: 'hit_memory|hit_local|hit_remote|hit_implied|miss' }, '', version)}) > 0)`,
    ),
  ],
};

/** Asks Tempo and Loki; empty without them. The daemon's own page and `cooper trace` show the same without either. */
export const tracesRow: Row = {
  title: 'Traces and logs',
  collapsed: true,
  panels: [
    {
      type: 'logs',
      title: 'Log of the daemons',
      description:
        'Warnings and errors, with build and trace ids. Needs Loki with the log of the daemons under the labels job and instance.',
      unit: 'none',
      targets: [
        {
          expr: '{job=~"$job",instance=~"$instance"} | json | level=~"warn|error"',
          legend: '',
          language: 'logql',
        },
      ],
      width: 24,
    },
    {
      type: 'traces',
      title: 'Waterfall of one build',
      description:
        'The trace whose id is in the variable Trace id; `cooper builds` and the dots on panels name them. Needs Tempo (`cooper.otlp.endpoint`); `cooper trace REF` and the page of the daemon show it without.',
      unit: 'none',
      targets: [{ expr: '$trace', legend: '', language: 'traceql' }],
      width: 24,
      height: 14,
    },
  ],
};
