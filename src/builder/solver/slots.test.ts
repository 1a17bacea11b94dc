import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cancelled } from '../../core/errors.ts';
import { type Claim, type Claimant, Slots } from './slots.ts';

const never = new AbortController().signal;
const claim = (height: number, ...builds: Claimant[]): Claim => ({ height, claimants: () => builds });

/** Asks for a slot per claim while all are taken, frees one after the other, and notes the order in which they are served. */
async function orderOf(slots: Slots, held: Disposable[], claims: Readonly<Record<string, Claim>>): Promise<string[]> {
  const order: string[] = [];
  const served = Object.entries(claims).map(async ([name, one]) => {
    using _slot = await slots.acquire(one, never);
    order.push(name);
  });
  for (const slot of held) slot[Symbol.dispose]();
  await Promise.all(served);
  assert.equal(slots.inUse, 0);
  return order;
}

test('within one build the step with the longest chain behind it goes first, then the one that came first', async () => {
  const slots = new Slots(1);
  const build = { running: 0 };
  const held = [await slots.acquire(claim(0, build), never)];
  const order = await orderOf(slots, held, {
    leaf: claim(1, build),
    root: claim(9, build),
    other: claim(9, build),
    mid: claim(5, build),
  });
  assert.deepEqual(order, ['root', 'other', 'mid', 'leaf']);
});

test('a build that holds its share lets a small one go before its longest chain', async () => {
  const slots = new Slots(2);
  const [large, small] = [{ running: 0 }, { running: 0 }];
  const held = await slots.acquire(claim(9, large), never);
  using _other = await slots.acquire(claim(9, large), never); // held throughout, so the large build is at its share of one
  const order: string[] = [];
  const serve = async (name: string, one: Claim): Promise<void> => {
    using _slot = await slots.acquire(one, never);
    order.push(name);
  };
  const served = [serve('deep', claim(8, large)), serve('shallow', claim(1, small))];
  held[Symbol.dispose]();
  await Promise.all(served);
  assert.deepEqual(order, ['shallow', 'deep']);
});

test('counts are given back, and a waiter that is aborted holds nothing', async () => {
  const slots = new Slots(1);
  const build = { running: 0 };
  const abort = new AbortController();
  {
    using _held = await slots.acquire(claim(0, build), never);
    const waiting = slots.acquire(claim(0, build), abort.signal);
    assert.deepEqual([slots.inUse, slots.waiting, build.running], [1, 1, 1]);
    abort.abort(cancelled());
    await assert.rejects(waiting, { kind: 'cancelled' });
    await assert.rejects(slots.acquire(claim(0, build), abort.signal), { kind: 'cancelled' });
    assert.equal(slots.waiting, 0);
  }
  assert.deepEqual([slots.inUse, build.running], [0, 0]);
});

test('0 is no bound', async () => {
  const slots = new Slots(0);
  const all = await Promise.all(Array.from({ length: 500 }, () => slots.acquire(claim(0), never)));
  assert.equal(slots.inUse, 500);
  for (const slot of all) slot[Symbol.dispose]();
  assert.equal(slots.inUse, 0);
});
