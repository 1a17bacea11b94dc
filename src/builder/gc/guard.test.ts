import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskGuard, type GuardOptions, type Shortage } from './guard.ts';
import type { DiskSpace } from './policy.ts';

const MB = 1e6;

function rigOf(disk: { -readonly [K in keyof DiskSpace]: DiskSpace[K] }, options: Partial<GuardOptions> = {}) {
  const told: Shortage[] = [];
  let steps = 0;
  const guard = new DiskGuard({
    space: async () => disk,
    minFreeBytes: 100 * MB,
    minFreeInodesPercent: 10,
    async relieve(isShort) {
      while (await isShort()) {
        steps += 1;
        disk.freeBytes += 10 * MB;
        disk.freeInodes = (disk.freeInodes ?? 0) + 10;
      }
    },
    onPressure: (what) => told.push(what),
    onError: (error) => assert.fail(String(error)),
    ...options,
  });
  return { guard, told, disk, steps: () => steps };
}

test('nothing happens while there is room', async () => {
  const rig = rigOf({ totalBytes: 1_000 * MB, freeBytes: 100 * MB, totalInodes: 1_000, freeInodes: 100 });
  await using _ = rig.guard;
  await rig.guard.look();
  assert.deepEqual([rig.told, rig.steps()], [[], 0]);
});

test('below the threshold room is made, up to half as much again', async () => {
  const rig = rigOf({ totalBytes: 1_000 * MB, freeBytes: 95 * MB });
  await using _ = rig.guard;
  await rig.guard.look();
  assert.deepEqual([rig.told, rig.disk.freeBytes], [['space'], 155 * MB]);
});

test('inodes count like space; a file system without a limit on them is never short', async () => {
  const rig = rigOf({ totalBytes: 1_000 * MB, freeBytes: 900 * MB, totalInodes: 1_000, freeInodes: 50 });
  await using _ = rig.guard;
  await rig.guard.look();
  assert.deepEqual([rig.told, rig.disk.freeInodes], [['inodes'], 150]);
  const btrfs = rigOf({ totalBytes: 1_000 * MB, freeBytes: 900 * MB, totalInodes: 0, freeInodes: 0 });
  await using _other = btrfs.guard;
  await btrfs.guard.look();
  assert.deepEqual(btrfs.told, []);
});

test('a build that ran out of space starts a run though there is room again, and looks meanwhile join it', async () => {
  const rig = rigOf({ totalBytes: 1_000 * MB, freeBytes: 500 * MB });
  await using _ = rig.guard;
  await Promise.all([rig.guard.outOfSpace(), rig.guard.outOfSpace()]);
  assert.deepEqual(rig.told, ['a build ran out of space']);
});

test('when nothing can be freed it does not try again at every look', async () => {
  const rig = rigOf({ totalBytes: 1_000 * MB, freeBytes: 1 * MB }, { relieve: async () => {} });
  await using _ = rig.guard;
  for (let n = 0; n < 5; n++) await rig.guard.look();
  assert.deepEqual(rig.told, ['space']);
});
