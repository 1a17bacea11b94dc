/** One panel as Grafana's JSON. */
import { SITE } from '../alerts/config.ts';
import { colourOverrides } from './colours.ts';
import { DATASOURCE } from './datasource.ts';
import { boardUrl, type Column, type Dashboard, type Mapping, type Panel, type Target } from './grafana.ts';

export function panelJson(panel: Panel, dashboard: Dashboard): object {
  const common = {
    type: panel.type,
    title: panel.title,
    description: panel.description,
    links: linksOf(panel, dashboard),
  };
  if (panel.type === 'text') return { ...common, options: optionsOf(panel) };
  const source = DATASOURCE[panel.targets[0]?.language ?? 'prometheus'];
  return {
    ...common,
    datasource: source,
    targets: panel.targets.map((target, index) => targetJson(target, index, panel)),
    fieldConfig: { defaults: fieldDefaults(panel), overrides: [...colours(panel), ...columns(panel)] },
    options: optionsOf(panel),
    ...(panel.type === 'table' && panel.targets[0]?.language === undefined && { transformations: transformations(panel) }),
  };
}

/** Runbooks of the alerts a panel explains, then the board to look closer on. */
function linksOf(panel: Panel, dashboard: Dashboard): object[] {
  const runbooks = (panel.alerts ?? []).map((alert) => ({
    title: `Runbook: ${alert}`,
    url: `${SITE.runbooksUrl}/${alert}.md`,
    targetBlank: true,
  }));
  const uid = panel.drillDown ?? dashboard.drillDown;
  return [...runbooks, ...(uid === dashboard.uid ? [] : [{ title: 'Look closer', url: boardUrl(uid), targetBlank: false }])];
}

function targetJson(target: Target, index: number, panel: Panel): object {
  const instant = target.instant ?? (panel.type === 'stat' || panel.type === 'table');
  const refId = refIdOf(index);
  const datasource = DATASOURCE[target.language ?? 'prometheus'];
  if (target.language === 'traceql') {
    return { refId, datasource, queryType: 'traceql', query: target.expr, limit: 20, tableType: 'traces' };
  }
  if (target.language === 'logql') return { refId, datasource, queryType: 'range', expr: target.expr, maxLines: 200 };
  return {
    refId,
    datasource,
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
const refIdOf = (index: number): string => String.fromCharCode(65 + index);

function fieldDefaults(panel: Panel): object {
  const signed = panel.type === 'stat' || panel.type === 'table' || panel.unit === 'dateTimeFromNow';
  return {
    unit: panel.unit,
    ...(panel.decimals !== undefined && { decimals: panel.decimals }),
    ...(panel.max !== undefined && { max: panel.max }),
    ...(panel.emptyUntil !== undefined && { noValue: `empty until ${panel.emptyUntil}` }),
    ...(!signed && { min: 0 }),
    ...(panel.mappings !== undefined && { mappings: mappingsJson(panel.mappings) }),
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

const mappingsJson = (mappings: readonly Mapping[]): object[] => [
  {
    type: 'value',
    options: Object.fromEntries(mappings.map(({ value, text, color }, index) => [String(value), { text, color, index }])),
  },
];

const colours = (panel: Panel): object[] => colourOverrides(panel.targets.map(({ legend }) => legend));

/** Names, units and colours of the value columns of a table. */
function columns(panel: Panel): object[] {
  return panel.targets.flatMap(({ column }, index) =>
    column === undefined ? [] : [columnOverride(column, valueName(panel, index))],
  );
}
/** What Grafana calls the values of a target: with one target, just Value. */
const valueName = (panel: Panel, index: number): string => (panel.targets.length === 1 ? 'Value' : `Value #${refIdOf(index)}`);

const columnOverride = ({ title, unit, decimals, mappings, thresholds }: Column, name: string): object => ({
  matcher: { id: 'byName', options: name },
  properties: [
    { id: 'displayName', value: title },
    { id: 'unit', value: unit },
    ...(decimals === undefined ? [] : [{ id: 'decimals', value: decimals }]),
    ...(mappings === undefined ? [] : [{ id: 'mappings', value: mappingsJson(mappings) }]),
    ...(thresholds === undefined ? [] : [{ id: 'thresholds', value: { mode: 'absolute', steps: thresholds } }]),
    ...(mappings === undefined && thresholds === undefined
      ? []
      : [{ id: 'custom.cellOptions', value: { type: 'color-background', mode: 'basic' } }]),
  ],
});

/** One row per label set, without the columns nobody reads. */
function transformations(panel: Panel): object[] {
  const hidden = Object.fromEntries(['Time', '__name__', ...(panel.hidden ?? [])].map((name) => [name, true]));
  return [
    { id: 'merge', options: {} },
    { id: 'organize', options: { excludeByName: hidden, indexByName: {}, renameByName: {} } },
  ];
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
    case 'alertlist':
      return {
        viewMode: 'list',
        groupMode: 'default',
        groupBy: [],
        maxItems: 30,
        sortOrder: 3, // by importance
        alertName: '',
        alertInstanceLabelFilter: '{service="cooper"}',
        stateFilter: { firing: true, pending: true, noData: false, normal: false, error: true },
      };
    case 'logs':
      return { showTime: true, wrapLogMessage: true, enableLogDetails: true, sortOrder: 'Descending' };
    case 'traces':
      return {};
    case 'text':
      return { mode: 'markdown', content: panel.content ?? '' };
  }
}
