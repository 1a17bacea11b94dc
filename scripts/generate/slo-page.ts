/** docs/slo.md: what is promised, why so, how it is measured, and what each alert needs to fire. */
import { SITE } from '../../alerts/config.ts';
import { factorOf, fewestEventsFor, maxBurnOf, secondsToDetect, secondsToReset, thresholdOf } from '../../src/slo/arithmetic.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { countExpressions, sliceOf } from '../../src/slo/promql.ts';
import { type BurnPair, gateOf, type Objective, policyOf } from '../../src/slo/spec.ts';
import { secondsOf } from '../../src/slo/windows.ts';

export function sloPage(): string {
  return [
    '# Service level objectives',
    '',
    'Generated from `src/slo/objectives.ts` by `npm run generate`.',
    '',
    'The daemon judges these itself, from counts it records, and shows the result with `cooper slo status`, on `/slo` and as',
    '`cooper_slo_*` metrics. The Prometheus rules in `alerts/rules.yaml` come from the same specification and decide the same way;',
    'a test holds the two against each other, on random histories, with a real Prometheus.',
    '',
    '| objective | target | period | what counts as good |',
    '|---|---|---|---|',
    ...OBJECTIVES.map(
      (objective) =>
        `| [${objective.title}](#${anchor(objective)}) | ${percent(objective.target)} | ${objective.period} | ${objective.description} |`,
    ),
    '',
    ...HOW_IT_IS_COUNTED,
    ...COMMANDS,
    ...OBJECTIVES.flatMap(section),
  ].join('\n');
}

const HOW_IT_IS_COUNTED = [
  '## How it is counted',
  '',
  '- Good and total events are counted; a ratio is made only where it is shown. A window weighs builds, not minutes.',
  '- A failure of the user (a broken Dockerfile, a command that exits non-zero, a denied pull) is a good event: the daemon did its work.',
  '  Errors of the daemon, its disk, its worker or a registry, and timeouts, are bad. Cancelled builds count neither way.',
  '- No events are no verdict: the state is `idle`, not 100 %. A canary build keeps an unused daemon from being idle.',
  '- Where slices are counted, only slices with events count, each the same; they are aligned to the clock, and alerts look at complete ones.',
  '- More good events than events in a sample are cut to fit and counted in `cooper_slo_inconsistent_samples_total`.',
  '',
  'States, worst first:',
  '',
  '| state | meaning |',
  '|---|---|',
  '| `burning-page` | a pair of severity page fires: act now |',
  '| `exhausted` | the budget of the period is spent; surely so: by two events at least, and by a budget of one whole event or the Wilson bound |',
  '| `burning-ticket` | a pair of severity ticket fires: look today |',
  '| `unknown` | the counters cannot be read; every verdict stays as it was (frozen), nothing resolves |',
  '| `ok` | none of these |',
  '| `idle` | the period holds no event |',
  '',
  'After a gap (a restart, a daemon that hung) an alert that fired holds until half of its short window has been observed again. The',
  'share of the period that was observed is `cooper_slo_coverage_ratio`. In Prometheus an alert whose series are gone fires on for a day',
  'at most; after that only `CooperDaemonDown` and `CooperSliAbsent` remain.',
  '',
  '## When an alert fires',
  '',
  'An alert looks at two windows. Over the long one, the share of bad events must surely exceed its threshold: at least two bad',
  'events, and the lower end of their 95 % Wilson interval above it, so that one failure among few builds wakes nobody. Where the long',
  'window holds too few events to convince anybody, the smallest longer one that holds enough is judged instead: two builds a day that',
  'fail do page. And it must burn still: over the short window the share is above the threshold too, or, when the short window is empty,',
  'the latest events, however long ago, are nothing but failures. So an alert ends soon after its cause, and one good build ends the',
  'alert of a service that hardly builds.',
  '',
  'Pairs are stated in percent of the budget they spend within the long window; factor = percent × period / long window. The percentages',
  'of the SRE workbook are made for 30 days; over a week they would fire inside the budget, so the weekly set asks for more.',
  '',
  '## What is set aside',
  '',
  'A maintenance window or a correction excludes a stretch of time or forgives a number of bad events; it has an author and a reason.',
  'The status shows the figures with and without, and `cooper_slo_error_budget_unadjusted_ratio` is the budget without. The Prometheus',
  'rules know nothing of them and count everything; mute alerts for planned work in Alertmanager.',
  '',
  'A budget may follow the calendar of a time zone (a month in Europe/Berlin, say; days of 23 and 25 hours included). Its burn-rate',
  'alerts look at the same rolling windows. PromQL cannot say such a window: there the record of the budget is made from the',
  "daemon's own gauges.",
  '',
];

const COMMANDS = [
  '## Objectives of your own',
  '',
  'A file named in `[cooper.slo] file` replaces shipped objectives by name and adds others; it is written in our own format, as OpenSLO v1',
  'or as Sloth writes them: [slo-format.md](slo-format.md).',
  '',
  '```yaml',
  'apiVersion: cooper/v1',
  'kind: Objectives',
  'objectives:',
  '  - name: site-builds',
  '    target: 0.99',
  '    period: 7d',
  '    indicator: {kind: failures, bad: \'cooper_builds_total{result="error"}\', total: cooper_builds_total}',
  '```',
  '',
  '## Commands',
  '',
  '| command | what it says |',
  '|---|---|',
  '| `cooper slo status` | the objectives now, firing pairs, what the policy asks for, adjustments |',
  '| `cooper slo gate --for release` | exit status 0 when the policy of every objective allows the change, 1 with the reason when one refuses; also when an objective could not be read (`--allow-unknown`). A daemon that does not answer is exit status 8 |',
  '| `cooper slo report --from 30d --format md` | per objective: target, achieved, budget in events and in minutes, what spent it with the builds of that time, incidents with time to notice and to recover, figures with and without adjustments |',
  '| `cooper slo backtest` | which alerts would have fired over the counts the daemon recorded, how soon, which for nothing, and the budget over time; `--prometheus URL [FILE…]` takes the counts of a Prometheus and objectives that no daemon has yet |',
  '| `cooper slo lint`, `rules`, `convert` | what is wrong with files, Prometheus rules and promtool tests of them, other formats |',
  '| `cooper slo maintenance add --slo all --from now --for 2h --reason …` | planned work does not count |',
  '| `cooper slo adjust add --slo build-success --from 2026-01-31T10:00:00Z --for 1h --forgive 5 --reason …` | up to five bad events of that hour count as good; `list` and `remove ID` |',
  '',
  'Adjustments need a bearer token of `cooper.ops.token-file` and are in the audit log (`cooper audit --type slo-adjustment`) under its name.',
  '',
  'In reports and backtests an incident is a run of bad events, less than 30 minutes apart, that spent 5 % of the budget or more (`--significant`',
  'of the backtest changes that) and holds the fewest bad events of the gate. A page is false when no incident lies in it or in its long window before.',
  'The daemon keeps counts for the period of each objective: what lies before is not in them.',
  '',
];

function section(objective: Objective): string[] {
  const { name, title, eventWord, period, alertName, reasoning, target, pairs } = objective;
  return [
    `## ${title}`,
    '',
    `\`${name}\`: ${percent(target)} of ${eventWord} over ${period}. Alert: [${alertName}](../runbooks/${alertName}.md).`,
    '',
    reasoning,
    '',
    `The fastest possible burn rate is ${round(maxBurnOf(target))}: nothing but failures spend the budget in ${duration(secondsOf(period) * (1 - target))}.`,
    '',
    ...queries(objective),
    ...(pairs.length === 0
      ? []
      : [
          '| severity | windows | burn rate | bad share | fewest events | detects 100 % bad in | 50 % | 10 % | silent after 100 % | 50 % | 10 % |',
          '|---|---|---|---|---|---|---|---|---|---|---|',
          ...pairs.map((pair) => pairRow(objective, pair)),
          '',
        ]),
    ...(objective.policy === undefined
      ? []
      : [
          ...policyOf(objective).map(
            ({ budgetBelow, consequence }) => `- Less than ${percent(budgetBelow)} of the budget left: ${consequence}`,
          ),
          '',
        ]),
  ];
}

function queries(objective: Objective): string[] {
  const slice = sliceOf(objective, SITE.job);
  const counts = countExpressions(objective, '1h', SITE.job);
  return [
    '```promql',
    ...(slice === undefined ? [] : [`# ${slice.record}, one number per ${slice.step}`, slice.expr]),
    ...(counts === undefined ? [] : ['# good', counts.good, '# total', counts.events]),
    '```',
    '',
  ];
}

function pairRow(objective: Objective, pair: BurnPair): string {
  const threshold = thresholdOf(pair, objective);
  const cells = [
    pair.severity,
    `${pair.long} / ${pair.short}`,
    `${round(factorOf(pair, objective.period))} (${pair.budgetPercent} % of the budget)`,
    percent(threshold),
    String(fewestEventsFor(threshold, gateOf(objective))),
    ...[1, 0.5, 0.1].map((share) => duration(secondsToDetect(pair, objective, share))),
    ...[1, 0.5, 0.1].map((share) => duration(secondsToReset(pair, objective, share))),
  ];
  return `| ${cells.join(' | ')} |`;
}

const anchor = ({ title }: Objective): string =>
  title
    .toLowerCase()
    .replaceAll(' ', '-')
    .replaceAll(/[^\w-]/g, '');
const round = (value: number): number => Math.round(value * 100) / 100;
const percent = (ratio: number): string => `${round(ratio * 100)} %`;

function duration(seconds: number | undefined): string {
  if (seconds === undefined) return '-';
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${round(seconds / 3600)} h`;
}
