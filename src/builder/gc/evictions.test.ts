import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openMetadata } from '../metadata/metadata.ts';
import { type EvictionLimits, openEvictions } from './evictions.ts';

const HOUR_NS = 3_600_000_000_000n;

async function rigOf(limits: Partial<EvictionLimits> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-evictions-'));
  const metadata = await openMetadata(join(dir, 'cooper.sqlite'));
  const time = { nowNs: 1_000n * HOUR_NS };
  const clock = { nowNs: () => time.nowNs };
  return {
    time,
    open: () => openEvictions(metadata, clock, limits),
    async [Symbol.asyncDispose]() {
      await metadata.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

test('an eviction is found by each key of the record, also after a restart, until the key has a result again', async () => {
  await using rig = await rigOf();
  const evictions = await rig.open();
  evictions.add({ id: 'r1', sizeBytes: 7 }, ['sha256:a', 'sha256:b'], 'policy 2');
  evictions.restored('sha256:b');
  const again = await rig.open();
  assert.deepEqual(again.findEviction('sha256:b'), undefined);
  const { recordId, policy, atNs, sizeBytes } = again.findEviction('sha256:a') ?? {};
  assert.deepEqual(
    { recordId, policy, atNs, sizeBytes },
    { recordId: 'r1', policy: 'policy 2', atNs: rig.time.nowNs, sizeBytes: 7 },
  );
});

test('the latest eviction of a key is the one that is told', async () => {
  await using rig = await rigOf();
  const evictions = await rig.open();
  evictions.add({ id: 'r1', sizeBytes: 1 }, ['k'], 'policy 1');
  evictions.add({ id: 'r2', sizeBytes: 1 }, ['k'], 'prune');
  assert.equal(evictions.findEviction('k')?.policy, 'prune');
  assert.equal(evictions.size, 1);
  assert.equal((await rig.open()).findEviction('k')?.recordId, 'r2');
});

test('a key wanted within the window counts as regret, once', async () => {
  await using rig = await rigOf({ regretWithinNs: 24n * HOUR_NS });
  const evictions = await rig.open();
  evictions.add({ id: 'r1', sizeBytes: 1 }, ['soon', 'late'], 'policy 3');
  assert.equal(evictions.wanted('never stored'), false);
  assert.deepEqual([evictions.wanted('soon'), evictions.wanted('soon')], [true, false]);
  rig.time.nowNs += 25n * HOUR_NS;
  assert.equal(evictions.wanted('late'), false);
});

test('what is remembered is bounded in number and in age, in memory and on disk', async () => {
  await using rig = await rigOf({ maxKeys: 3, maxAgeNs: 10n * HOUR_NS });
  const evictions = await rig.open();
  for (let n = 0; n < 8; n++) evictions.add({ id: `r${n}`, sizeBytes: 1 }, [`k${n}`], 'policy 1');
  assert.deepEqual([evictions.size, evictions.findEviction('k4'), evictions.findEviction('k5')?.recordId], [3, undefined, 'r5']);
  assert.equal((await rig.open()).size, 3);
  rig.time.nowNs += 11n * HOUR_NS;
  evictions.add({ id: 'new', sizeBytes: 1 }, ['new'], 'policy 1');
  assert.equal(evictions.size, 1);
  assert.equal((await rig.open()).size, 1);
});
