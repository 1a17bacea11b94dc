/**
 * One game from preconditions to report. The fault is held by a keeper with a lease, so it is healed at the end, on an abort, on Ctrl-C and
 * when this process is killed. Everything is judged on what happened after the injection.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FaultOrder } from '../faults/catalog.ts';
import { type HeldFault, holdFault } from '../faults/held-fault.ts';
import type { Game, Mutation } from './game.ts';
import type { Judge, Judgement, Surroundings } from './judge.ts';
import { holds, judgesOf, sayCondition } from './judges.ts';
import type { Load } from './load.ts';
import { alertsOf, type Observation, routedOf, type SeenNotification } from './observe.ts';
import { type GameReport, type Outcome, outcomeOf, scoreOf } from './report.ts';

export interface GameSystem {
  readonly prometheus: string;
  readonly alertmanager: string;
  /** Objective to the share of its budget that is left. */
  readonly budgets: () => Promise<Readonly<Record<string, number>>>;
  readonly notifications: readonly SeenNotification[];
  /** The fault with where it applies; undefined: nothing is injected, the load itself changes. */
  readonly order: FaultOrder | undefined;
  readonly load: Load;
  /** Called at the injection. */
  readonly injected: () => void;
  readonly surroundings: Surroundings;
}
export interface RunOptions {
  readonly mode: 'automatic' | 'live';
  readonly mutation?: Mutation | undefined;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Live: asks the people and resolves when they have answered. */
  readonly ask?: ((question: string) => Promise<void>) | undefined;
}

const LOOK_MS = 250;
const STEADY_MS = 90_000;

export async function runGame(game: Game, system: GameSystem, options: RunOptions): Promise<GameReport> {
  const run = new Run(game, system, options);
  return await run.play();
}

class Run {
  readonly #game: Game;
  readonly #system: GameSystem;
  readonly #options: RunOptions;
  readonly #startedMs = Date.now();
  readonly #timeline: { at: string; what: string }[] = [];
  readonly #notes: string[] = [];
  readonly #judges: readonly Judge[];
  #injectMs = 0;
  #healMs: number | undefined;
  #detectMs: number | undefined;
  #ackMs: number | undefined;
  #recoverMs: number | undefined;
  #aborted: string | undefined;

  constructor(game: Game, system: GameSystem, options: RunOptions) {
    this.#game = game;
    this.#system = system;
    this.#options = options;
    this.#judges = judgesOf(game.expect, system.surroundings);
  }

  async play(): Promise<GameReport> {
    const before = await this.#system.budgets();
    const preconditions = await this.#preconditions(before);
    if (preconditions.some(({ verdict }) => verdict !== 'pass')) return await this.#report('not-started', preconditions, before);
    await this.#inject();
    if (this.#aborted === undefined) await this.#recovery();
    const last = await this.#look();
    for (const judge of this.#judges) if (!judge.decided) await judge.finish(last);
    const outcome = this.#aborted === undefined ? outcomeOf(this.#judgements()) : 'aborted';
    return await this.#report(outcome, preconditions, before);
  }

  /** Nothing is broken while something else is, or when there is no budget to spend. */
  async #preconditions(budgets: Readonly<Record<string, number>>): Promise<Judgement[]> {
    this.#mark('waiting for the steady state');
    const { steadyState, preconditions } = this.#game;
    const results: Judgement[] = Object.entries(preconditions.budgetRemaining).map(([slo, least]) => {
      const left = budgets[slo];
      const verdict = left === undefined ? 'unevaluated' : left >= least ? 'pass' : 'fail';
      return { id: `budget of ${slo} at least ${least}`, verdict, evidence: `left: ${left}` };
    });
    const untilMs = Date.now() + STEADY_MS;
    let queries: Judgement[] = [];
    for (;;) {
      queries = await Promise.all(
        steadyState.queries.map(async (condition): Promise<Judgement> => {
          const values = (await this.#system.surroundings.query(condition.query).catch(() => [])).map(({ value }) => value);
          const verdict =
            values.length === 0 ? 'unevaluated' : values.every((value) => holds(condition, value)) ? 'pass' : 'fail';
          return { id: sayCondition(condition), verdict, evidence: `[${values}]` };
        }),
      );
      const enough = this.#system.load.builds.length >= steadyState.builds;
      if (enough && queries.every(({ verdict }) => verdict === 'pass')) break;
      if (Date.now() > untilMs || this.#options.signal.aborted) break;
      await sleep(LOOK_MS);
    }
    const builds = this.#system.load.builds;
    const good = builds.filter(({ outcome }) => outcome === 'success').length;
    const steady = builds.length >= steadyState.builds && good / builds.length >= steadyState.success;
    const bad = builds.find(({ outcome }) => outcome !== 'success');
    const [alerts, routed] = await Promise.all([alertsOf(this.#system.prometheus), routedOf(this.#system.alertmanager)]);
    const firing = alerts?.filter(({ state, labels }) => state === 'firing' && /critical|warning/.test(labels.severity ?? ''));
    results.push(
      {
        id: `steady state: ${steadyState.builds} builds, ${steadyState.success * 100} % of them good`,
        verdict: steady ? 'pass' : 'fail',
        evidence: `${good} of ${builds.length}${bad === undefined ? '' : `; ${bad.outcome}: ${bad.message}`}`,
      },
      ...queries,
      {
        id: 'nothing fires',
        verdict: firing === undefined ? 'unevaluated' : firing.length === 0 ? 'pass' : 'fail',
        evidence: firing?.map(({ labels }) => labels.alertname).join(', ') || 'no alert of severity warning or critical',
      },
      { id: 'Alertmanager answers', verdict: routed === undefined ? 'fail' : 'pass', evidence: this.#system.alertmanager },
    );
    return results;
  }

  async #inject(): Promise<void> {
    const { order } = this.#system;
    // Real time is what a fault's lease is counted in, however fast the windows run.
    await using fault: HeldFault | undefined = order === undefined ? undefined : await holdFault(order, { ttlMs: 10_000 });
    this.#injectMs = fault?.injectedAtMs ?? Date.now();
    this.#system.injected();
    this.#mark(order === undefined ? 'the load changes' : `injected ${order.fault}`, this.#injectMs);
    const untilMs = this.#injectMs + this.#system.surroundings.realMs(this.#game.inject.forMs);
    const asked = this.#options.ask === undefined ? undefined : this.#askPeople(this.#options.ask);
    for (;;) {
      const seen = await this.#look();
      const open = this.#judges.some((judge) => judge.during === 'fault' && !judge.decided);
      if (this.#over(seen) || (!open && asked === undefined) || seen.atMs > untilMs) break;
      await sleep(LOOK_MS);
    }
    if (this.#options.mutation?.change === 'never-heals') {
      // The mutant: what should recover does not, so the fault stays until the judges have seen it.
      this.#healMs = Date.now();
      this.#mark('the healing is said to have happened and has not');
      await this.#recovery();
    }
    await fault?.heal();
    this.#healMs ??= Date.now();
    this.#mark('healed');
  }

  async #askPeople(ask: (question: string) => Promise<void>): Promise<void> {
    await ask('Press Enter when somebody has acknowledged the alert.');
    this.#ackMs = Date.now();
    this.#mark('acknowledged');
  }

  async #recovery(): Promise<void> {
    for (;;) {
      const seen = await this.#look();
      const open = this.#judges.some((judge) => judge.during === 'recovery' && !judge.decided);
      if (!open) {
        this.#recoverMs ??= seen.atMs;
        this.#mark('recovered, or known not to', seen.atMs);
        return;
      }
      if (this.#over(seen)) return;
      await sleep(LOOK_MS);
    }
  }

  /** Ctrl-C, an abort condition, or a mutant whose failure has been seen. */
  #over(seen: Observation): boolean {
    const { mutation, signal } = this.#options;
    if (signal.aborted) this.#aborted ??= 'interrupted';
    const { successBelow, afterBuilds, alerts } = this.#game.abortIf;
    const builds = seen.builds.filter(({ startedMs }) => startedMs >= this.#injectMs);
    const good = builds.filter(({ outcome, fault }) => outcome === 'success' || fault === 'user').length;
    if (mutation !== undefined)
      return this.#judges.some(({ id, verdict }) => id === mutation.mustFail && verdict === 'fail') || signal.aborted;
    if (successBelow !== undefined && builds.length >= afterBuilds && good / builds.length < successBelow)
      this.#aborted ??= `${good} of ${builds.length} builds succeeded, fewer than ${successBelow * 100} %`;
    const page = seen.alerts?.find(
      ({ labels, state, activeAtMs }) =>
        state === 'firing' && activeAtMs >= this.#injectMs && alerts.includes(labels.alertname ?? ''),
    );
    if (page !== undefined) this.#aborted ??= `${page.labels.alertname} fires`;
    return this.#aborted !== undefined;
  }

  async #look(): Promise<Observation> {
    const [alerts, routed] = await Promise.all([alertsOf(this.#system.prometheus), routedOf(this.#system.alertmanager)]);
    const seen: Observation = {
      atMs: Date.now(),
      phase: this.#healMs === undefined ? 'fault' : 'recovery',
      injectMs: this.#injectMs,
      healMs: this.#healMs,
      alerts,
      routed,
      notifications: this.#system.notifications,
      builds: this.#system.load.builds,
    };
    for (const judge of this.#judges) {
      if (judge.decided) continue;
      await judge.look(seen);
      if (!judge.decided) continue;
      if (this.#detectMs === undefined && judge.verdict === 'pass' && /fires$|stops$/.test(judge.id)) this.#detectMs = seen.atMs;
      this.#mark(`${judge.verdict}: ${judge.id}`, seen.atMs);
    }
    return seen;
  }

  #judgements(): Judgement[] {
    const judged = this.#judges.map(({ judgement }) => judgement);
    const limit = this.#game.expect.find(({ kind }) => kind === 'mttr');
    if (limit?.kind !== 'mttr') return judged;
    const limitMs = Math.max(this.#system.surroundings.realMs(limit.withinMs), 90_000);
    const failed = this.#judges.some(({ during, verdict }) => during === 'recovery' && verdict !== 'pass');
    const ms = this.#recoverMs === undefined || failed ? undefined : this.#recoverMs - this.#injectMs;
    const verdict = ms === undefined ? (failed ? 'fail' : 'unevaluated') : ms <= limitMs ? 'pass' : 'fail';
    const evidence = ms === undefined ? 'it did not recover' : `${ms} ms from the injection, ${limitMs} ms allowed`;
    return [...judged, { id: 'MTTR', verdict, evidence }];
  }

  #mark(what: string, atMs = Date.now()): void {
    this.#timeline.push({ at: new Date(atMs).toISOString(), what });
    this.#options.say(`${((atMs - this.#startedMs) / 1000).toFixed(1).padStart(6)} s  ${what}`);
  }

  async #report(
    outcome: Outcome,
    preconditions: readonly Judgement[],
    before: Readonly<Record<string, number>>,
  ): Promise<GameReport> {
    const after = await this.#system.budgets().catch(() => ({}) as Readonly<Record<string, number>>);
    const { builds } = this.#system.load;
    const expectations = outcome === 'not-started' ? [] : this.#judgements();
    const notified = this.#system.notifications.find(
      ({ atMs, alerts }) =>
        atMs >= this.#injectMs &&
        alerts.some(({ labels, startsAtMs }) => labels.alertname !== 'CooperWatchdog' && startsAtMs >= this.#injectMs),
    );
    const since = (ms: number | undefined): number | undefined =>
      ms === undefined || this.#injectMs === 0 ? undefined : ms - this.#injectMs;
    const times = {
      mttdMs: since(this.#detectMs),
      notifyMs: since(notified?.atMs),
      mttaMs: since(this.#ackMs),
      mttrMs: since(this.#recoverMs),
    };
    if (this.#aborted !== undefined) this.#notes.push(`aborted: ${this.#aborted}`);
    return {
      game: this.#game.name,
      title: this.#game.title,
      hypothesis: this.#game.hypothesis,
      mode: this.#options.mode,
      ...(this.#options.mutation !== undefined && { mutation: this.#options.mutation.name }),
      outcome,
      startedAt: new Date(this.#startedMs).toISOString(),
      timeScale: this.#game.timeScale,
      fault: this.#system.order?.fault ?? 'none',
      timeline: this.#timeline,
      times: Object.fromEntries(Object.entries(times).filter(([, ms]) => ms !== undefined)),
      budgets: Object.entries(after).flatMap(([slo, left]) =>
        before[slo] === undefined ? [] : [{ slo, before: before[slo], after: left }],
      ),
      builds: {
        total: builds.length,
        failed: builds.filter(({ outcome: one }) => one !== 'success').length,
        byOutcome: countsOf(builds.map(({ outcome: one }) => one)),
      },
      preconditions,
      expectations,
      score: scoreOf(expectations),
      notes: this.#notes,
    };
  }
}

function countsOf(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
