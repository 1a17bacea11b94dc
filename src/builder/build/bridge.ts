/**
 * One build as its frontend sees it, whether the frontend runs in this process or in the client (LLBBridge over gRPC): graphs become
 * lazy refs, refs become files, failures carry the place in the user's input.
 */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../../core/clock.ts';
import { parseVertexDigest } from '../../core/digest.ts';
import { BuildError, type ErrorSource } from '../../core/errors.ts';
import type { BuildId, EventSink } from '../events.ts';
import type {
  Bridge,
  Frontend,
  FrontendRef,
  FrontendRequest,
  FrontendResult,
  FrontendWarning,
  ImageConfigRequest,
  ImageConfigResponse,
} from '../frontend/ports.ts';
import { type Edge, type Graph, parseDefinition, sourceOf } from '../llb/definition.ts';
import type { Stat } from '../proto/gen/fsutil/types/stat_pb.ts';
import { type Definition, NetMode, type Platform, SecurityMode, type SourceOp } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import type { Result } from '../solver/ports.ts';
import type { Job } from '../solver/solver.ts';
import { internalStep } from './internal-step.ts';
import type { MetadataResolver } from './ports.ts';
import { readDirOf, readFileOf, statOf } from './ref-files.ts';

export interface BridgeOptions {
  readonly build: BuildId;
  readonly sessionId: string;
  readonly job: Job;
  readonly clock: Clock;
  readonly sink: EventSink;
  readonly signal: AbortSignal;
  readonly platforms: readonly Platform[];
  readonly frontends: ReadonlyMap<string, Frontend>;
  readonly resolver: MetadataResolver;
  readonly sessions: () => readonly string[];
  /** Granted by the client and allowed by the daemon. */
  readonly entitlements: ReadonlySet<string>;
  /** Told of each graph before it is loaded. */
  readonly onGraph: (graph: Graph) => void;
  /** Resolves once a step may be looked up: remote caches were read. */
  readonly ready: () => Promise<void>;
}

interface Loaded {
  readonly edge: Edge;
  readonly graph: Graph;
  readonly definition: Definition;
  /** Set by the first who needs the files; all others wait for the same. */
  result: Promise<Result> | undefined;
}

export class BuildBridge implements Bridge, AsyncDisposable {
  readonly sessionId: string;
  readonly signal: AbortSignal;
  readonly workerPlatforms: readonly Platform[];
  readonly #options: BridgeOptions;
  readonly #refs = new Map<string, Loaded>();

  constructor(options: BridgeOptions) {
    this.#options = options;
    this.sessionId = options.sessionId;
    this.signal = options.signal;
    this.workerPlatforms = options.platforms;
  }

  async solve(definition: Definition, options: { readonly evaluate?: boolean } = {}): Promise<FrontendRef | undefined> {
    const graph = parseDefinition(definition);
    if (graph.root === undefined) return undefined;
    this.#checkEntitlements(graph);
    this.#options.onGraph(graph);
    this.#options.job.load(graph);
    const id = newRefId();
    this.#refs.set(id, { edge: graph.root, graph, definition, result: undefined });
    const ref = { id, definition };
    if (options.evaluate === true) await this.evaluate(ref);
    return ref;
  }

  /** @throws BuildError `denied` for a step that wants the host's network or full privileges without being granted them. */
  #checkEntitlements(graph: Graph): void {
    const { build, clock, sink, entitlements } = this.#options;
    for (const { op, digest } of graph.vertices) {
      if (op.op.case !== 'exec') continue;
      const { network, security } = op.op.value;
      const wanted =
        network === NetMode.HOST ? 'network.host' : security === SecurityMode.INSECURE ? 'security.insecure' : undefined;
      if (wanted === undefined || entitlements.has(wanted)) continue;
      sink.emit({ type: 'request-denied', build, atNs: clock.nowNs(), what: wanted });
      throw new BuildError('denied', `${wanted} is not allowed`, { vertex: digest, hint: `build with --allow ${wanted}` });
    }
  }

  async forward(request: FrontendRequest): Promise<FrontendResult> {
    const frontend = this.#options.frontends.get(request.frontend);
    if (frontend === undefined) throw unknownFrontend(request.frontend);
    return await frontend.run(this, request);
  }

  async resolveImageConfig(request: ImageConfigRequest): Promise<ImageConfigResponse> {
    const { resolver, sessions, signal } = this.#options;
    const step = {
      name: request.logName === '' ? `resolve image config for ${request.ref}` : request.logName,
      op: 'internal',
      identity: `resolve ${request.logName} ${request.ref}`,
    } as const;
    return await internalStep(this.#options, step, (progress) =>
      resolver.resolveImageConfig(request, { sessions, progress, signal }),
    );
  }

  /** What a file at an `http(s)://` address is now. */
  async describeFile(op: SourceOp, logName: string): Promise<Awaited<ReturnType<MetadataResolver['describeFile']>>> {
    const { resolver, sessions, signal } = this.#options;
    const name = logName === '' ? `load metadata for ${op.identifier}` : logName;
    const step = { name, op: 'internal', identity: `describe ${logName} ${op.identifier}` } as const;
    return await internalStep(this.#options, step, (progress) => resolver.describeFile(op, { sessions, progress, signal }));
  }

  async readFile(
    ref: FrontendRef | undefined,
    path: string,
    range?: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array> {
    return await readFileOf(await this.#snapshot(ref), path, range);
  }
  async readDir(ref: FrontendRef | undefined, path: string, includePattern = ''): Promise<Stat[]> {
    return await readDirOf(await this.#snapshot(ref), path, includePattern);
  }
  async statFile(ref: FrontendRef | undefined, path: string): Promise<Stat> {
    return await statOf(await this.#snapshot(ref), path);
  }

  warn(warning: FrontendWarning): void {
    const { build, clock, sink } = this.#options;
    const { level, short, detail, url, source } = warning;
    sink.emit({
      type: 'step-warning',
      build,
      step: parseVertexDigest(warning.vertex),
      atNs: clock.nowNs(),
      level,
      short,
      detail,
      url,
      ...(source === undefined ? {} : { source }),
    });
  }

  /** The ref a client names by id. @throws BuildError `not-found`. */
  ref(id: string): FrontendRef {
    return { id, definition: this.#loaded(id).definition };
  }

  /** Builds what the ref stands for. The result stays this build's; it is released when the build ends. */
  async evaluate(ref: FrontendRef | undefined): Promise<Result | undefined> {
    if (ref === undefined) return undefined;
    const loaded = this.#loaded(ref.id);
    loaded.result ??= this.#options.ready().then(() => this.#options.job.build(loaded.edge, this.signal));
    try {
      return await loaded.result;
    } catch (thrown) {
      throw this.#located(loaded.graph, BuildError.from(thrown));
    }
  }

  /** What a cache export needs of these refs. */
  keyRecords(refs: readonly FrontendRef[]): ReturnType<Job['keyRecords']> {
    return this.#options.job.keyRecords(refs.map(({ id }) => this.#loaded(id).edge));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const results = await Promise.allSettled([...this.#refs.values()].map((loaded) => loaded.result));
    this.#refs.clear();
    for (const outcome of results) if (outcome.status === 'fulfilled') await outcome.value?.[Symbol.asyncDispose]();
  }

  async #snapshot(ref: FrontendRef | undefined): Promise<Snapshot | undefined> {
    return snapshotOf(await this.evaluate(ref));
  }

  #loaded(id: string): Loaded {
    const loaded = this.#refs.get(id);
    if (loaded === undefined) throw new BuildError('not-found', `no such ref: ${id}`);
    return loaded;
  }

  /** Adds where in the user's input the failing vertex stands. */
  #located(graph: Graph, error: BuildError): BuildError {
    const { vertex, source } = error.detail;
    if (vertex === undefined || source !== undefined) return error;
    const found: ErrorSource | undefined = sourceOf(graph, vertex);
    return found === undefined ? error : error.wrap('', { source: found });
  }
}

/** Scratch is a result without a snapshot. */
export function snapshotOf(result: Result | undefined): Snapshot | undefined {
  return result?.id === undefined ? undefined : (result as Snapshot);
}

export function unknownFrontend(name: string): BuildError {
  return new BuildError('not-found', `invalid frontend: ${name}`, {
    grpcCode: 2,
    wire: { 'errdefs.Frontend+json': JSON.stringify({ name }) },
  });
}

/** 25 characters of base 36, as clients name their own things; opaque. */
export function newRefId(): string {
  let id = '';
  for (const byte of randomBytes(25)) id += (byte % 36).toString(36);
  return id;
}
