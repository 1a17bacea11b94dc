/** docs/alerts.md: every alert, what it means, where it goes, where to look, and what tests it; and how a daemon alerts by itself. */
import { testsOf } from '../../alerts/rule-tests.ts';
import { ALERT_NAMES, ALERTS } from '../../alerts/rules.ts';
import { DASHBOARDS } from '../../dashboards/all.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';

export function alertsPage(): string {
  return [
    '# Alerts',
    '',
    'Generated from `alerts/` and `src/slo/objectives.ts` by `npm run generate`. The rules are `alerts/rules.yaml`; `alerts/symptoms.yaml` is',
    'the same without the objectives, for those who let the daemons judge them. `alerts/alertmanager.yml` routes them: critical wakes',
    'somebody, warning is work for the day, info is shown, none is the watchdog.',
    '',
    '| alert | severity | fires when | runbook | panel | tests |',
    '|---|---|---|---|---|---|',
    ...ALERT_NAMES.map(row),
    '',
    ...BURN,
    ...ALONE,
    ...CHECKED,
  ].join('\n');
}

function row(name: string): string {
  const rules = ALERTS.filter(({ alert }) => alert === name);
  const severities = [...new Set(rules.map(({ labels }) => labels.severity))].join(', ');
  const objective = OBJECTIVES.find(({ alertName }) => alertName === name);
  const words =
    objective === undefined
      ? [
          ...new Set(
            rules.map(({ annotations, for: held }) => `${annotations.summary}${held === undefined ? '' : ` (for ${held})`}`),
          ),
        ]
      : [`The error budget of [${objective.title.toLowerCase()}](slo.md) burns too fast: ${pairsOf(rules)}.`];
  const panel = DASHBOARDS.flatMap(({ uid, rows }) =>
    rows.flatMap(({ panels }) => panels.filter(({ alerts }) => alerts?.includes(name)).map(({ title }) => `${uid}: ${title}`)),
  )[0];
  const cells = [
    `\`${name}\``,
    severities,
    words.join(' / '),
    `[runbook](../runbooks/${name}.md)`,
    panel ?? (objective === undefined ? 'none' : `cooper-slo: ${objective.title}`),
    String(testsOf(name)),
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

const pairsOf = (rules: readonly { readonly labels: Readonly<Record<string, string>> }[]): string =>
  rules.map(({ labels }) => `${labels.budget_spent} of it in ${labels.long}`).join(', ');

const BURN = [
  '"Tests" counts the histories in which the alert is expected to fire or to be silent, in `alerts/*.test.yaml`.',
  '',
  '## What a burn alert says',
  '',
  'The description names the bad and all events of the long window, the burn rate in both windows, the rest of the budget and how long it',
  'lasts at this pace, the most frequent value of the labels that tell failures apart (`error_class` for builds, `backend` and `result`',
  'for cache exports ...) and the daemon most of them happened on. `sample_trace` links to the builds of that daemon, each with its trace,',
  'and names the series whose exemplars carry a trace id. `dashboard_url` opens the board at the time of the alert, also when it is read',
  'the next morning. Labels say the pair: `long`, `short`, `budget_spent`, `exhaustion` (how long a whole budget lasts at the factor).',
  '',
];

const ALONE = [
  '## Without Prometheus',
  '',
  'A daemon can post alerts itself:',
  '',
  '```toml',
  '[cooper.alerts]',
  'alertmanager = ["http://alertmanager:9093"]   # every member of a cluster',
  'webhook = ["https://chat.example.org/hook"]   # the payload of Alertmanager\'s webhooks, version 4',
  'page-url = "https://builder-1.example.org"    # where people reach the page of this daemon',
  '```',
  '',
  'It posts each firing pair of its objectives, `CooperDiskFull`, `CooperBuildsStuck`, `CooperRemoteCacheOutage` (as a ticket),',
  '`CooperGcFailing`, `CooperConfigUnknownKeys` and `CooperWatchdog`, with the labels of the rules and `instance`, so the shipped routes',
  'deliver them. The same is on `/api/v1/alerts`. What needs a history of series or an outside view is not posted: above all, nobody but',
  "the watchdog's receiver notices a daemon that is gone. Do not load the rules of the objectives beside this, or people hear twice.",
  '',
  '- It looks every 15 s. An Alertmanager is told each change and then every minute; an alert ends by itself four minutes after the daemon',
  '  was last heard. A webhook is told each change and then every four hours.',
  '- One request at a time and receiver, 10 s each. A receiver that fails is tried again after 1 s, 2 s, 4 s up to a minute, and then told',
  '  the state of that moment, so nothing queues up. Ends that could not be told for 15 minutes are given up.',
  '- At most 256 alerts at once. `cooper_telemetry_exports_total{signal="alerts"}` and `cooper_telemetry_dropped_total{signal="alerts"}`',
  '  count what was sent and what was given up. Builds wait for none of this.',
  '',
];

const CHECKED = [
  '## How the rules are checked',
  '',
  '- `promtool test rules alerts/*.test.yaml`: each alert firing and silent; build success at the boundary (the fewest failures that fire,',
  '  and one less) and after the short window; the annotations of two objectives word for word. `cooper slo rules` writes tests at the',
  '  boundary of every pair for any objective.',
  '- `pint --offline lint alerts/rules.yaml alerts/symptoms.yaml` finds nothing; exceptions are comments beside the rule, with the reason.',
  '- `npm run mutate-rules -- --sample 100` changes rules in one place at a time (operators, thresholds, labels, windows, clauses,',
  '  aggregations, `for`, severity) and lists what no test notices. Samples measured so far: symptoms 6 of 12, cache hits 5 of 24. What is',
  '  missed is mostly: series of several daemons, exact thresholds of symptoms, and objectives of slices away from all good and all bad.',
  '  CI checks that rules which give nothing, or another severity, are noticed.',
  '',
];
