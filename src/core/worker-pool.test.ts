import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from './errors.ts';
import { taskRef, WorkerPool } from './worker-pool.ts';

const module = new URL('./worker-pool.test-task.ts', import.meta.url);
const double = taskRef<number, number>(module, 'double');
const fail = taskRef<string, never>(module, 'fail');
const untilAborted = taskRef<null, string>(module, 'untilAborted');
const die = taskRef<null, never>(module, 'die');
const never = new AbortController().signal;

test('a task runs in a thread and its output comes back', async () => {
  await using pool = new WorkerPool(2);
  assert.deepEqual(await Promise.all([1, 2, 3, 4].map((n) => pool.run(double, n, { signal: never }))), [2, 4, 6, 8]);
});

test('a failing task rejects with its own BuildError and the thread serves the next one', async () => {
  await using pool = new WorkerPool(1);
  await assert.rejects(
    pool.run(fail, 'bad blob', { signal: never }),
    (error) => error instanceof BuildError && error.kind === 'corrupt' && error.message === 'bad blob',
  );
  assert.equal(await pool.run(double, 21, { signal: never }), 42);
});

test('abort reaches a running task and drops a queued one', async () => {
  await using pool = new WorkerPool(1);
  const controller = new AbortController();
  let started = (): void => {};
  const running = new Promise<void>((resolve) => {
    started = resolve;
  });
  const first = pool.run(untilAborted, null, { signal: controller.signal, onProgress: () => started() });
  const second = pool.run(double, 1, { signal: controller.signal });
  await running;
  controller.abort(new BuildError('cancelled', 'enough'));
  for (const outcome of await Promise.allSettled([first, second]))
    assert.match(String((outcome as PromiseRejectedResult).reason), /enough/);
  assert.equal(await pool.run(double, 2, { signal: never }), 4);
});

test('a thread that dies fails its task and is replaced', async () => {
  await using pool = new WorkerPool(1);
  await assert.rejects(
    pool.run(die, null, { signal: never }),
    (error) => error instanceof BuildError && error.kind === 'internal',
  );
  assert.equal(await pool.run(double, 4, { signal: never }), 8);
});
