/** Objectives in the daemon: the evaluator, the adjustments it is given, and what of both the ops port shows and changes. */
import { type Clock, nsToSeconds } from '../../core/clock.ts';
import { BuildError } from '../../core/errors.ts';
import { type AdjustmentRecord, Adjustments, type NewAdjustment } from '../../slo/adjustment-store.ts';
import { openCountStore, type SqlStore } from '../../slo/count-store.ts';
import { SloEvaluator } from '../../slo/evaluator.ts';
import { keptSecondsOf } from '../../slo/judge.ts';
import { rowsOf, type SloRecords } from '../../slo/records.ts';
import type { Objective } from '../../slo/spec.ts';
import type { Metrics } from '../../telemetry/metrics.ts';

export interface SloService extends AsyncDisposable {
  readonly objectives: readonly Objective[];
  readonly evaluator: SloEvaluator;
  adjustments(): readonly AdjustmentRecord[];
  /** @throws BuildError `invalid-input` for a stretch that cannot be, `not-found` for an objective that is none. */
  adjust(wanted: NewAdjustment): AdjustmentRecord;
  /** @throws BuildError `not-found` for an id that does not count. */
  removeAdjustment(id: string, by: { readonly author: string; readonly reason: string }): AdjustmentRecord;
  /** Counts from `fromS` up to `toS`, seconds since the Unix epoch; of one objective, or of all. */
  records(fromS: number, toS: number, slo?: string): SloRecords;
}

export async function openSloService(parts: {
  readonly objectives: readonly Objective[];
  readonly metrics: Metrics;
  readonly sql: SqlStore;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
}): Promise<SloService> {
  const { objectives, metrics, sql, clock, onError } = parts;
  const nowS = (): number => nsToSeconds(clock.nowNs());
  const adjustments = await Adjustments.open(sql);
  adjustments.forget(nowS() - Math.max(...objectives.map(keptSecondsOf)));
  const evaluator = await SloEvaluator.open({
    ...{ objectives, counters: metrics, gauges: metrics, clock, onError },
    store: await openCountStore(sql),
    adjustments: () => adjustments.active(),
  });
  const known = (slo: string): void => {
    if (objectives.some(({ name }) => name === slo)) return;
    throw new BuildError('not-found', `there is no objective ${slo}`, { hint: objectives.map(({ name }) => name).join(', ') });
  };
  return {
    objectives,
    evaluator,
    adjustments: () => adjustments.all(),
    adjust(wanted) {
      for (const slo of wanted.slos) if (slo !== '*') known(slo);
      return adjustments.add(wanted, Math.round(nowS()));
    },
    removeAdjustment: (id, by) => adjustments.remove(id, by, Math.round(nowS())),
    records(fromS, toS, slo) {
      if (slo !== undefined) known(slo);
      const asked = objectives.filter(({ name }) => slo === undefined || name === slo || partOf(objectives, slo, name));
      return {
        objectives: asked,
        slots: Object.fromEntries(asked.map(({ name }) => [name, rowsOf(evaluator.slotsOf(name), fromS, toS)])),
        adjustments: adjustments.all(),
      };
    },
    [Symbol.asyncDispose]: () => evaluator[Symbol.asyncDispose](),
  };
}

/** Is `name` a part of the composite `slo`? */
function partOf(objectives: readonly Objective[], slo: string, name: string): boolean {
  const whole = objectives.find((objective) => objective.name === slo)?.indicator;
  return whole !== undefined && 'parts' in whole && whole.parts.some((part) => part.slo === name);
}
