/** Indicators from queries, as OpenSLO and Sloth write them, and from fields, as our own files do. */
import type { MetricSpec, Selection } from '../../telemetry/catalog.ts';
import type { BadOfTotal, GoodOfTotal, Indicator, Measured, Part, StateIndicator } from '../spec.ts';
import type { Entry } from './entry.ts';
import type { Places } from './located.ts';
import { isProblem, type Query, readQuery } from './query.ts';

export type Catalogue = readonly MetricSpec[];

/** The query of an entry of text; what is wrong with it is reported there. */
export function queryFrom(entry: Entry | undefined, catalogue: Catalogue): Query | undefined {
  const text = entry?.asText(2000);
  if (entry === undefined || text === undefined) return undefined;
  const read = readQuery(text, catalogue);
  if (isProblem(read)) return entry.error('query', read.message, read.fix);
  if (read.leftOut.length > 0) {
    const labels = [...new Set(read.leftOut)].join(' and ');
    entry.warning('query', `matchers of ${labels} are left out`, 'rules are made for the job the daemons are scraped under');
  }
  return read.query;
}

const same = (a: Query, b: Query): boolean => JSON.stringify(a) === JSON.stringify(b);
const isSelection = (query: Query): query is { readonly kind: 'selection'; readonly selection: Selection } =>
  query.kind === 'selection';

/** Good or bad events of all events. `total - x` as one of them is the other. */
export function ratioFrom(role: 'good' | 'bad', part: Query, total: Query, at: Entry): GoodOfTotal | BadOfTotal | undefined {
  if (!isSelection(total))
    return at.error('query', 'all events must be one selector', 'write sum(rate(metric{…})) for the total');
  if (part.kind === 'difference' && same(part.left, total))
    return ratioFrom(role === 'good' ? 'bad' : 'good', part.right, total, at);
  if (!isSelection(part))
    return at.error('query', `the ${role} events must be one selector, or the total minus one`, 'write sum(rate(metric{…}))');
  return role === 'good'
    ? { kind: 'events', good: part.selection, total: total.selection }
    : { kind: 'failures', bad: part.selection, total: total.selection };
}

/** A ratio that was computed already is of use only when its two halves can be read: budgets count events. */
export function rawRatioFrom(role: 'good' | 'bad', raw: Query, at: Entry): GoodOfTotal | BadOfTotal | undefined {
  if (raw.kind === 'quotient') return ratioFrom(role, raw.left, raw.right, at);
  return at.error(
    'query',
    'a ratio does not say how many events it stands for, and budgets are counted in events',
    `write it as ${role} / total, or give ${role} and total`,
  );
}

/** A gauge, a quotient of two, or the age of a timestamp. */
export function stateFrom(
  query: Query,
  rest: Pick<StateIndicator, 'op' | 'threshold' | 'everySeconds'>,
  at: Entry,
): StateIndicator | undefined {
  const inner = query.kind === 'age' ? query.of : query;
  const of = query.kind === 'age' ? 'age' : 'value';
  if (isSelection(inner)) return { kind: 'state', of, gauge: inner.selection, ...rest };
  if (inner.kind === 'quotient' && isSelection(inner.left) && isSelection(inner.right))
    return { kind: 'state', of, gauge: inner.left.selection, per: inner.right.selection, ...rest };
  return at.error('query', 'a state is one gauge, one gauge per another, or time() minus a gauge', 'write a simpler query');
}

const OPS = ['lt', 'lte', 'gt', 'gte'] as const;

/** `indicator:` of our own files. */
export function indicatorFrom(entry: Entry | undefined, places: Places, catalogue: Catalogue): Indicator | undefined {
  if (places.at('indicator', entry)?.asMap() === undefined || entry === undefined) return undefined;
  const kind = entry.need('kind', 'write events')?.asChoice(['events', 'failures', 'state', 'weighted', 'worst-of'] as const);
  const read = kind === undefined ? undefined : byKind(kind, entry, places, catalogue);
  if (kind !== undefined) entry.close();
  return read;
}

function byKind(kind: Indicator['kind'], entry: Entry, places: Places, catalogue: Catalogue): Indicator | undefined {
  const selection = (role: string): Selection | undefined =>
    selectionFrom(entry.need(role, 'name a metric of docs/metrics.md'), places, `indicator.${role}`, catalogue);
  switch (kind) {
    case 'events': {
      const [good, total] = [selection('good'), selection('total')];
      return good && total && { kind, good, total };
    }
    case 'failures': {
      const [bad, total] = [selection('bad'), selection('total')];
      return bad && total && { kind, bad, total };
    }
    case 'state':
      return stateFields(entry, places, selection, catalogue);
    case 'weighted':
    case 'worst-of': {
      const parts = partsFrom(entry.need('parts', 'list the objectives it is made of'), places);
      return parts && { kind, parts };
    }
  }
}

function stateFields(
  entry: Entry,
  places: Places,
  selection: (role: string) => Selection | undefined,
  catalogue: Catalogue,
): Measured | undefined {
  const of = entry.choice('of', ['value', 'age'] as const) ?? 'value';
  const gauge = selection('gauge');
  const perEntry = entry.get('per');
  const per = perEntry === undefined ? undefined : selectionFrom(perEntry, places, 'indicator.per', catalogue);
  const op = entry.need('op', 'write lte')?.asChoice(OPS);
  const threshold = entry.need('threshold', 'write the number it is compared with')?.asNumber();
  const everySeconds = places.at('indicator.everySeconds', entry.get('everySeconds'))?.asNumber() ?? 60;
  if (gauge === undefined || op === undefined || threshold === undefined || (perEntry !== undefined && per === undefined))
    return undefined;
  return { kind: 'state', of, gauge, ...(per && { per }), op, threshold, everySeconds };
}

export function partsFrom(entry: Entry | undefined, places: Places): Part[] | undefined {
  const parts = places
    .at('indicator.parts', entry)
    ?.asList(25)
    ?.map((item, index): Part | undefined => {
      const field = `indicator.parts[${index}]`;
      places.at(field, item);
      if (!item.isMap) {
        const slo = item.asText();
        return slo === undefined ? undefined : { slo, weight: 1 };
      }
      const slo = places.at(`${field}.slo`, item.need('slo', 'name an objective'))?.asText();
      const weight = places.at(`${field}.weight`, item.get('weight'))?.asNumber() ?? 1;
      item.close();
      return slo === undefined ? undefined : { slo, weight };
    });
  return parts?.every((part) => part !== undefined) ? parts : undefined;
}

/** `{metric, where, le}`, or a query as text. */
function selectionFrom(entry: Entry | undefined, places: Places, field: string, catalogue: Catalogue): Selection | undefined {
  if (entry === undefined) return undefined;
  places.at(field, entry);
  if (!entry.isMap) {
    const query = queryFrom(entry, catalogue);
    if (query === undefined) return undefined;
    return isSelection(query)
      ? query.selection
      : entry.error('query', 'this must be one selector', 'write metric{label="value"}');
  }
  const metric = places
    .at(`${field}.metric`, entry.need('metric', 'name a metric of docs/metrics.md'))
    ?.asPattern(/^[a-zA-Z_:][\w:]{0,200}$/, 'the name of a metric', 'see docs/metrics.md');
  const where = whereFrom(entry.get('where'), places, `${field}.where`);
  const le = places.at(`${field}.le`, entry.get('le'));
  const edge = le?.asNumber();
  entry.close();
  if (metric === undefined || where === undefined || (le !== undefined && edge === undefined)) return undefined;
  return { metric, where, ...(edge !== undefined && { le: edge }) };
}

function whereFrom(entry: Entry | undefined, places: Places, field: string): Record<string, readonly string[]> | undefined {
  if (entry === undefined) return {};
  if (entry.asMap() === undefined) return undefined;
  const where: Record<string, readonly string[]> = {};
  let whole = true;
  for (const label of entry.keys()) {
    const values = places.at(`${field}.${label}`, entry.get(label));
    const list = (values?.isList ? (values.asList(50) ?? []) : values === undefined ? [] : [values]).map((one) =>
      one.asPattern(/^[\w./:@ -]{0,200}$/, 'the value of a label', 'use letters, digits, . / : @ - and _'),
    );
    if (!/^[a-zA-Z_]\w*$/.test(label)) values?.error('value', `"${label}" is not a label`, 'use letters, digits and _');
    if (list.length === 0) values?.error('value', 'no value', 'list the values that count');
    if (list.length === 0 || list.includes(undefined) || !/^[a-zA-Z_]\w*$/.test(label)) whole = false;
    else where[label] = list as string[];
  }
  return whole ? where : undefined;
}
