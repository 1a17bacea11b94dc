/** The common case of a panel: one query, drawn over time. */
import type { Panel, Unit } from './grafana.ts';

export const series = (
  title: string,
  description: string,
  unit: Unit,
  expr: string,
  legend: string,
  more: Partial<Panel> & { readonly exemplar?: boolean } = {},
): Panel => {
  const { exemplar = false, ...rest } = more;
  return { type: 'timeseries', title, description, unit, targets: [{ expr, legend, exemplar }], width: 8, ...rest };
};
