import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import type { Clock } from '../../core/clock.ts';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';
import { Blobs, NOW_NS, Records, record } from './gc.test-rig.ts';
import { defaultPolicies, type GcPolicy } from './policy.ts';
import { Collector, type CollectorOptions } from './prune.ts';
import type { GcRun } from './run-tally.ts';

const clock: Clock = { nowNs: () => NOW_NS };
const everything: GcPolicy = {
  filters: [''],
  all: false,
  keepDurationNs: 0n,
  reservedBytes: 0,
  maxUsedBytes: 0,
  minFreeBytes: 0,
};
const DAY_NS = 86_400_000_000_000n;
const never = new AbortController().signal;

function collectorOf(records: readonly SnapshotUsage[], options: Partial<CollectorOptions> = {}) {
  const snapshots = new Records(records);
  const content = new Blobs({});
  const runs: GcRun[] = [];
  const forgotten: string[] = [];
  const collector = new Collector({
    snapshots,
    content,
    clock,
    space: () => ({ totalBytes: 10_000, freeBytes: 5_000 }),
    policies: [],
    onRemoved: ({ id }) => forgotten.push(id),
    onRun: (run) => runs.push(run),
    ...options,
  });
  return { collector, snapshots, runs, forgotten };
}
async function allOf(records: AsyncIterable<SnapshotUsage>): Promise<SnapshotUsage[]> {
  const all: SnapshotUsage[] = [];
  for await (const one of records) all.push(one);
  return all;
}
const idsOf = async (records: AsyncIterable<SnapshotUsage>): Promise<string[]> => (await allOf(records)).map(({ id }) => id);

test('children go before their parents, and what something in use stands on stays', async () => {
  const { collector, runs, forgotten, snapshots } = collectorOf([
    record('base'),
    record('layer', { parents: ['base'] }),
    record('top', { parents: ['layer'] }),
    record('other base'),
    record('running', { parents: ['other base'], inUse: true }),
  ]);
  assert.deepEqual(await idsOf(collector.prune(everything, never)), ['top', 'layer', 'base']);
  assert.deepEqual(snapshots.left, ['other base', 'running']);
  assert.deepEqual(forgotten, ['top', 'layer', 'base']);
  assert.deepEqual(
    runs.map(({ trigger, ok, freedBytes, removedRecords }) => ({ trigger, ok, freedBytes, removedRecords })),
    [{ trigger: 'prune', ok: true, freedBytes: 300, removedRecords: 3 }],
  );
});

test('internal, frontend and shared records go only when all is asked for', async () => {
  const records = [
    record('regular'),
    record('internal', { recordType: 'internal' }),
    record('frontend', { recordType: 'frontend' }),
    record('shared', { shared: true }),
  ];
  assert.deepEqual(await idsOf(collectorOf(records).collector.prune(everything, never)), ['regular']);
  const all = await idsOf(collectorOf(records).collector.prune({ ...everything, all: true }, never));
  assert.deepEqual(all.sort(), ['frontend', 'internal', 'regular', 'shared']);
});

test('a filter and a time to keep narrow what goes', async () => {
  const records = [
    record('old mount', { recordType: 'exec.cachemount', daysUnused: 3 }),
    record('new mount', { recordType: 'exec.cachemount', daysUnused: 0.5 }),
    record('old layer', { daysUnused: 30 }),
  ];
  const { collector } = collectorOf(records);
  const request = { ...everything, filters: ['type==exec.cachemount'], keepDurationNs: DAY_NS };
  assert.deepEqual(await idsOf(collector.prune(request, never)), ['old mount']);
});

test('a cap removes what was used long ago and seldom, and stops as soon as it holds', async () => {
  const records = [
    record('recent', { daysUnused: 1 }),
    record('popular', { daysUnused: 20, usageCount: 50 }),
    record('stale', { daysUnused: 20 }),
    record('oldest', { daysUnused: 40 }),
  ];
  const { collector } = collectorOf(records);
  assert.deepEqual(await idsOf(collector.prune({ ...everything, maxUsedBytes: 200 }, never)), ['oldest', 'stale']);
  assert.deepEqual(await idsOf(collector.prune({ ...everything, maxUsedBytes: 200 }, never)), []);
});

test('what is reserved stays, even when the disk should have more room', async () => {
  const records = Array.from({ length: 10 }, (_, n) => record(`r${n}`, { daysUnused: n + 1 }));
  const { collector, snapshots } = collectorOf(records);
  const removed = await idsOf(collector.prune({ ...everything, minFreeBytes: 9_000, reservedBytes: 400 }, never));
  assert.deepEqual([removed.length, snapshots.left.length], [6, 4]);
});

test('a record that is taken into use meanwhile stays, with what it stands on, and the others go', async () => {
  const { collector, snapshots } = collectorOf([
    record('base'),
    record('taken', { parents: ['base'], daysUnused: 9 }),
    record('free', { daysUnused: 2 }),
  ]);
  snapshots.taken.add('taken');
  assert.deepEqual(await idsOf(collector.prune(everything, never)), ['free']);
  assert.deepEqual(snapshots.left, ['base', 'taken']);
});

test('old blobs that no lease names go with the policies; new ones and leased ones stay', async () => {
  const content = new Blobs({ orphan: 3, leased: 3, fresh: 0.1 });
  content.leased.add('leased');
  const { collector } = collectorOf([], {
    content,
    policies: defaultPolicies({ reservedBytes: 0, maxUsedBytes: 1, minFreeBytes: 0 }),
  });
  await collector.collect('schedule');
  assert.deepEqual(content.left, ['leased', 'fresh']);
  await idsOf(collector.prune({ ...everything, all: true }, never));
  assert.deepEqual(content.left, ['leased']);
});

test('a prune of everything leaves no blob that no lease names once no build runs', async () => {
  const content = new Blobs({ leased: 1, new: 0.05, old: 1 });
  content.leased.add('leased');
  let quiet = false;
  const { collector } = collectorOf([], { content, quiet: () => quiet });
  await idsOf(collector.prune({ ...everything, all: true }, never));
  assert.deepEqual(content.left, ['leased', 'new'], 'a running build may be about to name the new one');
  quiet = true;
  await idsOf(collector.prune({ ...everything, all: true, keepDurationNs: DAY_NS / 2n }, never));
  assert.deepEqual(content.left, ['leased', 'new'], 'the client said how long to keep what is new');
  await idsOf(collector.prune({ ...everything, all: true }, never));
  assert.deepEqual(content.left, ['leased']);
});

test('the plan names what the next run removes, in order, with the policy that says so', async () => {
  const records = [
    record('mount', { recordType: 'exec.cachemount', daysUnused: 3, sizeBytes: 600e6 }),
    record('new mount', { recordType: 'exec.cachemount', daysUnused: 1, sizeBytes: 600e6 }),
    record('ancient', { daysUnused: 100 }),
    record('layer', { daysUnused: 2, parents: ['ancient'] }),
    record('internal', { recordType: 'internal', sizeBytes: 10e9 }),
  ];
  const policies = defaultPolicies({ reservedBytes: 0, maxUsedBytes: 1e9, minFreeBytes: 0 });
  const { collector, snapshots, runs } = collectorOf(records, { policies });
  const plan = await collector.plan();
  assert.deepEqual(
    plan.removals.map(({ record: { id }, policy, rule }) => [id, policy, rule]),
    [
      ['mount', 'policy 1', 'over limit'],
      ['layer', 'policy 3', 'over limit'],
      ['ancient', 'policy 3', 'over limit'],
      ['new mount', 'policy 3', 'over limit'],
      ['internal', 'policy 4', 'over limit'],
    ],
  );
  assert.deepEqual([plan.freesBytes, plan.usedBytes, plan.records, plan.kept], [11.2e9 + 200, 11.2e9 + 200, 5, []]);
  assert.equal(snapshots.left.length, 5);
  await collector.collect('schedule');
  assert.deepEqual(
    snapshots.removed,
    plan.removals.map(({ record: { id } }) => id),
  );
  assert.deepEqual([runs.length, runs[0]?.removedRecords], [1, 5]);
});

test('a bad filter is refused before anything is removed', async () => {
  const { collector, snapshots } = collectorOf([record('a')]);
  await assert.rejects(idsOf(collector.prune({ ...everything, filters: ['type=='] }, never)), { kind: 'invalid-input' });
  await assert.rejects(collector.usage(['type=='], 0n), { kind: 'invalid-input' });
  assert.deepEqual(snapshots.left, ['a']);
});

test('usage answers filters and age', async () => {
  const { collector } = collectorOf([record('old', { daysUnused: 5 }), record('new', { daysUnused: 0.1 })]);
  const ids = async (filters: string[], age: bigint) => (await collector.usage(filters, age)).map(({ id }) => id);
  assert.deepEqual(await ids([''], 0n), ['old', 'new']);
  assert.deepEqual(await ids([], DAY_NS), ['old']);
  assert.deepEqual(await ids(['id~=n'], 0n), ['new']);
});

test('a client that stops reading stops the prune, and the next one gets its turn', async () => {
  const { collector, snapshots } = collectorOf([record('a'), record('b'), record('c')]);
  for await (const _ of collector.prune(everything, never)) break;
  assert.equal(snapshots.removed.length, 1);
  assert.equal((await idsOf(collector.prune(everything, never))).length, 2);
  const abort = new AbortController();
  abort.abort(cancelled());
  await assert.rejects(idsOf(collector.prune(everything, abort.signal)), { kind: 'cancelled' });
});

test('a store that fails is reported and does not reject the scheduled run', async () => {
  const failing = { usage: async () => Promise.reject(new BuildError('exhausted', 'no room')), remove: async () => false };
  const { collector, runs } = collectorOf([], { snapshots: failing, policies: [everything] });
  await collector.collect('schedule');
  assert.deepEqual(
    runs.map(({ ok, error }) => [ok, error?.kind]),
    [[false, 'exhausted']],
  );
});

test('a run follows the end of a build, and one a minute is enough', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { collector, runs } = collectorOf([record('a')], { policies: [everything] });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  for (let n = 0; n < 5; n += 1) collector.afterBuild();
  t.mock.timers.tick(5_000);
  await turn();
  assert.equal(runs.length, 1);
  collector.afterBuild();
  t.mock.timers.tick(30_000);
  await turn();
  assert.equal(runs.length, 1);
  t.mock.timers.tick(30_000);
  await turn();
  assert.equal(runs.length, 2);
  collector.afterBuild();
  await collector[Symbol.asyncDispose]();
  t.mock.timers.tick(100_000);
  await turn();
  assert.equal(runs.length, 2);
});

test('whatever the records and the policy, nothing in use goes, no parent before its child, and no bound is passed', async () => {
  const plan = fc.record({
    parents: fc.array(fc.nat(20), { maxLength: 2 }),
    inUse: fc.boolean(),
    shared: fc.boolean(),
    sizeBytes: fc.nat(100),
    daysUnused: fc.nat(100),
    usageCount: fc.nat(5),
  });
  const policy = fc.record({
    all: fc.boolean(),
    keepDays: fc.nat(60),
    reservedBytes: fc.nat(300),
    maxUsedBytes: fc.nat(600),
    minFreeBytes: fc.nat(6_000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(plan, { maxLength: 12 }), policy, async (plans, { keepDays, ...rules }) => {
      const records = plans.map(({ parents, ...rest }, n) =>
        record(`r${n}`, { ...rest, parents: n === 0 ? [] : [...new Set(parents.map((at) => `r${at % n}`))] }),
      );
      const { collector, snapshots } = collectorOf(records);
      const removed = await allOf(collector.prune({ ...everything, ...rules, keepDurationNs: BigInt(keepDays) * DAY_NS }, never));
      const at = new Map(removed.map(({ id }, n) => [id, n]));
      for (const { id, inUse, parents } of removed) {
        assert.equal(inUse, false);
        for (const parent of parents) assert.ok((at.get(parent) ?? Infinity) > (at.get(id) ?? 0));
      }
      const kept = records.filter(({ id }) => snapshots.left.includes(id));
      for (const { parents } of kept) for (const parent of parents) assert.ok(snapshots.left.includes(parent));
      const sizeOf = (some: readonly SnapshotUsage[]) =>
        some.reduce((sum, { shared, sizeBytes }) => (shared ? sum : sum + sizeBytes), 0);
      const last = removed.at(-1);
      if (last !== undefined && rules.reservedBytes > 0)
        assert.ok(sizeOf(kept) + (last.shared ? 0 : last.sizeBytes) >= Math.min(rules.reservedBytes, sizeOf(records)));
    }),
    { numRuns: 300 },
  );
});
