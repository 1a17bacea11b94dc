/** Asks a Prometheus every question the shipped dashboards ask. */
import { DASHBOARDS } from '../dashboards/all.ts';
import type { Prometheus } from './prometheus.ts';

export interface PanelResult {
  /** `board / panel / legend`. */
  readonly panel: string;
  readonly expr: string;
  /** Series with a finite value. */
  readonly series: number;
  readonly error?: string;
}

/** What Grafana puts in for its variables: every job and instance, windows wide enough for a test's short history. */
const VARIABLES: readonly (readonly [string, string])[] = [
  ['$__rate_interval', '2m'],
  ['$__range', '10m'],
  ['$__interval', '30s'],
  ['$job', '.+'],
  ['$instance', '.+'],
];

export function substituted(expr: string): string {
  let filled = expr;
  for (const [name, value] of VARIABLES) filled = filled.replaceAll(name, value);
  for (const { textVariables = [] } of DASHBOARDS)
    for (const { name, value } of textVariables) filled = filled.replaceAll(`$${name}`, value);
  return filled;
}

/** Runs the query of every target of every panel of every dashboard. */
export async function askEveryPanel(prometheus: Prometheus): Promise<PanelResult[]> {
  const results: PanelResult[] = [];
  for (const board of DASHBOARDS) {
    for (const panel of board.rows.flatMap(({ panels }) => panels)) {
      for (const { expr, legend } of panel.targets) {
        const name = `${board.title} / ${panel.title} / ${legend}`;
        try {
          const samples = await prometheus.query(substituted(expr));
          results.push({
            panel: name,
            expr: substituted(expr),
            series: samples.filter(({ value }) => Number.isFinite(value)).length,
          });
        } catch (error) {
          results.push({ panel: name, expr: substituted(expr), series: 0, error: String(error) });
        }
      }
    }
  }
  return results;
}
