/**
 * Judges: one per thing a game expects, fed with observations until it is decided. What fired before the injection counts for nothing, and
 * what could not be decided is `unevaluated`, which is never a pass.
 */
import type { Observation, Sample } from './observe.ts';

export type Verdict = 'pending' | 'pass' | 'fail' | 'unevaluated';
export interface Judgement {
  readonly id: string;
  readonly verdict: Verdict;
  /** Query and value, notification, build: what the verdict rests on. */
  readonly evidence: string;
  readonly atMs?: number;
}
export interface Surroundings {
  /** A length of production time in real time: compressed, but no shorter than what the builder, which is not made faster, needs. */
  realMs(productionMs: number): number;
  query(expr: string): Promise<readonly Sample[]>;
  /** Labels of a shipped rule, and whether alerts may be handed to Alertmanager to see what it makes of them. */
  ruleLabels(alert: string): Readonly<Record<string, string>> | undefined;
  readonly postProbe: ((labels: Readonly<Record<string, string>>) => Promise<void>) | undefined;
  /** Queries of the verify section of an alert's runbook. */
  verifyQueries(alert: string): readonly string[];
  /** Where a place holds the secret's value, or undefined when it does not. Rejects when it cannot be searched. */
  scan(place: string): Promise<string | undefined>;
  readonly ownsWebhooks: boolean;
}

export abstract class Judge {
  readonly id: string;
  /** The fault is held until what is expected during it is decided. */
  readonly during: 'fault' | 'recovery' | 'end';
  #verdict: Verdict = 'pending';
  #evidence = 'nothing was seen';
  #atMs: number | undefined;

  constructor(id: string, during: Judge['during']) {
    this.id = id;
    this.during = during;
  }
  get decided(): boolean {
    return this.#verdict !== 'pending';
  }
  get verdict(): Verdict {
    return this.#verdict;
  }
  get judgement(): Judgement {
    const { id } = this;
    return { id, verdict: this.#verdict, evidence: this.#evidence, ...(this.#atMs !== undefined && { atMs: this.#atMs }) };
  }
  abstract look(seen: Observation): void | Promise<void>;
  /** Called once, when nothing more will be seen. */
  finish(_seen: Observation): void | Promise<void> {
    if (!this.decided) this.decide('unevaluated', this.#evidence);
  }
  protected note(evidence: string): void {
    if (!this.decided) this.#evidence = evidence;
  }
  protected get noted(): string {
    return this.#evidence;
  }
  protected decide(verdict: Exclude<Verdict, 'pending'>, evidence: string, atMs = Date.now()): void {
    if (this.decided) return;
    this.#verdict = verdict;
    this.#evidence = evidence;
    this.#atMs = atMs;
  }
}
