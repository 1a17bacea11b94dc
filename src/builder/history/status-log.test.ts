import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { type VertexDigest, vertexDigestOf } from '../../core/digest.ts';
import { type StatusResponse, StatusResponseSchema } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { StatusLog } from './status-log.ts';

const step = vertexDigestOf(new Uint8Array([1]));
const build = 'b';
const announce = (log: StatusLog, digest: VertexDigest = step): void =>
  log.emit({
    type: 'steps-announced',
    build,
    atNs: 1n,
    steps: [{ step: digest, name: 'RUN x', op: 'exec', inputs: [], cacheable: true }],
  });

async function all(log: StatusLog): Promise<StatusResponse[]> {
  const messages: StatusResponse[] = [];
  for await (const bytes of log.read(new AbortController().signal)) messages.push(fromBinary(StatusResponseSchema, bytes));
  return messages;
}

test('a reader that comes after the end sees everything from the start', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  log.emit({ type: 'step-started', build, step, atNs: 2n });
  log.emit({ type: 'step-log', build, step, atNs: 3n, stream: 1, data: new TextEncoder().encode('hi\n') });
  log.emit({ type: 'step-finished', build, step, atNs: 4n, outcome: 'executed' });
  log.close(5n);
  const messages = await all(log);
  const last = messages.flatMap(({ vertexes }) => vertexes).at(-1);
  assert.equal(last?.name, 'RUN x');
  assert.equal(last?.completed?.nanos, 4);
  assert.equal(new TextDecoder().decode(messages.flatMap(({ logs }) => logs)[0]?.msg), 'hi\n');
  assert.deepEqual(log.counts(), { total: 1, completed: 1, cached: 0, warnings: 0 });
});

test('a step that runs twice is told as two intervals', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  for (const at of [10n, 20n]) {
    log.emit({ type: 'step-started', build, step, atNs: at });
    log.emit({ type: 'step-finished', build, step, atNs: at + 5n, outcome: 'executed' });
  }
  log.close(30n);
  const starts = (await all(log))
    .flatMap(({ vertexes }) => vertexes)
    .flatMap(({ started }) => (started === undefined ? [] : [started.nanos]));
  assert.deepEqual([...new Set(starts)], [10, 20]);
});

test('a step still open at the end is completed as cancelled', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  log.emit({ type: 'step-started', build, step, atNs: 2n });
  log.close(9n);
  const last = (await all(log)).flatMap(({ vertexes }) => vertexes).at(-1);
  assert.equal(last?.error, 'context canceled');
  assert.equal(last?.completed?.nanos, 9);
});

test('a burst of output is split below the message limit', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  for (let n = 0; n < 40; n++) log.emit({ type: 'step-log', build, step, atNs: 3n, stream: 2, data: new Uint8Array(64 * 1024) });
  log.close(9n);
  for await (const bytes of log.read(new AbortController().signal)) assert.ok(bytes.byteLength < 2 * 1024 * 1024);
});

test('a waiting reader ends when its client goes', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  const gone = new AbortController();
  const seen: Uint8Array[] = [];
  for await (const bytes of log.read(gone.signal)) {
    seen.push(bytes);
    gone.abort();
  }
  assert.equal(seen.length, 1);
  log.close(1n);
});

test('output above the limit is dropped, counted, and said to be', async () => {
  const log = new StatusLog(10);
  announce(log);
  for (const text of ['12345678', 'abcdefgh', 'more'])
    log.emit({ type: 'step-log', build, step, atNs: 3n, stream: 1, data: new TextEncoder().encode(text) });
  log.close(9n);
  const text = (await all(log)).flatMap(({ logs }) => logs.map(({ msg }) => new TextDecoder().decode(msg))).join('');
  assert.equal(text, '12345678ab\n[output clipped, log limit 10 bytes reached]\n');
  assert.equal(log.clippedBytes, 10);
});

const line = (log: StatusLog, id: string, atNs: bigint): void =>
  log.emit({ type: 'step-status', build, step, atNs, id, name: 'sending', current: 5n, total: 0n, startedAtNs: 2n });

test('a line that its step leaves open ends with the step, in the message that tells its error', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  announce(log);
  log.emit({ type: 'step-started', build, step, atNs: 2n });
  line(log, 'sending tarball', 3n);
  log.emit({ type: 'step-finished', build, step, atNs: 7n, outcome: 'internal', error: 'broken' });
  log.close(9n);
  const messages = await all(log);
  const ending = messages.find(({ vertexes }) => vertexes.some(({ error }) => error === 'broken'));
  assert.equal(ending?.statuses.at(-1)?.ID, 'sending tarball');
  assert.equal(ending?.statuses.at(-1)?.completed?.nanos, 7);
});

test('the first message only announces, and steps stand in the order of their last change', async () => {
  const log = new StatusLog(64 * 1024 * 1024);
  const other = vertexDigestOf(new Uint8Array([2]));
  announce(log);
  announce(log, other);
  for (const digest of [other, step]) {
    log.emit({ type: 'step-started', build, step: digest, atNs: 2n });
    log.emit({ type: 'step-finished', build, step: digest, atNs: 3n, outcome: 'cached' });
  }
  log.close(9n);
  const [first, second] = await all(log);
  assert.deepEqual(
    first?.vertexes.map(({ digest, started }) => [digest, started]),
    [[step, undefined]],
  );
  assert.deepEqual(
    second?.vertexes.map(({ digest }) => digest),
    [other, step],
  );
});
