/**
 * The SLO engine inside the daemon. It samples the counters of the catalogue, as Prometheus would, turns what they grew by into
 * recorded counts per slot, and judges the objectives over them. It needs no Prometheus and forgets nothing at a restart.
 *
 *   counters ──sample──► history (memory) ──judge──► state, burn rates, budget ──► report, gauges
 *                            │ └──► store (SQLite), loaded at start
 *
 *   ok ◄──► burning-ticket ◄──► burning-page     by the pairs that fire        exhausted   the period's budget is spent
 *   idle    the period holds no event            unknown   nothing could be read: every verdict stays as it was
 */
import { type Clock, nsToSeconds, rfc3339 } from '../core/clock.ts';
import { CATALOG, type MetricSpec } from '../telemetry/catalog.ts';
import { SLO_INCONSISTENT } from '../telemetry/catalog-slo.ts';
import type { Counts } from './arithmetic.ts';
import { CountHistory, slotOf } from './count-history.ts';
import type { CountStore, FiringRow } from './count-store.ts';
import { Coverage } from './coverage.ts';
import { countedOf, type Evidence, type Held, keptSecondsOf, statusOf, worstOf } from './judge.ts';
import { errorsOf, problemsOf, problemText } from './lint.ts';
import { type GaugeWriter, publish } from './publish.ts';
import type { SloReport, SloStatus } from './report.ts';
import { type CounterReader, Sampler } from './sampler.ts';
import type { BudgetAdjustment, BurnPair, Objective } from './spec.ts';
import { secondsOf } from './windows.ts';

export interface EvaluatorOptions {
  readonly objectives: readonly Objective[];
  readonly counters: CounterReader;
  readonly gauges: GaugeWriter;
  readonly store: CountStore;
  readonly clock: Clock;
  /** Maintenance windows and corrections, asked for at every evaluation. */
  readonly adjustments?: () => readonly BudgetAdjustment[];
  /** What objectives may read; the daemon's catalogue unless given. */
  readonly catalogue?: readonly MetricSpec[];
  /** A sample or a write that failed; the evaluator goes on. */
  readonly onError: (error: unknown) => void;
}

const SAMPLE_MS = 10_000; // a third of a slot: what a crash can lose, and how late a burn can be seen
/** A verdict that fires holds until this share of its short window was observed again after a gap. */
const ENOUGH_COVERAGE = 0.5;

interface Tracked {
  readonly objective: Objective;
  /** Absent for composites. */
  readonly sampler?: Sampler;
  readonly history: CountHistory;
  readonly coverage: Coverage;
  inconsistent: number;
  /** By pair: since when it fires, seconds since the epoch. */
  readonly firing: Map<string, number>;
}

export class SloEvaluator implements AsyncDisposable {
  readonly #options: EvaluatorOptions;
  readonly #tracked: readonly Tracked[];
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<unknown> = Promise.resolve();
  #keptFiring = '[]';
  /** When all objectives could be read; what is kept over a restart. */
  readonly #looks = new Coverage();

  private constructor(options: EvaluatorOptions) {
    this.#options = options;
    this.#tracked = options.objectives.map((objective): Tracked => {
      const { indicator } = objective;
      const composite = indicator.kind === 'weighted' || indicator.kind === 'worst-of';
      return {
        objective,
        ...(!composite && { sampler: new Sampler(indicator) }),
        history: new CountHistory(keptSecondsOf(objective)),
        coverage: new Coverage(),
        inconsistent: 0,
        firing: new Map(),
      };
    });
  }

  /** Loads what was recorded, then samples every ten seconds until disposed. Throws when an objective cannot work. */
  static async open(options: EvaluatorOptions): Promise<SloEvaluator> {
    const context = { others: options.objectives, catalogue: options.catalogue ?? CATALOG };
    const problems = errorsOf(options.objectives.flatMap((objective) => problemsOf(objective, context)));
    if (problems.length > 0) throw new Error(`objectives that cannot work: ${problems.map(problemText).join('\n')}`);
    const evaluator = new SloEvaluator(options);
    await evaluator.#load();
    await evaluator.report();
    evaluator.#timer = setInterval(() => void evaluator.report().catch(options.onError), SAMPLE_MS);
    evaluator.#timer.unref();
    return evaluator;
  }

  /** Samples now, judges, and sets the cooper_slo_* gauges. */
  async report(): Promise<SloReport> {
    const done = this.#working.then(() => this.#evaluate());
    this.#working = done.catch(() => {});
    return done;
  }

  /** What an objective counted over its period, as it is budgeted, in `buckets` equal parts, oldest first; undefined for a name that is not an objective. */
  series(name: string, buckets: number): { readonly periodSeconds: number; readonly counts: readonly Counts[] } | undefined {
    const objective = this.#find(name)?.objective;
    if (objective === undefined) return undefined;
    const periodSeconds = secondsOf(objective.period);
    const nowS = nsToSeconds(this.#options.clock.nowNs());
    const counted = countedOf(objective, this.#evidence(nowS), true);
    return { periodSeconds, counts: counted.buckets(periodSeconds, nowS, buckets) };
  }

  /** Takes a last sample, so that a clean stop loses nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.report().catch(this.#options.onError);
  }

  /** Recorded slots of one objective, ascending: what a report or a backtest reads. */
  slotsOf(slo: string): ReturnType<CountHistory['slots']> {
    return this.#tracked.find(({ objective }) => objective.name === slo)?.history.slots() ?? [];
  }

  async #load(): Promise<void> {
    const { store, clock } = this.#options;
    const nowS = nsToSeconds(clock.nowNs());
    const sinceS = slotOf(nowS - Math.max(0, ...this.#tracked.map(({ objective }) => keptSecondsOf(objective))));
    for (const row of await store.load(sinceS)) this.#find(row.slo)?.history.add(row.slotS, row);
    const stretches = await store.loadStretches(sinceS);
    for (const coverage of [this.#looks, ...this.#tracked.map((tracked) => tracked.coverage)]) coverage.restore(stretches);
    const firing = await store.loadFiring();
    for (const row of firing) this.#find(row.slo)?.firing.set(row.pair, row.sinceS);
    if (firing.length > 0) this.#keptFiring = '';
  }

  #find(slo: string): Tracked | undefined {
    return this.#tracked.find(({ objective }) => objective.name === slo);
  }

  #evidence(nowS: number): Evidence {
    return {
      nowS,
      slots: new Map(this.#tracked.map(({ objective, history }) => [objective.name, history.slots()])),
      adjustments: this.#options.adjustments?.() ?? [],
    };
  }

  async #evaluate(): Promise<SloReport> {
    const nowNs = this.#options.clock.nowNs();
    const nowS = nsToSeconds(nowNs);
    await this.#sample(nowS);
    const evidence = this.#evidence(nowS);
    const statuses = new Map<string, SloStatus>();
    for (const tracked of this.#tracked) {
      const status = this.#judge(tracked, evidence);
      if (status !== undefined) statuses.set(status.name, status);
    }
    for (const { objective } of this.#tracked) {
      if (objective.indicator.kind !== 'worst-of') continue;
      const parts = objective.indicator.parts.flatMap(({ slo }) => statuses.get(slo) ?? []);
      const status = worstOf(objective, parts, nowS);
      if (status !== undefined) statuses.set(objective.name, status);
    }
    const objectives = this.#tracked.flatMap(({ objective }) => statuses.get(objective.name) ?? []);
    for (const status of objectives) publish(this.#options.gauges, status);
    this.#keepFiring();
    return { generatedAt: rfc3339(nowNs), objectives };
  }

  /** Reads every objective by itself: one that cannot be read blinds no other. */
  async #sample(nowS: number): Promise<void> {
    const blind = new Set<string>();
    for (const tracked of this.#tracked) {
      if (tracked.sampler !== undefined && !(await this.#sampleOne(tracked, tracked.sampler, nowS)))
        blind.add(tracked.objective.name);
    }
    const keptS = (tracked: Tracked): number => nowS - keptSecondsOf(tracked.objective);
    for (const tracked of this.#tracked) {
      const { indicator, name } = tracked.objective;
      const seen = 'parts' in indicator ? indicator.parts.every(({ slo }) => !blind.has(slo)) : !blind.has(name);
      if (seen) tracked.coverage.observed(nowS, keptS(tracked));
    }
    if (blind.size === 0 && this.#tracked.length > 0) {
      this.#attempt(() => this.#options.store.keepStretch(this.#looks.observed(nowS, Math.min(...this.#tracked.map(keptS)))));
    }
  }

  async #sampleOne(tracked: Tracked, sampler: Sampler, nowS: number): Promise<boolean> {
    try {
      const { good, total, inconsistent } = await sampler.sample(this.#options.counters, nowS);
      if (inconsistent) {
        tracked.inconsistent += 1;
        this.#options.gauges.add(SLO_INCONSISTENT, { slo: tracked.objective.name });
      }
      if (total > 0) {
        const slotS = slotOf(nowS);
        tracked.history.add(slotS, { good, total });
        this.#attempt(() => this.#options.store.add({ slo: tracked.objective.name, slotS, good, total }));
      }
      return true;
    } catch (error) {
      this.#options.onError(error);
      return false;
    }
  }

  #judge({ objective, coverage, inconsistent, firing }: Tracked, evidence: Evidence): SloStatus | undefined {
    if (objective.indicator.kind === 'worst-of') return undefined;
    const { nowS } = evidence;
    const blind = coverage.blindAt(nowS);
    const held = objective.pairs.map((pair): Held | undefined => {
      const sinceS = firing.get(keyOf(pair));
      if (sinceS === undefined) return undefined;
      return { sinceS, holds: blind || coverage.gapless(secondsOf(pair.short), nowS) < ENOUGH_COVERAGE };
    });
    const status = statusOf(
      objective,
      this.#options.objectives,
      evidence,
      {
        coverage: coverage.over(secondsOf(objective.period), nowS),
        inconsistentSamples: inconsistent,
        ...(blind && { frozenSinceS: coverage.lastS ?? nowS }),
      },
      held,
    );
    status.pairs.forEach((pair) => {
      if (!pair.firing) firing.delete(keyOf(pair));
      else if (!firing.has(keyOf(pair))) firing.set(keyOf(pair), nowS);
    });
    return status;
  }

  /** Writes what fires when it has changed. */
  #keepFiring(): void {
    const rows = this.#tracked.flatMap(({ objective, firing }) =>
      [...firing].map(([pair, sinceS]): FiringRow => ({ slo: objective.name, pair, sinceS })),
    );
    const text = JSON.stringify(rows);
    if (text === this.#keptFiring) return;
    this.#keptFiring = text;
    this.#attempt(() => this.#options.store.keepFiring(rows));
  }

  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

const keyOf = ({ severity, long, short }: Pick<BurnPair, 'severity' | 'long' | 'short'>): string =>
  `${severity} ${long}/${short}`;
