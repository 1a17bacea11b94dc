import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';
import { Blobs, DAY_NS, NOW_NS, Records, record } from './gc.test-rig.ts';
import type { GcPolicy } from './policy.ts';
import { Collector, type CollectorOptions } from './prune.ts';

const nothing: GcPolicy = { filters: [], all: false, keepDurationNs: 0n, reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0 };

function rigOf(records: readonly SnapshotUsage[], options: Partial<CollectorOptions> = {}) {
  const snapshots = new Records(records);
  const by = new Map<string, string>();
  const collector = new Collector({
    snapshots,
    content: new Blobs({}),
    clock: { nowNs: () => NOW_NS },
    space: () => ({ totalBytes: 10_000, freeBytes: 1_000 }),
    policies: [],
    onRemoved: ({ id }, policy) => by.set(id, policy),
    ...options,
  });
  return { collector, snapshots, by };
}

const recordTypes = ['regular', 'internal', 'frontend', 'source.local', 'exec.cachemount'] as const;
const arbitraryRecords = fc
  .array(
    fc.record({
      parents: fc.array(fc.nat(30), { maxLength: 2 }),
      inUse: fc.boolean(),
      sizeBytes: fc.nat(100),
      daysUnused: fc.integer({ min: -30, max: 100 }), // negative: stamped by a clock that was set back since
      usageCount: fc.nat(5),
      recordType: fc.constantFrom(...recordTypes),
    }),
    { maxLength: 25 },
  )
  .map((plans) =>
    plans.map(({ parents, ...rest }, n) =>
      record(`r${n}`, { ...rest, parents: n === 0 ? [] : [...new Set(parents.map((at) => `r${at % n}`))] }),
    ),
  );
const arbitraryPolicies = fc.array(
  fc.record({
    filters: fc.constantFrom([], ['type==source.local', 'type==exec.cachemount'], ['type==regular']),
    all: fc.boolean(),
    keepDurationNs: fc.nat(60).map((days) => BigInt(days) * DAY_NS),
    reservedBytes: fc.nat(300),
    maxUsedBytes: fc.nat(900),
    minFreeBytes: fc.nat(3_000),
  }),
  { minLength: 1, maxLength: 4 },
);

test('whatever is stored, a run removes exactly what the plan said, in its order and for its reasons', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryRecords, arbitraryPolicies, async (records, policies) => {
      const { collector, snapshots, by } = rigOf(records, { policies });
      const plan = await collector.plan();
      assert.equal(snapshots.removed.length, 0, 'a plan removes nothing');
      await collector.collect('schedule');
      assert.deepEqual(
        snapshots.removed.map((id) => [id, by.get(id)]),
        plan.removals.map(({ record: { id }, policy }) => [id, policy]),
      );
      const kept = plan.kept.reduce((sum, one) => sum + one.records, 0);
      assert.equal(kept, snapshots.left.length, 'each record goes, or stays for a reason');
    }),
    { numRuns: 400 },
  );
});

test('a plan of one policy or of own rules is what running it removes', async () => {
  const records = [
    record('a', { sizeBytes: 10 }),
    record('b', { daysUnused: 9 }),
    record('m', { recordType: 'exec.cachemount' }),
  ];
  const policies = [
    { ...nothing, filters: ['type==exec.cachemount'] },
    { ...nothing, keepDurationNs: 5n * DAY_NS },
  ];
  for (const [selection, ids] of [
    [{ policy: 1 }, ['m']],
    [{ policy: 2 }, ['b']],
    [{ rules: { ...nothing, filters: ['id==a'] } }, ['a']],
  ] as const) {
    const { collector, snapshots } = rigOf(records, { policies });
    const plan = await collector.plan(selection);
    for await (const _ of collector.run(selection, new AbortController().signal));
    assert.deepEqual([plan.removals.map(({ record: { id } }) => id), snapshots.removed], [ids, ids]);
  }
  await assert.rejects(rigOf(records, { policies }).collector.plan({ policy: 3 }), { kind: 'invalid-input' });
});

test('a policy for once goes first, in one run only, and the plan shows it until then', async () => {
  const { collector, snapshots } = rigOf([record('a')], { once: { ...nothing, all: true } });
  assert.deepEqual(
    (await collector.plan()).removals.map(({ policy }) => policy),
    ['gc.default.all'],
  );
  await collector.collect('schedule');
  assert.deepEqual([snapshots.removed, (await collector.plan()).removals], [['a'], []]);
});

test('with the clock set back, what is old goes and what was used lately stays, whichever clock stamped it', async () => {
  const ages = { ancient: -100, old: -190, recent: -199.5, 'after the change': 0.1 }; // the clock went back 200 days
  const records = Object.entries(ages).map(([id, daysUnused]) => record(id, { daysUnused }));
  const { collector, snapshots } = rigOf(records, { policies: [{ ...nothing, keepDurationNs: 7n * DAY_NS }] });
  await collector.collect('schedule');
  assert.deepEqual(snapshots.left, ['recent', 'after the change']);
});

test('after the clock was set back, new records are not the first to go', async () => {
  const time = { nowNs: NOW_NS };
  const records = [record('stamped ahead', { daysUnused: -300 }), record('older', { daysUnused: -290 })];
  const { collector } = rigOf([...records, record('new', { daysUnused: -1 })], {
    clock: { nowNs: () => time.nowNs },
    policies: [{ ...nothing, maxUsedBytes: 200 }],
  });
  await collector.plan(); // notices the change now
  time.nowNs += 2n * DAY_NS;
  assert.deepEqual(
    (await collector.plan()).removals.map(({ record: { id } }) => id),
    ['older'],
  );
});

test('under pressure everything unused may go, the oldest first, and it ends as soon as the disk has room', async () => {
  const records = Array.from({ length: 50 }, (_, n) => record(`r${n}`, { daysUnused: 50 - n, recordType: 'internal' }));
  const { collector, snapshots } = rigOf(records, { policies: [{ ...nothing, maxUsedBytes: 1e9 }] });
  await collector.relieve(async () => snapshots.left.length > 30);
  assert.equal(snapshots.left.length, 18, 'removed in batches of 16');
  assert.equal(snapshots.removed[0], 'r0');
});
