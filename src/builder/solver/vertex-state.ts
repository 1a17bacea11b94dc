/**
 * One vertex while any build holds it, shared by all of them: its op, cache maps, content keys, and the one run that makes its
 * outputs. It starts work when an edge (edge-state.ts) asks, and aborts it when no edge is wanted any more. What was aborted leaves
 * no trace, so the vertex can be wanted again.
 */
import type { Clock } from '../../core/clock.ts';
import type { VertexDigest } from '../../core/digest.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { Vertex } from '../llb/definition.ts';
import { contentKeyOf } from './keys.ts';
import type { CacheMap, Op, OpContext, OpResolver, RemoteCache, Result } from './ports.ts';
import type { Claimant, Slots } from './slots.ts';
import type { StepReporter, Subscriber } from './step-reporter.ts';

/** A build, as far as a vertex needs to know it. */
export interface Holder extends Subscriber {
  readonly sessions: readonly string[];
  /** Remote caches the build looks into. */
  readonly caches: readonly RemoteCache[];
  readonly claims: { readonly exec: Claimant; readonly io: Claimant };
  readonly traceparentFor: ((vertex: Vertex) => string | undefined) | undefined;
}
/** What vertices share. */
export interface VertexServices {
  readonly ops: OpResolver;
  readonly clock: Clock;
  readonly slots: { readonly exec: Slots; readonly io: Slots };
  readonly onProblem: (error: BuildError) => void;
}
/** An edge, as far as its vertex needs to know it. */
export interface EdgeHandle {
  readonly wanted: boolean;
  /** The vertex changed; look again. */
  wake(): void;
  /** Forgets a failure. */
  reset(): void;
  /** Names of a cache that came late are learnt. */
  relearn(): void;
}
export interface VertexInput {
  readonly state: VertexState;
  readonly output: number;
}

const NONE: readonly RemoteCache[] = [];
const fetchOf = (output: number): string => `fetch ${output}`;

export class VertexState {
  /** As announced: the vertex's own, or another when this copy must not be joined with it (solver.ts, `join`). */
  readonly digest: VertexDigest;
  readonly vertex: Vertex;
  readonly inputs: readonly VertexInput[];
  readonly reporter: StepReporter;
  readonly edges = new Map<number, EdgeHandle>();
  readonly holders = new Set<Holder>();
  /** Vertices that are served by this one's run, and keep it alive meanwhile. */
  readonly followers = new Set<VertexState>();
  /** Outputs made so far, by index; owned here, disposed when the vertex is released. */
  readonly outputs = new Map<number, Result>();
  readonly maps: CacheMap[] = [];
  /** Keys of inputs by content, by input index. */
  readonly contentKeys: (string | undefined)[] = [];
  /** Vertices on the longest way up to a wanted result. */
  height = 0;
  mapsDone = false;
  /** How long the last run took, once one has ended. */
  lastRunNs: bigint | undefined;
  error: BuildError | undefined;
  readonly #services: VertexServices;
  readonly #working = new Set<string>();
  #op: Op | undefined;
  #abort: AbortController | undefined;
  #released = false;
  /** Resolves `release` once the last piece of work has ended. */
  #onIdle: (() => void) | undefined;

  constructor(
    digest: VertexDigest,
    vertex: Vertex,
    inputs: readonly VertexInput[],
    reporter: StepReporter,
    services: VertexServices,
  ) {
    this.digest = digest;
    this.vertex = vertex;
    this.inputs = inputs;
    this.reporter = reporter;
    this.#services = services;
  }

  get ignoreCache(): boolean {
    return this.vertex.options.ignoreCache;
  }
  get running(): boolean {
    return this.#working.has('run');
  }
  get released(): boolean {
    return this.#released;
  }

  /** Asks for the next cache map. */
  requestMap(): void {
    const isSource = this.inputs.length === 0;
    this.#work('map', 'failed to load cache key', async (signal) => {
      if (isSource) this.reporter.started('key');
      try {
        const { map, done } = await this.#resolveOp().cacheMap(this.#contextOf(signal), this.maps.length);
        if (isSource) this.reporter.finished('key', undefined, map.pin);
        return () => {
          this.maps.push(map);
          this.mapsDone = done || !isSource; // only sources may be known by several keys
        };
      } catch (error) {
        const failure = this.#failureOf(error, signal);
        if (isSource) this.reporter.finished('key', failure);
        else if (failure.kind !== 'cancelled') this.reporter.failed(failure);
        throw failure;
      }
    });
  }

  /** Asks for the key of an evaluated input by what this op reads of it. */
  requestContentKey(input: number, result: Result): void {
    const contentKey = this.maps[0]?.inputs[input]?.contentKey;
    if (contentKey === undefined) return;
    this.#work(`content ${input}`, 'failed to compute cache key', async (signal) => {
      const startedAtNs = this.#services.clock.nowNs();
      await using own = result.clone(); // the input may be released while its files are read
      try {
        const digest = await contentKey(own, this.#contextOf(signal));
        this.reporter.phase('lookup', startedAtNs);
        return () => {
          this.contentKeys[input] = contentKeyOf(digest);
        };
      } catch (error) {
        const failure = this.#failureOf(error, signal);
        if (failure.kind !== 'cancelled') this.reporter.failed(failure);
        throw failure;
      }
    });
  }

  /** Runs the op; `store` is told of the outputs before anybody sees them. Inputs are cloned here and given back by the run. */
  run(inputs: readonly Result[], store: (outputs: readonly Result[]) => void): void {
    const own = inputs.map((input) => input.clone());
    this.#work('run', '', async (signal) => {
      try {
        const outputs = await this.#runInSlot(signal, own);
        store(outputs);
        return () => this.#takeOutputs(outputs);
      } finally {
        await this.#dispose(own);
      }
    });
  }

  async #runInSlot(signal: AbortSignal, inputs: readonly Result[]): Promise<Result[]> {
    const { clock, slots } = this.#services;
    const op = this.#resolveOp();
    const readyAtNs = clock.nowNs();
    const claim = { height: this.height, claimants: () => this.#claimants(op.resource) };
    using _slot = await slots[op.resource].acquire(claim, signal);
    this.reporter.started('run');
    this.reporter.phase('queue', readyAtNs);
    const startedAtNs = clock.nowNs();
    try {
      const outputs = await op.exec(this.#contextOf(signal), inputs); // the context is made once the step's span can exist
      this.lastRunNs = clock.nowNs() - startedAtNs;
      this.reporter.finished('run');
      return outputs;
    } catch (error) {
      const failure = this.#failureOf(error, signal);
      this.reporter.finished('run', failure);
      throw failure;
    }
  }

  /** An output found in the cache. Returns the result to use: when a run was faster, that one, and `result` is given back. */
  takeLoaded(output: number, result: Result): void {
    if (this.#released || this.outputs.has(output)) void this.#dispose([result]);
    else this.outputs.set(output, result);
  }

  /** The same step failed while it ran for another vertex; to run it again would only take as long to fail. */
  takeFailure(error: BuildError): void {
    this.error ??= new BuildError(error.kind, error.message, { ...error.detail, vertex: this.vertex.digest }, { cause: error });
  }

  /** Aborts what runs once no edge is wanted any more. */
  stopIfUnwanted(): void {
    if (this.#working.size > 0 && !this.#isWanted()) this.#abort?.abort(cancelled());
  }

  /** Forgets a failure, so that a build that joins now gets a run of its own. No effect while another build still learns of it. */
  resetFailure(): void {
    if (this.#isWanted()) return;
    if (this.error !== undefined) this.reporter.reset();
    this.error = undefined;
    for (const edge of this.edges.values()) edge.reset();
  }

  /** Nobody holds the vertex any more. Resolves when what ran has ended and every output is given back. */
  async release(): Promise<void> {
    this.#released = true;
    if (this.#working.size > 0) this.#abort?.abort(cancelled());
    const outputs = [...this.outputs.values()];
    this.outputs.clear();
    await this.#dispose(outputs);
    if (this.#working.size > 0)
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
  }

  /** Every build served by this vertex, through followers too; the longest waiting first. */
  *allHolders(): Generator<Holder> {
    yield* this.holders;
    for (const follower of this.followers) yield* follower.allHolders();
  }

  /** Remote caches of every build served by this vertex, each once. */
  remoteCaches(): readonly RemoteCache[] {
    let found: readonly RemoteCache[] = NONE;
    for (const { caches } of this.allHolders())
      if (caches.length > 0) found = found === NONE ? caches : [...new Set([...found, ...caches])];
    return found;
  }

  /**
   * Fetches an output that a remote cache has. Shown as an interval of its own, as the key of a source is, because only its end tells
   * a hit from a miss. `fetch` returns what to do when it counts, and rejects only when it was aborted.
   */
  fetchRemote(output: number, fetch: (context: OpContext) => Promise<() => void>): void {
    this.#work(fetchOf(output), '', async (signal) => {
      this.reporter.started('key');
      try {
        return await fetch(this.#contextOf(signal));
      } finally {
        this.reporter.finished('key');
      }
    });
  }
  isFetching(output: number): boolean {
    return this.#working.has(fetchOf(output));
  }

  /**
   * One piece of work per name at a time. `body` returns what to do when it counts; it rejects with a BuildError. An aborted piece
   * leaves the vertex as it was. Edges are woken either way.
   */
  #work(name: string, failurePrefix: string, body: (signal: AbortSignal) => Promise<() => void>): void {
    if (this.#working.has(name) || this.#released) return;
    if (this.#abort?.signal.aborted === true) {
      if (this.#working.size > 0) return; // the aborted pieces wake the edges when they have ended
      this.#abort = undefined;
    }
    this.#abort ??= new AbortController();
    const { signal } = this.#abort;
    this.#working.add(name);
    void this.#perform(body(signal), signal, failurePrefix).finally(() => {
      this.#working.delete(name);
      if (this.#working.size === 0) {
        this.#abort = undefined;
        this.#onIdle?.();
      }
      for (const edge of this.edges.values()) edge.wake();
    });
  }

  async #perform(work: Promise<() => void>, signal: AbortSignal, failurePrefix: string): Promise<void> {
    try {
      const apply = await work;
      apply();
    } catch (thrown) {
      const failure = this.#failureOf(thrown, signal);
      if (!signal.aborted) this.error ??= failurePrefix === '' ? failure : failure.wrap(failurePrefix);
    }
  }

  #takeOutputs(outputs: readonly Result[]): void {
    for (const [output, result] of outputs.entries()) this.takeLoaded(output, result);
    for (const output of this.edges.keys()) {
      if (output < outputs.length || this.outputs.has(output) || this.#released) continue;
      this.error ??= new BuildError(
        'internal',
        `invalid response from exec: output ${output} is wanted but ${outputs.length} were made`,
        { vertex: this.vertex.digest },
      );
    }
  }

  #contextOf(signal: AbortSignal): OpContext {
    const traceparent = this.#traceparent();
    const { reporter } = this;
    return {
      signal,
      sessions: () => [...new Set([...this.allHolders()].flatMap(({ sessions }) => sessions))],
      get progress() {
        return reporter.progress;
      },
      ...(traceparent === undefined ? {} : { traceparent }),
    };
  }

  #traceparent(): string | undefined {
    for (const holder of this.allHolders()) {
      const traceparent = holder.traceparentFor?.(this.vertex);
      if (traceparent !== undefined) return traceparent;
    }
    return undefined;
  }

  #resolveOp(): Op {
    this.#op ??= this.#services.ops.resolve(this.vertex);
    return this.#op;
  }

  #failureOf(thrown: unknown, signal: AbortSignal): BuildError {
    const own = BuildError.from(thrown);
    const error = signal.aborted && own.kind !== 'cancelled' ? cancelled(`${own.message}: context canceled`) : own;
    return error.detail.vertex === undefined ? error.wrap('', { vertex: this.vertex.digest }) : error;
  }

  #isWanted(): boolean {
    for (const edge of this.edges.values()) if (edge.wanted) return true;
    return false;
  }

  *#claimants(kind: 'exec' | 'io'): Generator<Claimant> {
    for (const { claims } of this.allHolders()) yield claims[kind];
  }

  async #dispose(results: readonly Result[]): Promise<void> {
    const outcomes = await Promise.allSettled(results.map((result) => result[Symbol.asyncDispose]()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') this.#services.onProblem(BuildError.from(outcome.reason));
  }
}
