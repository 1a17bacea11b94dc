/** Fields of an objective that every format writes alike: names, pairs, the gate, the floor, the policy. */
import {
  type BurnPair,
  CHANGES,
  type Change,
  type Confidence,
  DAILY_PAIRS,
  defaultPairs,
  type ErrorFloor,
  FOUR_WEEK_PAIRS,
  type LowTrafficGate,
  MONTHLY_PAIRS,
  type Objective,
  type PolicyStep,
  WEEKLY_PAIRS,
} from '../spec.ts';
import { isWindow, type WindowName } from '../windows.ts';
import type { Entry } from './entry.ts';
import type { Places } from './located.ts';

export const NAME = /^[a-z]([a-z0-9_-]{0,61}[a-z0-9])?$/;
const ALERT_NAME = /^[A-Z][A-Za-z0-9]{2,80}$/;
/** Words of people go into alert texts, which Prometheus reads as templates. */
const NO_TEMPLATE = /^(?!.*\{\{)[\s\S]*$/;

export const nameOf = (entry: Entry | undefined): string | undefined =>
  entry?.asPattern(NAME, 'a name', 'use lower-case letters, digits and dashes, 63 at most, a letter first');

/** A sentence or more, without template braces. */
export function proseOf(entry: Entry | undefined, max = 1050): string | undefined {
  const text = entry?.asText(max);
  if (text === undefined || NO_TEMPLATE.test(text)) return text?.replaceAll(/\s*\n\s*/g, ' ');
  return entry?.error('value', 'alert texts are templates: "{{" would be read as one', 'leave the braces out');
}

export function windowOf(entry: Entry | undefined): WindowName | undefined {
  const text = entry?.asText();
  if (text === undefined || isWindow(text)) return text;
  return entry?.error('value', `"${text}" is not a length of time`, 'write a whole number and one of s, m, h, d, w, as in 7d');
}

/** A share as 0.99 or as "99 %". */
export function shareOf(entry: Entry | undefined): number | undefined {
  if (entry === undefined) return undefined;
  const percent = typeof entry.scalar === 'string' ? /^(\d+(?:\.\d+)?)\s*%$/.exec(entry.scalar)?.[1] : undefined;
  return percent === undefined ? entry.asNumber() : hundredth(Number(percent));
}
/** 99.95 as 0.9995, without the noise of binary fractions. */
export const hundredth = (percent: number): number => Number((percent / 100).toPrecision(12));

const PRESETS = { daily: DAILY_PAIRS, weekly: WEEKLY_PAIRS, 'four-weeks': FOUR_WEEK_PAIRS, monthly: MONTHLY_PAIRS } as const;

/** A list of pairs, the name of a set, or nothing: the set for the period. */
export function pairsOf(entry: Entry | undefined, places: Places, period: WindowName): readonly BurnPair[] | undefined {
  if (entry === undefined) return defaultPairs(period);
  places.at('pairs', entry);
  if (!entry.isList) {
    const set = entry.asChoice(Object.keys(PRESETS) as (keyof typeof PRESETS)[]);
    return set === undefined ? undefined : PRESETS[set];
  }
  const pairs = entry.asList(8)?.map((item, index) => pairOf(item, places, `pairs[${index}]`)) ?? [];
  return pairs.every((pair) => pair !== undefined) ? pairs : undefined;
}

function pairOf(item: Entry, places: Places, field: string): BurnPair | undefined {
  if (places.at(field, item).asMap() === undefined) return undefined;
  const severity = item.need('severity', 'write page or ticket')?.asChoice(['page', 'ticket'] as const);
  const long = windowOf(places.at(`${field}.long`, item.need('long', 'write the long window, as in 1h')));
  const short = windowOf(places.at(`${field}.short`, item.need('short', 'write the short window, as in 5m')));
  const budget = places.at(`${field}.budgetPercent`, item.need('budgetPercent', 'write what is spent when it fires, as in 8'));
  const budgetPercent = budget?.asNumber();
  item.close();
  if (severity === undefined || long === undefined || short === undefined || budgetPercent === undefined) return undefined;
  if (!(budgetPercent > 0 && budgetPercent <= 100))
    return budget?.error('value', `${budgetPercent} is not a percentage of the budget`, 'write more than 0, 100 at most');
  return { severity, long, short, budgetPercent };
}

const CONFIDENCES: readonly Confidence[] = [0.9, 0.95, 0.99];

export function gateFrom(entry: Entry | undefined, places: Places): LowTrafficGate | undefined {
  if (places.at('gate', entry)?.asMap() === undefined || entry === undefined) return undefined;
  const minBad = places.at('gate.minBad', entry.get('minBad'))?.asNumber() ?? 2;
  const asked = entry.get('confidence');
  const confidence = asked === undefined ? 0.95 : CONFIDENCES.find((one) => one === asked.asNumber());
  if (confidence === undefined) asked?.error('value', 'there is no such confidence', `write one of ${CONFIDENCES.join(', ')}`);
  const extend = entry.boolean('extend') ?? true;
  entry.close();
  return confidence === undefined ? undefined : { minBad, confidence, extend };
}

export function floorFrom(entry: Entry | undefined, places: Places): ErrorFloor | undefined {
  if (places.at('floor', entry)?.asMap() === undefined || entry === undefined) return undefined;
  const ratio = shareOf(entry.need('ratio', 'write the measured share of bad events, as in 0.002'));
  const source = proseOf(entry.need('source', 'say where the figure comes from'));
  entry.close();
  return ratio === undefined || source === undefined ? undefined : { ratio, source };
}

export function policyFrom(entry: Entry | undefined, places: Places): readonly PolicyStep[] | undefined {
  if (entry === undefined) return undefined;
  const steps = places
    .at('policy', entry)
    .asList(10)
    ?.map((item, index) => {
      if (item.asMap() === undefined) return undefined;
      const below = places.at(
        `policy[${index}].budgetBelow`,
        item.need('budgetBelow', 'write what is left, as in 0.25 or "25 %"'),
      );
      const budgetBelow = shareOf(below);
      const consequence = proseOf(item.need('consequence', 'say what follows, in a sentence'));
      const blocks = item.list('blocks').map((one) => one.asChoice<Change>(CHANGES));
      item.close();
      if (budgetBelow === undefined || consequence === undefined || blocks.includes(undefined)) return undefined;
      return { budgetBelow, consequence, blocks: blocks as Change[] };
    });
  return steps?.every((step) => step !== undefined) ? steps : undefined;
}

/** What an objective of any format may say beyond its numbers. */
export type Extras = Pick<
  Objective,
  'reasoning' | 'alertName' | 'eventWord' | 'toldApartBy' | 'rootCause' | 'gate' | 'floor' | 'policy'
>;

const LABEL = /^[a-zA-Z_]\w*$/;

export function extrasFrom(entry: Entry | undefined, places: Places, name: string): Extras {
  const gate = gateFrom(entry?.get('gate'), places);
  const floor = floorFrom(entry?.get('floor'), places);
  const policy = policyFrom(entry?.get('policy'), places);
  const labels = entry
    ?.list('toldApartBy')
    .map((item) => item.asPattern(LABEL, 'the name of a label', 'write it as the metric does'));
  const toldApartBy = labels?.filter((label) => label !== undefined) ?? [];
  return {
    reasoning: proseOf(entry?.get('reasoning')) ?? '',
    alertName: alertNameOf(entry?.get('alertName')) ?? defaultAlertName(name),
    eventWord: proseOf(entry?.get('eventWord'), 30) ?? 'events',
    ...(toldApartBy.length > 0 && { toldApartBy }),
    rootCause: entry?.choice('rootCause', ['builder', 'cache', 'capacity'] as const) ?? 'builder',
    ...(gate && { gate }),
    ...(floor && { floor }),
    ...(policy && { policy }),
  };
}

export const alertNameOf = (entry: Entry | undefined): string | undefined =>
  entry?.asPattern(ALERT_NAME, 'the name of an alert', 'write letters and digits, a capital first, as in CooperBuildSuccessBurn');

/** `build-success`: CooperBuildSuccessBurn. */
export const defaultAlertName = (name: string): string =>
  `Cooper${name
    .split(/[^a-z0-9]+/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('')}Burn`;
