/** docs/slo.md: what is promised, how it is measured, and what each alert needs to fire. */
import { SITE } from '../../alerts/config.ts';
import { factorOf, fewestEventsFor, secondsToDetect, secondsToReset, thresholdOf } from '../../src/slo/arithmetic.ts';
import { OBJECTIVES } from '../../src/slo/objectives.ts';
import { selectorOf } from '../../src/slo/rules.ts';
import type { BurnPair, Objective } from '../../src/slo/spec.ts';

export function sloPage(): string {
  return [
    '# Service level objectives',
    '',
    'Generated from `src/slo/objectives.ts` by `npm run generate`.',
    '',
    'The daemon judges these itself, from counts it records, and shows the result with `cooper slo status`, on `/slo` and as',
    '`cooper_slo_*` metrics. The Prometheus rules in `alerts/rules.yaml` come from the same specification and decide the same way.',
    '',
    '| objective | target | period | what counts as good |',
    '|---|---|---|---|',
    ...OBJECTIVES.map(
      (objective) => `| ${objective.title} | ${percent(objective.target)} | ${objective.period} | ${objective.description} |`,
    ),
    '',
    '## How it is counted',
    '',
    '- Good and total events are counted; a ratio is made only where it is shown. A window weighs builds, not minutes.',
    '- A failure of the user (a broken Dockerfile, a command that exits non-zero, a denied pull) is a good event: the daemon did its work.',
    '  Errors of the daemon, its disk, its worker or a registry, and timeouts, are bad. Cancelled builds count neither way.',
    '- No events are no verdict: the state is `idle`, not 100 %.',
    '- States, worst first: `burning-page` (act now), `exhausted` (the budget of the period is gone), `burning-ticket` (look today), `ok`, `idle`.',
    '',
    '## When an alert fires',
    '',
    'An alert looks at two windows. Over the long one, the share of bad events must surely exceed its threshold: at least two bad',
    'events, and the lower end of their 95 % Wilson interval above it, so that one failure among few builds wakes nobody. Over the short',
    'one, it must still be so, which ends the alert soon after the cause. Where the long window holds too few events to decide, the',
    'smallest longer window that holds enough decides, and fires when it holds nothing but failures: two builds a day that all fail do page.',
    '',
    ...OBJECTIVES.flatMap(section),
  ].join('\n');
}

function section(objective: Objective): string[] {
  const { good, total } = objective.indicator;
  return [
    `## ${objective.title}`,
    '',
    `\`${objective.name}\`: ${percent(objective.target)} of ${objective.eventWord} over ${objective.period}. Alert: [${objective.alertName}](../runbooks/${objective.alertName}.md).`,
    `The fastest possible burn rate is ${round(1 / (1 - objective.target))}.`,
    ...(objective.timeslices === undefined
      ? []
      : [
          '',
          `An event is a slice of ${objective.timeslices.sliceSeconds / 60} minutes that holds any; it is good when good/total in it is at least ${objective.timeslices.threshold}.`,
        ]),
    '',
    '```promql',
    `# good`,
    `sum(increase(${selectorOf(good, SITE.job)}[1h]))`,
    `# total`,
    `sum(increase(${selectorOf(total, SITE.job)}[1h]))`,
    '```',
    '',
    '| severity | windows | burn rate | bad share | fewest events | detects 100 % bad in | 50 % | 10 % | silent after |',
    '|---|---|---|---|---|---|---|---|---|',
    ...objective.pairs.map((pair) => pairRow(objective, pair)),
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
    String(fewestEventsFor(threshold)),
    ...[1, 0.5, 0.1].map((share) => duration(secondsToDetect(pair, objective, share))),
    duration(secondsToReset(pair, objective, 1)),
  ];
  return `| ${cells.join(' | ')} |`;
}

const round = (value: number): number => Math.round(value * 100) / 100;
const percent = (ratio: number): string => `${round(ratio * 100)} %`;

function duration(seconds: number | undefined): string {
  if (seconds === undefined) return 'never';
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${round(seconds / 3600)} h`;
}
