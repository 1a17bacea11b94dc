/**
 * The smallest daemon that unmodified clients complete a build against (buildkit-wire.md section 9): real Control.Session on a unix
 * socket, everything else answered with nothing. What a build does with its session is the test's.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { systemClock } from '../../core/clock.ts';
import { Control } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { LLBBridge } from '../proto/gen/moby/buildkit/v1/frontend/gateway_pb.ts';
import { connect, type RpcClient } from '../rpc/client.ts';
import { raw, type Service, service } from '../rpc/handlers.ts';
import { listen } from '../rpc/listener.ts';
import { RpcServer } from '../rpc/server.ts';
import { type ClientSession, openClientSession } from './attachables/client-session.ts';
import type { Session } from './ports.ts';
import { SessionManager, type SessionManagerOptions } from './session-manager.ts';

export interface StubDaemon extends AsyncDisposable {
  readonly dir: string;
  readonly address: string;
  readonly manager: SessionManager;
}

/** `build` runs once per build, between the client's Solve and its answer. */
export async function openStubDaemon(
  build: (session: Session, signal: AbortSignal) => Promise<void> = async () => {},
  options: SessionManagerOptions = {},
): Promise<StubDaemon> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-session-'));
  const manager = new SessionManager(options);
  const returned = Promise.withResolvers<void>();
  const done = new Map<string, PromiseWithResolvers<void>>();
  const doneOf = (ref: string): PromiseWithResolvers<void> => {
    const known = done.get(ref) ?? Promise.withResolvers<void>();
    done.set(ref, known);
    return known;
  };
  const server = new RpcServer({
    clock: systemClock(),
    services: [
      service(Control, {
        listWorkers: () => ({ record: [{ ID: 'stub', platforms: [{ OS: 'linux', Architecture: 'amd64' }] }] }),
        session: raw((stream, context) => manager.accept(stream, context)),
        async solve({ Ref, Session: id }, { signal }) {
          try {
            await returned.promise;
            await build(await manager.get(id, signal), signal);
            return {};
          } finally {
            doneOf(Ref).resolve();
          }
        },
        async *status({ Ref }, context) {
          context.sendHeaders([['buildkit-current-timestamp', new Date().toISOString()]]);
          await doneOf(Ref).promise;
          yield* [];
        },
      }),
      service(LLBBridge, {
        ping: () => ({
          FrontendAPICaps: ['solve.base', 'return', 'returnmap', 'proto.refarray'].map((ID) => ({ ID, Enabled: true })),
          Workers: [{ ID: 'stub' }],
        }),
        solve: () => ({ result: {} }),
        return: () => {
          returned.resolve();
          return {};
        },
      }),
    ],
  });
  const path = join(dir, 'stub.sock');
  const listener = await listen(server, { type: 'unix', path });
  return {
    dir,
    address: `unix://${path}`,
    manager,
    async [Symbol.asyncDispose]() {
      await listener.close();
      await server[Symbol.asyncDispose]();
      await manager[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** A client of ours, connected to the stub and with its session open there. */
export interface ConnectedClient extends AsyncDisposable {
  readonly rpc: RpcClient;
  readonly client: ClientSession;
  /** The daemon's side of it. */
  readonly session: Session;
}

export async function connectClient(
  daemon: StubDaemon,
  services: readonly Service[],
  options: { readonly id?: string; readonly sharedKey?: string } = {},
): Promise<ConnectedClient> {
  const rpc = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });
  const client = openClientSession(rpc, { services, clock: systemClock(), ...options });
  const session = await daemon.manager.get(client.id, new AbortController().signal);
  return {
    rpc,
    client,
    session,
    async [Symbol.asyncDispose]() {
      await client.close();
      await rpc[Symbol.asyncDispose]();
    },
  };
}

export interface Finished {
  readonly status: number | null;
  readonly output: string;
}

export const buildctlPath = findProgram('buildctl');

/** Runs buildctl to its end; `signal` kills it. */
export async function buildctl(args: readonly string[], options: { readonly signal?: AbortSignal } = {}): Promise<Finished> {
  const child = spawn(buildctlPath ?? 'buildctl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  options.signal?.addEventListener('abort', () => child.kill('SIGKILL'), { once: true });
  let output = '';
  child.stdout.on('data', (text) => {
    output += text;
  });
  child.stderr.on('data', (text) => {
    output += text;
  });
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { status, output };
}

function findProgram(name: string): string | undefined {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    try {
      accessSync(join(dir, name), constants.X_OK);
      return join(dir, name);
    } catch {}
  }
  return undefined;
}
