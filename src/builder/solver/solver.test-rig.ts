/**
 * Graphs, ops and results in memory for the solver's tests. An op's value is a text made of its name and the values of its inputs, so
 * that a wrong hit is a wrong text; an input read by content counts by its content only, which here is the value up to a `~`.
 */
import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { systemClock } from '../../core/clock.ts';
import { cacheDigestOf, type VertexDigest, vertexDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { type KeyIndex, memoryKeyIndex } from '../cache/key-index.ts';
import type { BuildEvent } from '../events.ts';
import type { Edge, Graph, Vertex } from '../llb/definition.ts';
import { OpSchema } from '../proto/gen/pb/ops_pb.ts';
import type { CacheMap, Op, OpContext, OpResolver, Result, ResultStore } from './ports.ts';
import { type Job, type JobOptions, Solver, type SolverOptions } from './solver.ts';

export interface StepSpec {
  readonly name: string;
  readonly kind?: 'source' | 'exec' | 'file';
  readonly inputs?: readonly Edge[];
  /** Indexes of inputs that are read by content. */
  readonly byContent?: readonly number[];
  readonly outputs?: number;
  readonly ignoreCache?: boolean;
  /** A source that holds in one session only. */
  readonly ephemeral?: boolean;
  /** What a source holds now; the vertex stays the same when it changes. */
  readonly content?: () => string;
  /** Further keys of a source, beside its content. */
  readonly alsoKnownAs?: () => string;
  /** Makes the vertex another one without changing its cache key, as a session id in a local source does. */
  readonly salt?: string;
}

const specs = new Map<VertexDigest, StepSpec>();

export function step(spec: StepSpec): Edge {
  const inputs = spec.inputs ?? [];
  const kind = spec.kind ?? (inputs.length === 0 ? 'source' : 'exec');
  const identity = [spec.name, spec.salt ?? '', kind, spec.outputs ?? 1, ...(spec.byContent ?? []), spec.ephemeral ?? false];
  const bytes = Buffer.from(JSON.stringify([identity, inputs.map(({ vertex, output }) => [vertex.digest, output])]));
  const vertex: Vertex = {
    digest: vertexDigestOf(bytes),
    op: create(OpSchema, { op: { case: kind, value: {} } }),
    bytes,
    inputs,
    name: spec.name,
    options: {
      ignoreCache: spec.ignoreCache ?? false,
      description: {},
      exportCache: undefined,
      progressGroup: undefined,
      linuxResources: undefined,
    },
    platform: undefined,
    sources: [],
  };
  specs.set(vertex.digest, spec);
  return { vertex, output: 0 };
}
export const outputOf = ({ vertex }: Edge, output: number): Edge => ({ vertex, output });

/** The graph below one edge, the root first and every vertex before its inputs. */
export function graphOf(root: Edge): Graph {
  const done = new Set<Vertex>();
  const order: Vertex[] = [];
  const open: { readonly vertex: Vertex; next: number }[] = [{ vertex: root.vertex, next: 0 }];
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const input = top.vertex.inputs[top.next++];
    if (input === undefined) {
      open.pop();
      if (!done.has(top.vertex)) order.push(top.vertex);
      done.add(top.vertex);
    } else if (!done.has(input.vertex)) open.push({ vertex: input.vertex, next: 0 });
  }
  return { root, vertices: order.reverse() };
}

/** Values by id, with a count of who holds them. */
export class Values implements ResultStore {
  readonly stored = new Map<string, string>();
  /** Handles given out and not yet given back. */
  live = 0;
  #nextId = 1;

  make(value: string): Result {
    const id = `r${this.#nextId++}`;
    this.stored.set(id, value);
    return this.#handle(id);
  }
  async load(id: string): Promise<Result | undefined> {
    return this.stored.has(id) ? this.#handle(id) : undefined;
  }
  evict(value: string): void {
    for (const [id, stored] of this.stored) if (stored === value) this.stored.delete(id);
  }
  of(result: Result): string {
    return this.stored.get(result.id ?? '') ?? assert.fail(`result ${result.id} is gone`);
  }
  #handle(id: string): Result {
    this.live += 1;
    let held = true;
    return {
      id,
      clone: () => {
        assert.ok(held, `clone of ${id} after it was disposed`);
        return this.#handle(id);
      },
      [Symbol.asyncDispose]: async () => {
        assert.ok(held, `${id} was disposed twice`);
        held = false;
        this.live -= 1;
      },
    };
  }
}

export const contentOf = (value: string): string => value.split('~', 1).join();

export interface Call {
  readonly name: string;
  readonly what: 'map' | 'content' | 'run';
  readonly context: OpContext;
}
/** What an op waits for before it does anything; the test's hold on it. */
export type Gate = (call: Call) => Promise<void> | void;

/** The value a step has when nothing is cached: what every build must come to. */
export function evaluate(edge: Edge, memo = new Map<Vertex, string[]>()): string {
  for (const vertex of graphOf(edge).vertices.toReversed()) {
    const inputs = vertex.inputs.map((input) => memo.get(input.vertex)?.[input.output] ?? '');
    memo.set(vertex, valuesOf(specOf(vertex), inputs));
  }
  return memo.get(edge.vertex)?.[edge.output] ?? '';
}

const specOf = (vertex: Vertex): StepSpec => specs.get(vertex.digest) ?? assert.fail('unknown vertex');
function valuesOf(spec: StepSpec, inputs: readonly string[]): string[] {
  const read = inputs.map((value, at) => (spec.byContent?.includes(at) === true ? contentOf(value) : value));
  const value = `${spec.name}${spec.content === undefined ? '' : `=${spec.content()}`}${read.length > 0 ? `(${read.join(',')})` : ''}`;
  return Array.from({ length: spec.outputs ?? 1 }, (_, output) => (output === 0 ? value : `${value}#${output}`));
}

export class MemoryOps implements OpResolver {
  readonly #values: Values;
  readonly #gate: Gate;
  /** How often each step ran, by name. */
  readonly runs = new Map<string, number>();

  constructor(values: Values, gate: Gate = () => {}) {
    this.#values = values;
    this.#gate = gate;
  }

  resolve(vertex: Vertex): Op {
    const spec = specOf(vertex);
    const gate = async (what: Call['what'], context: OpContext): Promise<void> => {
      await this.#gate({ name: spec.name, what, context });
      if (context.signal.aborted) throw BuildError.from(context.signal.reason);
    };
    return {
      resource: spec.inputs === undefined ? 'io' : 'exec',
      cacheMap: async (context, index) => {
        await gate('map', context);
        const done = spec.alsoKnownAs === undefined || index === 1;
        return { map: mapOf(spec, index, this.#values, gate), done };
      },
      exec: async (context, inputs) => {
        this.runs.set(spec.name, (this.runs.get(spec.name) ?? 0) + 1);
        await gate('run', context);
        const values = valuesOf(
          spec,
          inputs.map((input) => this.#values.of(input)),
        );
        return values.map((value) => this.#values.make(value));
      },
    };
  }
}

function mapOf(
  spec: StepSpec,
  index: number,
  values: Values,
  gate: (what: Call['what'], context: OpContext) => Promise<void>,
): CacheMap {
  const known = index === 0 ? spec.content?.() : spec.alsoKnownAs?.();
  return {
    digest: cacheDigestOf(
      `${spec.name} ${spec.outputs ?? 1} ${spec.byContent?.join() ?? ''} ${known ?? ''} ${index} ${spec.ephemeral === true ? spec.salt : ''}`,
    ),
    ...(spec.ephemeral === true ? { ephemeral: true } : {}),
    inputs: (spec.inputs ?? []).map((_, at) =>
      spec.byContent?.includes(at) !== true
        ? {}
        : {
            selector: cacheDigestOf('/'),
            contentKey: async (input, context) => {
              await gate('content', context);
              return cacheDigestOf(contentOf(values.of(input)));
            },
          },
    ),
  };
}

export interface Rig extends AsyncDisposable {
  readonly solver: Solver;
  readonly values: Values;
  readonly ops: MemoryOps;
  readonly index: KeyIndex;
  readonly problems: BuildError[];
  /** A job that records its events. */
  job(id?: string, options?: Partial<JobOptions>): Watched;
  /** One whole build: loads, builds, disposes; resolves with the value. */
  build(root: Edge, id?: string): Promise<Built>;
}
export interface Watched extends AsyncDisposable {
  readonly job: Job;
  readonly events: BuildEvent[];
}
export interface Built {
  readonly value: string;
  readonly events: readonly BuildEvent[];
}

export interface RigOptions extends Partial<Pick<SolverOptions, 'limits'>> {
  readonly gate?: Gate;
  readonly index?: KeyIndex;
  readonly values?: Values;
}

/** A solver over memory. Its disposal asserts that every result was given back and nothing is left alive. */
export function openRig(options: RigOptions = {}): Rig {
  const values = options.values ?? new Values();
  const index = options.index ?? memoryKeyIndex();
  const ops = new MemoryOps(values, options.gate);
  const problems: BuildError[] = [];
  const limits = options.limits ?? { maxParallelism: 4, ioParallelism: 4 };
  const onProblem = (error: BuildError): void => void problems.push(error);
  const solver = new Solver({ ops, index, results: values, clock: systemClock(), limits, onProblem });
  let builds = 0;
  const job = (id = `build ${++builds}`, more: Partial<JobOptions> = {}): Watched => {
    const events: BuildEvent[] = [];
    const made = solver.newJob({ id, sessions: [`session of ${id}`], sink: { emit: (event) => events.push(event) }, ...more });
    return { job: made, events, [Symbol.asyncDispose]: () => made.dispose() };
  };
  return {
    solver,
    values,
    ops,
    index,
    problems,
    job,
    async build(root, id) {
      await using watched = job(id);
      watched.job.load(graphOf(root));
      await using result = await watched.job.build(root, new AbortController().signal);
      return { value: values.of(result), events: watched.events };
    },
    async [Symbol.asyncDispose]() {
      await solver[Symbol.asyncDispose]();
      assert.equal(values.live, 0, 'every result is given back');
      assert.equal(solver.stats.vertices, 0, 'no vertex is left');
      assert.equal(solver.stats.exec.running + solver.stats.io.running, 0, 'no slot is held');
      assert.deepEqual(problems, []);
    },
  };
}

/** Events of one step by the text of its name, in short: `started`, `hit`, `missed never-seen`, `executed`, ... */
export function story(events: readonly BuildEvent[], edge: Edge): string[] {
  const names = new Map<string, string>();
  for (const event of events)
    if (event.type === 'steps-announced') for (const info of event.steps) names.set(info.step, info.name);
  const lines: string[] = [];
  for (const event of events) {
    if (!('step' in event) || names.get(event.step) !== edge.vertex.name) continue;
    if (event.type === 'step-started') lines.push(event.forKey === true ? 'started for key' : 'started');
    else if (event.type === 'cache-lookup') lines.push(event.hit ? 'hit' : `missed: ${event.reason}`);
    else if (event.type === 'step-finished') lines.push(event.forKey === true ? `key ${event.outcome}` : event.outcome);
    else if (event.type === 'step-log') lines.push(`log ${Buffer.from(event.data)}`);
  }
  return lines;
}

/** Calls that wait until the test lets them go on. */
export class Latches {
  readonly #waiting: { readonly call: Call; readonly open: () => void }[] = [];
  readonly #held: (call: Call) => boolean;
  #arrived = Promise.withResolvers<void>();

  constructor(held: (call: Call) => boolean) {
    this.#held = held;
  }

  readonly gate: Gate = (call) => {
    if (!this.#held(call)) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ call, open: resolve });
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
    call.context.signal.addEventListener('abort', () => resolve(), { once: true });
    return promise;
  };

  /** The next held call of that name, once it has begun. */
  async next(name: string): Promise<{ readonly call: Call; readonly open: () => void }> {
    while (true) {
      const at = this.#waiting.findIndex(({ call }) => call.name === name);
      const [found] = at === -1 ? [] : this.#waiting.splice(at, 1);
      if (found !== undefined) return found;
      await this.#arrived.promise;
    }
  }
}
