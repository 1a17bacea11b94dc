/**
 * Just enough of Grafana's classic dashboard JSON, typed: it imports into every version since 10 and is migrated on load. Panels are
 * given in rows; positions and ids follow from the order, so that a diff of the JSON shows what changed and nothing else.
 */
import { SITE } from '../alerts/config.ts';
import { ANNOTATIONS } from './annotations.ts';
import type { Colour } from './colours.ts';
import { DATASOURCE } from './datasource.ts';
import { panelJson } from './panel-json.ts';

export type Unit = 's' | 'bytes' | 'percentunit' | 'short' | 'none' | 'dateTimeFromNow' | 'currencyUSD' | 'ops' | 'Bps';

export interface Target {
  /** PromQL; with `language`, LogQL or TraceQL. */
  readonly expr: string;
  readonly legend: string;
  readonly language?: 'logql' | 'traceql';
  /** Ask the server for exemplars: dots that lead to traces. */
  readonly exemplar?: boolean;
  /** One value now instead of a series over time. */
  readonly instant?: boolean;
  /** In a table with several targets: the column its values become. */
  readonly column?: Column;
}
export interface Column {
  readonly title: string;
  readonly unit: Unit;
  readonly decimals?: number;
  readonly mappings?: readonly Mapping[];
  readonly thresholds?: readonly Threshold[];
}
export interface Threshold {
  /** Lower bound; null for the base colour. */
  readonly value: number | null;
  readonly color: Colour;
}
/** A number that stands for a word. */
export interface Mapping {
  readonly value: number;
  readonly text: string;
  readonly color: Colour;
}
export interface Panel {
  readonly type: 'stat' | 'timeseries' | 'table' | 'state-timeline' | 'heatmap' | 'text' | 'alertlist' | 'logs' | 'traces';
  readonly title: string;
  readonly description: string;
  readonly unit: Unit;
  readonly targets: readonly Target[];
  readonly thresholds?: readonly Threshold[];
  readonly mappings?: readonly Mapping[];
  /** Draw thresholds as lines across a time series. */
  readonly thresholdLines?: boolean;
  readonly stacked?: boolean;
  readonly bars?: boolean;
  readonly decimals?: number;
  readonly max?: number;
  /** Of a text panel: Markdown. */
  readonly content?: string;
  /** Labels that become no column of a table. */
  readonly hidden?: readonly string[];
  /** Alerts this panel shows the cause of; their runbooks become links. */
  readonly alerts?: readonly string[];
  /** Where to look closer: the uid of a board, instead of the board's own `drillDown`. */
  readonly drillDown?: string;
  /** On a healthy machine this panel is empty; what has to happen first. Shown in place of data. */
  readonly emptyUntil?: string;
  /** Grid columns of 24. */
  readonly width: number;
  readonly height?: number;
}
export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
  /** Its panels ask nothing until somebody opens the row. */
  readonly collapsed?: boolean;
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  /** The question whoever opens it has. */
  readonly question: string;
  readonly from: string;
  readonly refresh: string;
  readonly rows: readonly Row[];
  /** Other dashboards of the set. */
  readonly links: readonly { readonly title: string; readonly uid: string }[];
  /** The board that panels lead to. */
  readonly drillDown: string;
  readonly textVariables?: readonly { readonly name: string; readonly label: string; readonly value: string }[];
  /** Variables with the values of a label; one value at a time. */
  readonly labelVariables?: readonly LabelVariable[];
  /** Data sources other than Prometheus that panels of this board ask. */
  readonly sources?: readonly ('loki' | 'tempo')[];
}
export interface LabelVariable {
  readonly name: string;
  readonly label: string;
  /** `label_values(...)`. */
  readonly query: string;
  readonly value: string;
}

/** Carries the time range and every variable along. */
export const boardUrl = (uid: string): string => `/d/${uid}?\${__url_time_range}&\${__all_variables}`;

export function dashboardJson(dashboard: Dashboard): object {
  return {
    uid: dashboard.uid,
    title: dashboard.title,
    description: dashboard.description,
    tags: ['cooper'],
    schemaVersion: 39,
    version: 1,
    editable: false,
    graphTooltip: 1,
    timezone: 'utc',
    time: { from: dashboard.from, to: 'now' },
    refresh: dashboard.refresh,
    annotations: { list: ANNOTATIONS },
    links: [
      ...dashboard.links.map(({ title, uid }) => link(title, boardUrl(uid))),
      link('Silences', `${SITE.alertmanagerUrl}/#/silences`),
      link('Runbooks', SITE.runbooksUrl),
    ],
    templating: {
      list: [
        sourceVariable('prometheus'),
        ...(dashboard.sources ?? []).map(sourceVariable),
        ...scopeVariables(),
        ...(dashboard.labelVariables ?? []).map(labelVariable),
        ...(dashboard.textVariables ?? []).map(textVariable),
      ],
    },
    panels: layout(dashboard),
  };
}

const link = (title: string, url: string): object => ({
  title,
  type: 'link',
  icon: 'external link',
  url,
  targetBlank: false,
  keepTime: false,
  includeVars: false,
  tags: [],
  asDropdown: false,
  tooltip: '',
});

/** Rows of panels, left to right, wrapping at 24 columns; the panels of a collapsed row are inside it. */
function layout(dashboard: Dashboard): object[] {
  const out: object[] = [];
  let id = 0;
  let y = 0;
  for (const { title, panels, collapsed = false } of dashboard.rows) {
    const rowId = ++id;
    const rowY = y;
    y += 1;
    let x = 0;
    let tallest = 0;
    const placed = panels.map((panel) => {
      const h = panel.height ?? 8;
      if (x + panel.width > 24) {
        x = 0;
        y += tallest;
        tallest = 0;
      }
      const json = { id: ++id, ...panelJson(panel, dashboard), gridPos: { x, y, w: panel.width, h } };
      x += panel.width;
      tallest = Math.max(tallest, h);
      return json;
    });
    const gridPos = { x: 0, y: rowY, w: 24, h: 1 };
    out.push({ id: rowId, type: 'row', title, collapsed, panels: collapsed ? placed : [], gridPos });
    if (collapsed) y = rowY + 1;
    else {
      out.push(...placed);
      y += tallest;
    }
  }
  return out;
}

const SOURCE_NAMES = { prometheus: 'Prometheus', loki: 'Loki', tempo: 'Tempo' } as const;
const sourceVariable = (kind: keyof typeof SOURCE_NAMES): object => ({
  name: `${kind}_datasource`,
  label: `${SOURCE_NAMES[kind]} data source`,
  type: 'datasource',
  query: kind,
  current: {},
  hide: 0,
  multi: false,
  includeAll: false,
  refresh: 1,
});

/** Fed by a series that exists as soon as a daemon runs; "all" matches everything, so that a fresh board is never empty. */
const scopeVariables = (): object[] =>
  [
    { name: 'job', label: 'Job', query: 'label_values(cooper_build_info, job)' },
    { name: 'instance', label: 'Instance', query: 'label_values(cooper_build_info{job=~"$job"}, instance)' },
  ].map(({ name, label, query }) => ({
    ...queryVariable(name, label, query),
    multi: true,
    includeAll: true,
    allValue: '.+',
    current: { text: 'All', value: '$__all' },
  }));

const labelVariable = ({ name, label, query, value }: LabelVariable): object => ({
  ...queryVariable(name, label, query),
  multi: false,
  includeAll: false,
  current: { text: value, value },
});

const queryVariable = (name: string, label: string, query: string): object => ({
  name,
  label,
  type: 'query',
  datasource: DATASOURCE.prometheus,
  query: { query, refId: `variable-${name}` },
  definition: query,
  refresh: 2,
  sort: 1,
  hide: 0,
});

const textVariable = (variable: { readonly name: string; readonly label: string; readonly value: string }): object => ({
  name: variable.name,
  label: variable.label,
  type: 'textbox',
  query: variable.value,
  current: { text: variable.value, value: variable.value },
  hide: 0,
});
