/**
 * Just enough of Grafana's classic dashboard JSON, typed: it imports into every version since 10 and is migrated on load. Panels are
 * given in rows; positions and ids follow from the order, so that a diff of the JSON shows what changed and nothing else.
 */
export type Unit = 's' | 'bytes' | 'percentunit' | 'short' | 'none' | 'dateTimeFromNow' | 'currencyUSD' | 'ops' | 'Bps';

export interface Target {
  readonly expr: string;
  readonly legend: string;
  /** Ask the server for exemplars: dots that lead to traces. */
  readonly exemplar?: boolean;
  /** One value now instead of a series over time. */
  readonly instant?: boolean;
}
export interface Threshold {
  /** Lower bound; null for the base colour. */
  readonly value: number | null;
  readonly color: 'green' | 'yellow' | 'orange' | 'red' | 'blue' | 'text';
}
export interface Panel {
  readonly type: 'stat' | 'timeseries' | 'table' | 'state-timeline' | 'heatmap' | 'text';
  readonly title: string;
  readonly description: string;
  readonly unit: Unit;
  readonly targets: readonly Target[];
  readonly thresholds?: readonly Threshold[];
  /** Draw thresholds as lines across a time series. */
  readonly thresholdLines?: boolean;
  readonly stacked?: boolean;
  readonly bars?: boolean;
  readonly decimals?: number;
  readonly max?: number;
  readonly content?: string;
  /** Grid columns of 24. */
  readonly width: number;
  readonly height?: number;
}
export interface Row {
  readonly title: string;
  readonly panels: readonly Panel[];
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly from: string;
  readonly refresh: string;
  readonly rows: readonly Row[];
  /** Other dashboards of the set. */
  readonly links: readonly { readonly title: string; readonly uid: string }[];
  readonly textVariables?: readonly { readonly name: string; readonly label: string; readonly value: string }[];
}

// biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is Grafana's
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
const RESULT_COLOURS: Readonly<Record<string, string>> = {
  success: 'green',
  failure: 'blue',
  error: 'red',
  timeout: 'orange',
  cancellation: 'text',
};

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
    annotations: { list: [restartAnnotation()] },
    links: dashboard.links.map((link) => ({
      title: link.title,
      type: 'link',
      icon: 'external link',
      url: `/d/${link.uid}?\${__url_time_range}&\${__all_variables}`,
      targetBlank: false,
      keepTime: false,
      includeVars: false,
      tags: [],
      asDropdown: false,
      tooltip: '',
    })),
    templating: { list: [datasourceVariable(), ...scopeVariables(), ...(dashboard.textVariables ?? []).map(textVariable)] },
    panels: layout(dashboard.rows),
  };
}

/** Rows of panels, left to right, wrapping at 24 columns. */
function layout(rows: readonly Row[]): object[] {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      type: 'row',
      title: row.title,
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: 24, h: 1 },
    });
    y += 1;
    let x = 0;
    let tallest = 0;
    for (const panel of row.panels) {
      const h = panel.height ?? 8;
      if (x + panel.width > 24) {
        x = 0;
        y += tallest;
        tallest = 0;
      }
      panels.push({ id: panels.length + 1, ...panelJson(panel), gridPos: { x, y, w: panel.width, h } });
      x += panel.width;
      tallest = Math.max(tallest, h);
    }
    y += tallest;
  }
  return panels;
}

function panelJson(panel: Panel): object {
  const common = { type: panel.type, title: panel.title, description: panel.description };
  if (panel.type === 'text') return { ...common, options: { mode: 'markdown', content: panel.content ?? '' } };
  return {
    ...common,
    datasource: DATASOURCE,
    targets: panel.targets.map((target, index) => targetJson(target, index, panel)),
    fieldConfig: { defaults: fieldDefaults(panel), overrides: colourOverrides(panel) },
    options: optionsOf(panel),
  };
}

function targetJson(target: Target, index: number, panel: Panel): object {
  const instant = target.instant ?? (panel.type === 'stat' || panel.type === 'table');
  return {
    refId: String.fromCharCode(65 + index),
    datasource: DATASOURCE,
    editorMode: 'code',
    expr: target.expr,
    legendFormat: target.legend,
    instant,
    range: !instant,
    exemplar: target.exemplar ?? false,
    ...(panel.type === 'table' && { format: 'table' }),
    ...(panel.type === 'heatmap' && { format: 'heatmap' }),
  };
}

function fieldDefaults(panel: Panel): object {
  return {
    unit: panel.unit,
    ...(panel.decimals !== undefined && { decimals: panel.decimals }),
    ...(panel.max !== undefined && { max: panel.max }),
    ...(panel.type !== 'stat' && panel.unit !== 'dateTimeFromNow' && { min: 0 }),
    color: { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' },
    thresholds: { mode: 'absolute', steps: panel.thresholds ?? [{ value: null, color: 'text' }] },
    ...(panel.type === 'timeseries' && {
      custom: {
        drawStyle: panel.bars === true ? 'bars' : 'line',
        lineWidth: 1,
        fillOpacity: panel.stacked === true ? 40 : panel.bars === true ? 60 : 10,
        showPoints: 'never',
        spanNulls: false,
        stacking: { mode: panel.stacked === true ? 'normal' : 'none', group: 'A' },
        thresholdsStyle: { mode: panel.thresholdLines === true ? 'dashed' : 'off' },
      },
    }),
  };
}

/** Results have the same colour on every board; red is for faults of ours only. */
function colourOverrides(panel: Panel): object[] {
  if (!panel.targets.some(({ legend }) => legend.includes('{{result}}'))) return [];
  return Object.entries(RESULT_COLOURS).map(([result, color]) => ({
    matcher: { id: 'byRegexp', options: `/^${result}/` },
    properties: [{ id: 'color', value: { mode: 'fixed', fixedColor: color } }],
  }));
}

function optionsOf(panel: Panel): object {
  switch (panel.type) {
    case 'stat':
      return {
        reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
        colorMode: 'value',
        graphMode: 'none',
        textMode: 'value_and_name',
      };
    case 'timeseries':
      return {
        legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
        tooltip: { mode: 'multi', sort: 'desc' },
      };
    case 'table':
      return { showHeader: true, footer: { show: false } };
    case 'state-timeline':
      return {
        mergeValues: true,
        showValue: 'never',
        legend: { displayMode: 'list', placement: 'bottom' },
        tooltip: { mode: 'single' },
      };
    case 'heatmap':
      return {
        calculate: false,
        yAxis: { unit: panel.unit },
        color: { scheme: 'Oranges', mode: 'scheme' },
        exemplars: { color: 'rgba(255,0,255,0.7)' },
      };
    case 'text':
      return {};
  }
}

const restartAnnotation = (): object => ({
  name: 'daemon start',
  datasource: DATASOURCE,
  enable: true,
  iconColor: 'blue',
  expr: 'changes(process_start_time_seconds{job=~"$job",instance=~"$instance"}[$__interval]) > 0',
  titleFormat: 'daemon started',
  textFormat: '{{instance}}',
});

const datasourceVariable = (): object => ({
  name: 'datasource',
  label: 'Data source',
  type: 'datasource',
  query: 'prometheus',
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
    name,
    label,
    type: 'query',
    datasource: DATASOURCE,
    query: { query, refId: `variable-${name}` },
    definition: query,
    multi: true,
    includeAll: true,
    allValue: '.+',
    current: { text: 'All', value: '$__all' },
    refresh: 2,
    sort: 1,
    hide: 0,
  }));

const textVariable = (variable: { readonly name: string; readonly label: string; readonly value: string }): object => ({
  name: variable.name,
  label: variable.label,
  type: 'textbox',
  query: variable.value,
  current: { text: variable.value, value: variable.value },
  hide: 0,
});
