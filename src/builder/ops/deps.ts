/** What ops need to work. Chosen and handed in by the wiring. */
import type { Clock } from '../../core/clock.ts';
import type { WorkerPool } from '../../core/worker-pool.ts';
import type { Vertex } from '../llb/definition.ts';
import type { Platform } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import type { Op } from '../solver/ports.ts';
import type { Sandbox } from '../worker/ports.ts';
import type { Sys } from '../worker/sys/ports.ts';

/** A secret's value from the first of the sessions that has it; undefined when none has. */
export type ReadSecret = (
  sessions: readonly string[],
  id: string,
  signal: AbortSignal,
  traceparent?: string,
) => Promise<Uint8Array | undefined>;

/** `fail` ends the step, `warn` tells the user and the operator, `off` does not look. */
export type SecretLeaks = 'fail' | 'warn' | 'off';

export interface AgentSocket {
  /** As in the mount; empty is the client's default agent. */
  readonly id: string;
  /** Where the socket is made. */
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}
/** The ssh agent of the first of the sessions that forwards it, as a socket until disposed; undefined when none does. */
export type OpenAgent = (
  sessions: readonly string[],
  socket: AgentSocket,
  signal: AbortSignal,
) => Promise<AsyncDisposable | undefined>;

export interface OpDeps {
  readonly clock: Clock;
  readonly snapshots: Snapshots;
  readonly sandbox: Sandbox;
  readonly pool: WorkerPool;
  readonly sys: Sys;
  readonly readSecret: ReadSecret;
  readonly openAgent: OpenAgent;
  /** What happens to a step whose result holds the value of a secret it was given. */
  readonly secretLeaks: SecretLeaks;
  /** Ops of kind `source`: source.ts. */
  readonly source: (vertex: Vertex) => Op;
  /** What an op without a platform means. */
  readonly platform: Platform;
  /** Stands before snapshot ids in errors, as BuildKit's worker id does. */
  readonly workerId: string;
  /** For mount points of ours; below the daemon's root. */
  readonly tempDir: string;
}
