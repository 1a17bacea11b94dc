/**
 * What the solver needs from the rest of the builder. The solver knows graphs, keys and scheduling; what an op does, where results
 * live and where keys are kept is behind these ports.
 */
import type { CacheDigest, VertexDigest } from '../../core/digest.ts';
import type { ReadPath, ResourceSample, SensitiveKind, StepPhase, StepUsage } from '../events.ts';
import type { Vertex } from '../llb/definition.ts';

/**
 * A produced result: a root filesystem (a committed snapshot) or nothing (scratch). Results are reference counted: whoever receives
 * one owns it and disposes it; while any is held, nothing it names is collected.
 */
export interface Result extends AsyncDisposable {
  /** Stable id of the stored result (the snapshot id), or undefined for scratch. Persisted next to cache keys. */
  readonly id: string | undefined;
  /** Another owner of the same result. */
  clone(): Result;
}

/** How an op is keyed: a digest of what it is, and per input how that input counts. */
export interface CacheMap {
  /** Digest over the normalised op; for sources over the pinned content (BuildKit's rules, buildkit-wire.md section 7.3). */
  readonly digest: CacheDigest;
  readonly inputs: readonly CacheMapInput[];
  /** True when the key holds only inside one session (local sources): never persisted beyond, never exported. */
  readonly ephemeral?: boolean;
  /** What a source was found to be, for people: manifest digest, commit, digest of a file. */
  readonly pin?: string;
}
export interface CacheMapInput {
  /** Selector of a definition-based link ("only these paths of the input"), as the wire format writes it. */
  readonly selector?: CacheDigest;
  /** Computes the content key of the evaluated input, when the op allows content-based matching. It is always tried before a run. */
  readonly contentKey?: (input: Result, context: OpContext) => Promise<CacheDigest>;
  /** The paths that `contentKey` counts. */
  readonly reads?: readonly ReadPath[];
}

/** What an op may use while it works for one or several builds. */
export interface OpContext {
  readonly signal: AbortSignal;
  /** Ids of the sessions of all builds that want this vertex, the oldest first; an op tries each in turn. */
  readonly sessions: () => readonly string[];
  readonly progress: StepProgress;
  /** W3C traceparent of the step's span, for child processes; never part of a key. */
  readonly traceparent?: string;
}

/** Reports of one step; delivered to every build that shares the vertex. */
export interface StepProgress {
  log(stream: 1 | 2, data: Uint8Array): void;
  /** Starts a progress line; call `update` as it grows and `done` once. */
  status(id: string, options?: { readonly name?: string; readonly total?: number }): StatusLine;
  /** Reports how long a phase took, from `startedAtNs` until now. */
  phase(phase: StepPhase, startedAtNs: bigint): void;
  usage(usage: StepUsage): void;
  /** Tells auditors that the step was given (or refused) something by name; never the value. */
  used(kind: SensitiveKind, id: string, granted: boolean): void;
  /** The value of secret `id` stands in what the step leaves behind, at `path`; `refused` when the step fails because of it. */
  leaked(id: string, path: string, refused: boolean): void;
  /** What the step uses now. */
  resources(sample: ResourceSample): void;
}
export interface StatusLine {
  update(current: number, total?: number): void;
  done(): void;
}

/** One op, ready to be keyed and run. Made by an OpResolver from a vertex. */
export interface Op {
  /**
   * Key number `index` (0 first). Most ops have one; an image source has two (manifest digest, then chain id). `done` says there is
   * no further key. Called at most once per index and build generation; must not need the inputs.
   */
  cacheMap(context: OpContext, index: number): Promise<{ readonly map: CacheMap; readonly done: boolean }>;
  /** Runs the op. One result per output, in order of output index. Owns neither inputs nor what it does not return. */
  exec(context: OpContext, inputs: readonly Result[]): Promise<Result[]>;
  /** Which scarce resource a run needs, so that the scheduler can bound it. */
  readonly resource: 'exec' | 'io';
}

export interface OpResolver {
  /** @throws BuildError `unsupported` or `invalid-input` for an op that cannot work. */
  resolve(vertex: Vertex): Op;
}

/** Loads a stored result again. Undefined when it is gone (collected): the hit turns into a miss with reason `evicted`. */
export interface ResultStore {
  load(id: string): Promise<Result | undefined>;
}

export const EPHEMERAL = 'ephemeral:';

/** A node of the key graph: links from input keys to the keys of what was made from them, and the results known for each. */
export interface KeyId {
  readonly id: string;
}
export interface CacheLink {
  readonly digest: CacheDigest;
  readonly input: number;
  readonly output: number;
  readonly selector?: CacheDigest;
}
/**
 * The persistent key index. Reads are answered from memory; writes are queued for the metadata store. Keys of root ops (no inputs)
 * are named by their digest and output; all others get an id when first stored and are found by following links. A key whose id
 * begins with `EPHEMERAL` holds in one session only: it, its links and its results stay in memory.
 */
export interface CacheIndex {
  /** Keys reached from `from` over `link`. */
  linked(from: string, link: CacheLink): readonly string[];
  /** Remembers that `from` leads to `to`; repeating it changes nothing. */
  addLink(from: string, link: CacheLink, to: string): void;
  /** Names by content that lead to `key` at this input. */
  contentNames(key: string, input: number): readonly string[];
  /** Result ids stored under a key, newest first. */
  results(key: string): readonly StoredResult[];
  addResult(key: string, result: StoredResult): void;
  /** Forgets a result that could not be loaded; its keys stay, so that the next lookup can say `evicted`. */
  forgetResult(key: string, resultId: string): void;
  /** True when the key ever had a result: tells `evicted` from `never-seen`. */
  hadResult(key: string): boolean;
  /** True when the op was ever stored, on whatever inputs: tells `input-changed` from `never-seen`. */
  seen(digest: CacheDigest): boolean;
}
export interface StoredResult {
  readonly id: string | undefined;
  readonly createdAtNs: bigint;
  /** How long the run took that made it; undefined when nobody measured it. */
  readonly runNs?: bigint;
}

/** Keys that begin so belong to a remote cache and are never stored in the daemon's own index. */
export const REMOTE = 'remote:';

/**
 * A cache outside the daemon that a build asked to be looked up. Answers from memory; one that is late is added when it is there.
 * Its keys (`REMOTE`) mean something to it alone; names of roots and of content mean the same everywhere.
 */
export interface RemoteCache {
  /** For people: `registry example.com/app:cache`. */
  readonly label: string;
  /** Closed set, for metrics: `registry`, `s3`, ... */
  readonly backend: string;
  /** Why it can answer nothing: down, refused, unreadable. */
  readonly failure: string | undefined;
  linked(from: string, link: CacheLink): readonly string[];
  /** Names (`KeyRecord.name`) of records without inputs that lead to one of its own keys at this input, whatever the selector. */
  rootNames(key: string, input: number): readonly CacheDigest[];
  /** Newest first; without what is known to be gone. */
  results(key: string): readonly RemoteResult[];
}
export interface RemoteResult {
  readonly createdAtNs: bigint;
  /** Names of the layers, lowest first: a result whose names are the beginning of another's lies in it. */
  readonly layers: readonly string[];
  /** Fetches it. Rejects when it cannot be had; then the hit is a miss, and the result is not offered again. */
  load(context: OpContext): Promise<LoadedRemote>;
}
export interface LoadedRemote {
  readonly result: Result;
  /** Stored result of the lowest n + 1 layers, by n; the last is the result itself. */
  readonly prefixes: readonly string[];
}

/** What a cache export needs of one key: how it is reached and what was made under it. */
export interface KeyRecord {
  /** As the wire format names it: sha256 of the key's `<digest>@<output>`. */
  readonly name: CacheDigest;
  /** Alternatives per input; a record without inputs is a root. */
  readonly inputs: readonly (readonly { readonly selector?: CacheDigest; readonly record: KeyRecord }[])[];
  /** Undefined: no result is known. */
  readonly result?: KeyResult;
}
export interface KeyResult {
  readonly createdAtNs: bigint;
  /** A reference of the caller's own; undefined when it is gone. Absent for one that only a remote cache has. */
  readonly open?: () => Promise<Result | undefined>;
  readonly remote?: RemoteResult;
}

/** A vertex named in an error or an event. */
export interface Named {
  readonly digest: VertexDigest;
  readonly name: string;
}
