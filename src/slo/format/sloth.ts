/** Sloth's `prometheus/v1` in. Its windows are 30 days, its alerts the pairs of the SRE workbook. https://sloth.dev/specs/default/ */
import { MONTHLY_PAIRS, type Objective } from '../spec.ts';
import type { Entry } from './entry.ts';
import { defaultAlertName, hundredth, NAME, nameOf, proseOf } from './fields.ts';
import { type Catalogue, queryFrom, ratioFrom, rawRatioFrom } from './indicators.ts';
import { type Located, Places } from './located.ts';

export const SLOTH_VERSION = 'prometheus/v1';

/** The objectives of one document; `service-name` each. What labels and annotations say is left out, with a warning. */
export function readSloth(root: Entry, catalogue: Catalogue): Located[] {
  root.get('version');
  const service = nameOf(root.need('service', 'name the service'));
  leftOut(root, ['labels']);
  const items = root.need('slos', 'list the SLOs below it')?.asList() ?? [];
  const read = items.flatMap((item) => sloFrom(item, service ?? 'cooper', catalogue) ?? []);
  root.close();
  return service === undefined ? [] : read;
}

function sloFrom(item: Entry, service: string, catalogue: Catalogue): Located | undefined {
  if (item.asMap() === undefined) return undefined;
  const before = item.source.findings.length;
  const places = new Places();
  places.at('', item);
  const short = nameOf(places.at('name', item.need('name', 'name it')));
  const percent = places.at('target', item.need('objective', 'write a percentage, as in 99.9'));
  const target = percent?.asNumber();
  if (target !== undefined && !(target > 0 && target < 100))
    percent?.error('value', `${target} is not a percentage below 100`, 'write 99.9 for 99.9 %');
  const description = proseOf(item.get('description')) ?? '';
  leftOut(item, ['labels']);
  const sli = places.at('indicator', item.need('sli', 'write events with error_query and total_query'));
  const indicator = sli && indicatorOf(sli, places, catalogue);
  const name = `${service}-${short}`;
  if (short !== undefined && !NAME.test(name)) item.error('value', `"${name}" is too long for a name`, 'shorten one of the two');
  const alerting = alertingOf(item.get('alerting'), places, name);
  item.close();
  const failed = item.source.findings.slice(before).some(({ level }) => level === 'error');
  if (failed || short === undefined || target === undefined || !indicator) return undefined;
  const objective: Objective = {
    ...{ name, title: name, description, reasoning: '', service, target: hundredth(target), period: '30d' },
    ...{ indicator, budgeting: { kind: 'occurrences' }, eventWord: 'events', rootCause: 'builder', ...alerting },
  };
  return { objective, places };
}

function indicatorOf(sli: Entry, places: Places, catalogue: Catalogue): Objective['indicator'] | undefined {
  const [events, raw, plugin] = [sli.get('events'), sli.get('raw'), sli.get('plugin')];
  sli.close();
  if (plugin !== undefined)
    return plugin.error('unsupported', 'plugins of Sloth are Go code', 'write the queries it makes under events');
  if (raw !== undefined) {
    const at = places.at('indicator.total', raw.need('error_ratio_query', 'write errors / total'));
    const query = queryFrom(at, catalogue);
    raw.close();
    return at && query && rawRatioFrom('bad', query, at);
  }
  if (events === undefined) return sli.error('required', 'events is missing', 'write error_query and total_query below it');
  const errors = places.at('indicator.bad', events.need('error_query', 'write the bad events'));
  const total = places.at('indicator.total', events.need('total_query', 'write all events'));
  const [bad, all] = [queryFrom(errors, catalogue), queryFrom(total, catalogue)];
  events.close();
  return errors && bad && all && ratioFrom('bad', bad, all, errors);
}

function alertingOf(entry: Entry | undefined, places: Places, name: string): Pick<Objective, 'alertName' | 'pairs'> {
  if (entry === undefined) return { alertName: defaultAlertName(name), pairs: MONTHLY_PAIRS };
  places.at('pairs', entry);
  const alertName = entry.get('name')?.asPattern(/^[a-zA-Z_]\w{2,80}$/, 'the name of an alert', 'use letters, digits and _');
  leftOut(entry, ['labels', 'annotations']);
  const disabled = (['page', 'ticket'] as const).filter((severity) => {
    const alert = entry.get(`${severity}_alert`);
    if (alert === undefined) return false;
    leftOut(alert, ['labels', 'annotations']);
    const off = alert.boolean('disable') === true;
    alert.close();
    return off;
  });
  entry.close();
  const pairs = MONTHLY_PAIRS.filter(({ severity }) => !disabled.includes(severity));
  return { alertName: alertName ?? defaultAlertName(name), pairs };
}

function leftOut(at: Entry, keys: readonly string[]): void {
  for (const key of keys) {
    const entry = at.get(key);
    if (entry === undefined || entry.keys().length === 0) continue;
    entry.warning(
      'unsupported',
      `${key} have no place in the generated rules and are left out`,
      'set them with relabelling or routes',
    );
  }
}
