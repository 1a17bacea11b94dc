/** Ops on a real snapshot store and real containers. */
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { systemClock } from '../../core/clock.ts';
import { vertexDigestOf } from '../../core/digest.ts';
import type { StepPhase, StepUsage } from '../events.ts';
import type { Vertex } from '../llb/definition.ts';
import {
  ExecOpSchema,
  LinuxResourcesSchema,
  type MetaSchema,
  type MountSchema,
  type Op,
  OpSchema,
  PlatformSchema,
} from '../proto/gen/pb/ops_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { openRig as openSnapshotRig, step } from '../snapshot/snapshots.test-rig.ts';
import type { OpContext, Result } from '../solver/ports.ts';
import { makeRootfs } from '../worker/sandbox.test-rig.ts';
import { openSandbox } from '../worker/sandbox.ts';
import { openSys } from '../worker/sys/sys.ts';
import type { OpDeps } from './deps.ts';
import { createOpResolver } from './resolver.ts';

type OpInit = Op['op'];

export type MountInit = MessageInitShape<typeof MountSchema>;
type MetaInit = MessageInitShape<typeof MetaSchema>;

/** A RUN in the root, with further mounts. */
export const sh = (
  script: string,
  mounts: readonly MountInit[] = [],
  meta: MetaInit = {},
  more: MessageInitShape<typeof ExecOpSchema> = {},
): Op['op'] => ({
  case: 'exec',
  value: create(ExecOpSchema, {
    ...more,
    meta: { args: ['/bin/sh', '-c', script], env: ['PATH=/bin'], cwd: '/', removeMountStubsRecursive: true, ...meta },
    mounts: [{ input: 0n, dest: '/', output: 0n }, ...mounts],
  } as MessageInitShape<typeof ExecOpSchema>),
});

export interface OpsRig {
  readonly dir: string;
  readonly deps: OpDeps;
  /** Committed: busybox and its users. */
  readonly base: Snapshot;
  readonly secrets: Map<string, string>;
  /** Ids of agents that a client forwards. */
  readonly agents: Set<string>;
  run(op: OpInit, inputs: readonly Result[], options?: RunOptions): Promise<Ran>;
  /** A committed snapshot whose tree `change` makes. */
  snapshot(parent: Snapshot | undefined, change: (dir: string) => void): Promise<Snapshot>;
}
export interface RunOptions {
  readonly ignoreCache?: boolean;
  /** Limit of the step. */
  readonly memoryBytes?: bigint;
  readonly signal?: AbortSignal;
  readonly traceparent?: string;
  readonly onLog?: () => void;
}
export interface Ran {
  readonly results: readonly Snapshot[];
  readonly out: string;
  readonly err: string;
  readonly phases: readonly StepPhase[];
  readonly usage: StepUsage | undefined;
  /** What auditors were told, as `kind id granted`. */
  readonly used: readonly string[];
}

export async function openOpsRig(t: TestContext): Promise<OpsRig> {
  // Before the store's own clean-up, which finds mounts that are left.
  const held: AsyncDisposable[] = [];
  t.after(async () => {
    for (const each of held.reverse()) await each[Symbol.asyncDispose]();
  });
  const rig = await openSnapshotRig(t);
  const { snapshots, pool, dir } = rig;
  const sys = openSys();
  const sandbox = await openSandbox({ root: dir, runtime: 'auto', sys });
  const tempDir = join(dir, 'ops-tmp');
  mkdirSync(tempDir);
  const secrets = new Map<string, string>();
  const agents = new Set<string>();
  const deps: OpDeps = {
    clock: systemClock(),
    snapshots,
    sandbox,
    pool,
    sys,
    readSecret: async (_, id) => (secrets.has(id) ? Buffer.from(secrets.get(id) ?? '') : undefined),
    openAgent: async (_, { id, path, uid, gid, mode }) => {
      if (!agents.has(id)) return undefined;
      const server = createServer().listen(path);
      await once(server, 'listening');
      chmodSync(path, mode);
      chownSync(path, uid, gid);
      return { [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())) };
    },
    source: () => {
      throw new Error('no sources here');
    },
    platform: create(PlatformSchema, { OS: 'linux', Architecture: 'amd64' }),
    workerId: 'worker',
    tempDir,
    secretLeaks: 'warn',
  };
  const base = await step(snapshots, undefined, (at) => makeRootfs(at));
  held.push(sandbox, base);
  const resolver = createOpResolver(deps);
  return {
    dir,
    deps,
    base,
    secrets,
    agents,
    async snapshot(parent, change) {
      const made = await step(snapshots, parent, change);
      held.push(made);
      return made;
    },
    async run(init, inputs, options = {}) {
      const logs: { stream: 1 | 2; data: Uint8Array }[] = [];
      const phases: StepPhase[] = [];
      let usage: StepUsage | undefined;
      const used: string[] = [];
      const context: OpContext = {
        signal: options.signal ?? new AbortController().signal,
        sessions: () => ['session'],
        ...(options.traceparent === undefined ? {} : { traceparent: options.traceparent }),
        progress: {
          log: (stream, data) => {
            logs.push({ stream, data });
            options.onLog?.();
          },
          status: () => ({ update: () => {}, done: () => {} }),
          phase: (phase) => phases.push(phase),
          resources: () => {},
          usage: (told) => {
            usage = told;
          },
          used: (kind, id, granted) => used.push(`${kind} ${id} ${granted}`),
          leaked: (id, path, refused) => used.push(`leak of ${id} in ${path}${refused ? ' refused' : ''}`),
        },
      };
      const text = (wanted: 1 | 2): string =>
        Buffer.concat(logs.filter(({ stream }) => stream === wanted).map(({ data }) => data)).toString();
      const results = (await resolver.resolve(vertexOf(init, inputs.length, options)).exec(context, inputs)) as Snapshot[];
      held.push(...results);
      return { results, out: text(1), err: text(2), phases, usage, used };
    },
  };
}

function vertexOf(
  init: OpInit,
  inputCount: number,
  { ignoreCache = false, memoryBytes }: { readonly ignoreCache?: boolean; readonly memoryBytes?: bigint },
): Vertex {
  const bytes = toBinary(OpSchema, create(OpSchema, { op: init }));
  return {
    digest: vertexDigestOf(bytes),
    op: fromBinary(OpSchema, bytes),
    bytes,
    inputs: Array.from({ length: inputCount }, () => ({ vertex: {} as Vertex, output: 0 })),
    name: 'step',
    options: {
      ignoreCache,
      description: {},
      exportCache: undefined,
      progressGroup: undefined,
      linuxResources:
        memoryBytes === undefined ? undefined : create(LinuxResourcesSchema, { memory: memoryBytes, memorySwap: memoryBytes }),
    },
    platform: undefined,
    sources: [],
  };
}
