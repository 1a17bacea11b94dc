/**
 * One build from request to result:
 *
 *   queued ─slot─► running the frontend ─result─► evaluating ─► exporting ─► finalizing (push) ─► done
 *        any ─error, cancel─► failed
 *
 * The frontend runs in this process (`Frontend` set), or the graph is given, or the client runs it and calls Return through LLBBridge.
 */
import { abortable } from '../../core/abort.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import { inlineCache } from '../cache/remote/inline.ts';
import type { Descriptor } from '../content/ports.ts';
import { type BuildEvent, type BuildId, type BuildResult, type Client, type EventSink, fanOut } from '../events.ts';
import type { BuildAccount } from '../explain/account.ts';
import type { ExportContext, Exporter, ExportOutcome, ExportSource } from '../exporter/ports.ts';
import type { FrontendRef, FrontendResult } from '../frontend/ports.ts';
import { ResourceLog } from '../history/resource-log.ts';
import { StatusLog } from '../history/status-log.ts';
import type { Definition } from '../proto/gen/pb/ops_pb.ts';
import type { Recipe } from '../reproduce/recipe.ts';
import { SourcePins } from '../reproduce/source-pins.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { BuildBridge, snapshotOf } from './bridge.ts';
import { BuildCaches, importsOfOptions } from './build-caches.ts';
import { type InternalStep, internalStep, type StepScope } from './internal-step.ts';
import type { BuilderDeps } from './ports.ts';

export interface TypedAttributes {
  readonly type: string;
  readonly attributes: ReadonlyMap<string, string>;
}
export interface BuildRequest {
  readonly ref: BuildId;
  readonly sessionId: string;
  /** Empty: the definition is built, or, without one, the client runs the frontend. */
  readonly frontend: string;
  readonly definition: Definition | undefined;
  readonly options: ReadonlyMap<string, string>;
  readonly inputs: ReadonlyMap<string, Definition>;
  readonly exporters: readonly TypedAttributes[];
  readonly cacheExports: readonly TypedAttributes[];
  readonly cacheImports: readonly TypedAttributes[];
  /** What the client grants its own steps: `network.host`, `security.insecure`. */
  readonly entitlements: readonly string[];
  /** Not recorded in history. */
  readonly internal: boolean;
  readonly traceparent: string | undefined;
  readonly client?: Client;
  /** When what led to the build happened; `ignored` says why what the client said does not count. */
  readonly trigger?: { readonly triggeredAtNs?: bigint; readonly ignored?: string };
}
export interface BuildOutcome {
  readonly response: ReadonlyMap<string, string>;
  /** Image manifest or index by exporter index. */
  readonly descriptors: ReadonlyMap<number, Descriptor>;
}

const EMPTY_RESULT: FrontendResult = { refs: { kind: 'single', ref: undefined }, metadata: new Map() };

export class Build {
  readonly request: BuildRequest;
  readonly status: StatusLog;
  readonly resources = new ResourceLog();
  readonly sources = new SourcePins();
  readonly bridge: BuildBridge;
  readonly createdAtNs: bigint;
  /** What its look-ups found, and why not; internal builds have none. */
  readonly account: BuildAccount | undefined;
  readonly #deps: BuilderDeps;
  readonly #controller = new AbortController();
  readonly #sink: EventSink;
  readonly #exporters: readonly Exporter[];
  /** What the client hands back through Return. */
  readonly #returned = Promise.withResolvers<FrontendResult>();
  /** Whose services this build may use, its own first. */
  readonly #sessions: string[] = [];
  #hasArtifact = false;
  #recipe: Recipe | undefined;
  readonly #job;
  readonly #caches: BuildCaches;
  /** Caches of the daemon's own configuration, for a build that names none. */
  readonly #defaults: readonly TypedAttributes[];
  #admitted = false;

  /** @throws BuildError for an exporter that cannot work, before anything is built. */
  constructor(request: BuildRequest, deps: BuilderDeps, onSinkError: (error: unknown) => void) {
    this.request = request;
    this.#deps = deps;
    this.status = new StatusLog(deps.maxLogBytes);
    this.createdAtNs = deps.clock.nowNs();
    this.#checkEntitlements();
    this.#exporters = request.exporters.map(({ type, attributes }) =>
      deps.exporters.create(type, withEpoch(attributes, request.options)),
    );
    const listeners = fanOut([this.status, this.resources, this.sources, deps.sink], onSinkError);
    this.account = request.internal
      ? undefined
      : deps.accounts.begin({ ...request, startedAtMs: Number(this.createdAtNs / 1_000_000n) }, listeners);
    this.#sink = this.account ?? listeners;
    if (request.sessionId !== '') this.#sessions.push(request.sessionId);
    this.#returned.promise.catch(() => {}); // a Return after the build ended is nobody's error
    this.#job = deps.solver.newJob({
      id: request.ref,
      sessions: this.#sessions,
      sink: this.#sink,
      traceparentFor: (vertex) => deps.traceparentOf(request.ref, vertex.digest),
    });
    this.bridge = new BuildBridge({
      build: request.ref,
      sessionId: request.sessionId,
      job: this.#job,
      clock: deps.clock,
      sink: this.#sink,
      signal: this.#controller.signal,
      platforms: deps.platforms,
      frontends: deps.frontends,
      resolver: deps.metadataResolver(),
      entitlements: new Set(request.entitlements),
      sessions: () => this.#sessions,
      onGraph: (graph) => this.account?.loaded(graph),
      ready: () => this.#caches.ready(),
    });
    const { defaults } = deps.caches;
    const namesNone = request.cacheExports.length + this.#namedImports().length === 0 && !request.internal;
    this.#defaults = namesNone ? defaults : [];
    this.#caches = new BuildCaches({
      caches: deps.caches,
      scope: { build: request.ref, clock: deps.clock, sink: this.#sink },
      sessionId: request.sessionId,
      sessions: () => this.#sessions,
      signal: this.#controller.signal,
      exports: [...request.cacheExports, ...this.#defaults],
      addCaches: (found) => this.#job.addCaches(found),
    });
  }

  get id(): BuildId {
    return this.request.ref;
  }

  /** False while the build waits for its turn. */
  get admitted(): boolean {
    return this.#admitted;
  }

  /** Another session whose services this build may use (shared local directories). */
  addSession(id: string): void {
    if (this.#sessions.includes(id)) return;
    this.#sessions.push(id);
    this.#job.addSession(id);
  }

  /** Caches that a request of the client's frontend names; those of the build itself are read already. */
  importCaches(entries: readonly TypedAttributes[]): void {
    this.#caches.import(entries);
  }

  /** The client's frontend has finished, with a result or with an error. */
  return(outcome: FrontendResult | BuildError): void {
    if (outcome instanceof BuildError) this.#returned.reject(outcome);
    else this.#returned.resolve(outcome);
  }

  cancel(reason: BuildError): void {
    this.#controller.abort(reason);
  }

  /** Runs the build to its end; whichever way it ends, nothing of it is left running or held. */
  async run(signal: AbortSignal): Promise<BuildOutcome> {
    const onAbort = (): void => this.cancel(signal.reason instanceof BuildError ? signal.reason : cancelled());
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    const { request } = this;
    this.#emit({
      type: 'build-queued',
      internal: request.internal,
      target: request.options.get('target') ?? '',
      exporters: request.exporters.map(({ type }) => type),
      ...(request.traceparent === undefined ? {} : { traceparent: request.traceparent }),
      ...(request.client === undefined ? {} : { client: request.client }),
      ...(request.trigger?.triggeredAtNs === undefined ? {} : { triggeredAtNs: request.trigger.triggeredAtNs }),
      ...vcsOf(request.options),
    });
    let end: BuildEvent | undefined;
    try {
      using _slot = request.internal ? undefined : await this.#deps.admission.enter(this.#controller.signal);
      this.#admitted = true;
      this.#emit({ type: 'build-started' });
      this.#caches.import([...this.#namedImports(), ...this.#defaults]);
      const outcome = await this.#work();
      end = this.#stamped({ type: 'build-finished', result: 'success' });
      return outcome;
    } catch (thrown) {
      const aborted = this.#controller.signal.aborted;
      const error = BuildError.from(
        aborted && this.#controller.signal.reason instanceof BuildError && !(thrown instanceof BuildError)
          ? this.#controller.signal.reason
          : thrown,
      );
      const { kind, fault, message } = error;
      end = this.#stamped({ type: 'build-finished', result: resultOf(error), kind, fault, error: message });
      throw error;
    } finally {
      signal.removeEventListener('abort', onAbort);
      if (!this.#controller.signal.aborted) this.#controller.abort(cancelled());
      try {
        await this.#caches[Symbol.asyncDispose]();
        await this.bridge[Symbol.asyncDispose]();
        await this.#job[Symbol.asyncDispose]();
      } finally {
        const { clippedBytes } = this.status;
        const clipped = clippedBytes === 0 ? {} : { clippedLogBytes: clippedBytes };
        if (end?.type === 'build-finished') this.#sink.emit({ ...end, ...clipped }); // last: what still ran has reported its end by now
        this.status.close(this.#deps.clock.nowNs());
      }
    }
  }

  async #work(): Promise<BuildOutcome> {
    const result = await this.#frontendResult();
    const { refs } = result;
    const entries: [string, FrontendRef | undefined][] = refs.kind === 'single' ? [['', refs.ref]] : [...refs.refs];
    const exported = entries.flatMap(([, ref]) => (ref === undefined ? [] : [ref]));
    const results = await Promise.all(
      entries.map(
        async ([platform, ref]): Promise<[string, Snapshot | undefined]> => [
          platform,
          snapshotOf(await this.bridge.evaluate(ref)),
        ],
      ),
    );
    const source: ExportSource = {
      results: new Map(results),
      multiPlatform: refs.kind === 'map',
      metadata: result.metadata,
      ...(this.#caches.hasInline ? { inlineCache: this.#inlineOf(new Map(entries), new Map(results)) } : {}),
    };
    const outcomes: ExportOutcome[] = [];
    for (const [index, exporter] of this.#exporters.entries()) {
      const outcome = await this.#exportStep(exporter, index, 'export', (context) => exporter.export(source, context));
      outcomes.push(outcome);
      if (outcome.finalize === undefined) this.#artifact();
    }
    this.#recipe = this.#recipeOf(result, outcomes);
    const cached = await this.#caches.export(() => this.bridge.keyRecords(exported));
    for (const [index, exporter] of this.#exporters.entries()) {
      const finalize = outcomes[index]?.finalize;
      if (finalize === undefined) continue;
      await this.#exportStep(exporter, index, 'push', finalize);
      this.#artifact();
    }
    const frontendKeys = [...result.metadata]
      .filter(([key]) => key.startsWith('frontend.'))
      .map(([key, value]): [string, string] => [key, new TextDecoder().decode(value)]);
    return {
      response: new Map([...cached, ...frontendKeys, ...outcomes.flatMap((outcome) => [...outcome.response])]),
      descriptors: new Map(
        outcomes.flatMap((outcome, index) => (outcome.descriptor === undefined ? [] : [[index, outcome.descriptor] as const])),
      ),
    };
  }

  #checkEntitlements(): void {
    const { entitlements, client } = this.request;
    for (const entitlement of entitlements) {
      if (this.#deps.allowedEntitlements.has(entitlement)) continue;
      const atNs = this.createdAtNs;
      this.#deps.sink.emit({ type: 'request-denied', build: this.id, atNs, what: entitlement, ...(client && { client }) });
      throw new BuildError('denied', `granting entitlement ${entitlement} is not allowed by build daemon configuration`, {
        hint: 'add it to insecure-entitlements in the daemon configuration',
      });
    }
  }

  async #frontendResult(): Promise<FrontendResult> {
    const { frontend, definition, options, inputs } = this.request;
    if (frontend !== '') return await this.bridge.forward({ frontend, options, inputs });
    if (definition !== undefined && definition.def.length > 0)
      return { ...EMPTY_RESULT, refs: { kind: 'single', ref: await this.bridge.solve(definition) } };
    return await abortable(this.#returned.promise, this.#controller.signal);
  }

  /** Both phases of an exporter are the same step, started twice. */
  async #exportStep<T>(
    exporter: Exporter,
    index: number,
    phase: 'export' | 'push',
    work: (context: ExportContext) => Promise<T>,
  ): Promise<T> {
    const { sessionId } = this.request;
    const startedAtNs = this.#deps.clock.nowNs();
    return await this.#step(
      { name: exporter.name, op: 'export', identity: `${sessionId}-export-${index}` },
      (progress, digest) => {
        const traceparent = this.#deps.traceparentOf(this.id, digest);
        return work({
          sessionId,
          sessions: () => this.#sessions,
          exporterIndex: index,
          progress,
          signal: this.#controller.signal,
          buildId: this.id,
          ...(traceparent === undefined ? {} : { traceparent }),
        }).finally(() => progress.phase(phase, startedAtNs));
      },
    );
  }

  #namedImports(): readonly TypedAttributes[] {
    return [...this.request.cacheImports, ...importsOfOptions(this.request.options)];
  }

  #inlineOf(
    refs: ReadonlyMap<string, FrontendRef | undefined>,
    results: ReadonlyMap<string, Snapshot | undefined>,
  ): NonNullable<ExportSource['inlineCache']> {
    return async (result, layers) => {
      const [platform] = [...results].find(([, snapshot]) => snapshot === result) ?? [];
      const ref = platform === undefined ? undefined : refs.get(platform);
      return ref === undefined ? undefined : await inlineCache(this.bridge.keyRecords([ref]), result, layers);
    };
  }

  async #step<T>(step: InternalStep, work: Parameters<typeof internalStep<T>>[2]): Promise<T> {
    const scope: StepScope = { build: this.id, clock: this.#deps.clock, sink: this.#sink };
    return await internalStep(scope, step, work);
  }

  /** How to make the first image again; undefined before one was made. */
  get recipe(): Recipe | undefined {
    return this.#recipe;
  }

  #recipeOf({ refs, metadata }: FrontendResult, outcomes: readonly ExportOutcome[]): Recipe | undefined {
    const index = outcomes.findIndex(({ descriptor }) => descriptor !== undefined);
    const [outcome, exporter] = [outcomes[index], this.request.exporters[index]];
    if (outcome?.descriptor === undefined || exporter === undefined || this.request.internal) return undefined;
    const entries: [string, FrontendRef | undefined][] = refs.kind === 'single' ? [['', refs.ref]] : [...refs.refs];
    const results = entries.map(([platform, ref]) => [platform, ref?.definition] as const);
    return {
      results: new Map(results),
      multiPlatform: refs.kind === 'map',
      metadata,
      exporter: { type: exporter.type, attributes: withEpoch(exporter.attributes, this.request.options) },
      manifest: outcome.descriptor.digest,
      entitlements: this.request.entitlements,
      locals: new Map(
        [...this.sources.vertices].flatMap((vertex) => {
          const id = this.#deps.localResultOf(vertex);
          return id === undefined ? [] : [[vertex, id] as const];
        }),
      ),
      pins: this.sources.pins,
    };
  }

  #artifact(): void {
    if (!this.#hasArtifact) this.#emit({ type: 'first-artifact' });
    this.#hasArtifact = true;
  }

  #emit(event: Unstamped<BuildEvent>): void {
    this.#sink.emit(this.#stamped(event));
  }

  #stamped(event: Unstamped<BuildEvent>): BuildEvent {
    return { ...event, build: this.id, atNs: this.#deps.clock.nowNs() } as BuildEvent;
  }
}

type Unstamped<E> = E extends BuildEvent ? Omit<E, 'build' | 'atNs'> : never;

/** OTel `cicd.pipeline.result`: a user's mistake is a failure, ours is an error. */
export function resultOf(error: BuildError | undefined): BuildResult {
  if (error === undefined) return 'success';
  if (error.kind === 'cancelled') return 'cancellation';
  if (error.kind === 'timed-out') return 'timeout';
  return error.fault === 'user' ? 'failure' : 'error';
}

/** Hands SOURCE_DATE_EPOCH to an exporter that has none of its own; a word there (`context`) is for the frontend to make a time of. */
export function withEpoch(
  attributes: ReadonlyMap<string, string>,
  options: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const epoch = options.get('build-arg:SOURCE_DATE_EPOCH');
  if (epoch === undefined || !/^([+-]?\d+)?$/.test(epoch) || attributes.has('source-date-epoch')) return attributes;
  return new Map([...attributes, ['source-date-epoch', epoch]]);
}

/** @throws BuildError `denied` for an entitlement that the daemon's configuration does not allow. */

function vcsOf(options: ReadonlyMap<string, string>): {
  readonly vcs?: { readonly source?: string; readonly revision?: string };
} {
  const [source, revision] = [options.get('vcs:source'), options.get('vcs:revision')];
  if (source === undefined && revision === undefined) return {};
  return { vcs: { ...(source === undefined ? {} : { source }), ...(revision === undefined ? {} : { revision }) } };
}
