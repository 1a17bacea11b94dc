/**
 * The SLO engine inside the daemon. It samples the counters of the catalogue, as Prometheus would, turns what they grew by into
 * recorded counts per slot, and judges the objectives over them. It needs no Prometheus and forgets nothing at a restart.
 *
 *   counters ──sample──► history (memory) ──report──► state, burn rates, budget
 *                            │ └──► store (SQLite), loaded at start
 */
import { type Clock, nsToSeconds, rfc3339 } from '../core/clock.ts';
import * as catalog from '../telemetry/catalog.ts';
import { budgetLeftOf, burnRateOf, type Counts, factorOf, gatePasses, isEmpty, pairFires, problemsOf } from './arithmetic.ts';
import { CountHistory, slotOf } from './count-history.ts';
import type { CountStore } from './count-store.ts';
import type { PairStatus, SloReport, SloState, SloStatus } from './report.ts';
import { type Objective, WINDOW_SECONDS, WINDOWS, type WindowName } from './spec.ts';

/** Reads sums of counters; the daemon's Metrics has this shape. */
export interface CounterReader {
  read(selections: readonly catalog.Selection[]): Promise<number[]>;
}
/** Writes gauges; the daemon's Metrics has this shape. */
export interface GaugeWriter {
  set<M extends catalog.MetricSpec<'gauge'>>(metric: M, labels: catalog.LabelsOf<M>, value: number): void;
}

export interface EvaluatorOptions {
  readonly objectives: readonly Objective[];
  readonly counters: CounterReader;
  readonly gauges: GaugeWriter;
  readonly store: CountStore;
  readonly clock: Clock;
  /** A sample or a write that failed; the evaluator goes on. */
  readonly onError: (error: unknown) => void;
}

const SAMPLE_MS = 10_000; // a third of a slot: what a crash can lose, and how late a burn can be seen

interface Tracked {
  readonly objective: Objective;
  readonly history: CountHistory;
  /** Counter values at the last sample; counters of a new process start at 0. */
  last: Counts;
}

export class SloEvaluator implements AsyncDisposable {
  readonly #options: EvaluatorOptions;
  readonly #tracked: readonly Tracked[];
  #timer: NodeJS.Timeout | undefined;
  #sampling: Promise<void> = Promise.resolve();

  private constructor(options: EvaluatorOptions) {
    this.#options = options;
    this.#tracked = options.objectives.map((objective) => ({
      objective,
      history: new CountHistory(WINDOW_SECONDS[objective.period]),
      last: { good: 0, total: 0 },
    }));
  }

  /** Loads what was recorded, then samples every ten seconds until disposed. Throws when an objective cannot work. */
  static async open(options: EvaluatorOptions): Promise<SloEvaluator> {
    const problems = options.objectives.flatMap(problemsOf);
    if (problems.length > 0) throw new Error(`objectives that cannot work: ${problems.join('; ')}`);
    const evaluator = new SloEvaluator(options);
    await evaluator.#load();
    await evaluator.report();
    evaluator.#timer = setInterval(() => void evaluator.report().catch(options.onError), SAMPLE_MS);
    evaluator.#timer.unref();
    return evaluator;
  }

  /** Samples now, judges, and sets the cooper_slo_* gauges. */
  async report(): Promise<SloReport> {
    this.#sampling = this.#sampling.then(() => this.#sample()).catch(this.#options.onError);
    await this.#sampling;
    const nowNs = this.#options.clock.nowNs();
    const objectives = this.#tracked.map((tracked) => statusOf(tracked, nsToSeconds(nowNs)));
    for (const status of objectives) this.#publish(status);
    return { generatedAt: rfc3339(nowNs), objectives };
  }

  /** What an objective counted over its period, in `buckets` equal parts, oldest first; undefined for a name that is not an objective. */
  series(name: string, buckets: number): { readonly periodSeconds: number; readonly counts: readonly Counts[] } | undefined {
    const tracked = this.#tracked.find(({ objective }) => objective.name === name);
    if (tracked === undefined) return undefined;
    const periodSeconds = WINDOW_SECONDS[tracked.objective.period];
    const nowS = nsToSeconds(this.#options.clock.nowNs());
    return { periodSeconds, counts: tracked.history.buckets(periodSeconds, nowS, buckets) };
  }

  /** Takes a last sample, so that a clean stop loses nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.report().catch(this.#options.onError);
  }

  async #load(): Promise<void> {
    const nowS = nsToSeconds(this.#options.clock.nowNs());
    const longestS = Math.max(...this.#tracked.map(({ objective }) => WINDOW_SECONDS[objective.period]));
    for (const row of await this.#options.store.load(slotOf(nowS - longestS))) {
      this.#tracked.find(({ objective }) => objective.name === row.slo)?.history.add(row.slotS, row);
    }
  }

  async #sample(): Promise<void> {
    const sums = await this.#options.counters.read(
      this.#tracked.flatMap(({ objective: { indicator } }) => [indicator.good, indicator.total]),
    );
    const slotS = slotOf(nsToSeconds(this.#options.clock.nowNs()));
    for (const [index, tracked] of this.#tracked.entries()) {
      const now = { good: sums[index * 2] ?? 0, total: sums[index * 2 + 1] ?? 0 };
      // Good is read a moment after total in a running daemon, so it may be ahead by one: never more good than total.
      const total = Math.max(now.total - tracked.last.total, 0);
      const good = Math.min(Math.max(now.good - tracked.last.good, 0), total);
      tracked.last = now;
      if (total === 0) continue;
      tracked.history.add(slotS, { good, total });
      this.#options.store.add({ slo: tracked.objective.name, slotS, good, total });
    }
  }

  #publish(status: SloStatus): void {
    const { gauges } = this.#options;
    const slo = { slo: status.name };
    gauges.set(catalog.SLO_OBJECTIVE, slo, status.target);
    gauges.set(catalog.SLO_GOOD, slo, status.good);
    gauges.set(catalog.SLO_EVENTS, slo, status.total);
    gauges.set(catalog.SLO_BUDGET, slo, status.budgetLeft);
    for (const { window, burnRate } of status.burn) gauges.set(catalog.SLO_BURN, { ...slo, window }, burnRate ?? 0);
    for (const state of catalog.SLO_STATES) gauges.set(catalog.SLO_STATE, { ...slo, state }, status.state === state ? 1 : 0);
  }
}

function statusOf({ objective, history }: Tracked, nowS: number): SloStatus {
  const { name, title, description, target, period, timeslices } = objective;
  const cached = new Map<WindowName, Counts>();
  const over = (window: WindowName): Counts => {
    const known = cached.get(window);
    if (known !== undefined) return known;
    const windowS = WINDOW_SECONDS[window];
    const counts = timeslices === undefined ? history.over(windowS, nowS) : history.slicesOver(windowS, nowS, timeslices);
    cached.set(window, counts);
    return counts;
  };
  const pairs = objective.pairs.map(
    (pair): PairStatus => ({
      severity: pair.severity,
      long: pair.long,
      short: pair.short,
      factor: factorOf(pair, period),
      firing: pairFires(pair, objective, over),
    }),
  );
  const whole = over(period);
  const left = budgetLeftOf(whole, target);
  return {
    name,
    title,
    description,
    target,
    period,
    events: objective.eventWord,
    ...whole,
    achieved: isEmpty(whole) ? null : whole.good / whole.total,
    budgetLeft: left,
    ...stateOf(whole, target, left, pairs),
    burn: WINDOWS.map((window) => ({ window, ...over(window), burnRate: burnRateOf(over(window), target) ?? null })),
    pairs,
  };
}

/** An overspent budget is a verdict only when the failures are enough to be sure of; until then the numbers stand with a note. */
function stateOf(
  whole: Counts,
  target: number,
  left: number,
  pairs: readonly PairStatus[],
): { readonly state: SloState; readonly note?: string } {
  if (isEmpty(whole)) return { state: 'idle' };
  const fires = (severity: string): boolean => pairs.some((pair) => pair.firing && pair.severity === severity);
  if (fires('page')) return { state: 'burning-page' };
  const sure = gatePasses(whole, 1 - target);
  if (left <= 0 && sure) return { state: 'exhausted' };
  if (fires('ticket')) return { state: 'burning-ticket' };
  return left <= 0 ? { state: 'ok', note: 'too few events to call the budget spent' } : { state: 'ok' };
}
