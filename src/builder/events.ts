/**
 * Everything that can happen in a build, as types: the only thing telemetry, progress and history know of the builder. Facts are
 * reported once, stamped by the builder's clock. A vertex shared by several builds reports to each of them.
 */
import type { CacheDigest, VertexDigest } from '../core/digest.ts';
import type { ErrorKind, Fault, SourceRange } from '../core/errors.ts';

/** The `Ref` a client chose for its solve; opaque. */
export type BuildId = string;

/** OTel `cicd.pipeline.result`: failure is the user's, error is ours. */
export type BuildResult = 'success' | 'failure' | 'error' | 'timeout' | 'cancellation';
export type OpKind = 'source' | 'exec' | 'file' | 'merge' | 'diff' | 'build' | 'passthrough' | 'internal' | 'export';
/** Where a cached result came from. */
export type CacheLocation = 'memory' | 'local' | 'remote';
/**
 * Why a step was not served from cache, in the order of the first true cause: what the solver knows by itself (never seen, an input
 * changed, evicted, no cache asked, unpinned source, a remote cache that is down), made exact by the comparison with the nearest
 * earlier build (explain/compare.ts).
 */
export type MissReason =
  | 'never-seen'
  | 'input-changed'
  | 'evicted'
  | 'backend-down'
  | 'no-cache-asked'
  | 'unpinned-source'
  | 'base-image-changed'
  | 'source-moved'
  | 'instruction-changed'
  | 'build-arg-changed'
  | 'environment-changed'
  | 'mount-changed'
  | 'platform-changed'
  | 'parent-changed'
  | 'key-format-changed';

/** One thing that is not as it was. A side that did not exist is absent; values of secret-like names are digests. */
export interface CacheChange {
  readonly what:
    | 'file'
    | 'build-arg'
    | 'env'
    | 'instruction'
    | 'command'
    | 'workdir'
    | 'user'
    | 'mount'
    | 'platform'
    | 'base-image'
    | 'source'
    | 'action'
    | 'option'
    | 'input'
    | 'key-format';
  /** Path, variable, mount point, image; empty where `what` says all. */
  readonly name: string;
  readonly old?: string;
  readonly new?: string;
}
/** Why a look-up missed, as data: spans, metrics, the API, the page and `cooper explain` show the same. */
export interface MissCause {
  readonly reason: MissReason;
  /** One sentence without a full stop. */
  readonly summary: string;
  /** Bounded; `more` counts what was left out. */
  readonly changes: readonly CacheChange[];
  readonly more: number;
  /** Of `parent-changed`: the first changed ancestor. */
  readonly because?: { readonly step: VertexDigest; readonly name: string };
  /** The build it was compared with. */
  readonly against?: BuildId;
}

/** A path of an input that an op reads, as a selector of the snapshot room. */
export interface ReadPath {
  readonly path: string;
  readonly wildcard: boolean;
  readonly followLinks: boolean;
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly requiredPaths: readonly string[];
}
/** What a look-up was made with; kept to be compared with the next build's. */
export interface LookupFacts {
  /** The op as its key counts it. */
  readonly op?: CacheDigest;
  /** What a source was found to be: manifest digest, commit, digest of a file. */
  readonly pin?: string;
  /** Keys that were known and led to no result. */
  readonly keys: readonly string[];
  /** By input: the digest of what the op reads of it, where it reads, and the stored result it was read from. */
  readonly inputs: readonly {
    readonly content?: string;
    readonly result?: string | undefined;
    readonly reads?: readonly ReadPath[] | undefined;
  }[];
}
export type StepPhase = 'queue' | 'lookup' | 'transfer' | 'pull' | 'unpack' | 'mounts' | 'run' | 'commit' | 'export' | 'push';

export interface StepInfo {
  readonly step: VertexDigest;
  readonly name: string;
  readonly op: OpKind;
  /** The vertex, when a second copy of it had to be announced under another digest. */
  readonly vertex?: VertexDigest;
  readonly inputs: readonly VertexDigest[];
  readonly progressGroup?: { readonly id: string; readonly name: string; readonly weak: boolean };
  /** Only steps of the user's Dockerfile that can be cached count in the hit ratio. */
  readonly cacheable: boolean;
}

/** Who asked, as far as the daemon knows. */
export interface Client {
  /** How they came: `unix`, `tls 10.1.2.3:4567`, `ops`, `signal`, `schedule`. */
  readonly peer: string;
  /** Common name of their certificate, once verified. */
  readonly identity?: string;
  readonly session?: string;
  readonly tenant?: string;
}
/** Things of a client that an auditor asks about. */
export type SensitiveKind = 'secret' | 'ssh' | 'entitlement';

interface OfBuild {
  readonly build: BuildId;
  readonly atNs: bigint;
}
interface OfStep extends OfBuild {
  readonly step: VertexDigest;
}

export type BuildEvent =
  | (OfBuild & {
      readonly type: 'build-queued';
      readonly internal: boolean;
      readonly traceparent?: string;
      readonly target: string;
      readonly exporters: readonly string[];
      readonly client?: Client;
      /** When what led to the build happened, as the client says; the wait of a CI queue lies between it and this event. */
      readonly triggeredAtNs?: bigint;
      /** Where the context comes from, as clients tell it (`vcs:source`, `vcs:revision`). */
      readonly vcs?: { readonly source?: string; readonly revision?: string };
    })
  /** The build asked for what it may not have; `what` names it. */
  | (OfBuild & { readonly type: 'request-denied'; readonly what: string; readonly client?: Client })
  | (OfBuild & { readonly type: 'build-started' })
  /** The first output of the build is where it was to go: written, or pushed. At most once per build. */
  | (OfBuild & { readonly type: 'first-artifact' })
  | (OfBuild & { readonly type: 'steps-announced'; readonly steps: readonly StepInfo[] })
  /** `forKey`: only the source's key is being found out; a second start and finish follow when its content is fetched. */
  | (OfStep & { readonly type: 'step-started'; readonly forKey?: true })
  | (OfStep & {
      readonly type: 'cache-lookup';
      readonly hit: true;
      readonly location: CacheLocation;
      /** Of a remote hit: the kind of cache it was found in (a closed set), and which one, for people. */
      readonly backend?: string;
      readonly cache?: string;
      /** Nobody looked: something made of this step was found, so the step was not needed. */
      readonly implied?: true;
      /** How long the execution took whose result this is, where it is known. */
      readonly savedNs?: bigint;
      readonly facts?: LookupFacts;
    })
  | (OfStep & {
      readonly type: 'cache-lookup';
      readonly hit: false;
      readonly reason: MissReason;
      readonly detail?: string;
      /** From the comparison with an earlier build, where there is one. */
      readonly cause?: MissCause;
      readonly facts?: LookupFacts;
    })
  /** The cause of a miss reported before, now with the files that changed. The reason is the same. */
  | (OfStep & { readonly type: 'cache-explained'; readonly cause: MissCause })
  | (OfStep & { readonly type: 'step-phase'; readonly phase: StepPhase; readonly startedAtNs: bigint })
  /** A line of progress inside a step, keyed by `id` ("transferring context:"); repeated with growing `current` until completed. */
  | (OfStep & {
      readonly type: 'step-status';
      readonly id: string;
      readonly name: string;
      readonly current: bigint;
      readonly total: bigint;
      readonly startedAtNs: bigint;
      readonly completedAtNs?: bigint;
    })
  /** Output of the step's process, coalesced to at most 64 KiB or 20 ms. `stream` 1 is stdout, 2 stderr. */
  | (OfStep & { readonly type: 'step-log'; readonly stream: 1 | 2; readonly data: Uint8Array })
  | (OfStep & {
      readonly type: 'step-warning';
      readonly level: number;
      readonly short: string;
      readonly detail: readonly string[];
      readonly url: string;
      readonly source?: {
        readonly filename: string;
        readonly language: string;
        readonly data: Uint8Array;
        readonly ranges: readonly SourceRange[];
      };
    })
  /** The value of a secret the step was given stands in what it leaves behind. The value is never told. */
  | (OfStep & { readonly type: 'secret-leaked'; readonly id: string; readonly path: string; readonly refused: boolean })
  /** A step was given, or asked for and did not get, a secret, an ssh agent or an entitlement. `id` names it; a value is never here. */
  | (OfStep & { readonly type: 'sensitive-use'; readonly kind: SensitiveKind; readonly id: string; readonly granted: boolean })
  | (OfStep & {
      readonly type: 'step-finished';
      readonly outcome: 'cached' | 'executed' | ErrorKind;
      /** The text clients show; ends in `context canceled` when another failure or the user stopped the step. */
      readonly error?: string;
      /** Ends an interval that `step-started` opened with `forKey`; not an executed step. */
      readonly forKey?: true;
      /** With `forKey`: what the source was found to be. */
      readonly pin?: string;
      /** Peak memory, CPU and IO of the step's process, when one ran. */
      readonly usage?: StepUsage;
    })
  /** About once a second while a step's process runs; never for a shorter one. The same object reaches every build that shares the step. */
  | (OfStep & { readonly type: 'step-resources'; readonly sample: ResourceSample })
  | (OfBuild & {
      readonly type: 'build-finished';
      readonly result: BuildResult;
      readonly kind?: ErrorKind;
      readonly fault?: Fault;
      readonly error?: string;
      /** Output that was not kept because the build had reached its limit. */
      readonly clippedLogBytes?: number;
    });

/** One resource under pressure: share of the last 10 s in which some, or all, processes had to wait for it, and all such time. */
export interface Pressure {
  readonly some: { readonly avg10: number; readonly totalNs: bigint };
  readonly full: { readonly avg10: number; readonly totalNs: bigint };
}
export interface ResourcePressure {
  readonly cpu?: Pressure;
  readonly memory?: Pressure;
  readonly io?: Pressure;
}

/** What a running step uses. A figure that the kernel does not show here is absent. Counts are since the process started. */
export interface ResourceSample {
  readonly atNs: bigint;
  readonly cpuNs?: bigint;
  readonly throttledNs?: bigint;
  readonly memoryBytes?: number;
  readonly peakMemoryBytes?: number;
  /** Of the step itself, when it has a limit. */
  readonly memoryLimitBytes?: number;
  readonly readBytes?: bigint;
  readonly writeBytes?: bigint;
  readonly processes?: number;
  readonly pressure?: ResourcePressure;
}

/** A process of the step was killed for lack of memory. */
export interface OomKill {
  /** `step`: the step's own limit was reached. `daemon`: the memory of the group above, or of the machine, was used up. */
  readonly scope: 'step' | 'daemon';
  /** Name of the process, when the kernel's log tells it. */
  readonly process?: string;
  readonly peakBytes: number;
  readonly limitBytes?: number;
}

export interface StepUsage {
  readonly cpuNs: bigint;
  /** 0 where it cannot be known. */
  readonly peakMemoryBytes: number;
  readonly oomKilled: boolean;
  readonly oom?: OomKill;
  readonly memoryLimitBytes?: number;
  readonly throttledNs?: bigint;
  readonly readBytes?: bigint;
  readonly writeBytes?: bigint;
  readonly pressure?: ResourcePressure;
}

/** The types a client may name, see cache/remote/ports.ts. */
export const REMOTE_CACHE_BACKENDS = ['registry', 'inline', 'local', 's3', 'azblob', 'gha', 'redis', 'filesystem'] as const;
export type RemoteCacheBackend = (typeof REMOTE_CACHE_BACKENDS)[number];
/** import: read an index of what is there; load: fetch what one hit needs; upload: write one blob; export: write one build's cache;
 *  probe: the trial call of a half-open breaker. */
export type RemoteCacheOp = 'import' | 'load' | 'upload' | 'export' | 'probe';
/** miss: the backend answered that it has no such thing; corrupt: bytes that do not match their digest; skipped: not even tried, the
 *  breaker is open. */
export type RemoteCacheResult = 'ok' | 'miss' | 'error' | 'timeout' | 'denied' | 'corrupt' | 'skipped';
export type BreakerState = 'closed' | 'half-open' | 'open';
/** What can be down for a while; an outage runs from the first failure until the next success. */
export type Component = 'remote-cache' | 'registry' | 'collector' | 'disk' | 'builder';

/** What happens to the daemon rather than to one build: shared backends, stores, the way out. */
export type ServiceEvent =
  | {
      readonly type: 'remote-cache-operation';
      readonly atNs: bigint;
      readonly backend: RemoteCacheBackend;
      readonly op: RemoteCacheOp;
      readonly result: RemoteCacheResult;
      readonly durationNs: bigint;
      /** Bytes moved, in the direction of the operation. */
      readonly bytes: number;
      /** The build it was for, when there is one; becomes an exemplar, never a label. */
      readonly build?: BuildId;
    }
  /** `target` tells breakers of one backend apart (`registry.example/team/cache`): for logs and the status page, never a label. */
  | {
      readonly type: 'breaker-changed';
      readonly atNs: bigint;
      readonly backend: RemoteCacheBackend;
      readonly target: string;
      readonly state: BreakerState;
      /** Since when the breaker is in this state. */
      readonly sinceNs: bigint;
      readonly error?: string;
    }
  /** The end of an outage, measured once: from the first failure to the first success. */
  | { readonly type: 'outage-ended'; readonly atNs: bigint; readonly component: Component; readonly startedAtNs: bigint }
  | { readonly type: 'outage-began'; readonly atNs: bigint; readonly component: Component }
  /** Bytes that did not match their digest were moved aside; the hit they belonged to is a miss. */
  | {
      readonly type: 'quarantined';
      readonly atNs: bigint;
      readonly digest: string;
      readonly origin: 'content' | 'snapshot' | 'remote-cache';
    };

/** Returns at once and never throws, like EventSink. */
export interface ServiceEventSink {
  report(event: ServiceEvent): void;
}

/** What an administrator does to the daemon, or somebody to another's build. */
export type AdminAct =
  | 'prune'
  | 'drain'
  | 'config-reload'
  | 'slo-adjustment'
  | 'history-delete'
  | 'build-cancel'
  | 'build-submit';
/** A record for the audit log that belongs to no running build. */
export interface AuditEntry {
  readonly type: AdminAct | 'denied';
  readonly outcome: 'ok' | 'refused' | 'failed';
  readonly client: Client;
  /** What it was done to: a ref, a filter, a name; never a value somebody wants kept. */
  readonly what: string;
  readonly build?: BuildId;
  /** Figures or a reason, short. */
  readonly detail?: string;
}
/** Returns at once and never throws, like EventSink. */
export interface AuditSink {
  record(entry: AuditEntry): void;
}

/** Returns at once and never throws: watching a build must not be able to slow it or fail it. */
export interface EventSink {
  emit(event: BuildEvent): void;
}

/** One sink that feeds several, in order. A sink that throws is a bug in it; the others still see the event. */
export function fanOut(sinks: readonly EventSink[], onSinkError: (error: unknown) => void): EventSink {
  return {
    emit(event) {
      for (const sink of sinks) {
        try {
          sink.emit(event);
        } catch (error) {
          onSinkError(error);
        }
      }
    },
  };
}
