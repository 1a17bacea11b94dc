/** What a build needs from the rooms that it ties together, beyond their own ports. */
import type { Clock } from '../../core/clock.ts';
import type { VertexDigest } from '../../core/digest.ts';
import type { RemoteCaches } from '../cache/remote/remote-caches.ts';
import type { EventSink } from '../events.ts';
import type { Accounts } from '../explain/accounts.ts';
import type { Exporters } from '../exporter/ports.ts';
import type { Frontend, ImageConfigRequest, ImageConfigResponse } from '../frontend/ports.ts';
import type { History } from '../history/history.ts';
import type { Platform, SourceOp } from '../proto/gen/pb/ops_pb.ts';
import type { Sessions } from '../session/ports.ts';
import type { StepProgress } from '../solver/ports.ts';
import type { Solver } from '../solver/solver.ts';
import type { Admission } from './admission.ts';

export interface ResolveContext {
  readonly sessions: () => readonly string[];
  readonly progress: StepProgress;
  readonly signal: AbortSignal;
}
/** Answers what an image or another source is, without fetching it whole. One resolver lives as long as one build: a tag resolves once. */
export interface MetadataResolver {
  resolveImageConfig(request: ImageConfigRequest, context: ResolveContext): Promise<ImageConfigResponse>;
  /** Of a file at an `http(s)://` address. */
  describeFile(
    op: SourceOp,
    context: ResolveContext,
  ): Promise<{ readonly digest: string; readonly filename: string; readonly lastModified: Date | undefined }>;
}

export interface BuilderDeps {
  readonly clock: Clock;
  readonly solver: Solver;
  readonly sessions: Sessions;
  readonly history: History;
  readonly accounts: Accounts;
  readonly exporters: Exporters;
  readonly caches: RemoteCaches;
  readonly admission: Admission;
  /** Frontends by name: `dockerfile.v0`. */
  readonly frontends: ReadonlyMap<string, Frontend>;
  /** A resolver for one build. */
  readonly metadataResolver: () => MetadataResolver;
  /** Everything that listens to all builds. */
  readonly sink: EventSink;
  /** `insecure-entitlements` of the configuration. */
  readonly allowedEntitlements: ReadonlySet<string>;
  /** Output of one build that is kept for clients and history. */
  readonly maxLogBytes: number;
  /** The first is the default. */
  readonly platforms: readonly Platform[];
  /** The stored result that a source of the client's files became, where it is known. */
  readonly localResultOf: (source: VertexDigest) => string | undefined;
  /** The traceparent that a process of this step gets, or undefined without tracing. */
  readonly traceparentOf: (build: string, step: string) => string | undefined;
  /** Spans of a finished build in the form of the history trace blob, or undefined when nothing was traced. */
  readonly traceBlobOf: (build: string) => Uint8Array | undefined;
}
