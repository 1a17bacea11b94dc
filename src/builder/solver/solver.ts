/**
 * The concurrent graph solver. Every build loads its graphs into one live graph, where a vertex exists once however many builds hold
 * it: it is looked up once, runs once, and tells all of them. Nothing runs before a build asks for a result. What a build held is
 * given back when its job is disposed; a vertex goes, with its results, when the last build lets go of it.
 */
import type { Clock } from '../../core/clock.ts';
import { digestOf, type VertexDigest } from '../../core/digest.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { BuildId, EventSink, OpKind, StepInfo } from '../events.ts';
import type { Edge, Graph, Vertex } from '../llb/definition.ts';
import { type Demand, type EdgeServices, EdgeState, LEVEL } from './edge-state.ts';
import { keyRecords } from './key-records.ts';
import type { CacheIndex, OpResolver, RemoteCache, Result, ResultStore } from './ports.ts';
import { Slots } from './slots.ts';
import { StepReporter } from './step-reporter.ts';
import { type Holder, type VertexInput, type VertexServices, VertexState } from './vertex-state.ts';
import { WorkQueue } from './work-queue.ts';

export interface SolverOptions {
  readonly ops: OpResolver;
  readonly index: CacheIndex;
  readonly results: ResultStore;
  readonly clock: Clock;
  /** Runs at once, over all builds; 0 is no bound. `maxParallelism` bounds processes, `ioParallelism` transfers and file work. */
  readonly limits: { readonly maxParallelism: number; readonly ioParallelism: number };
  /** Told of failures that harm no build: a result that could not be given back, a cache entry that could not be read. */
  readonly onProblem?: (error: BuildError) => void;
}
export interface JobOptions {
  readonly id: BuildId;
  /** Sessions that may serve the steps of this build, the preferred first. */
  readonly sessions: readonly string[];
  readonly sink: EventSink;
  /** Span context of a step, asked for when the step starts. */
  readonly traceparentFor?: (vertex: Vertex) => string | undefined;
}
export interface SolverStats {
  readonly vertices: number;
  readonly exec: { readonly running: number; readonly waiting: number };
  readonly io: { readonly running: number; readonly waiting: number };
}

const LEFT_PER_TURN = 500; // vertices given back before others get the event loop

export class Solver implements AsyncDisposable {
  readonly #live = new LiveGraph();
  readonly #jobs = new Set<Job>();
  readonly #clock: Clock;
  readonly #slots: VertexServices['slots'];
  readonly #vertexServices: VertexServices;
  readonly #edgeServices: EdgeServices;

  constructor({ ops, index, results, clock, limits, onProblem = () => {} }: SolverOptions) {
    this.#clock = clock;
    this.#slots = { exec: new Slots(limits.maxParallelism), io: new Slots(limits.ioParallelism) };
    this.#vertexServices = { ops, clock, slots: this.#slots, onProblem };
    this.#edgeServices = {
      queue: new WorkQueue(),
      index,
      results,
      clock,
      onProblem,
      producing: new Map(),
      edgeOf: (state, output) => this.#edgeOf(state, output),
      releaseIfUnheld: (state) => void this.#releaseIfUnheld(state),
    };
  }

  get stats(): SolverStats {
    const { exec, io } = this.#slots;
    return {
      vertices: this.#live.size,
      exec: { running: exec.inUse, waiting: exec.waiting },
      io: { running: io.inUse, waiting: io.waiting },
    };
  }

  /** A build: what it loads is shared with the others, what it asks for is its own. Dispose it when the build is over. */
  newJob(options: JobOptions): Job {
    const job = new Job(options, {
      join: (vertex, inputs, holder) => this.#join(vertex, inputs, holder),
      leave: (state, holder) => this.#leave(state, holder),
      edgeOf: (state, output) => this.#edgeOf(state, output),
      edges: this.#edgeServices,
      clock: this.#clock,
      onDispose: () => this.#jobs.delete(job),
    });
    this.#jobs.add(job);
    return job;
  }

  /** Cancels every build and gives everything back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#jobs].map((job) => job.dispose()));
  }

  #join(vertex: Vertex, inputs: readonly VertexInput[], holder: Holder): VertexState {
    const known = this.#live.find(vertex, inputs);
    const state = known ?? this.#create(vertex, inputs);
    if (known !== undefined && !known.holders.has(holder)) known.resetFailure();
    state.holders.add(holder);
    return state;
  }

  #create(vertex: Vertex, inputs: readonly VertexInput[]): VertexState {
    const digest = this.#live.freeDigest(vertex.digest);
    const info = stepInfo(digest, vertex, inputs);
    const reporters = inputs.map(({ state }) => state.reporter);
    const state = new VertexState(digest, vertex, inputs, new StepReporter(info, reporters, this.#clock), this.#vertexServices);
    this.#live.add(state);
    return state;
  }

  #leave(state: VertexState, holder: Holder): Promise<void> {
    state.holders.delete(holder);
    state.reporter.unsubscribe(holder);
    return this.#releaseIfUnheld(state);
  }

  async #releaseIfUnheld(state: VertexState): Promise<void> {
    if (state.released || state.holders.size > 0 || state.followers.size > 0) return;
    this.#live.remove(state);
    await state.release();
  }

  #edgeOf(state: VertexState, output: number): EdgeState {
    const known = state.edges.get(output);
    return known instanceof EdgeState ? known : new EdgeState(state, output, this.#edgeServices);
  }
}

/** Every vertex some build holds. More than one may stand for the same digest: see `find`. */
class LiveGraph {
  readonly #byDigest = new Map<VertexDigest, VertexState[]>();
  readonly #digests = new Set<VertexDigest>();

  get size(): number {
    return this.#digests.size;
  }

  /**
   * The live vertex that a newly loaded one is the same as (buildkit-wire.md section 7.1): one on the same live inputs; and a vertex
   * that is to ignore the cache never joins one that does not, while any may join one that ignores it.
   */
  find(vertex: Vertex, inputs: readonly VertexInput[]): VertexState | undefined {
    let found: VertexState | undefined;
    for (const state of this.#byDigest.get(vertex.digest) ?? []) {
      if (state.inputs.some((input, at) => input.state !== inputs[at]?.state)) continue;
      if (state.ignoreCache) return state;
      if (!vertex.options.ignoreCache) found = state;
    }
    return found;
  }

  /** The digest itself, or the one that names a second live vertex of it on the wire. */
  freeDigest(digest: VertexDigest): VertexDigest {
    let free = digest;
    while (this.#digests.has(free)) free = digestOf(`${free}-ignorecache`) as string as VertexDigest;
    return free;
  }

  add(state: VertexState): void {
    this.#digests.add(state.digest);
    const same = this.#byDigest.get(state.vertex.digest);
    if (same === undefined) this.#byDigest.set(state.vertex.digest, [state]);
    else same.push(state);
  }

  remove(state: VertexState): void {
    this.#digests.delete(state.digest);
    const others = (this.#byDigest.get(state.vertex.digest) ?? []).filter((other) => other !== state);
    if (others.length === 0) this.#byDigest.delete(state.vertex.digest);
    else this.#byDigest.set(state.vertex.digest, others);
  }
}

interface JobServices {
  readonly join: (vertex: Vertex, inputs: readonly VertexInput[], holder: Holder) => VertexState;
  readonly leave: (state: VertexState, holder: Holder) => Promise<void>;
  readonly edgeOf: (state: VertexState, output: number) => EdgeState;
  readonly edges: EdgeServices;
  readonly clock: Clock;
  readonly onDispose: () => void;
}

/** One build's part in the live graph. */
export class Job implements AsyncDisposable {
  readonly #holder: Holder;
  readonly #services: JobServices;
  readonly #sessions: string[];
  readonly #caches: RemoteCache[] = [];
  readonly #states = new Map<Vertex, VertexState>();
  readonly #held = new Set<VertexState>();
  readonly #requests = new Set<Request>();
  #disposed: Promise<void> | undefined;

  constructor(options: JobOptions, services: JobServices) {
    this.#sessions = [...options.sessions];
    this.#services = services;
    this.#holder = {
      build: options.id,
      sink: options.sink,
      sessions: this.#sessions,
      caches: this.#caches,
      claims: { exec: { running: 0 }, io: { running: 0 } },
      traceparentFor: options.traceparentFor,
    };
  }

  get id(): BuildId {
    return this.#holder.build;
  }
  /** Steps of this build are served by this session too, after those already named. */
  addSession(id: string): void {
    if (!this.#sessions.includes(id)) this.#sessions.push(id);
  }

  /**
   * Remote caches that steps of this build are looked up in, besides the daemon's own. One that comes late is used by steps that did not
   * begin to run yet; what runs goes on.
   */
  addCaches(caches: readonly RemoteCache[]): void {
    this.#caches.push(...caches);
    for (const state of [...this.#held].reverse()) for (const edge of state.edges.values()) edge.relearn(); // inputs first
  }

  /** Every key below edges of loaded graphs, with what is known to be stored under it: what a cache export writes (key-records.ts). */
  keyRecords(edges: readonly Edge[]): ReturnType<typeof keyRecords> {
    const states = edges.map((edge) => this.#services.edgeOf(this.#stateOf(edge.vertex), edge.output));
    return keyRecords(states, this.#services.edges);
  }

  /**
   * Takes a graph into the live one and announces its vertices, all at once and the root first. Runs nothing. Loading the same graph
   * again adds nothing; a vertex that is already under way for another build is told of from its beginning.
   * @throws BuildError `cancelled` once the job is disposed.
   */
  load(graph: Graph): void {
    if (this.#disposed !== undefined) throw cancelled();
    const heights = heightsOf(graph);
    const joined: VertexState[] = [];
    for (const vertex of graph.vertices.toReversed()) {
      const inputs = vertex.inputs.map((edge) => ({ state: this.#stateOf(edge.vertex), output: edge.output }));
      const state = this.#services.join(vertex, inputs, this.#holder);
      state.height = Math.max(state.height, heights.get(vertex) ?? 0);
      this.#states.set(vertex, state);
      if (this.#held.has(state)) continue;
      this.#held.add(state);
      joined.push(state);
    }
    if (joined.length === 0) return;
    const steps = joined.map(({ reporter }) => reporter.info).reverse();
    this.#holder.sink.emit({ type: 'steps-announced', build: this.id, atNs: this.#services.clock.nowNs(), steps });
    for (const state of joined) state.reporter.subscribe(this.#holder);
  }

  /**
   * The result of an edge of a loaded graph; the caller disposes it. Rejects with the BuildError of the step that failed
   * (`detail.vertex` names it) or with the abort reason; then whatever ran for this call alone is aborted.
   */
  async build(edge: Edge, signal: AbortSignal): Promise<Result> {
    if (signal.aborted) throw BuildError.from(signal.reason);
    if (this.#disposed !== undefined) throw cancelled();
    const request = new Request(this.#services.edgeOf(this.#stateOf(edge.vertex), edge.output));
    this.#requests.add(request);
    const onAbort = (): void => request.abort(BuildError.from(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await request.result;
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.#requests.delete(request);
    }
  }

  /** Ends the build: aborts what no other build wants, and resolves once that has ended and its results are given back. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #dispose(): Promise<void> {
    for (const request of this.#requests) request.abort(cancelled());
    const left: Promise<void>[] = [];
    for (const state of this.#held) {
      left.push(this.#services.leave(state, this.#holder));
      if (left.length % LEFT_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    this.#held.clear();
    this.#states.clear();
    this.#services.onDispose();
    await Promise.all(left);
  }

  #stateOf(vertex: Vertex): VertexState {
    const state = this.#states.get(vertex);
    if (state === undefined)
      throw new BuildError('internal', `vertex ${vertex.digest} belongs to no graph this build has loaded`);
    return state;
  }
}

/** One call that waits for a result. */
class Request implements Demand {
  readonly #edge: EdgeState;
  readonly #answer = Promise.withResolvers<Result>();
  #answered = false;

  constructor(edge: EdgeState) {
    this.#edge = edge;
    edge.setDemand(this, LEVEL.RESULT);
    this.wake();
  }

  get result(): Promise<Result> {
    return this.#answer.promise;
  }

  wake(): void {
    const { outcome } = this.#edge;
    if (outcome?.type === 'done') this.#end(() => this.#answer.resolve(outcome.result.clone()));
    else if (outcome?.type === 'failed') this.#end(() => this.#answer.reject(outcome.error));
  }

  abort(error: BuildError): void {
    this.#end(() => this.#answer.reject(error));
  }

  #end(answer: () => void): void {
    if (this.#answered) return;
    this.#answered = true;
    answer();
    this.#edge.setDemand(this, LEVEL.NONE);
  }
}

/** Vertices on the longest way from each vertex up to the root. Needs every vertex to stand before its inputs. */
function heightsOf(graph: Graph): Map<Vertex, number> {
  const heights = new Map<Vertex, number>();
  for (const vertex of graph.vertices) {
    const above = (heights.get(vertex) ?? 0) + 1;
    for (const input of vertex.inputs) heights.set(input.vertex, Math.max(heights.get(input.vertex) ?? 0, above));
  }
  return heights;
}

const OP_KINDS: Readonly<Record<string, OpKind>> = {
  source: 'source',
  exec: 'exec',
  file: 'file',
  merge: 'merge',
  diff: 'diff',
  build: 'build',
  passthrough: 'passthrough',
};
const CACHEABLE: ReadonlySet<OpKind> = new Set(['exec', 'file', 'merge', 'diff']);

function stepInfo(digest: VertexDigest, vertex: Vertex, inputs: readonly VertexInput[]): StepInfo {
  const op = OP_KINDS[vertex.op.op.case ?? ''] ?? 'internal';
  const group = vertex.options.progressGroup;
  return {
    step: digest,
    name: vertex.name,
    op,
    ...(digest === vertex.digest ? {} : { vertex: vertex.digest }),
    inputs: inputs.map(({ state }) => state.digest),
    cacheable: CACHEABLE.has(op) && !vertex.options.ignoreCache && !vertex.name.startsWith('[internal]'),
    ...(group === undefined ? {} : { progressGroup: { id: group.id, name: group.name, weak: group.weak } }),
  };
}
