/** The judges of a game's expectations, and all of them but those of alerts. */
import type { Expectation, QueryCondition } from './game.ts';
import { Judge, type Surroundings } from './judge.ts';
import { alertJudges } from './judge-alert.ts';
import type { Observation, SeenBuild } from './observe.ts';

export function judgesOf(expectations: readonly Expectation[], around: Surroundings): Judge[] {
  return expectations.flatMap((expectation): Judge[] => {
    switch (expectation.kind) {
      case 'alert':
        return alertJudges(expectation, around);
      case 'no-alert':
        return [new NoAlert(expectation.alert)];
      case 'builds-failed':
        return [new BuildsFailed(expectation)];
      case 'fallback':
        return [new BuildsSucceed('builds go on without it', 'fault', expectation.builds, around.realMs(expectation.withinMs))];
      case 'builds-again':
        return [new BuildsSucceed('builds succeed again', 'recovery', 1, around.realMs(expectation.withinMs))];
      case 'crosses':
      case 'recovers':
        return [new Crosses(expectation, around)];
      case 'heartbeat':
        return [
          new HeartbeatStops(expectation.receiver, around.realMs(expectation.stopsWithinMs)),
          new HeartbeatResumes(expectation.receiver, around.realMs(expectation.resumesWithinMs)),
        ];
      case 'runbook-verify':
        return [new RunbookVerify(expectation.alert, around, around.realMs(expectation.withinMs))];
      case 'value-absent':
        return expectation.places.map((place) => new ValueAbsent(place, around));
      case 'mttr':
        return []; // the runner measures it when the others are decided
      default:
        return expectation satisfies never;
    }
  });
}

const matchesName = (pattern: string, name: string): boolean =>
  new RegExp(`^${pattern.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`).test(name);

class NoAlert extends Judge {
  readonly #pattern: string;
  #blind = 0;
  constructor(pattern: string) {
    super(`no ${pattern}`, 'end');
    this.#pattern = pattern;
  }
  look(seen: Observation): void {
    if (seen.alerts === undefined) this.#blind += 1;
    const bad = seen.alerts?.find(
      ({ labels, state, activeAtMs }) =>
        state === 'firing' && activeAtMs >= seen.injectMs && matchesName(this.#pattern, labels.alertname ?? ''),
    );
    if (bad !== undefined) this.decide('fail', `fired: ${JSON.stringify(bad.labels)} = ${bad.value}`, seen.atMs);
    else if (seen.alerts !== undefined) this.note('looked for all the time');
  }
  override finish(): void {
    if (this.noted !== 'looked for all the time') this.decide('unevaluated', 'Prometheus never answered');
    else
      this.decide(
        'pass',
        `not among the firing alerts from the injection to the end${this.#blind > 0 ? ` (${this.#blind} looks unanswered)` : ''}`,
      );
  }
}

const sinceInjection = ({ builds, injectMs }: Observation): SeenBuild[] =>
  builds.filter(({ startedMs }) => startedMs >= injectMs);

class BuildsFailed extends Judge {
  readonly #limits: { readonly atMost?: number; readonly atLeast?: number; readonly kinds?: readonly string[] };
  constructor(limits: { readonly atMost?: number; readonly atLeast?: number; readonly kinds?: readonly string[] }) {
    const most = limits.atMost === undefined ? '' : ` at most ${limits.atMost}`;
    super(
      `builds failed:${limits.atLeast === undefined ? most : ` at least ${limits.atLeast}${most}`}`,
      limits.atLeast === undefined ? 'end' : 'fault',
    );
    this.#limits = limits;
  }
  look(seen: Observation): void {
    const ended = sinceInjection(seen);
    const failed = ended.filter(({ outcome }) => outcome !== 'success');
    const { atMost, atLeast, kinds } = this.#limits;
    const other = kinds && failed.find(({ outcome }) => !kinds.includes(outcome));
    if (other !== undefined) return this.decide('fail', `${other.ref} failed with ${other.outcome}: ${other.message}`, seen.atMs);
    if (atMost !== undefined && failed.length > atMost) {
      const last = failed.at(-1);
      return this.decide(
        'fail',
        `${failed.length} of ${ended.length} failed; ${last?.ref}: ${last?.outcome}: ${last?.message}`,
        seen.atMs,
      );
    }
    if (atLeast !== undefined && atMost === undefined && failed.length >= atLeast)
      return this.decide(
        'pass',
        `${failed.length} of ${ended.length} failed, each with ${[...new Set(failed.map(({ outcome }) => outcome))]}`,
        seen.atMs,
      );
    if (ended.length > 0) this.note(`${failed.length} of ${ended.length} builds failed`);
  }
  override finish(seen: Observation): void {
    const ended = sinceInjection(seen);
    if (ended.length === 0) this.decide('unevaluated', 'no build ended after the injection');
    else if (this.#limits.atLeast !== undefined && this.#limits.atMost === undefined) this.decide('fail', this.noted);
    else this.decide('pass', this.noted);
  }
}

/** So many builds that started in the phase succeed in time. */
class BuildsSucceed extends Judge {
  readonly #count: number;
  readonly #withinMs: number;
  constructor(id: string, during: 'fault' | 'recovery', count: number, withinMs: number) {
    super(id, during);
    this.#count = count;
    this.#withinMs = withinMs;
  }
  look(seen: Observation): void {
    const fromMs = this.during === 'fault' ? seen.injectMs : seen.healMs;
    if (fromMs === undefined) return;
    const toMs = this.during === 'fault' ? (seen.healMs ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
    const good = seen.builds.filter(({ startedMs, outcome }) => startedMs >= fromMs && startedMs < toMs && outcome === 'success');
    const evidence = `${good.length} builds succeeded (${good.slice(0, this.#count).map(({ ref }) => ref)})`;
    const last = good[this.#count - 1];
    if (last !== undefined) this.decide('pass', `${evidence}, ${Math.round(last.endedMs - fromMs)} ms after`, seen.atMs);
    else if (seen.atMs - fromMs > this.#withinMs) this.decide('fail', `only ${evidence} in ${this.#withinMs} ms`, seen.atMs);
    else this.note(evidence);
  }
}

export const holds = ({ above, below }: QueryCondition, value: number): boolean =>
  (above === undefined || value > above) && (below === undefined || value < below);
export const sayCondition = ({ query, above, below }: QueryCondition): string =>
  `${query}${above === undefined ? '' : ` > ${above}`}${below === undefined ? '' : ` < ${below}`}`;

class Crosses extends Judge {
  readonly #expected: Extract<Expectation, { kind: 'crosses' | 'recovers' }>;
  readonly #around: Surroundings;
  constructor(expected: Extract<Expectation, { kind: 'crosses' | 'recovers' }>, around: Surroundings) {
    super(`${expected.title} ${expected.kind}`, expected.kind === 'crosses' ? 'fault' : 'recovery');
    this.#expected = expected;
    this.#around = around;
  }
  async look(seen: Observation): Promise<void> {
    const { condition, withinMs } = this.#expected;
    const fromMs = this.during === 'fault' ? seen.injectMs : seen.healMs;
    if (this.decided || fromMs === undefined) return;
    const samples = await this.#around.query(condition.query).catch((error: Error) => error);
    const values = samples instanceof Error ? [] : samples.map(({ value }) => value);
    const evidence = `${sayCondition(condition)}: ${samples instanceof Error ? samples.message : `[${values}]`}`;
    if (values.some((value) => holds(condition, value))) this.decide('pass', evidence, seen.atMs);
    else if (seen.atMs - fromMs > this.#around.realMs(withinMs))
      this.decide(values.length === 0 ? 'unevaluated' : 'fail', evidence, seen.atMs);
    else this.note(evidence);
  }
}

class HeartbeatStops extends Judge {
  readonly #receiver: string;
  readonly #withinMs: number;
  constructor(receiver: string, withinMs: number) {
    super(`the heartbeat to ${receiver} stops`, 'fault');
    this.#receiver = receiver;
    this.#withinMs = withinMs;
  }
  look(seen: Observation): void {
    const beats = seen.notifications.filter(({ receiver }) => receiver === this.#receiver);
    const before = beats.filter(({ atMs }) => atMs < seen.injectMs);
    if (before.length === 0)
      return this.decide('fail', 'it was never heard before the injection, so nobody would miss it', seen.atMs);
    const [first, last] = [before[0]?.atMs ?? 0, beats.at(-1)?.atMs ?? 0];
    // An outside receiver gives it three beats.
    const silenceMs = Math.max(3_000, (3 * ((before.at(-1)?.atMs ?? 0) - first)) / Math.max(1, before.length - 1));
    const evidence = `${before.length} before the injection, last heard ${Math.round(seen.atMs - last)} ms ago; silence of ${Math.round(silenceMs)} ms is an alarm`;
    if (seen.atMs - Math.max(last, seen.injectMs) > silenceMs) this.decide('pass', evidence, seen.atMs);
    else if (seen.atMs - seen.injectMs > this.#withinMs) this.decide('fail', evidence, seen.atMs);
    else this.note(evidence);
  }
}

class HeartbeatResumes extends Judge {
  readonly #receiver: string;
  readonly #withinMs: number;
  constructor(receiver: string, withinMs: number) {
    super(`the heartbeat to ${receiver} resumes`, 'recovery');
    this.#receiver = receiver;
    this.#withinMs = withinMs;
  }
  look(seen: Observation): void {
    const { healMs } = seen;
    if (healMs === undefined) return;
    const beat = seen.notifications.find(({ receiver, atMs }) => receiver === this.#receiver && atMs > healMs);
    if (beat !== undefined) this.decide('pass', `heard ${beat.atMs - healMs} ms after the healing`, beat.atMs);
    else if (seen.atMs - healMs > this.#withinMs)
      this.decide('fail', `silent for ${seen.atMs - healMs} ms after the healing`, seen.atMs);
  }
}

/** What the runbook tells an operator to look at afterwards: every query there must give something, and a comparison must hold for every series. */
class RunbookVerify extends Judge {
  readonly #alert: string;
  readonly #around: Surroundings;
  readonly #withinMs: number;
  constructor(alert: string, around: Surroundings, withinMs: number) {
    super(`the runbook of ${alert} verifies`, 'recovery');
    this.#alert = alert;
    this.#around = around;
    this.#withinMs = withinMs;
  }
  async look(seen: Observation): Promise<void> {
    if (this.decided || seen.healMs === undefined) return;
    const queries = this.#around.verifyQueries(this.#alert);
    if (queries.length === 0) return this.decide('unevaluated', `runbooks/${this.#alert}.md has no query in its section Verify`);
    const ask = (query: string): Promise<readonly { readonly value: number }[]> => this.#around.query(query).catch(() => []);
    const answers = await Promise.all(queries.map(ask));
    // `x == 0` must hold for every series of x: one that is fine does not speak for another that is not.
    const all = await Promise.all(queries.map((query) => ask(query.replace(/\s*(?:[=!<>]=|[<>])\s*[\d.]+$/, ''))));
    const silent = queries.filter((_, i) => (answers[i] ?? []).length === 0 || (answers[i] ?? []).length < (all[i] ?? []).length);
    const evidence = queries.map((query, i) => `${query}: [${answers[i]?.map(({ value }) => value)}]`).join('; ');
    if (silent.length === 0) this.decide('pass', evidence, seen.atMs);
    else if (seen.atMs - seen.healMs > this.#withinMs) this.decide('fail', evidence, seen.atMs);
    else this.note(evidence);
  }
}

class ValueAbsent extends Judge {
  readonly #place: string;
  readonly #around: Surroundings;
  constructor(place: string, around: Surroundings) {
    super(`the secret's value is not in ${place}`, 'end');
    this.#place = place;
    this.#around = around;
  }
  look(): void {}
  override async finish(): Promise<void> {
    try {
      const found = await this.#around.scan(this.#place);
      if (found === undefined) this.decide('pass', `${this.#place} were searched`);
      else this.decide('fail', found);
    } catch (error) {
      this.decide('unevaluated', `${this.#place} could not be searched: ${(error as Error).message}`);
    }
  }
}
