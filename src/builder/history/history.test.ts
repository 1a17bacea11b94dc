/** Records in a real metadata store, opened twice. */
import assert from 'node:assert/strict';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { systemClock } from '../../core/clock.ts';
import { GRPC } from '../../core/errors.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { openContentStore } from '../content/content-store.ts';
import type { BuildResult } from '../events.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { StatusSchema } from '../proto/gen/google/rpc/status_pb.ts';
import { type BuildHistoryRecord, BuildHistoryRecordSchema } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { openHistory } from './history.ts';

const RESULTS: readonly BuildResult[] = ['success', 'failure', 'error', 'timeout', 'cancellation'];

function recordOf(ref: string, code: number = GRPC.OK, message = ''): BuildHistoryRecord {
  const record = create(BuildHistoryRecordSchema, { Ref: ref, CreatedAt: { seconds: 1n }, CompletedAt: { seconds: 2n } });
  if (code !== GRPC.OK) record.error = create(StatusSchema, { code, message });
  return record;
}

async function open(root: string) {
  await using stack = new AsyncDisposableStack();
  const clock = systemClock();
  const pool = stack.use(new WorkerPool(1));
  const metadata = stack.use(await openMetadata(join(root, 'cooper.sqlite')));
  const content = stack.use(openContentStore({ root, clock, pool, onQuarantine: () => {} }));
  const history = await openHistory({ metadata, content, clock, retention: { maxAgeNs: 10n ** 18n, maxEntries: 100 } });
  const opened = stack.move();
  return { history, metadata, [Symbol.asyncDispose]: () => opened.disposeAsync() };
}

test('how a build ended is kept with its record, over a restart and a change of the record, and is no note for people', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'cooper-history-'));
  {
    await using store = await open(dir.path);
    for (const result of RESULTS) {
      const record = recordOf(result, result === 'success' ? GRPC.OK : GRPC.INTERNAL, 'failed');
      await store.history.completed(record, result, async () => undefined, 0);
    }
    await store.history.update('error', { pinned: true, delete: false, finalize: false });
    assert.deepEqual(
      RESULTS.map((ref) => store.history.resultOf(ref)),
      RESULTS,
    );
  }
  await using store = await open(dir.path);
  assert.deepEqual(
    RESULTS.map((ref) => store.history.resultOf(ref)),
    RESULTS,
  );
  assert.deepEqual(await store.history.notes('error'), {});
  assert.equal(store.history.resultOf('unknown'), undefined);
});

test('a record of an older daemon tells how its build ended as far as its status does', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'cooper-history-'));
  const cases: readonly (readonly [BuildResult, number, string])[] = [
    ['success', GRPC.OK, ''],
    ['cancellation', GRPC.UNKNOWN, 'failed to solve: context canceled'],
    ['timeout', GRPC.DEADLINE_EXCEEDED, 'context deadline exceeded'],
    ['failure', GRPC.UNKNOWN, 'process did not complete'],
  ];
  {
    await using store = await open(dir.path);
    for (const [ref, code, message] of cases)
      store.metadata.write('insert into history (ref, record) values (?, ?)', [
        ref,
        toBinary(BuildHistoryRecordSchema, recordOf(ref, code, message)),
      ]);
    await store.metadata.flush();
  }
  await using store = await open(dir.path);
  for (const [ref] of cases) assert.equal(store.history.resultOf(ref), ref);
});
