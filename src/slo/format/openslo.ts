/**
 * OpenSLO v1 in: Service, SLI, SLO, AlertPolicy and AlertCondition; DataSource and AlertNotificationTarget are read over, since rules
 * and routes are ours. What it cannot say stands under the annotation `cooper/objective`, or under `spec.x-cooper`, as fields of our own
 * format (extrasFrom, pairs, parts, everySeconds). https://github.com/OpenSLO/OpenSLO
 */
import { UNIT_DAYS } from '../calendar.ts';
import { type BurnPair, type CalendarWindow, defaultPairs } from '../spec.ts';
import { isWindow, secondsOf, type WindowName, windowOfSeconds } from '../windows.ts';
import type { Entry } from './entry.ts';
import { extrasFrom, hundredth, nameOf, pairsOf, proseOf } from './fields.ts';
import type { Catalogue } from './indicators.ts';
import { type Located, Places } from './located.ts';
import { budgetingOf, compositeFrom, sliIndicator } from './openslo-objectives.ts';

export const OPENSLO_VERSION = 'openslo/v1';
const KINDS = ['Service', 'SLI', 'SLO', 'AlertPolicy', 'AlertCondition', 'AlertNotificationTarget', 'DataSource'] as const;
type Kind = (typeof KINDS)[number];

/** All documents of one reading, so that references find what another file defines. */
export class OpenSlo {
  readonly #defined = new Map<string, Entry>();
  readonly #catalogue: Catalogue;
  readonly #slos: Entry[] = [];

  constructor(catalogue: Catalogue) {
    this.#catalogue = catalogue;
  }

  add(root: Entry): void {
    root.get('apiVersion');
    const kind = root.need('kind', 'write SLO')?.asChoice(KINDS);
    const name = nameOf(root.need('metadata', 'name it below metadata')?.need('name', 'name it'));
    const spec = root.need('spec', 'write its fields below spec');
    if (kind === undefined || name === undefined || spec?.asMap() === undefined) return;
    const key = `${kind} ${name}`;
    if (this.#defined.has(key)) return root.error('duplicate', `there is a ${key} already`, 'give it another name');
    this.#defined.set(key, root);
    if (kind === 'SLO') this.#slos.push(root);
    if (kind === 'SLO' || kind === 'SLI' || kind === 'AlertPolicy' || kind === 'AlertCondition') root.close();
  }

  objectives(): Located[] {
    return this.#slos.flatMap((root) => this.#slo(root));
  }

  /** What a name refers to, or what is written in its place. */
  find(kind: Kind, at: Entry, inline: string, ref: string): Entry | undefined {
    const written = at.get(inline);
    if (written !== undefined) return written;
    const reference = at.get(ref);
    const name = reference?.asText();
    if (reference === undefined || name === undefined) return undefined;
    const found = this.#defined.get(`${kind} ${name}`);
    const known = [...this.#defined.keys()].filter((key) => key.startsWith(`${kind} `)).map((key) => key.slice(kind.length + 1));
    if (found === undefined)
      reference.error(
        'reference',
        `there is no ${kind} "${name}"`,
        known.length === 0 ? `define it in one of the files` : `there are: ${known.join(', ')}`,
      );
    return found;
  }

  #slo(root: Entry): Located[] {
    const before = root.source.findings.length;
    const metadata = root.get('metadata');
    const spec = root.get('spec');
    const name = nameOf(metadata?.get('name'));
    if (metadata === undefined || spec === undefined || name === undefined) return [];
    const places = new Places();
    places.at('', root);
    places.at('name', metadata.get('name'));
    const title = proseOf(metadata.get('displayName'), 100) ?? name;
    metadata.get('labels');
    const extension = extensionOf(metadata, spec);
    const window = this.#window(spec, places);
    const service = nameOf(spec.need('service', 'name the service')) ?? 'cooper';
    const description = proseOf(spec.get('description')) ?? '';
    const method = spec
      .need('budgetingMethod', 'write Occurrences')
      ?.asChoice(['Occurrences', 'Timeslices', 'RatioTimeslices'] as const);
    const items = places.at('target', spec.need('objectives', 'list the objectives'))?.asList(25) ?? [];
    if (items.length === 0) spec.get('objectives')?.error('required', 'no objective', 'write one with a target');
    const extras = extrasFrom(extension, places, name);
    for (const key of ['composite', 'target', 'parts', 'everySeconds']) extension?.get(key); // read further down
    const common = { service, description, ...extras };
    const pairs = window && this.#pairs(spec, extension, places, window.period);
    const shared = this.find('SLI', spec, 'indicator', 'indicatorRef');
    const made = items.flatMap((item, index): Located[] => {
      const at = index === 0 ? places : placesOf(item);
      const target = targetOf(item, at);
      const own = this.find('SLI', item, 'indicator', 'indicatorRef');
      const indicator = sliIndicator(own ?? shared, item, extension, at, this.#catalogue);
      const budgeting = budgetingOf(method, item, at, indicator);
      const display = proseOf(item.get('displayName'), 100);
      item.get('compositeWeight');
      item.close();
      if (target === undefined || indicator === undefined || budgeting === undefined || window === undefined || !pairs) return [];
      const suffix = items.length === 1 ? '' : `-${slug(display) || index + 1}`;
      const named = { name: `${name}${suffix}`, title: suffix === '' ? title : `${title}: ${display ?? index + 1}` };
      return [{ objective: { ...named, ...common, ...window, target, indicator, budgeting, pairs }, places: at }];
    });
    spec.close();
    metadata.close();
    extension?.close();
    if (root.source.findings.slice(before).some(({ level }) => level === 'error')) return [];
    if (shared !== undefined || items.length === 1 || window === undefined) return made;
    return compositeFrom({ name, title, ...common, ...window, pairs: pairs ?? [] }, items, made, extension, places);
  }

  #window(spec: Entry, places: Places): { readonly period: WindowName; readonly calendar?: CalendarWindow } | undefined {
    const given = spec.get('timeWindow');
    if (given === undefined) return { period: '30d' };
    const [window, ...more] = places.at('period', given).asList(10) ?? [];
    if (window === undefined || more.length > 0)
      return given.error('value', 'exactly one time window is possible', 'write one item');
    const duration = places.at('period', window.need('duration', 'write 28d'));
    const calendar = window.get('calendar');
    const rolling = window.boolean('isRolling') ?? calendar === undefined;
    const read = calendar === undefined ? undefined : places.at('calendar', calendar);
    const [start, timeZone] = [
      read?.need('startTime', 'write 2026-01-01 00:00:00')?.asText(),
      read?.need('timeZone', 'write UTC')?.asText(),
    ];
    read?.close();
    window.close();
    if (rolling && calendar !== undefined)
      return calendar.error('value', 'a rolling window has no calendar', 'write isRolling: false, or remove the calendar');
    if (!rolling && calendar === undefined)
      return window.error('required', 'calendar is missing', 'write its startTime and timeZone, or isRolling: true');
    const parsed = /^([1-9]\d{0,5})([smhdwMQY])$/.exec(duration?.asText() ?? '');
    if (parsed === null)
      return duration?.error('value', 'not a length of time', 'write a whole number and one of m, h, d, w, M, Q, Y');
    return rolling ? rollingOf(parsed) : calendarOf(parsed, start, timeZone, duration);
  }

  /** Pairs of the extension, else of the alert policies, else those for the period. */
  #pairs(spec: Entry, extension: Entry | undefined, places: Places, period: WindowName): readonly BurnPair[] | undefined {
    const own = extension?.get('pairs');
    const policies = spec.list('alertPolicies').flatMap((item) => this.#conditions(item));
    if (own !== undefined) return pairsOf(own, places, period);
    const pairs = policies.flatMap((condition, index) => pairOf(condition, places, `pairs[${index}]`, period) ?? []);
    return pairs.length > 0 ? pairs : defaultPairs(period);
  }

  #conditions(item: Entry): Entry[] {
    const policy = item.get('kind') === undefined ? this.find('AlertPolicy', item, 'alertPolicy', 'alertPolicyRef') : item;
    const spec = policy?.need('spec', 'write its fields below spec');
    if (spec === undefined) return [];
    return spec.list('conditions').flatMap((one) => {
      const condition = one.get('kind') === undefined ? this.find('AlertCondition', one, 'condition', 'conditionRef') : one;
      return condition?.need('spec', 'write its fields below spec') ?? [];
    });
  }
}

function extensionOf(metadata: Entry, spec: Entry): Entry | undefined {
  const annotations = metadata.get('annotations');
  const block = annotations?.get('cooper/objective')?.nested()[0];
  const field = spec.get('x-cooper');
  if (block !== undefined && field !== undefined)
    field.error('duplicate', 'x-cooper and the annotation cooper/objective say the same', 'keep one of them');
  return (block ?? field)?.asMap();
}

function placesOf(item: Entry): Places {
  const places = new Places();
  places.at('', item);
  return places;
}

function targetOf(item: Entry, places: Places): number | undefined {
  const [share, percent] = [item.get('target'), item.get('targetPercent')];
  places.at('target', share ?? percent ?? item);
  if (share !== undefined && percent !== undefined) return percent.error('value', 'target is given as well', 'write one of them');
  if (share !== undefined) return share.asNumber();
  const number = percent?.asNumber();
  if (percent === undefined) return item.error('required', 'target is missing', 'write target: 0.99, or targetPercent: 99');
  return number === undefined ? undefined : hundredth(number);
}

const UNIT: Readonly<Record<string, CalendarWindow['unit']>> = { d: 'day', w: 'week', M: 'month', Q: 'quarter', Y: 'year' };

function rollingOf([text, digits = '', unit = '']: RegExpExecArray): { readonly period: WindowName } {
  if (isWindow(text)) return { period: text };
  return { period: windowOfSeconds(Number(digits) * UNIT_DAYS[UNIT[unit] ?? 'day'] * 86_400) };
}

function calendarOf(
  [, digits = '', letter = '']: RegExpExecArray,
  start: string | undefined,
  timeZone: string | undefined,
  at: Entry | undefined,
): { readonly period: WindowName; readonly calendar: CalendarWindow } | undefined {
  const unit = UNIT[letter];
  if (unit === undefined) return at?.error('value', `a calendar has no windows of "${letter}"`, 'use d, w, M, Q or Y');
  if (start === undefined || timeZone === undefined) return undefined;
  const count = Number(digits);
  const calendar = {
    unit,
    count,
    start: start.replace(/[T ]00:00(:00)?$/, '').replace(/^(\S+) (\d\d:\d\d)(:00)?$/, '$1T$2'),
    timeZone,
  };
  return { period: windowOfSeconds(UNIT_DAYS[unit] * count * 86_400), calendar };
}

/** A burn-rate condition has one window: the short one is a twelfth of it, as usual. */
function pairOf(spec: Entry, places: Places, field: string, period: WindowName): BurnPair | undefined {
  places.at(field, spec);
  const severity = /page|crit|high|urgent/i.test(spec.text('severity') ?? 'page') ? 'page' : 'ticket';
  spec.get('description');
  const condition = spec.need('condition', 'write kind, threshold and lookbackWindow below it')?.asMap();
  const kind = condition?.need('kind', 'write burnrate')?.asChoice(['burnrate'] as const);
  condition?.choice('op', ['gt', 'gte', 'lt', 'lte'] as const);
  const factor = places.at(`${field}.budgetPercent`, condition?.need('threshold', 'write a burn rate'))?.asNumber();
  const long = condition?.need('lookbackWindow', 'write 1h')?.asText();
  condition?.get('alertAfter');
  condition?.close();
  spec.close();
  if (condition === undefined || kind === undefined || factor === undefined || long === undefined) return undefined;
  if (!isWindow(long) || secondsOf(long) < 720 || secondsOf(long) % 720 !== 0)
    return condition.error('value', `"${long}" is no window with a twelfth in whole minutes`, 'write 1h, 6h, 1d or 3d');
  const budgetPercent = Number(((factor * secondsOf(long) * 100) / secondsOf(period)).toPrecision(9));
  return { severity, long, short: windowOfSeconds(secondsOf(long) / 12), budgetPercent };
}

const slug = (text: string | undefined): string =>
  (text ?? '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
    .slice(0, 30);
