/** Conformance against grpc-go, the library of every client that will ever call us and of every session we call into. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { BuildError, GRPC } from '../../core/errors.ts';
import { buildGoPeer, type GoPeer } from './go-peer.test-rig.ts';
import { callOnce, openRig } from './rpc.test-rig.ts';

const built = await buildGoPeer();
const skip = typeof built === 'string' ? built : false;
const peer = built as GoPeer;
if (!skip) after(() => peer[Symbol.asyncDispose]());
const MIB = 1024 * 1024;

test('a grpc-go client: unary, 16 MiB messages, and one byte too many in either direction', { skip }, async () => {
  await using rig = await openRig();
  assert.deepEqual(await peer.call(rig.path, 'echo', 5), { bytes: 5, code: 0, message: '', details: 0 });
  assert.equal((await peer.call(rig.path, 'echo', 16 * MIB)).bytes, 16 * MIB);
  const tooLarge = await peer.call(rig.path, 'echo', 16 * MIB + 1);
  assert.equal(tooLarge.code, GRPC.RESOURCE_EXHAUSTED);
  assert.match(tooLarge.message, /received message larger than max \(16777217 vs\. 16777216\)/);
});

test('a grpc-go client may compress, but not to smuggle in more than the limit', { skip }, async () => {
  await using rig = await openRig();
  assert.equal((await peer.call(rig.path, 'echo', 100, 'gzip')).bytes, 100);
  assert.equal((await peer.call(rig.path, 'echo', 16 * MIB, 'gzip')).bytes, 16 * MIB);
  assert.equal((await peer.call(rig.path, 'echo', 40 * MIB, 'gzip')).code, GRPC.RESOURCE_EXHAUSTED);
});

test('a grpc-go client reads code, unicode message and details from a trailers-only answer', { skip }, async () => {
  await using rig = await openRig();
  const { code, message, details } = await peer.call(rig.path, 'unary', 'Fail');
  assert.deepEqual([code, message, details], [GRPC.NOT_FOUND, 'no such käse: 100% ☕', 1]);
});

test('a grpc-go client learns that a method does not exist', { skip }, async () => {
  await using rig = await openRig();
  const { code, message } = await peer.call(rig.path, 'unary', 'Nothing');
  assert.deepEqual([code, message], [GRPC.UNIMPLEMENTED, 'unknown method Nothing for service test.Peer']);
});

test('the deadline of a grpc-go client ends the call on both sides', { skip }, async () => {
  await using rig = await openRig();
  assert.equal((await peer.call(rig.path, 'deadline')).code, GRPC.DEADLINE_EXCEEDED);
  await rig.end((method, code) => method === '/test.Peer/Wait' && code !== GRPC.OK);
  assert.match(rig.seen.reasons[0]?.kind ?? '', /timed-out|cancelled/); // whichever clock was first
});

test('a grpc-go client that cancels aborts the handler', { skip }, async () => {
  await using rig = await openRig();
  assert.equal((await peer.call(rig.path, 'cancel')).code, GRPC.CANCELLED);
  await rig.end((_method, code) => code === GRPC.CANCELLED);
  assert.equal(rig.seen.reasons[0]?.kind, 'cancelled');
});

test('a bidi stream echoes 64 MB while both sides send, and ends with its trailer', { skip }, async () => {
  await using rig = await openRig();
  const { bytes, trailer, code } = await peer.call(rig.path, 'bidi', 2_000, 32_768);
  assert.deepEqual([bytes, trailer, code], [2_000 * 32_768, ['yes'], 0]);
});

test('an early answer reaches a grpc-go client that is still streaming', { skip }, async () => {
  await using rig = await openRig();
  const { code, message } = await peer.call(rig.path, 'early');
  assert.deepEqual([code, message], [GRPC.FAILED_PRECONDITION, 'enough']);
  assert.equal(rig.server.calls, 0);
});

test('repeated headers arrive one by one in both directions', { skip }, async () => {
  await using rig = await openRig();
  assert.equal((await peer.call(rig.path, 'headers')).text, '["1","2,3"]');
});

test('10 000 cancelled streams do not cost a connection its life', { skip }, async () => {
  await using rig = await openRig();
  const { text, code } = await peer.call(rig.path, 'resets', 10_000);
  assert.deepEqual([text, code], ['still here', 0]);
  assert.equal(rig.server.calls, 0);
});

test('our client against grpc-go: every kind of call', { skip }, async () => {
  await using go = await peer.serve();
  assert.deepEqual(await callOnce(go.client, 'Echo', 'hello'), [Buffer.from('hello')]);
  assert.equal((await callOnce(go.client, 'Echo', Buffer.alloc(16 * MIB)))[0]?.length, 16 * MIB);
  assert.equal((await callOnce(go.client, 'Count', '1000 1000')).length, 1000);
  using sum = go.client.stream('/test.Peer/Sum');
  for (let i = 0; i < 1000; i++) await sum.send(Buffer.alloc(10_000));
  sum.end();
  for await (const answer of sum) assert.equal(Buffer.from(answer).toString(), '10000000');
  using bidi = go.client.stream('/test.Peer/Bidi');
  for (const word of ['a', 'b', 'c']) {
    await bidi.send(Buffer.from(word)); // each answer comes before the next question
    assert.equal(Buffer.from((await bidi[Symbol.asyncIterator]().next()).value as Uint8Array).toString(), word);
  }
  bidi.end();
  assert.equal((await bidi[Symbol.asyncIterator]().next()).done, true);
  assert.equal(bidi.trailers.get('x-end'), 'yes');
});

test('our client against grpc-go: statuses with and without messages before them', { skip }, async () => {
  await using go = await peer.serve();
  for (const request of ['now', 'late']) {
    const seen: string[] = [];
    using call = go.client.stream('/test.Peer/Fail');
    call.send(Buffer.from(request));
    call.end();
    await assert.rejects(
      async () => {
        for await (const message of call) seen.push(Buffer.from(message).toString());
      },
      { kind: 'not-found', message: 'no such käse: 100% ☕' },
    );
    assert.deepEqual(seen, request === 'late' ? ['before'] : []);
  }
  await assert.rejects(callOnce(go.client, 'Nothing', ''), { kind: 'unsupported' });
  await assert.rejects(callOnce(go.client, 'Echo', Buffer.alloc(16 * MIB + 1), { maxMessageBytes: 64 * MIB }), {
    kind: 'exhausted',
  });
});

test('our client against grpc-go: repeated headers', { skip }, async () => {
  await using go = await peer.serve();
  using call = go.client.stream('/test.Peer/Headers', {
    headers: [
      ['x-many', '1'],
      ['x-many', '2,3'],
    ],
  });
  call.send(Buffer.from('x'));
  call.end();
  assert.deepEqual((await call.headers).getAll('x-many'), ['1', '2,3']);
  for await (const answer of call) assert.equal(Buffer.from(answer).toString(), '["1","2,3"]');
});

test('our deadline and our cancel reach a grpc-go handler', { skip }, async () => {
  await using go = await peer.serve();
  await assert.rejects(callOnce(go.client, 'Wait', '', { timeoutMs: 100 }), { kind: 'timed-out' });
  assert.match(await go.line(), /^gone /);
  const controller = new AbortController();
  using call = go.client.stream('/test.Peer/Wait', { signal: controller.signal });
  await call.headers;
  controller.abort(new BuildError('cancelled', 'enough'));
  await assert.rejects(async () => void (await call[Symbol.asyncIterator]().next()), { kind: 'cancelled', message: 'enough' });
  assert.equal(await go.line(), 'gone context canceled');
});

test('when grpc-go goes away gracefully, the call in flight is finished and new ones are refused', { skip }, async () => {
  await using go = await peer.serve();
  using bidi = go.client.stream('/test.Peer/Bidi');
  await bidi.send(Buffer.from('before'));
  const answers = bidi[Symbol.asyncIterator]();
  await answers.next();
  go.stop();
  while (!(await isRefused(() => callOnce(go.client, 'Echo', 'x')))) await go.client.ping().catch(() => {});
  await bidi.send(Buffer.from('after'));
  assert.equal(Buffer.from((await answers.next()).value as Uint8Array).toString(), 'after');
  bidi.end();
  assert.equal((await answers.next()).done, true);
  await go.exited();
});

test('our drain lets grpc-go finish what it began', { skip }, async () => {
  await using rig = await openRig();
  const running = peer.call(rig.path, 'bidi', 5_000, 32_768);
  await untilCalled(rig);
  await rig.listener.close();
  await rig.server.drain(30_000);
  const { bytes, code } = await running;
  assert.deepEqual([bytes, code], [5_000 * 32_768, 0]);
  assert.equal(rig.server.connections, 0);
});

async function untilCalled(rig: { readonly server: { readonly calls: number } }): Promise<void> {
  while (rig.server.calls === 0) await new Promise((resolve) => setImmediate(resolve));
}
async function isRefused(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return false;
  } catch (error) {
    assert.equal((error as BuildError).kind, 'unavailable');
    return true;
  }
}
