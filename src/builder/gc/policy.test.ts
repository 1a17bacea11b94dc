import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileFilter } from './filter.ts';
import { record } from './gc.test-rig.ts';
import { boundOf, defaultBounds, defaultPolicies } from './policy.ts';

test('default bounds are those of BuildKit: a share of a small disk, fixed sizes on a large one', () => {
  assert.deepEqual(defaultBounds(2 ** 40), { reservedBytes: 10e9, maxUsedBytes: 100e9, minFreeBytes: 205e9 });
  assert.deepEqual(defaultBounds(50 * 2 ** 30), { reservedBytes: 6e9, maxUsedBytes: 41e9, minFreeBytes: 11e9 });
});

test('the default policies begin with what is easily made again', () => {
  const policies = defaultPolicies(defaultBounds(2 ** 40));
  assert.deepEqual(
    policies.map(({ all, keepDurationNs, maxUsedBytes }) => [all, keepDurationNs / 3_600_000_000_000n, maxUsedBytes]),
    [
      [false, 48n, 512e6],
      [false, 1440n, 100e9],
      [false, 0n, 100e9],
      [true, 0n, 100e9],
    ],
  );
  const cheap = compileFilter(policies[0]?.filters ?? []);
  for (const recordType of ['source.local', 'exec.cachemount', 'source.git.checkout'] as const)
    assert.ok(cheap(record('a', { recordType })));
  assert.equal(cheap(record('a')), false);
});

for (const [what, bounds, free, keep] of [
  ['no bound at all', {}, 0, undefined],
  ['a cap', { maxUsedBytes: 300 }, 0, 300],
  ['a floor only', { reservedBytes: 200 }, 0, 200],
  ['a cap below the floor', { reservedBytes: 200, maxUsedBytes: 100 }, 0, 200],
  ['enough free space', { minFreeBytes: 50 }, 60, 1_000],
  ['too little free space', { minFreeBytes: 500 }, 100, 600],
  ['too little free space, and a cap', { minFreeBytes: 500, maxUsedBytes: 300 }, 100, 300],
  ['far too little free space, and a floor', { minFreeBytes: 5_000, reservedBytes: 250 }, 100, 250],
  ['far too little free space', { minFreeBytes: 5_000 }, 100, undefined],
] as const) {
  test(`${what}: of 1000 bytes ${keep === undefined ? 'all may go' : `${keep} stay`}`, () => {
    const all = { reservedBytes: 0, maxUsedBytes: 0, minFreeBytes: 0, ...bounds };
    assert.equal(boundOf(all, 1_000, { totalBytes: 10_000, freeBytes: free }).keepBytes, keep);
  });
}
