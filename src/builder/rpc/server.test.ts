import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { BuildError, type GrpcCode } from '../../core/errors.ts';
import { Content, WriteAction } from '../proto/gen/containerd/services/content/v1/content_pb.ts';
import { Health, HealthCheckResponse_ServingStatus as Serving } from '../proto/gen/grpc/health/v1/health_pb.ts';
import { Control, StatusResponseSchema } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { bytesDuplex } from './bytes-duplex.ts';
import { openTunnel, type RpcClient } from './client.ts';
import { raw, type Service, service } from './handlers.ts';
import { encodeMessage } from './messages.ts';
import { callOnce, openRig } from './rpc.test-rig.ts';
import { type RpcObserver, RpcServer } from './server.ts';

interface Joined extends AsyncDisposable {
  readonly server: RpcServer;
  readonly client: RpcClient;
  /** Nothing that either end sends arrives any more, and neither is told. */
  cutCable(): void;
}

/** A server and a client on a connection that can be cut. */
async function join(services: readonly Service[], observer: RpcObserver = {}): Promise<Joined> {
  const server = new RpcServer({ services, clock: systemClock(), observer });
  const [near, far] = await Promise.all([socketPair(), socketPair()]);
  near[1].pipe(far[0]).pipe(near[1]);
  far[0].on('close', () => near[1].destroy());
  server.attach(near[0], { transport: 'tcp', address: 'test' });
  const client = openTunnel(far[1]);
  return {
    server,
    client,
    cutCable() {
      near[1].unpipe();
      far[0].unpipe();
    },
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      near[1].destroy();
      far[0].destroy();
    },
  };
}

async function socketPair(): Promise<[Socket, Socket]> {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const theirs = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  const [ours] = (await once(listener, 'connection')) as [Socket];
  listener.close();
  for (const socket of [ours, theirs]) socket.on('error', () => {});
  return [ours, theirs];
}

test('typed handlers of all four kinds see messages and answer with plain objects', async () => {
  const health = service(Health, {
    check: (request) => ({ status: request.service === '' ? Serving.SERVING : Serving.SERVICE_UNKNOWN }),
    async *watch() {
      yield { status: Serving.NOT_SERVING };
      yield { status: Serving.SERVING };
    },
  });
  const content = service(Content, {
    async *write(requests) {
      for await (const { action, offset, data } of requests) yield { action, offset: offset + BigInt(data.byteLength) };
    },
  });
  await using end = await join([health, content]);
  assert.equal((await end.client.unary(Health.method.check, { service: 'x' })).status, Serving.SERVICE_UNKNOWN);
  const seen: Serving[] = [];
  for await (const { status } of end.client.serverStream(Health.method.watch, {})) seen.push(status);
  assert.deepEqual(seen, [Serving.NOT_SERVING, Serving.SERVING]);
  async function* chunks() {
    yield { action: WriteAction.WRITE, offset: 0n, data: Buffer.from('abc') };
    yield { action: WriteAction.COMMIT, offset: 3n };
  }
  const offsets: bigint[] = [];
  for await (const answer of end.client.bidi(Content.method.write, chunks())) offsets.push(answer.offset);
  assert.deepEqual(offsets, [3n, 3n]);
});

test('a handler may answer with bytes that were encoded before', async () => {
  const bytes = encodeMessage(StatusResponseSchema, { vertexes: [{ name: 'replayed' }] });
  const control = service(Control, {
    async *status() {
      yield bytes;
    },
  });
  await using end = await join([control]);
  for await (const { vertexes } of end.client.serverStream(Control.method.status, {}))
    assert.equal(vertexes[0]?.name, 'replayed');
});

test('a request that is no such message is the fault of its sender', async () => {
  await using end = await join([service(Control, { solve: () => ({}) })]);
  await assert.rejects(end.client.unaryBytes('/moby.buildkit.v1.Control/Solve', Buffer.of(0xff, 0xff)), {
    kind: 'invalid-input',
    message: /^malformed moby\.buildkit\.v1\.SolveRequest: /,
  });
  await assert.rejects(end.client.unaryBytes('/moby.buildkit.v1.Control/Info', Buffer.alloc(0)), {
    kind: 'unsupported',
    message: 'unknown method Info for service moby.buildkit.v1.Control',
  });
});

test('leaving a server stream early ends the generator on the other side', async () => {
  const ended = Promise.withResolvers<string>();
  const health = service(Health, {
    async *watch(_request, context) {
      try {
        while (true) {
          yield { status: Serving.SERVING };
          if (context.signal.aborted) break;
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        ended.resolve(BuildError.from(context.signal.reason).kind);
      }
    },
  });
  await using end = await join([health]);
  for await (const _ of end.client.serverStream(Health.method.watch, {})) break;
  assert.equal(await ended.promise, 'cancelled');
});

test('an observer sees each call begin and end, unknown methods under one name, and cannot break a call', async () => {
  const seen: [string, GrpcCode | 'started'][] = [];
  const observer: RpcObserver = {
    rpcStarted: (method) => {
      seen.push([method, 'started']);
      throw new Error('a bug in the observer');
    },
    rpcEnded: (method, code, durationNs) => {
      assert.ok(durationNs >= 0n);
      seen.push([method, code]);
    },
  };
  await using end = await join([service(Control, { info: () => ({}) })], observer);
  await end.client.unary(Control.method.info, {});
  await assert.rejects(end.client.unaryBytes('/nobody.Knows/This', Buffer.alloc(0)), { kind: 'unsupported' });
  assert.deepEqual(seen, [
    ['/moby.buildkit.v1.Control/Info', 'started'],
    ['/moby.buildkit.v1.Control/Info', 0],
    ['unknown', 'started'],
    ['unknown', 12],
  ]);
});

test('a bug in a handler is an internal error of one call, its cause kept for the log', async () => {
  const errors: unknown[] = [];
  const observer: RpcObserver = { rpcEnded: (_method, _code, _durationNs, error) => errors.push(error?.cause) };
  const bug = new TypeError('x is not a function');
  const control = service(Control, {
    info: () => {
      throw bug;
    },
    listWorkers: () => ({}),
  });
  await using end = await join([control], observer);
  await assert.rejects(end.client.unary(Control.method.info, {}), { kind: 'internal' });
  await end.client.unary(Control.method.listWorkers, {});
  assert.deepEqual(errors, [bug, undefined]);
});

test('a drain lets calls finish and refuses new connections', async () => {
  await using rig = await openRig();
  await using client = await rig.connect();
  using bidi = client.stream('/test.Peer/Bidi');
  const answers = bidi[Symbol.asyncIterator]();
  await bidi.send(Buffer.from('before'));
  await answers.next();
  const drained = rig.server.drain(30_000);
  const late = await rig.connect();
  await assert.rejects(callOnce(late, 'Echo', 'x'), { kind: 'unavailable' });
  await bidi.send(Buffer.from('after'));
  assert.equal(String((await answers.next()).value), 'after');
  bidi.end();
  assert.equal((await answers.next()).done, true);
  await drained;
  assert.equal(rig.server.connections, 0);
});

test('a drain that runs out of patience tells the calls why they end', async () => {
  await using rig = await openRig();
  await using client = await rig.connect();
  using wait = client.stream('/test.Peer/Wait');
  await wait.headers;
  const answers = wait[Symbol.asyncIterator]();
  await answers.next();
  await rig.server.drain(1);
  await assert.rejects(answers.next(), { kind: 'unavailable', message: 'the daemon is shutting down' });
  assert.deepEqual(
    rig.seen.reasons.map(({ kind }) => kind),
    ['unavailable'],
  );
  assert.equal(rig.server.connections, 0);
});

test('the tunnel: a client that serves inside its own call, and a daemon that calls it there', async () => {
  const asked: string[] = [];
  const daemon = service(Control, {
    session: raw(async (stream) => {
      await using inner = openTunnel(bytesDuplex(stream));
      for (const name of ['a', 'b']) await inner.unary(Health.method.check, { service: name });
      await inner.close();
    }),
  });
  await using end = await join([daemon]);
  const attachables = new RpcServer({
    clock: systemClock(),
    services: [
      service(Health, {
        check: ({ service: name }) => {
          asked.push(name);
          return { status: Serving.SERVING };
        },
      }),
    ],
  });
  using session = end.client.stream('/moby.buildkit.v1.Control/Session');
  const tunnel = bytesDuplex(session);
  attachables.attach(tunnel, { transport: 'tunnel', address: 'session' });
  await once(tunnel, 'close');
  assert.deepEqual(asked, ['a', 'b']);
  assert.equal(session.trailers.get('grpc-status'), '0');
});

test('a tunnel whose outer call is cancelled takes the calls inside with it', async () => {
  const inside = Promise.withResolvers<unknown>();
  const begun = Promise.withResolvers<void>();
  const daemon = service(Control, {
    session: raw(async (stream) => {
      await using inner = openTunnel(bytesDuplex(stream));
      const hanging = inner.serverStream(Health.method.watch, {});
      await hanging.next();
      begun.resolve();
      await hanging.next().catch(inside.resolve);
    }),
  });
  await using end = await join([daemon]);
  const session = end.client.stream('/moby.buildkit.v1.Control/Session');
  const attachables = new RpcServer({
    clock: systemClock(),
    services: [
      service(Health, {
        async *watch(_request, context) {
          yield { status: Serving.SERVING };
          await once(context.signal, 'abort');
        },
      }),
    ],
  });
  attachables.attach(bytesDuplex(session), { transport: 'tunnel', address: 'session' });
  await begun.promise;
  session.cancel();
  const error = await inside.promise;
  assert.ok(error instanceof BuildError && error.kind === 'unavailable', String(error));
});

test('a connection that never says anything is closed after ten seconds', async (t) => {
  const [ours, theirs] = await socketPair();
  t.after(() => theirs.destroy());
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const server = new RpcServer({ services: [], clock: systemClock() });
  server.attach(ours, { transport: 'unix', address: 'test' });
  t.mock.timers.tick(9_999);
  assert.equal(ours.destroyed, false);
  t.mock.timers.tick(1);
  while (server.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ours.destroyed, true);
});

test('a TCP client that vanished without a word is noticed, and its calls end', async (t) => {
  const reason = Promise.withResolvers<string>();
  const health = service(Health, {
    async *watch(_request, context) {
      yield { status: Serving.SERVING };
      await once(context.signal, 'abort');
      reason.resolve(BuildError.from(context.signal.reason).kind);
    },
  });
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  await using end = await join([health]);
  await end.client.serverStream(Health.method.watch, {}).next();
  t.mock.timers.tick(19_999);
  for (let minute = 0; minute < 5; minute++) {
    t.mock.timers.tick(40_001); // the server sends its ping
    // While it answers, it may stay as long as it likes. Our ping comes back before the server has read our answer to its own.
    for (let i = 0; i < 2; i++) await end.client.ping();
    t.mock.timers.tick(19_999);
  }
  assert.equal(end.server.calls, 1);
  end.cutCable();
  t.mock.timers.tick(40_001);
  t.mock.timers.tick(20_000);
  assert.equal(await reason.promise, 'cancelled');
  t.mock.timers.reset();
});

test('a connection whose peer has stopped reading can still be destroyed', async () => {
  const daemon = service(Health, {
    async *watch() {
      while (true) yield { status: Serving.SERVING };
    },
  });
  await using end = await join([daemon]);
  await end.client.serverStream(Health.method.watch, {}).next();
  end.cutCable();
  await end.server[Symbol.asyncDispose]();
  assert.equal(end.server.connections, 0);
  end.client.destroy();
});
