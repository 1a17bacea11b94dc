/** Finds the metrics a piece of PromQL, or a text that contains some, talks about, and what it says of their labels. */
import { CATALOG } from '../../src/telemetry/catalog.ts';
import { exposedNamesOf, type MetricSpec, valuesOf } from '../../src/telemetry/metric-spec.ts';

const EXPOSED = new Map<string, MetricSpec>(CATALOG.flatMap((spec) => exposedNamesOf(spec).map((name) => [name, spec] as const)));
/** Labels that scraping adds. */
const SCRAPE_LABELS = ['job', 'instance'];

/** What is wrong with the metric names and label matchers in `text`; empty when every one can exist. `records` are recorded series. */
export function promqlProblems(text: string, records: ReadonlySet<string>): string[] {
  const problems: string[] = [];
  for (const match of text.matchAll(/\b((?:cooper|buildkit|process|nodejs)[_:][a-z0-9_:]*[a-z0-9])\b(\{[^}]*\})?/gi)) {
    const [, name = '', matchers = ''] = match;
    if (name.includes(':')) {
      if (!records.has(name)) problems.push(`${name} is recorded by no rule`);
      continue;
    }
    const spec = EXPOSED.get(name);
    // A family spoken of in prose: cooper_slo_*
    if (spec === undefined && text[(match.index ?? 0) + name.length] === '_') continue;
    if (spec === undefined) problems.push(`${name} is not in the catalogue`);
    else problems.push(...labelProblems(spec, name, matchers));
  }
  return problems;
}

function labelProblems(spec: MetricSpec, name: string, matchers: string): string[] {
  const problems: string[] = [];
  for (const [, label = '', operator = '', value = ''] of matchers.matchAll(/(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"/g)) {
    if (SCRAPE_LABELS.includes(label) || (label === 'le' && name.endsWith('_bucket'))) continue;
    const allowed = valuesOf(spec, label);
    if (allowed === undefined) problems.push(`${name} has no label ${label}`);
    else if (operator.endsWith('~')) {
      const pattern = new RegExp(`^(?:${value})$`);
      if (!allowed.some((word) => pattern.test(word))) problems.push(`${name}{${label}${operator}"${value}"} matches no value`);
    } else if (!allowed.includes(value)) problems.push(`${name}{${label}="${value}"} never exists`);
  }
  return problems;
}
