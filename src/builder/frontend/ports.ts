/**
 * What a frontend needs from the build that runs it, and what it gives back. A frontend turns options and files into a graph; it has
 * never heard of workers, snapshots or gRPC.
 */
import type { Digest } from '../../core/digest.ts';
import type { ErrorSource } from '../../core/errors.ts';
import type { Stat } from '../proto/gen/fsutil/types/stat_pb.ts';
import type { Definition, Platform } from '../proto/gen/pb/ops_pb.ts';

/** A result inside one build: evaluated lazily, named by an id on the wire. Undefined stands for scratch. */
export interface FrontendRef {
  readonly id: string;
  readonly definition: Definition;
}

export interface FrontendResult {
  /** A single result, or one per platform id (`linux/amd64`). */
  readonly refs:
    | { readonly kind: 'single'; readonly ref: FrontendRef | undefined }
    | { readonly kind: 'map'; readonly refs: ReadonlyMap<string, FrontendRef | undefined> };
  /** buildkit-wire.md section 5.4: `containerimage.config`, `refs.platforms`, ... */
  readonly metadata: ReadonlyMap<string, Uint8Array>;
}

export interface ImageConfigRequest {
  readonly ref: string;
  readonly platform: Platform | undefined;
  readonly resolveMode: string;
  /** Name of the progress vertex, e.g. `[internal] load metadata for docker.io/library/busybox:latest`. */
  readonly logName: string;
  /** `oci-layout` resolves against a content store of the session. */
  readonly resolver?:
    | { readonly kind: 'registry' }
    | { readonly kind: 'oci-layout'; readonly sessionId: string; readonly storeId: string };
}
export interface ImageConfigResponse {
  readonly ref: string;
  readonly digest: Digest;
  /** Image config JSON (OCI image-spec v1.1, config.md). */
  readonly config: Uint8Array;
}

export interface FrontendRequest {
  readonly frontend: string;
  readonly options: ReadonlyMap<string, string>;
  readonly inputs: ReadonlyMap<string, Definition>;
}

/** The build as a frontend sees it. Every call rejects with a BuildError; cancelling the build aborts all of them. */
export interface Bridge {
  readonly sessionId: string;
  readonly signal: AbortSignal;
  /** The first platform is the default. */
  readonly workerPlatforms: readonly Platform[];
  /** Ops and attributes the worker knows, by BuildKit's names (`mergeop`). A frontend does without what is not named. */
  readonly llbCaps?: ReadonlySet<string>;
  /** Loads a graph and returns a lazy ref; `evaluate` waits until it is built. */
  solve(definition: Definition, options?: { readonly evaluate?: boolean }): Promise<FrontendRef | undefined>;
  /** Hands the request to another frontend (`# syntax=`). */
  forward(request: FrontendRequest): Promise<FrontendResult>;
  resolveImageConfig(request: ImageConfigRequest): Promise<ImageConfigResponse>;
  /** Rejects with `not-found` (`open <path>: no such file or directory`) when the file is missing. */
  readFile(
    ref: FrontendRef | undefined,
    path: string,
    range?: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array>;
  readDir(ref: FrontendRef | undefined, path: string, includePattern?: string): Promise<Stat[]>;
  statFile(ref: FrontendRef | undefined, path: string): Promise<Stat>;
  warn(warning: FrontendWarning): void;
}
export interface FrontendWarning {
  /** Vertex the warning is shown under. */
  readonly vertex: string;
  readonly level: number;
  readonly short: string;
  readonly detail: readonly string[];
  readonly url: string;
  readonly source?: ErrorSource;
}

export interface Frontend {
  run(bridge: Bridge, request: FrontendRequest): Promise<FrontendResult>;
}
