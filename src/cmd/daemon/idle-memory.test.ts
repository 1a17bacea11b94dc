import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { releaseWhenIdle } from './idle-memory.ts';

test('memory is released once nothing has happened for the time, and again after the next work', async () => {
  let trims = 0;
  let trimmed = Promise.withResolvers<void>();
  using memory = releaseWhenIdle({
    isIdle: () => true,
    idleMs: 5,
    trim: async () => {
      trims += 1;
      trimmed.resolve();
    },
  });
  const garbage = Array.from({ length: 200_000 }, (_, i) => ({ i, text: `${i}` }));
  const before = getHeapStatistics().used_heap_size;
  assert.ok(garbage.splice(0).length > 0);
  const keepAlive = setInterval(() => {}, 1000); // the timer itself keeps no process alive
  await trimmed.promise;
  assert.ok(getHeapStatistics().used_heap_size < before - 5_000_000, 'the heap was collected');
  trimmed = Promise.withResolvers();
  memory.touch();
  await trimmed.promise;
  clearInterval(keepAlive);
  assert.equal(trims, 2);
});

test('a daemon that works is left alone until it has been touched again', async () => {
  let idle = false;
  let asked = Promise.withResolvers<void>();
  const trimmed = Promise.withResolvers<void>();
  using memory = releaseWhenIdle({
    isIdle: () => {
      asked.resolve();
      return idle;
    },
    idleMs: 5,
    trim: async () => {
      assert.ok(idle, 'not while a build runs');
      trimmed.resolve();
    },
  });
  const keepAlive = setInterval(() => {}, 1000);
  await asked.promise;
  asked = Promise.withResolvers();
  idle = true;
  memory.touch();
  await trimmed.promise;
  clearInterval(keepAlive);
});
