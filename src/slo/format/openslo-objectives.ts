/** Indicators, budgeting and composites of OpenSLO v1. */
import type { Budgeting, Indicator, Objective } from '../spec.ts';
import { isWindow, secondsOf } from '../windows.ts';
import type { Entry } from './entry.ts';
import { type Catalogue, partsFrom, queryFrom, ratioFrom, rawRatioFrom, stateFrom } from './indicators.ts';
import type { Located, Places } from './located.ts';
import type { Query } from './query.ts';

/** The indicator of an SLI; of a threshold metric with the `op` and `value` of its objective. */
export function sliIndicator(
  sli: Entry | undefined,
  item: Entry,
  extension: Entry | undefined,
  places: Places,
  catalogue: Catalogue,
): Indicator | undefined {
  const [op, value] = [item.get('op'), item.get('value')];
  if (sli === undefined) {
    if (extension?.get('parts') !== undefined) return undefined;
    return item.error('required', 'there is no indicator', 'write indicator or indicatorRef, here or below spec');
  }
  const spec = sli.need('spec', 'write its fields below spec');
  if (spec?.asMap() === undefined) return undefined;
  places.at('indicator', spec);
  const [ratio, threshold] = [spec.get('ratioMetric'), spec.get('thresholdMetric')];
  spec.get('description');
  spec.close();
  if ((ratio === undefined) === (threshold === undefined))
    return spec.error('required', 'one of ratioMetric and thresholdMetric is needed', 'write ratioMetric with good and total');
  if (ratio !== undefined) return ratioIndicator(ratio, places, catalogue);
  const query = metricQuery(threshold, 'gauge', places, catalogue);
  threshold?.close();
  const direction = (op ?? item.need('op', 'write lte'))?.asChoice(['lt', 'lte', 'gt', 'gte'] as const);
  const limit = (value ?? item.need('value', 'write the number it is compared with'))?.asNumber();
  const everySeconds = places.at('indicator.everySeconds', extension?.get('everySeconds'))?.asNumber() ?? 60;
  if (query === undefined || direction === undefined || limit === undefined || threshold === undefined) return undefined;
  return stateFrom(query, { op: direction, threshold: limit, everySeconds }, threshold);
}

function ratioIndicator(ratio: Entry, places: Places, catalogue: Catalogue): Indicator | undefined {
  const counter = ratio.get('counter');
  const has = (key: string): boolean => ratio.get(key) !== undefined;
  if (counter?.asBoolean() === false && !has('raw'))
    return counter.error('unsupported', 'gauges are not counted', 'name counters, or use a thresholdMetric');
  const raw = ratio.get('raw');
  const rawType = ratio.choice('rawType', ['success', 'failure'] as const);
  if (raw !== undefined) {
    const query = metricQuery(raw, 'total', places, catalogue);
    ratio.close();
    if (has('good') || has('bad') || has('total'))
      return raw.error('value', 'raw does not go with good, bad and total', 'keep one of the two');
    if (rawType === undefined) return ratio.error('required', 'rawType is missing', 'write success or failure');
    return query && rawRatioFrom(rawType === 'success' ? 'good' : 'bad', query, raw);
  }
  const role = has('bad') ? 'bad' : 'good';
  if (has('good') && has('bad')) return ratio.get('bad')?.error('value', 'good is given as well', 'keep good or bad');
  const part = ratio.need(role, 'write the good events, or the bad ones');
  const total = ratio.need('total', 'write all events: they are what the budget is a share of');
  ratio.close();
  const [partQuery, totalQuery] = [metricQuery(part, role, places, catalogue), metricQuery(total, 'total', places, catalogue)];
  return part && partQuery && totalQuery && ratioFrom(role, partQuery, totalQuery, part);
}

function metricQuery(at: Entry | undefined, role: string, places: Places, catalogue: Catalogue): Query | undefined {
  const source = at?.need('metricSource', 'write type: Prometheus and spec.query below it');
  if (source === undefined) return undefined;
  source.get('metricSourceRef');
  const type = source.get('type');
  if (type !== undefined && !/^prometheus$/i.test(type.asText() ?? ''))
    return type.error(
      'unsupported',
      'only metrics of a Prometheus can be read',
      'write type: Prometheus and a query of one selector',
    );
  const spec = source.need('spec', 'write query below it');
  const query = queryFrom(
    places.at(`indicator.${role}`, spec?.need('query', 'write a selector, as in sum(cooper_builds_total)')),
    catalogue,
  );
  source.close();
  return query;
}

/** How events are budgeted. A state is looked at; its looks are occurrences. */
export function budgetingOf(
  method: 'Occurrences' | 'Timeslices' | 'RatioTimeslices' | undefined,
  item: Entry,
  places: Places,
  indicator: Indicator | undefined,
): Budgeting | undefined {
  const [target, window] = [item.get('timeSliceTarget'), item.get('timeSliceWindow')];
  if (method === undefined) return undefined;
  if (method === 'Occurrences') {
    (target ?? window)?.warning('value', 'Occurrences has no slices', 'leave it out, or use Timeslices');
    return { kind: 'occurrences' };
  }
  if (indicator?.kind === 'state')
    return item.error('unsupported', `a thresholdMetric with ${method}`, 'use Occurrences: every look at the metric is an event');
  const sliceSeconds = sliceOf(places.at('budgeting.sliceSeconds', window ?? item.need('timeSliceWindow', 'write 5m')));
  if (method === 'RatioTimeslices') return sliceSeconds === undefined ? undefined : { kind: 'ratio-timeslices', sliceSeconds };
  const threshold = places
    .at('budgeting.threshold', target ?? item.need('timeSliceTarget', 'write what makes a slice good, as in 0.9'))
    ?.asNumber();
  return sliceSeconds === undefined || threshold === undefined ? undefined : { kind: 'timeslices', sliceSeconds, threshold };
}

/** `5m`, or a number of minutes. */
function sliceOf(entry: Entry | undefined): number | undefined {
  if (entry === undefined) return undefined;
  if (typeof entry.scalar === 'number') return entry.scalar * 60;
  const text = entry.asText();
  if (text === undefined || isWindow(text)) return text === undefined ? undefined : secondsOf(text);
  return entry.error('value', `"${text}" is not a length of time`, 'write 5m');
}

/**
 * Several objectives with indicators of their own are one composite and its parts. With weights it is the weighted mean, held to the
 * weighted mean of the targets; without, it is as bad as its worst part. Parts of the extension are other objectives by name.
 */
export function compositeFrom(
  base: Omit<Objective, 'target' | 'indicator' | 'budgeting'>,
  items: readonly Entry[],
  made: readonly Located[],
  extension: Entry | undefined,
  places: Places,
): Located[] {
  const weights = items.map((item) => item.number('compositeWeight'));
  const named = partsFrom(extension?.get('parts'), places);
  const kind = extension?.choice('composite', ['weighted', 'worst-of'] as const);
  const weighted = kind === undefined ? weights.some((weight) => weight !== undefined) : kind === 'weighted';
  const own = made.map(({ objective }, index) => ({ slo: objective.name, weight: weights[index] ?? 1 }));
  const parts = named ?? own;
  const sum = own.reduce((total, { weight }) => total + weight, 0);
  const mean = made.reduce((total, { objective }, index) => total + objective.target * (own[index]?.weight ?? 1), 0) / sum;
  const target =
    extension?.number('target') ??
    (weighted ? Number(mean.toPrecision(12)) : Math.min(...made.map(({ objective }) => objective.target)));
  const composite: Objective = {
    ...base,
    target,
    indicator: { kind: weighted ? 'weighted' : 'worst-of', parts },
    budgeting: { kind: 'occurrences' },
    pairs: weighted ? base.pairs : [],
  };
  return [...(named === undefined ? made : []), { objective: composite, places }];
}
