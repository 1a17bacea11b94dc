/** What pages watch: the state of the daemon, and the steps of one build. One feed each, however many watch; a bound on all of them. */
import type { ServerResponse } from 'node:http';
import { BuildError } from '../../core/errors.ts';
import type { OpsProviders } from '../ops-providers.ts';
import { type FeedDocument, LiveFeed, openEventStream } from './live-feed.ts';
import type { Status, Steps } from './model.ts';

const MAX_STREAMS = 64;
const DAEMON_MS = 1_000;
const BUILD_MS = 500;
/** Objectives are sampled as often by the evaluator itself. */
const SLO_MS = 10_000;
const LISTED_BUILDS = 12;

/** The daemon's state with what only the server knows. */
export function statusOf(providers: OpsProviders, writable: boolean): Status {
  const checks = providers.ready().map((check) => ({ ...check }));
  return {
    ...providers.status(),
    version: providers.version,
    now: new Date().toISOString(),
    ready: checks.every(({ ok }) => ok),
    checks,
    writable,
  };
}

export class Live implements Disposable {
  readonly #providers: OpsProviders;
  readonly #writable: boolean;
  readonly #stepsOf: (ref: string) => Promise<Steps | undefined>;
  readonly #daemon: LiveFeed;
  readonly #builds = new Map<string, LiveFeed>();
  readonly #streams = new Set<ServerResponse>();
  #slo: { readonly atMs: number; readonly report: unknown; readonly alerts: unknown } | undefined;

  constructor(providers: OpsProviders, writable: boolean, stepsOf: (ref: string) => Promise<Steps | undefined>) {
    this.#providers = providers;
    this.#writable = writable;
    this.#stepsOf = stepsOf;
    this.#daemon = new LiveFeed({
      compute: () => this.#daemonDocument(),
      intervalMs: DAEMON_MS,
      onError: providers.onError,
      onIdle: () => {
        this.#slo = undefined;
      },
    });
  }

  watchDaemon(response: ServerResponse): void {
    this.take(response);
    this.#daemon.add(response);
  }

  watchBuild(ref: string, response: ServerResponse): void {
    this.take(response);
    const feed = this.#builds.get(ref) ?? this.#newBuildFeed(ref);
    this.#builds.set(ref, feed);
    feed.add(response);
  }

  /** Opens an event stream and counts it. @throws BuildError `exhausted` when too many are open. */
  take(response: ServerResponse): void {
    if (this.#streams.size >= MAX_STREAMS)
      throw new BuildError('exhausted', `${MAX_STREAMS} live views are open already`, {
        retryAfterS: 5,
        hint: 'close one, or ask for the same document without following it',
      });
    this.#streams.add(response);
    response.once('close', () => this.#streams.delete(response));
    openEventStream(response);
  }

  [Symbol.dispose](): void {
    for (const stream of this.#streams) stream.end();
  }

  #newBuildFeed(ref: string): LiveFeed {
    const feed: LiveFeed = new LiveFeed({
      compute: () => this.#buildDocument(ref),
      intervalMs: BUILD_MS,
      onError: this.#providers.onError,
      onIdle: () => {
        if (this.#builds.get(ref) === feed) this.#builds.delete(ref);
      },
    });
    return feed;
  }

  async #daemonDocument(): Promise<FeedDocument> {
    const { slo, alerts, builds } = this.#providers;
    const nowMs = performance.now();
    if (this.#slo === undefined || nowMs - this.#slo.atMs > SLO_MS)
      this.#slo = { atMs: nowMs, report: await slo(), alerts: await alerts() };
    const { now: _now, ...status } = statusOf(this.#providers, this.#writable); // the time alone is no news
    const values = new Map<string, unknown>([
      ['status', status],
      ['builds', builds({ limit: LISTED_BUILDS })],
      ['slo', this.#slo.report],
      ['alerts', this.#slo.alerts],
    ]);
    return { values };
  }

  /** The build itself under `build`, totals under `totals`, each step under its id. */
  async #buildDocument(ref: string): Promise<FeedDocument | undefined> {
    const build = await this.#providers.build(ref);
    if (build === undefined) return undefined;
    const steps = await this.#stepsOf(ref);
    const { steps: list = [], ...totals } = steps ?? { complete: build.endedAt !== undefined };
    const values = new Map<string, unknown>([
      ['build', build],
      ['totals', totals],
      ...list.map((step) => [step.id, step] as const),
    ]);
    return { values, isLast: build.endedAt !== undefined && totals.complete };
  }
}
