/** docs/metrics.md: every metric with its labels, its meaning and a query to start from. */
import { CATALOG, MAX_SCRAPE_LINES, type MetricSpec } from '../../src/telemetry/catalog.ts';

const SHOWN_VALUES = 12;

export function metricsPage(): string {
  return [
    '# Metrics',
    '',
    'Generated from `src/telemetry/catalog.ts` by `npm run generate`.',
    '',
    'The daemon serves these on `/metrics` of its operations port, as OpenMetrics with exemplars when the scraper asks for it and in',
    'the plain text format otherwise. Label values come from closed sets: anything else is counted under `other`. All series exist',
    'with value 0 from the start. A scrape never exceeds',
    `${MAX_SCRAPE_LINES} lines, whatever clients send. To see exemplars in Prometheus, start it with`,
    '`--enable-feature=exemplar-storage`; their labels are `trace_id` and `span_id`.',
    '',
    '| metric | kind | labels | meaning |',
    '|---|---|---|---|',
    ...CATALOG.map(
      (spec) =>
        `| [\`${spec.name}\`](#${spec.name}) | ${spec.kind} | ${Object.keys(spec.labels).join(', ')} | ${cell(spec.help)} |`,
    ),
    '',
    ...CATALOG.flatMap(section),
  ].join('\n');
}

function section(spec: MetricSpec): string[] {
  const labels = Object.entries(spec.labels).map(([name, values]) => `- \`${name}\`: ${valuesOf(values)}`);
  return [
    `## ${spec.name}`,
    '',
    cell(spec.help),
    '',
    `${spec.kind}, unit: ${spec.unit}; at most ${spec.maxSeries} ${spec.maxSeries === 1 ? 'series' : 'label sets'}${spec.exemplars ? '; carries exemplars' : ''}.`,
    ...(spec.buckets.length > 0 ? [`Buckets: ${spec.buckets.join(', ')}.`] : []),
    ...(labels.length > 0 ? ['', ...labels] : []),
    '',
    '```promql',
    spec.example,
    '```',
    '',
  ];
}

function valuesOf(values: readonly string[]): string {
  if (values.length === 0) return 'known at start';
  const shown = values.slice(0, SHOWN_VALUES).map((value) => (value === '' ? '(empty)' : `\`${value}\``));
  return shown.join(', ') + (values.length > SHOWN_VALUES ? ` and ${values.length - SHOWN_VALUES} more` : '');
}

const cell = (text: string): string => text.replaceAll('|', '\\|');
