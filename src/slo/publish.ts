/** Verdicts as metrics of the catalogue. */
import type { LabelsOf, MetricSpec } from '../telemetry/catalog.ts';
import * as catalog from '../telemetry/catalog-slo.ts';
import type { SloStatus } from './report.ts';

/** Writes gauges and counters; the daemon's Metrics has this shape. */
export interface GaugeWriter {
  set<M extends MetricSpec<'gauge'>>(metric: M, labels: LabelsOf<M>, value: number): void;
  add<M extends MetricSpec<'counter'>>(metric: M, labels: LabelsOf<M>, by?: number): void;
}

export function publish(gauges: GaugeWriter, status: SloStatus): void {
  const slo = { slo: status.name };
  gauges.set(catalog.SLO_OBJECTIVE, slo, status.target);
  gauges.set(catalog.SLO_GOOD, slo, status.good);
  gauges.set(catalog.SLO_EVENTS, slo, status.total);
  gauges.set(catalog.SLO_BUDGET, slo, status.budgetLeft);
  gauges.set(catalog.SLO_BUDGET_UNADJUSTED, slo, (status.unadjusted ?? status).budgetLeft);
  gauges.set(catalog.SLO_COVERAGE, slo, status.coverage);
  gauges.set(catalog.SLO_PERIOD_START, slo, Date.parse(status.window.from) / 1000);
  for (const { window, burnRate } of status.burn) gauges.set(catalog.SLO_BURN, { ...slo, window }, burnRate ?? 0);
  for (const state of catalog.SLO_STATES) gauges.set(catalog.SLO_STATE, { ...slo, state }, status.state === state ? 1 : 0);
}
