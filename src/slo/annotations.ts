/**
 * What a burn alert says to the person it wakes, as Prometheus templates: how fast it burns now, k of n, how long the rest of the budget
 * lasts, what most of the bad events have in common, and where to see one of them. Whoever reads it needs no query of their own.
 */
import { CATALOG, type Selection } from '../telemetry/catalog.ts';
import { factorOf, HALF_AN_EVENT } from './arithmetic.ts';
import { burnRecord, selectorOf, sloRecord, sloSelector, taggedSelectorOf } from './promql.ts';
import type { BurnPair, Objective } from './spec.ts';
import { secondsOf, type WindowName } from './windows.ts';

/** Share of the budget that is left. */
export const BUDGET_RECORD = 'cooper:slo_error_budget_remaining:ratio';

export interface BurnAnnotations {
  readonly summary: string;
  readonly description: string;
  readonly sample_trace: string;
}

export function burnAnnotations(objective: Objective, pair: BurnPair, job: string): BurnAnnotations {
  const { title, period } = objective;
  return {
    summary: `${title}: the error budget burns fast enough to spend ${pair.budgetPercent} % of the budget of ${period} in ${pair.long}.`,
    description: [
      countsText(objective, pair),
      burnText(objective, pair),
      exhaustionText(objective, pair),
      ...commonText(objective, pair.long, job),
    ].join(' '),
    sample_trace: sampleText(objective, pair.long, job),
  };
}

/** `{{ ... }}` of the first value of a query, or `otherwise` where there is none. The expression holds no backtick. */
const filled = (expr: string, format: string, otherwise = 'no'): string =>
  `{{ with query \`${expr}\` }}{{ . | first | value | ${format} }}{{ else }}${otherwise}{{ end }}`;
const WHOLE = 'printf "%.0f"';
const TENTHS = 'printf "%.1f"';

function countsText(objective: Objective, { long }: BurnPair): string {
  const count = (what: 'bad' | 'events'): string => filled(sloRecord(what, long) + sloSelector(objective), WHOLE);
  return `${count('bad')} of ${count('events')} ${objective.eventWord} in the last ${long} were bad.`;
}

function burnText(objective: Objective, pair: BurnPair): string {
  const burn = (window: WindowName): string => filled(burnRecord(window) + sloSelector(objective), TENTHS);
  const factor = Math.round(factorOf(pair, objective.period) * 100) / 100;
  return `Burn rate ${burn(pair.long)} over ${pair.long} and ${burn(pair.short)} over ${pair.short}; this alert is for ${factor} and more in both.`;
}

/** A spent budget lasts no time at all, and a burn rate of zero spends nothing. */
function exhaustionText(objective: Objective, { long }: BurnPair): string {
  const left = BUDGET_RECORD + sloSelector(objective);
  const burn = burnRecord(long) + sloSelector(objective);
  const lasts = `${left} / (${burn} > 0) * ${secondsOf(objective.period)} > 0`;
  return [
    `${filled(left, 'humanizePercentage')} of the budget of ${objective.period} is left`,
    `{{ with query \`${lasts}\` }}; at this pace it lasts {{ . | first | value | humanizeDuration }}{{ end }}.`,
  ].join('');
}

/** Bad events by a label: those of a value that are not good; undefined where bad events have no labels of their own. */
function badBy(objective: Objective, label: string, window: WindowName, job: string): string | undefined {
  const { indicator } = objective;
  const increase = (selection: Selection): string => `sum by (${label}) (increase(${selectorOf(selection, job)}[${window}]))`;
  switch (indicator.kind) {
    case 'failures':
      return increase(indicator.bad);
    case 'events': {
      const total = increase(indicator.total);
      return `${total} - (${increase(indicator.good)} or 0 * ${total})`;
    }
    default:
      return undefined;
  }
}

/** The expression whose one sample is the value of `label` that most bad events of the window have. */
function mostBadBy(objective: Objective, label: string, window: WindowName, job: string): string | undefined {
  const bad = badBy(objective, label, window, job);
  return bad && `topk(1, ${bad.startsWith('sum') && !bad.includes(' - ') ? bad : `(${bad})`} > ${HALF_AN_EVENT})`;
}

/** `Most of them: error_class internal (12), instance a:8470 (9).` */
function commonText(objective: Objective, window: WindowName, job: string): string[] {
  const labels = [...(objective.toldApartBy ?? []), 'instance'];
  const parts = labels.flatMap((label) => {
    const expr = mostBadBy(objective, label, window, job);
    if (expr === undefined) return [];
    const text = `{{ with query \`${expr}\` }} {{ . | first | label "${label}" }} ({{ . | first | value | ${WHOLE} }}){{ else }} unknown{{ end }}`;
    return [`${label}${text}`];
  });
  return parts.length === 0 ? [] : [`Most of them: ${parts.join(', ')}.`];
}

/** Where one bad event can be looked at: the page of the worst daemon, and the exemplars that lead to traces. */
function sampleText(objective: Objective, window: WindowName, job: string): string {
  const worst = mostBadBy(objective, 'instance', window, job);
  const builds = 'http://INSTANCE/#/builds lists builds; /api/v1/builds/REF/trace is the trace of one';
  const page =
    worst === undefined
      ? builds
      : `{{ with query \`${worst}\` }}${builds.replace('INSTANCE', '{{ . | first | label "instance" }}')}{{ else }}${builds}{{ end }}`;
  const exemplars = exemplarsOf(objective, job);
  return exemplars === undefined ? page : `${page}; exemplars of ${exemplars} carry trace_id`;
}

/** The histogram whose exemplars are bad events; undefined where the events are counters without exemplars. */
function exemplarsOf({ indicator }: Objective, job: string): string | undefined {
  if (!('total' in indicator)) return undefined;
  const { metric } = indicator.total;
  return CATALOG.some(({ name, exemplars }) => name === metric && exemplars === true)
    ? taggedSelectorOf(indicator.total, job)
    : undefined;
}
