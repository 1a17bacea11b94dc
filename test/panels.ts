/** Asks a Prometheus every question the shipped dashboards ask. */
import { DASHBOARDS } from '../dashboards/all.ts';
import type { Prometheus } from './prometheus.ts';

export interface PanelResult {
  /** `board / panel / legend`. */
  readonly panel: string;
  readonly expr: string;
  /** Series with a finite value. */
  readonly series: number;
  /** What has to happen before it has data, when that is no part of every day. */
  readonly emptyUntil?: string;
  readonly error?: string;
}

/** What Grafana puts in for its variables: every job and instance, windows wide enough for a test's short history. */
const VARIABLES: Readonly<Record<string, string>> = {
  __rate_interval: '2m',
  __range: '10m',
  __interval: '30s',
  job: '.+',
  instance: '.+',
  version_a: '0.0.0',
  version_b: '0.0.0',
};

/** A query as Grafana sends it; `chosen` are values of the board's own variables. */
export function substituted(expr: string, chosen: Readonly<Record<string, string>> = {}): string {
  const given = DASHBOARDS.flatMap(({ textVariables = [], labelVariables = [] }) => [...labelVariables, ...textVariables]);
  const values = { ...Object.fromEntries(given.map(({ name, value }) => [name, value])), ...VARIABLES, ...chosen };
  const names = Object.keys(values).sort((a, b) => b.length - a.length);
  return names.reduce((filled, name) => filled.replaceAll(`$${name}`, values[name] ?? ''), expr);
}

/** Runs the query of every target of every panel of every dashboard. */
export async function askEveryPanel(
  prometheus: Prometheus,
  chosen: Readonly<Record<string, string>> = {},
): Promise<PanelResult[]> {
  const results: PanelResult[] = [];
  for (const board of DASHBOARDS) {
    for (const panel of board.rows.flatMap(({ panels }) => panels)) {
      for (const { expr, legend, language, column } of panel.targets) {
        if (language !== undefined) continue; // Loki and Tempo
        const name = `${board.title} / ${panel.title} / ${column?.title ?? legend}`;
        const { emptyUntil } = panel;
        const asked = await ask(prometheus, name, substituted(expr, chosen));
        results.push(emptyUntil === undefined ? asked : { ...asked, emptyUntil });
      }
    }
  }
  return results;
}

async function ask(prometheus: Prometheus, panel: string, expr: string): Promise<PanelResult> {
  try {
    const samples = await prometheus.query(expr);
    return { panel, expr, series: samples.filter(({ value }) => Number.isFinite(value)).length };
  } catch (error) {
    return { panel, expr, series: 0, error: String(error) };
  }
}
