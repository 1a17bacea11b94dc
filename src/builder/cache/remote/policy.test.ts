import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { test } from 'node:test';
import { delay } from '../../../core/abort.ts';
import { systemClock } from '../../../core/clock.ts';
import { digestOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import { Breakers } from './breaker.ts';
import { DEFAULT_POLICY, GuardedStore, type PolicyLimits } from './policy.ts';
import type { CacheObserver, CacheStore } from './ports.ts';

const never = new AbortController().signal;
const QUICK: PolicyLimits = {
  ...DEFAULT_POLICY,
  retryDelayMs: 1,
  answerMs: 50,
  silenceMs: 50,
  breaker: { failures: 3, coolDownMs: 20, maxCoolDownMs: 40, connectMs: 500 },
};

/** A store whose next answers a test decides; `calls` counts them. */
function rig(answer: (call: number, signal: AbortSignal) => Promise<Uint8Array | undefined>, address?: CacheStore['address']) {
  let calls = 0;
  const told: string[] = [];
  const observer: CacheObserver = {
    operation: (_backend, op, result) => void told.push(`${op} ${result}`),
    breaker: (_backend, _endpoint, state) => void told.push(state),
    outageStarted: () => void told.push('outage'),
    outageEnded: () => void told.push('back'),
    quarantined: () => undefined,
    imported: () => undefined,
    exported: () => undefined,
  };
  const store: CacheStore = {
    backend: 's3',
    label: 's3 bucket',
    endpoint: 'bucket',
    manifestNames: ['a'],
    parallelism: 4,
    ...(address === undefined ? {} : { address }),
    readManifest: (_name, signal) => answer(++calls, signal),
    writeManifest: async () => undefined,
    statBlob: async () => undefined,
    async *readBlob(_digest, _offset, signal) {
      yield new Uint8Array(1);
      await delay(60_000, signal);
    },
    writeBlob: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
  const clock = systemClock();
  const breakers = new Breakers(QUICK.breaker, clock, observer);
  const guarded = () => new GuardedStore(store, breakers.of(store), QUICK, clock, observer);
  return { guarded, told, breakers, calls: () => calls };
}
const unavailable = (detail = {}): BuildError => new BuildError('unavailable', 'no', detail);
const bytes = new Uint8Array([1]);

test('a failure is tried again, and what succeeds then is the answer', async () => {
  const { guarded, told, calls } = rig(async (call) => {
    if (call === 1) throw unavailable();
    return bytes;
  });
  assert.equal(await guarded().readManifest('a', never), bytes);
  assert.equal(calls(), 2);
  assert.deepEqual(told, ['closed', 'manifest-read unavailable', 'manifest-read ok']);
});

for (const kind of ['denied', 'not-found', 'corrupt'] as const)
  test(`${kind} is an answer: not tried again, and no sign of an outage`, async () => {
    const { guarded, calls } = rig(() => Promise.reject(new BuildError(kind, 'no')));
    for (let n = 1; n <= 5; n += 1) await assert.rejects(guarded().readManifest('a', never), { kind, message: 'no' });
    assert.equal(calls(), 5);
  });

test('a Retry-After that is longer than anybody waits ends the call at once', async () => {
  const { guarded, calls } = rig(() => Promise.reject(unavailable({ retryAfterS: 60 })));
  await assert.rejects(guarded().readManifest('a', never), { kind: 'unavailable' });
  assert.equal(calls(), 1);
});

test('a full disk of this machine is no outage of the cache', async () => {
  const { guarded } = rig(() => Promise.reject(new BuildError('exhausted', 'ENOSPC: no space left on device, write')));
  for (let n = 1; n <= 5; n += 1) await assert.rejects(guarded().readManifest('a', never), { kind: 'exhausted' });
});

test('after failures in a row no build asks any more, until one trial succeeds for all that wait', async () => {
  let down = true;
  const { guarded, told, calls, breakers } = rig(async () => {
    if (down) throw unavailable();
    await delay(5);
    return bytes;
  });
  await assert.rejects(guarded().readManifest('a', never), { kind: 'unavailable' });
  assert.equal(calls(), 3);
  await assert.rejects(guarded().readManifest('a', never), /breaker open since \d{4}-.*: no/);
  assert.equal(calls(), 3, 'another build did not ask');
  down = false;
  while (guarded().refusal !== undefined) await delay(5);
  const all = await Promise.all([1, 2, 3, 4].map(() => guarded().readManifest('a', never)));
  assert.deepEqual(all, [bytes, bytes, bytes, bytes]);
  assert.deepEqual(
    told.filter((each) => !each.startsWith('manifest-read')),
    ['closed', 'outage', 'open', 'half-open', 'closed', 'back'],
  );
  breakers[Symbol.dispose]();
});

test('an answer that does not come opens the breaker at once', async () => {
  const { guarded, calls, breakers } = rig((_call, signal) => delay(60_000, signal).then(() => undefined));
  await assert.rejects(guarded().readManifest('a', never), { kind: 'timed-out' });
  await assert.rejects(guarded().readManifest('a', never), /breaker open/);
  assert.equal(calls(), 1);
  breakers[Symbol.dispose]();
});

test('a place that refuses connections is not asked at all', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const { guarded, calls, breakers } = rig(async () => bytes, { host: '127.0.0.1', port });
  await assert.rejects(guarded().readManifest('a', never), /breaker open since .*ECONNREFUSED/);
  assert.equal(calls(), 0);
  breakers[Symbol.dispose]();
});

test('a transfer that goes silent is given up, and what it had moved is taken back', async () => {
  const { guarded, breakers } = rig(async () => bytes);
  const descriptor = { mediaType: 'x', digest: digestOf('x'), size: 2 };
  let moved = 0;
  const take = async (content: AsyncIterable<Uint8Array>): Promise<void> => {
    for await (const _ of content);
  };
  const reading = guarded().readBlob(descriptor, never, take, (count) => {
    moved += count;
  });
  await assert.rejects(reading, { kind: 'timed-out' });
  assert.equal(moved, 0);
  breakers[Symbol.dispose]();
});

test('a cancelled build tells nothing of the cache', async () => {
  const { guarded } = rig((_call, signal) => delay(60_000, signal).then(() => undefined));
  const controller = new AbortController();
  const reading = guarded().readManifest('a', controller.signal);
  controller.abort(new BuildError('cancelled', 'context canceled'));
  await assert.rejects(reading, { kind: 'cancelled' });
  assert.equal(guarded().refusal, undefined);
});

test('patience: what a cache took lately, three times; none where somebody waited in vain, until it says something', async () => {
  const { guarded, breakers } = rig(async () => bytes);
  const place = guarded();
  assert.equal(place.patienceMs(900), 900);
  place.imported(2_000);
  assert.equal(place.patienceMs(900), 6_000);
  for (let n = 0; n < 20; n += 1) place.imported(10);
  assert.equal(place.patienceMs(900), 900, 'it is forgotten in time');
  place.overdue();
  assert.equal(place.patienceMs(900), 0);
  place.abandoned(new BuildError('timed-out', 'no answer'));
  await assert.rejects(place.readManifest('a', never), /breaker open since .*no answer/);
  while (place.refusal !== undefined) await delay(5);
  assert.equal(place.patienceMs(900), 0, 'nor is the trial waited for');
  await place.readManifest('a', never);
  assert.equal(place.patienceMs(900), 900);
  breakers[Symbol.dispose]();
});
