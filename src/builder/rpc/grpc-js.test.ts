/** Conformance against @grpc/grpc-js: the second implementation, always at hand, and it sits on node:http2's other side. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Client, credentials, Metadata as JsMetadata, Server, ServerCredentials, type ServiceError } from '@grpc/grpc-js';
import { GRPC } from '../../core/errors.ts';
import { connect } from './client.ts';
import { callOnce, openRig, type Rig } from './rpc.test-rig.ts';

const same = (bytes: Buffer): Buffer => bytes;
const MIB = 1024 * 1024;

function jsClient(rig: Rig): Client & Disposable {
  const client = new Client(`unix://${rig.path}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': 16 * MIB,
    'grpc.max_send_message_length': 64 * MIB,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

function jsUnary(client: Client, method: string, request: Buffer, deadlineMs = 60_000): Promise<Buffer> {
  const options = { deadline: Date.now() + deadlineMs };
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(`/test.Peer/${method}`, same, same, request, options, (error, answer) =>
      error === null ? resolve(answer ?? Buffer.alloc(0)) : reject(error),
    );
  });
}

test('a grpc-js client: unary, limits and a status with unicode', async () => {
  await using rig = await openRig();
  using client = jsClient(rig);
  assert.equal((await jsUnary(client, 'Echo', Buffer.from('hello'))).toString(), 'hello');
  assert.equal((await jsUnary(client, 'Echo', Buffer.alloc(16 * MIB))).length, 16 * MIB);
  await assert.rejects(jsUnary(client, 'Echo', Buffer.alloc(16 * MIB + 1)), { code: GRPC.RESOURCE_EXHAUSTED });
  const failure = (await jsUnary(client, 'Fail', Buffer.from('now')).catch((error: unknown) => error)) as ServiceError;
  assert.deepEqual([failure.code, failure.details], [GRPC.NOT_FOUND, 'no such käse: 100% ☕']);
  assert.equal(failure.metadata.get('grpc-status-details-bin').length, 1);
  await assert.rejects(jsUnary(client, 'Nothing', Buffer.alloc(0)), { code: GRPC.UNIMPLEMENTED });
});

test('a grpc-js client: streams, half-close, trailers and metadata', async () => {
  await using rig = await openRig();
  using client = jsClient(rig);
  const metadata = new JsMetadata();
  metadata.add('x-many', '1');
  metadata.add('x-many', '2,3');
  const headers = client.makeBidiStreamRequest('/test.Peer/Headers', same, same, metadata);
  headers.end();
  for await (const answer of headers) assert.match(String(answer), /^\["1, ?2,3"\]$|^\["1","2,3"\]$/);
  const bidi = client.makeBidiStreamRequest('/test.Peer/Bidi', same, same);
  const trailers = new Promise<JsMetadata>((resolve) => bidi.on('status', (status) => resolve(status.metadata)));
  for (let i = 0; i < 500; i++) bidi.write(Buffer.alloc(32_768));
  bidi.end();
  let bytes = 0;
  for await (const answer of bidi) bytes += (answer as Buffer).length;
  assert.equal(bytes, 500 * 32_768);
  assert.deepEqual((await trailers).get('x-end'), ['yes']);
});

test("a grpc-js client's deadline and cancel reach the handler", async () => {
  await using rig = await openRig();
  using client = jsClient(rig);
  await assert.rejects(jsUnary(client, 'Wait', Buffer.alloc(0), 100), { code: GRPC.DEADLINE_EXCEEDED });
  await rig.end((method, code) => method === '/test.Peer/Wait' && code !== GRPC.OK);
  const call = client.makeBidiStreamRequest('/test.Peer/Wait', same, same);
  call.on('error', () => {});
  await new Promise((resolve) => call.once('data', resolve));
  call.cancel();
  while (rig.seen.reasons.length < 2) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(rig.seen.reasons[1]?.kind, 'cancelled');
});

test('our client against a grpc-js server, its graceful shutdown included', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-grpc-js-'));
  t.after(() => rm(dir, { recursive: true }));
  const path = join(dir, 'js.sock');
  const server = new Server({ 'grpc.max_receive_message_length': 16 * MIB, 'grpc.max_send_message_length': 16 * MIB });
  const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
    path: `/test.Peer/${name}`,
    requestStream,
    responseStream,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  });
  server.addService(
    { echo: method('Echo', false, false), bidi: method('Bidi', true, true), fail: method('Fail', false, false) },
    {
      echo: (call: { request: Buffer }, done: (error: null, answer: Buffer) => void) => done(null, call.request),
      fail: (_call: unknown, done: (error: { code: number; details: string }) => void) => done({ code: 5, details: 'kein Käse' }),
      bidi: (call: NodeJS.ReadWriteStream) => {
        call.on('data', (message: Buffer) => call.write(message));
        call.on('end', () => call.end());
      },
    },
  );
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix://${path}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  );
  await using client = await connect({ type: 'unix', path });
  assert.equal((await callOnce(client, 'Echo', Buffer.alloc(16 * MIB)))[0]?.length, 16 * MIB);
  await assert.rejects(callOnce(client, 'Fail', 'x'), { kind: 'not-found', message: 'kein Käse' });
  await assert.rejects(callOnce(client, 'Nothing', 'x'), { kind: 'unsupported' });
  using bidi = client.stream('/test.Peer/Bidi');
  const answers = bidi[Symbol.asyncIterator]();
  await bidi.send(Buffer.from('before'));
  await answers.next();
  const stopped = new Promise((resolve) => server.tryShutdown(resolve));
  await bidi.send(Buffer.from('after'));
  assert.equal(String((await answers.next()).value), 'after');
  bidi.end();
  assert.equal((await answers.next()).done, true);
  await stopped;
});
