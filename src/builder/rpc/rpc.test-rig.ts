/** A real server on a real socket in a temp dir, with the same small service that test/peers/grpc has, for the tests of this folder. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../core/clock.ts';
import { BuildError, type GrpcCode } from '../../core/errors.ts';
import { type CallOptions, connect, type RpcClient } from './client.ts';
import type { RawMethod, Service } from './handlers.ts';
import { type Listener, listen } from './listener.ts';
import { RpcServer } from './server.ts';

/** What handlers saw. */
export interface Seen {
  /** Abort reasons of Wait calls. */
  readonly reasons: BuildError[];
  /** Bytes that Count was allowed to send. */
  sentBytes: number;
}

export interface Rig extends AsyncDisposable {
  readonly server: RpcServer;
  readonly listener: Listener;
  readonly path: string;
  /** Calls that have ended, in order: method, code, and the failure where there was one. */
  readonly ended: { readonly method: string; readonly code: GrpcCode; readonly error: BuildError | undefined }[];
  /** Resolves when a call whose ending satisfies `wanted` has ended, past ones included. */
  end(wanted: (method: string, code: GrpcCode) => boolean): Promise<void>;
  readonly seen: Seen;
  connect(): Promise<RpcClient>;
}

export async function openRig(options: { readonly maxMessageBytes?: number } = {}): Promise<Rig> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-rpc-'));
  const path = join(dir, 'rpc.sock');
  const ended: Rig['ended'] = [];
  const waiting = new Set<() => void>();
  const seen: Seen = { reasons: [], sentBytes: 0 };
  const server = new RpcServer({
    clock: systemClock(),
    services: [peerService(seen)],
    ...options,
    observer: {
      rpcEnded: (method, code, _durationNs, error) => {
        ended.push({ method, code, error });
        for (const wake of waiting) wake();
      },
    },
  });
  const listener = await listen(server, { type: 'unix', path });
  return {
    server,
    listener,
    path,
    ended,
    seen,
    async end(wanted) {
      while (!ended.some(({ method, code }) => wanted(method, code))) {
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            waiting.delete(wake);
            resolve();
          };
          waiting.add(wake);
        });
      }
    },
    connect: () => connect({ type: 'unix', path }),
    async [Symbol.asyncDispose]() {
      await listener.close();
      await server[Symbol.asyncDispose]();
      await rm(dir, { recursive: true });
    },
  };
}

/** `test.Peer`, method for method what test/peers/grpc/main.go answers. */
export function peerService(seen: Seen = { reasons: [], sentBytes: 0 }): Service {
  const methods: Record<string, RawMethod> = {
    async Echo(stream) {
      for await (const message of stream) return await stream.send(message);
    },
    async Count(stream) {
      const [count = 0, size = 0] = (await textOf(stream)).split(' ').map(Number);
      const data = Buffer.alloc(size);
      for (let i = 0; i < count; i++) {
        await stream.send(data);
        seen.sentBytes += size;
      }
    },
    async Sum(stream) {
      let total = 0;
      for await (const message of stream) total += message.byteLength;
      await stream.send(Buffer.from(String(total)));
    },
    async Bidi(stream, context) {
      context.setTrailer('x-end', 'yes');
      for await (const message of stream) await stream.send(message);
    },
    async Fail(stream) {
      if ((await textOf(stream)) === 'late') await stream.send(Buffer.from('before'));
      throw new BuildError('not-found', 'no such käse: 100% ☕', { hint: 'try brie' });
    },
    async Wait(stream, context) {
      context.sendHeaders();
      await stream.send(Buffer.from('waiting'));
      await new Promise((resolve) => context.signal.addEventListener('abort', resolve, { once: true }));
      seen.reasons.push(BuildError.from(context.signal.reason));
      throw context.signal.reason;
    },
    async Early() {
      throw new BuildError('step-failed', 'enough');
    },
    async Headers(stream, context) {
      context.sendHeaders([
        ['x-many', '1'],
        ['x-many', '2,3'],
      ]);
      await stream.send(Buffer.from(JSON.stringify(context.headers.getAll('x-many'))));
    },
  };
  return {
    typeName: 'test.Peer',
    methods: new Map(Object.entries(methods).map(([name, method]) => [`/test.Peer/${name}`, method])),
  };
}

async function textOf(stream: AsyncIterable<Uint8Array>): Promise<string> {
  for await (const message of stream) return Buffer.from(message).toString();
  return '';
}

/** One request; the answers collected. */
export async function callOnce(
  client: RpcClient,
  method: string,
  request: string | Uint8Array,
  options: CallOptions = {},
): Promise<Buffer[]> {
  using call = client.stream(`/test.Peer/${method}`, options);
  await call.send(typeof request === 'string' ? Buffer.from(request) : request).catch(() => {});
  call.end();
  const answers: Buffer[] = [];
  for await (const message of call) answers.push(Buffer.from(message));
  return answers;
}

/** Resolves when `count` no longer changes over 100 round trips: everything that could flow has flowed. */
export async function untilStill(client: RpcClient, count: () => number): Promise<void> {
  let before = -1;
  while (before !== count()) {
    before = count();
    for (let i = 0; i < 100; i++) await client.ping();
  }
}
