/** What a broken or malicious peer can send: each costs it its call or its connection, never the daemon, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect as connectNet, type Socket } from 'node:net';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { GRPC } from '../../core/errors.ts';
import { framePrefix } from './framing.ts';
import { callOnce, openRig, type Rig, untilStill } from './rpc.test-rig.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const SETTINGS = Buffer.of(0, 0, 0, 4, 0, 0, 0, 0, 0);

function session(rig: Rig): ClientHttp2Session & Disposable {
  const client = connectHttp2('http://localhost', {
    createConnection: () => connectNet(rig.path),
    peerMaxConcurrentStreams: 100_000,
  });
  client.on('error', () => {});
  return Object.assign(client, { [Symbol.dispose]: () => client.destroy() });
}

interface Answer {
  readonly status: string | undefined;
  readonly message: string | undefined;
  readonly http: number | undefined;
}
/** One request with these body bytes and headers, and what it ended with. */
async function post(
  client: ClientHttp2Session,
  path: string,
  body: Buffer,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const stream = client.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  const answer: { status?: string; message?: string; http?: number } = {};
  const note = (seen: Record<string, unknown>): void => {
    if (typeof seen[':status'] === 'number') answer.http = seen[':status'];
    if (seen['grpc-status'] !== undefined) answer.status = String(seen['grpc-status']);
    if (seen['grpc-message'] !== undefined) answer.message = String(seen['grpc-message']);
  };
  stream.on('response', note);
  stream.on('trailers', note);
  stream.on('error', () => {});
  stream.resume();
  stream.end(body);
  await once(stream, 'close');
  return { status: answer.status, message: answer.message, http: answer.http };
}

/** The server still serves, and holds nothing of what went before. */
async function assertHealthy(rig: Rig): Promise<void> {
  await using client = await rig.connect();
  assert.equal(String((await callOnce(client, 'Echo', 'alive'))[0]), 'alive');
  assert.equal(rig.server.calls, 0);
}

test('bytes that are no HTTP/2 end their connection and nothing else', async () => {
  await using rig = await openRig();
  const inputs = [
    Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.alloc(100_000, 0xff),
    Buffer.concat([PREFACE, Buffer.alloc(1000, 0xee)]),
    Buffer.concat([PREFACE, SETTINGS, Buffer.of(0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1)]), // DATA of 16 MB on an idle stream
    Buffer.concat([PREFACE, SETTINGS, Buffer.of(0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)]), // HEADERS that are no HPACK
  ];
  for (const input of inputs) {
    const socket = connectNet(rig.path);
    socket.on('error', () => {});
    socket.resume();
    socket.write(input);
    await once(socket, 'close');
  }
  await assertHealthy(rig);
});

test('random frames after a good start never hurt other connections', async () => {
  await using rig = await openRig();
  await using bystander = await rig.connect();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ type: fc.nat(12), flags: fc.nat(255), id: fc.nat(5), body: fc.uint8Array({ maxLength: 50 }) })),
      async (frames) => {
        const socket: Socket = connectNet(rig.path);
        socket.on('error', () => {});
        socket.resume();
        const bytes = frames.map(({ type, flags, id, body }) =>
          Buffer.concat([Buffer.of(0, 0, body.length, type, flags, 0, 0, 0, id), body]),
        );
        socket.end(Buffer.concat([PREFACE, SETTINGS, ...bytes]));
        await once(socket, 'close');
        assert.equal(String((await callOnce(bystander, 'Echo', 'ok'))[0]), 'ok');
      },
    ),
    { numRuns: 60 },
  );
  await assertHealthy(rig);
});

for (const [what, body, status] of [
  ['an unknown frame flag', Buffer.of(7, 0, 0, 0, 0), GRPC.INTERNAL],
  ['a message that stops half way', Buffer.concat([framePrefix(100), Buffer.alloc(10)]), GRPC.INTERNAL],
  ['half a prefix', Buffer.of(0, 0), GRPC.INTERNAL],
  ['a length of 4 GiB', Buffer.of(0, 0xff, 0xff, 0xff, 0xff), GRPC.RESOURCE_EXHAUSTED],
  ['a compressed message without an encoding', Buffer.of(1, 0, 0, 0, 1, 0), GRPC.INTERNAL],
] as const)
  test(`${what} is answered with status ${status}`, async () => {
    await using rig = await openRig();
    using client = session(rig);
    assert.equal((await post(client, '/test.Peer/Echo', body)).status, String(status));
    await assertHealthy(rig);
  });

test('broken gzip, unknown encodings and malformed timeouts are answered with a status', async () => {
  await using rig = await openRig();
  using client = session(rig);
  const message = Buffer.concat([framePrefix(3), Buffer.from('abc')]);
  const compressed = Buffer.concat([Buffer.of(1, 0, 0, 0, 3), Buffer.from('abc')]);
  const code = async (body: Buffer, headers: Record<string, string>): Promise<number> =>
    Number((await post(client, '/test.Peer/Echo', body, headers)).status);
  assert.equal(await code(compressed, { 'grpc-encoding': 'gzip' }), GRPC.INTERNAL);
  assert.equal(await code(message, { 'grpc-encoding': 'snappy' }), GRPC.UNIMPLEMENTED);
  assert.equal(await code(message, { 'grpc-timeout': 'soon' }), GRPC.INVALID_ARGUMENT);
  assert.equal(await code(message, { 'grpc-timeout': '0S' }), GRPC.DEADLINE_EXCEEDED);
  await assertHealthy(rig);
});

test('what is not gRPC is answered with an HTTP status', async () => {
  await using rig = await openRig();
  using client = session(rig);
  assert.equal((await post(client, '/test.Peer/Echo', Buffer.alloc(0), { 'content-type': 'text/plain' })).http, 415);
  assert.equal((await post(client, '/', Buffer.alloc(0), { ':method': 'PUT' })).http, 405);
  await assertHealthy(rig);
});

test('a thousand header values of a build context pass', async () => {
  await using rig = await openRig();
  await using client = await rig.connect();
  const headers = Array.from({ length: 5_000 }, (_, i) => ['x-many', `some/path/of/a/context/${i}/**/*.ts`] as const);
  const [answer] = await callOnce(client, 'Headers', 'x', { headers });
  assert.equal(JSON.parse(String(answer)).length, 5_000);
});

test('10 000 streams reset by the client on one connection leave it usable', async () => {
  await using rig = await openRig();
  using client = session(rig);
  await once(client, 'connect');
  for (let batch = 0; batch < 100; batch++) {
    await Promise.all(
      Array.from({ length: 100 }, async () => {
        const stream = client.request({ ':method': 'POST', ':path': '/test.Peer/Bidi', 'content-type': 'application/grpc' });
        stream.on('error', () => {});
        const closed = once(stream, 'close');
        stream.close(constants.NGHTTP2_CANCEL);
        await closed;
      }),
    );
  }
  const echo = await post(client, '/test.Peer/Echo', Buffer.concat([framePrefix(1), Buffer.from('x')]));
  assert.equal(echo.status, '0');
  await assertHealthy(rig);
});

test('a reader that stops reading stops the handler and takes no memory beyond the windows', async () => {
  await using rig = await openRig();
  await using client = await rig.connect();
  using call = client.stream('/test.Peer/Count'); // 2 GB, if nobody held it back
  await call.send(Buffer.from('62500 32768'));
  call.end();
  const answers = call[Symbol.asyncIterator]();
  await answers.next();
  await untilStill(client, () => rig.seen.sentBytes);
  assert.ok(rig.seen.sentBytes < 32 * 1024 * 1024, `${rig.seen.sentBytes} bytes are on their way to a client that reads none`);
  assert.equal(rig.server.calls, 1);
  call.cancel();
  await rig.end((method, code) => method === '/test.Peer/Count' && code === GRPC.CANCELLED);
});

test('a handler that stops reading stops the sender', async () => {
  await using rig = await openRig();
  await using client = await rig.connect();
  using call = client.stream('/test.Peer/Wait'); // reads nothing
  await call.headers;
  let sentBytes = 0;
  const message = Buffer.alloc(32_768);
  const flood = (async () => {
    while (sentBytes < 1024 ** 3) {
      await call.send(message);
      sentBytes += message.length;
    }
  })();
  flood.catch(() => {});
  await untilStill(client, () => sentBytes);
  assert.ok(sentBytes < 32 * 1024 * 1024, `${sentBytes} bytes went out to a handler that reads none`);
  call.cancel();
  await assert.rejects(flood, { kind: 'cancelled' });
});

test('a client that vanishes in the middle of a message aborts the handler', async () => {
  await using rig = await openRig();
  const client = await rig.connect();
  const call = client.stream('/test.Peer/Wait');
  await call.headers;
  client.destroy();
  await assert.rejects(async () => void (await callRest(call)), { kind: 'unavailable' });
  await rig.end((_method, code) => code === GRPC.CANCELLED);
  assert.equal(rig.seen.reasons[0]?.kind, 'cancelled');
});

async function callRest(call: AsyncIterable<Uint8Array>): Promise<number> {
  let count = 0;
  for await (const _ of call) count += 1;
  return count;
}
