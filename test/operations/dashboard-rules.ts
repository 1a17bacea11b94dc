/**
 * What a dashboard has to hold. First the public rules, those of grafana/dashboard-linter, by their names there, so that they hold where
 * the linter cannot be installed; its `lint --strict` is the judge in doubt. Then rules of our own, which need the catalogue.
 */
import type { Dashboard, Panel, Target, Unit } from '../../dashboards/grafana.ts';
import { CATALOG } from '../../src/telemetry/catalog.ts';
import { exposedNamesOf, type MetricSpec } from '../../src/telemetry/metric-spec.ts';

export interface TargetJson {
  readonly expr?: string;
  readonly query?: string;
  readonly exemplar?: boolean;
  readonly datasource: { readonly type: string; readonly uid: string };
}
export interface PanelJson {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly targets?: readonly TargetJson[];
  readonly datasource?: { readonly uid: string };
  readonly links?: readonly { readonly title: string; readonly url: string }[];
  readonly panels?: readonly PanelJson[];
  readonly fieldConfig?: {
    readonly defaults: {
      readonly unit?: string;
      readonly thresholds: { readonly steps: readonly { readonly value: number | null }[] };
    };
    readonly overrides: readonly {
      readonly matcher: { readonly options: string };
      readonly properties: readonly { readonly id: string; readonly value: unknown }[];
    }[];
  };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
}
export interface VariableJson {
  readonly name: string;
  readonly label: string;
  readonly type: string;
  readonly query: string | { readonly query: string };
  readonly datasource?: { readonly uid: string };
  readonly refresh?: number;
  readonly multi?: boolean;
  readonly includeAll?: boolean;
  readonly allValue?: string;
}
export interface BoardJson {
  readonly uid: string;
  readonly title: string;
  readonly editable: boolean;
  readonly panels: readonly PanelJson[];
  readonly links: readonly { readonly url: string }[];
  readonly templating: { readonly list: readonly VariableJson[] };
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] };
}

/** Panels without the rows, those inside collapsed rows too. */
export const panelsOf = (board: BoardJson): PanelJson[] =>
  board.panels.flatMap((panel) => (panel.type === 'row' ? (panel.panels ?? []) : [panel]));

const PROMETHEUS = '$' + '{prometheus_datasource}';
const UNITS: readonly Unit[] = ['s', 'bytes', 'percentunit', 'short', 'none', 'dateTimeFromNow', 'currencyUSD', 'ops', 'Bps'];

/** What is wrong by the public rules, each with the name of the rule; empty when the board is clean. */
export function publicProblems(board: BoardJson): string[] {
  return [
    ...(board.editable ? ['uneditable-dashboard'] : []),
    ...board.templating.list.flatMap(variableProblems),
    ...['prometheus_datasource', 'job', 'instance']
      .filter((name) => !board.templating.list.some((variable) => variable.name === name))
      .map((name) => `template-${name}: missing`),
    ...panelsOf(board).flatMap((panel) => panelProblems(panel).map((problem) => `${panel.title}: ${problem}`)),
  ];
}

function variableProblems(variable: VariableJson): string[] {
  const { name, type } = variable;
  const problems: string[] = [];
  if (type === 'datasource') {
    const kind = String(variable.query);
    if (name !== `${kind}_datasource`) problems.push(`template-datasource: ${name}`);
    if (variable.label !== `${kind[0]?.toUpperCase()}${kind.slice(1)} data source`)
      problems.push(`template-datasource: ${variable.label}`);
  }
  if (type === 'query') {
    const query = typeof variable.query === 'string' ? variable.query : variable.query.query;
    if (!/^label_values\(\w+(\{[^}]*\})?, \w+\)$/.test(query)) problems.push(`template-label-promql: ${query}`);
    if (variable.refresh !== 2) problems.push(`template-on-time-change-reload: ${name}`);
    if (variable.datasource?.uid !== PROMETHEUS) problems.push(`template-${name}: data source`);
  }
  if (name === 'job' || name === 'instance') {
    if (type !== 'query' || variable.multi !== true || variable.allValue !== '.+') problems.push(`template-${name}`);
    if (variable.label.toLowerCase() !== name) problems.push(`template-${name}: label ${variable.label}`);
  }
  return problems;
}

function panelProblems(panel: PanelJson): string[] {
  const problems: string[] = [];
  if (!panel.title || !panel.description) problems.push('panel-title-description');
  if (panel.type === 'text') return problems;
  if (!/^\$\{\w+_datasource\}$/.test(panel.datasource?.uid ?? '')) problems.push('panel-datasource');
  if (!UNITS.includes(panel.fieldConfig?.defaults.unit as Unit)) problems.push('panel-units');
  if (panel.type === 'alertlist') return problems;
  if ((panel.targets ?? []).length === 0) problems.push('panel-no-targets');
  for (const { expr, datasource } of panel.targets ?? []) {
    if (datasource.type === 'prometheus') problems.push(...queryProblems(expr ?? '').map((problem) => `${problem}: ${expr}`));
  }
  return problems;
}

const WORDS = new Set(['and', 'or', 'unless', 'offset', 'bool', 'by', 'on', 'without', 'ignoring', 'group_left', 'group_right']);

export interface Selector {
  readonly name: string;
  readonly matchers: string;
  /** What precedes it, to see whether it stands in a function. */
  readonly before: string;
  /** What follows. */
  readonly after: string;
}

/** The vector selectors of a query, with or without braces. */
export function selectorsOf(expr: string): Selector[] {
  const bare = expr.replaceAll(/\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  const found: Selector[] = [];
  for (const match of bare.matchAll(/(?<![\w$"])([a-zA-Z_:][\w:]*)(\s*\{(?:[^"}]|"[^"]*")*\})?/g)) {
    const [text, name = '', matchers = ''] = match;
    const at = match.index ?? 0;
    const after = bare.slice(at + text.length);
    if (WORDS.has(name) || after.trimStart().startsWith('(')) continue;
    found.push({ name, matchers: matchers.trim(), before: bare.slice(0, at), after });
  }
  return found;
}

function queryProblems(expr: string): string[] {
  const problems: string[] = [];
  if (expr === '') problems.push('target-promql');
  for (const { name, matchers, before, after } of selectorsOf(expr)) {
    if (!matchers.includes('job=~"$job"')) problems.push('target-job');
    if (!matchers.includes('instance=~"$instance"')) problems.push('target-instance');
    const call = /(\w+)\s*\($/.exec(before)?.[1];
    const range = /^\[([^\]]*)\]/.exec(after)?.[1];
    if (/_(total|bucket|sum|count)$/.test(name) && !(range !== undefined && ['rate', 'irate', 'increase'].includes(call ?? '')))
      problems.push('target-counter-agg');
    if (range !== undefined && /^i?rate$/.test(call ?? '') && range !== '$__rate_interval') problems.push('target-rate-interval');
  }
  return problems;
}

// ---- our own

const BY_NAME = new Map<string, MetricSpec>(CATALOG.flatMap((spec) => exposedNamesOf(spec).map((name) => [name, spec] as const)));
/** Series that Prometheus itself makes. */
const FOREIGN = new Set(['up', 'scrape_samples_scraped', 'scrape_duration_seconds', 'ALERTS']);

/** Names in a query that neither the catalogue nor Prometheus knows. */
export const unknownMetrics = (expr: string): string[] =>
  selectorsOf(expr)
    .map(({ name }) => name)
    .filter((name) => !BY_NAME.has(name) && !FOREIGN.has(name));

export const metricsOf = (expr: string): MetricSpec[] => selectorsOf(expr).flatMap(({ name }) => BY_NAME.get(name) ?? []);

/** The units a query's answer may be shown in; undefined when arithmetic makes something new of the metric. */
export function unitsFor(expr: string): readonly Unit[] | undefined {
  if (/_timestamp_seconds|process_start_time/.test(expr) && expr.endsWith('* 1000')) return ['dateTimeFromNow'];
  const [only, more] = selectorsOf(expr);
  const spec = BY_NAME.get(only?.name ?? '');
  if (only === undefined || more !== undefined || spec === undefined || / [-+*/<>] |bool/.test(expr)) return undefined;
  const how = /\b(histogram_quantile|increase|rate)\b/.exec(expr)?.[1];
  const counts = spec.kind === 'histogram' && !only.name.endsWith('_sum') && how !== 'histogram_quantile';
  if (spec.unit === 'count' || counts) return how === 'rate' ? ['ops', 'short'] : ['short', 'none'];
  if (spec.unit === 'ratio') return ['percentunit', 'short']; // a burn rate is a factor
  const perSecond = how === 'rate' || (how === undefined && spec.kind !== 'gauge');
  if (spec.unit === 'seconds') return perSecond && !expr.startsWith('histogram_quantile') ? ['short'] : ['s'];
  if (spec.unit === 'bytes') return perSecond && !expr.startsWith('histogram_quantile') ? ['Bps'] : ['bytes'];
  return undefined;
}

export interface Asked {
  readonly board: Dashboard;
  readonly panel: Panel;
  readonly target: Target;
}
/** Every question in PromQL of these boards. */
export const questionsOf = (boards: readonly Dashboard[]): Asked[] =>
  boards.flatMap((board) =>
    board.rows.flatMap(({ panels }) =>
      panels.flatMap((panel) =>
        panel.targets.filter(({ language }) => language === undefined).map((target) => ({ board, panel, target })),
      ),
    ),
  );
