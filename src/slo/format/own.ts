/** Our own files: `apiVersion: cooper/v1`, `kind: Objectives`, and below `objectives:` the fields of spec.ts. */
import { calendarProblem, UNIT_DAYS } from '../calendar.ts';
import type { Budgeting, CalendarWindow, Objective } from '../spec.ts';
import { toYaml, type YamlValue } from '../yaml.ts';
import type { Entry } from './entry.ts';
import { extrasFrom, nameOf, pairsOf, proseOf, shareOf, windowOf } from './fields.ts';
import { type Catalogue, indicatorFrom } from './indicators.ts';
import { type Located, Places } from './located.ts';

export const OWN_VERSION = 'cooper/v1';

/** The objectives of one document; those with errors are left out, and the errors reported. */
export function readOwn(root: Entry, catalogue: Catalogue): Located[] {
  root.get('apiVersion');
  root.need('kind', 'write Objectives')?.asChoice(['Objectives'] as const);
  const items = root.need('objectives', 'list the objectives below it')?.asList() ?? [];
  const read = items.flatMap((item) => objectiveFrom(item, catalogue) ?? []);
  root.close();
  return read;
}

function objectiveFrom(item: Entry, catalogue: Catalogue): Located | undefined {
  if (item.asMap() === undefined) return undefined;
  const before = item.source.findings.length;
  const places = new Places();
  places.at('', item);
  const name = nameOf(places.at('name', item.need('name', 'name it, as in build-success')));
  const title = proseOf(item.get('title'), 100) ?? name;
  const target = shareOf(places.at('target', item.need('target', 'write the share that must be good, as in 0.99')));
  const calendar = calendarFrom(item.get('calendar'), places);
  const period = windowOf(places.at('period', calendar === undefined ? item.need('period', 'write 7d') : item.get('period')));
  const indicator = indicatorFrom(item.need('indicator', 'say what is counted'), places, catalogue);
  const budgeting = budgetingFrom(item.get('budgeting'), places);
  const over = period ?? (calendar && (`${UNIT_DAYS[calendar.unit] * calendar.count}d` as const)) ?? '7d';
  const composite = indicator?.kind === 'worst-of' && item.get('pairs') === undefined;
  const pairs = composite ? [] : pairsOf(item.get('pairs'), places, over);
  const extras = extrasFrom(item, places, name ?? 'unnamed');
  const rest = { description: proseOf(item.get('description')) ?? '', service: nameOf(item.get('service')) ?? 'cooper' };
  item.close();
  const failed = item.source.findings.slice(before).some(({ level }) => level === 'error');
  if (failed || !name || !title || target === undefined || !indicator || !budgeting || !pairs) return undefined;
  const objective: Objective = {
    ...{ name, title, ...rest, target, period: over, ...(calendar && { calendar }) },
    ...{ indicator, budgeting, pairs, ...extras },
  };
  return { objective, places };
}

function calendarFrom(entry: Entry | undefined, places: Places): CalendarWindow | undefined {
  if (entry === undefined || places.at('calendar', entry).asMap() === undefined) return undefined;
  const units = ['day', 'week', 'month', 'quarter', 'year'] as const;
  const unit = entry.need('unit', 'write month')?.asChoice(units);
  const count = places.at('calendar.count', entry.get('count'))?.asNumber() ?? 1;
  const start = places.at('calendar.start', entry.need('start', 'write the day one begins, as in 2026-01-01'))?.asText();
  const timeZone = places.at('calendar.timeZone', entry.need('timeZone', 'write Europe/Berlin, or UTC'))?.asText();
  entry.close();
  if (unit === undefined || start === undefined || timeZone === undefined) return undefined;
  return checkedCalendar({ unit, count, start, timeZone }, entry);
}

/** The window, when there is such a one; else the entry says what is wrong. */
export function checkedCalendar(window: CalendarWindow, entry: Entry): CalendarWindow | undefined {
  const problem = calendarProblem(window);
  return problem === undefined ? window : entry.error('value', `${problem.field}: ${problem.message}`, problem.fix);
}

function budgetingFrom(entry: Entry | undefined, places: Places): Budgeting | undefined {
  const kinds = ['occurrences', 'timeslices', 'ratio-timeslices'] as const;
  if (entry === undefined) return { kind: 'occurrences' };
  places.at('budgeting', entry);
  const kind = entry.isMap ? entry.need('kind', 'write occurrences')?.asChoice(kinds) : entry.asChoice(kinds);
  if (kind === undefined || kind === 'occurrences') {
    entry.close();
    return kind && { kind };
  }
  if (entry.asMap() === undefined) return undefined;
  const slice = places.at('budgeting.sliceSeconds', entry.get('sliceSeconds'))?.asNumber() ?? 300;
  const share =
    kind === 'timeslices'
      ? places.at('budgeting.threshold', entry.need('threshold', 'write what makes a slice good, as in 0.9'))
      : undefined;
  const threshold = shareOf(share);
  entry.close();
  if (kind === 'ratio-timeslices') return { kind, sliceSeconds: slice };
  return threshold === undefined ? undefined : { kind, sliceSeconds: slice, threshold };
}

/** Objectives as a file that readOwn reads as the same. */
export const writeOwn = (objectives: readonly Objective[]): string =>
  toYaml({ apiVersion: OWN_VERSION, kind: 'Objectives', objectives: objectives as unknown as YamlValue });
