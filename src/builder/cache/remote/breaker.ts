/**
 * Whether a place is worth asking, known once for all builds:
 *
 *   closed ─failures in a row, or one that took its time─► open ─cool-down passed, and it answers TCP again─► half-open ─success─► closed
 *                                                   ▲────────────────────failure, longer cool-down─────┘
 *
 * While it is open nobody waits for the place. Whether it is back is found out by connecting, between builds, where it has an address;
 * else the first call after the cool-down finds out. An outage lasts from the first opening until a call succeeds.
 */
import { connect } from 'node:net';
import { abortable } from '../../../core/abort.ts';
import type { Clock } from '../../../core/clock.ts';
import { nsToMs, nsToSeconds, rfc3339 } from '../../../core/clock.ts';
import { BuildError } from '../../../core/errors.ts';
import { RetryBudget } from '../../registry/retry.ts';
import type { BackendName, CacheObserver, CacheStore } from './ports.ts';

export interface BreakerLimits {
  /** Failures in a row that open it. */
  readonly failures: number;
  /** First cool-down; doubled after each failed trial up to `maxCoolDownMs`, and cut by up to a fifth at random. */
  readonly coolDownMs: number;
  readonly maxCoolDownMs: number;
  readonly connectMs: number;
}
export type BreakerState = 'closed' | 'half-open' | 'open';

const TRUSTED_MS = 30_000; // a place that answered so lately is not asked to connect first

export class Breaker {
  readonly budget = new RetryBudget();
  readonly #what: Pick<CacheStore, 'backend' | 'endpoint' | 'label'>;
  readonly #address: CacheStore['address'];
  readonly #limits: BreakerLimits;
  readonly #clock: Clock;
  readonly #observer: CacheObserver;
  #state: BreakerState = 'closed';
  #failures = 0;
  #coolDownMs: number;
  #openSinceNs: bigint | undefined;
  #why = '';
  #answeredAtNs: bigint | undefined;
  #importMs = 0;
  #isOverdue = false;
  #trial: PromiseWithResolvers<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #connecting: Promise<BuildError | undefined> | undefined;

  constructor(store: CacheStore, limits: BreakerLimits, clock: Clock, observer: CacheObserver) {
    this.#what = { backend: store.backend, endpoint: store.endpoint, label: store.label };
    this.#address = store.address;
    this.#limits = limits;
    this.#coolDownMs = limits.coolDownMs;
    this.#clock = clock;
    this.#observer = observer;
    observer.breaker(store.backend, store.endpoint, 'closed');
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Why nothing is asked at present. */
  get refusal(): string | undefined {
    return this.#state === 'open' ? this.#refusal().message : undefined;
  }

  /**
   * Admits a call, or refuses it at once with `unavailable`. While it is half-open one call is the trial and the others of that moment
   * wait for it, or a transfer of many parts would be refused by its own first part.
   */
  async enter(signal: AbortSignal): Promise<void> {
    while (this.#trial !== undefined) await abortable(this.#trial.promise, signal);
    if (this.#state === 'open') throw this.#refusal();
    if (this.#state === 'half-open') this.#trial = Promise.withResolvers();
    const trusted = this.#answeredAtNs !== undefined && nsToMs(this.#clock.nowNs() - this.#answeredAtNs) < TRUSTED_MS;
    if (trusted || this.#address === undefined) return;
    this.#connecting ??= this.#connect(this.#address).finally(() => {
      this.#connecting = undefined;
    });
    const error = await this.#connecting;
    if (error === undefined) return;
    this.#open(error);
    throw this.#refusal();
  }

  /**
   * How long a build waits for the configurations of the place before it goes on without them: `leastMs`, or three times what they took
   * lately. Not at all where somebody waited in vain and nothing was heard since.
   */
  patienceMs(leastMs: number): number {
    return this.#isOverdue ? 0 : Math.max(leastMs, 3 * this.#importMs);
  }

  /** Configurations were read, all of one build in so many milliseconds. */
  imported(tookMs: number): void {
    this.#importMs = Math.max(tookMs, 0.8 * this.#importMs);
  }

  /** A build's patience ended. */
  overdue(): void {
    this.#isOverdue = true;
  }

  /** The place answered, whatever it said. */
  succeeded(): void {
    this.#failures = 0;
    this.#isOverdue = false;
    this.#answeredAtNs = this.#clock.nowNs();
    this.budget.success();
    if (this.#state === 'closed') return this.#endTrial();
    const seconds = this.#openSinceNs === undefined ? 0 : nsToSeconds(this.#clock.nowNs() - this.#openSinceNs);
    this.#openSinceNs = undefined;
    this.#coolDownMs = this.#limits.coolDownMs;
    this.#enterState('closed');
    this.#endTrial();
    this.#observer.outageEnded(this.#what.backend, this.#what.endpoint, seconds);
  }

  /** What was waited for in vain opens it at once: the next build is not to wait as long again. */
  failed(error: BuildError): void {
    this.#failures += 1;
    this.#answeredAtNs = undefined;
    const enough = error.kind === 'timed-out' || this.#failures >= this.#limits.failures;
    if (enough || this.#state === 'half-open') this.#open(error);
  }

  /** A call that was admitted ended without telling anything of the place (aborted). */
  forgot(): void {
    this.#endTrial();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #refusal(): BuildError {
    const since = this.#openSinceNs === undefined ? 'now' : `${rfc3339(this.#openSinceNs).slice(0, 19)}Z`;
    return new BuildError('unavailable', `breaker open since ${since}: ${this.#why}`);
  }

  #endTrial(): void {
    this.#trial?.resolve();
    this.#trial = undefined;
  }

  #open(error: BuildError): void {
    this.#why = error.message;
    if (this.#state === 'half-open') this.#coolDownMs = Math.min(this.#limits.maxCoolDownMs, this.#coolDownMs * 2);
    if (this.#state === 'open') return;
    if (this.#openSinceNs === undefined) {
      this.#openSinceNs = this.#clock.nowNs();
      this.#observer.outageStarted(this.#what.backend, this.#what.endpoint, error);
    }
    this.#enterState('open');
    this.#endTrial();
    this.#coolDown(error.detail.retryAfterS === undefined ? 0 : error.detail.retryAfterS * 1000);
  }

  #coolDown(askedMs: number): void {
    clearTimeout(this.#timer);
    const waitMs = Math.max(askedMs, this.#coolDownMs * (0.8 + Math.random() / 5));
    this.#timer = setTimeout(() => void this.#probe(), Math.min(waitMs, this.#limits.maxCoolDownMs));
    this.#timer.unref();
  }

  async #probe(): Promise<void> {
    const error = this.#address === undefined ? undefined : await this.#connect(this.#address);
    if (this.#state !== 'open') return;
    if (error === undefined) return this.#enterState('half-open');
    this.#why = error.message;
    this.#coolDownMs = Math.min(this.#limits.maxCoolDownMs, this.#coolDownMs * 2);
    this.#coolDown(0);
  }

  #enterState(state: BreakerState): void {
    this.#state = state;
    this.#observer.breaker(this.#what.backend, this.#what.endpoint, state);
  }

  /** Undefined when it answers; nothing is said over the connection. */
  async #connect({ host, port }: { readonly host: string; readonly port: number }): Promise<BuildError | undefined> {
    const socket = connect({ host, port });
    const { promise, resolve } = Promise.withResolvers<BuildError | undefined>();
    const failed = (why: string): void => resolve(new BuildError('unavailable', `${host}:${port}: ${why}`));
    const timer = setTimeout(() => failed(`no connection within ${this.#limits.connectMs} ms`), this.#limits.connectMs);
    socket.once('connect', () => resolve(undefined));
    socket.once('error', (error) => failed(error.message));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      socket.destroy();
    }
  }
}

/** The breakers of all places this daemon has spoken to. */
export class Breakers implements Disposable {
  readonly #known = new Map<string, Breaker>();
  readonly #limits: BreakerLimits;
  readonly #clock: Clock;
  readonly #observer: CacheObserver;

  constructor(limits: BreakerLimits, clock: Clock, observer: CacheObserver) {
    this.#limits = limits;
    this.#clock = clock;
    this.#observer = observer;
  }

  of(store: CacheStore): Breaker {
    const key = breakerKey(store.backend, store.endpoint);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    this.#trim();
    const made = new Breaker(store, this.#limits, this.#clock, this.#observer);
    this.#known.set(key, made);
    return made;
  }

  [Symbol.dispose](): void {
    for (const breaker of this.#known.values()) breaker.close();
    this.#known.clear();
  }

  /** Clients name the places, so there is a bound; a closed breaker knows nothing worth keeping. */
  #trim(): void {
    if (this.#known.size < MAX_BREAKERS) return;
    for (const [key, breaker] of this.#known) {
      if (breaker.state !== 'closed') continue;
      this.#known.delete(key);
      return;
    }
  }
}

const MAX_BREAKERS = 1_000;
const breakerKey = (backend: BackendName, endpoint: string): string => `${backend} ${endpoint}`;
