import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { type Digest, digestOf } from '../../core/digest.ts';
import { BuildError, type ErrorKind } from '../../core/errors.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { type DiskContentStore, openContentStore } from './content-store.ts';

const never = new AbortController().signal;
const failsWith = (kind: ErrorKind) => (error: unknown) => error instanceof BuildError && error.kind === kind;

interface Rig {
  readonly root: string;
  readonly store: DiskContentStore;
  readonly reopen: () => DiskContentStore;
  readonly quarantined: string[];
}

/** `tmpfs`: a disk of that size below the store. */
function openRig(t: TestContext, tmpfs?: string): Rig {
  const root = mkdtempSync(join(tmpdir(), 'cooper-content-'));
  if (tmpfs !== undefined) execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${tmpfs}`, 'tmpfs', root]);
  const pool = new WorkerPool(1);
  const quarantined: string[] = [];
  const opened: DiskContentStore[] = [];
  const reopen = (): DiskContentStore => {
    const store = openContentStore({ root, clock: systemClock(), pool, onQuarantine: (_, movedTo) => quarantined.push(movedTo) });
    opened.push(store);
    return store;
  };
  t.after(async () => {
    for (const store of opened) await store[Symbol.asyncDispose]();
    await pool[Symbol.asyncDispose]();
    if (tmpfs !== undefined) execFileSync('umount', [root]);
    rmSync(root, { recursive: true });
  });
  return { root, store: reopen(), reopen, quarantined };
}

async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const megabytes = Buffer.alloc(9 * 1024 * 1024 + 17, 'abc');

for (const [name, make] of [
  ['small bytes', () => Buffer.from('hello')],
  ['nothing', () => Buffer.alloc(0)],
  ['large bytes', () => megabytes],
  ['a stream of tiny chunks', () => chunked(megabytes.subarray(0, 700_000), 1000)],
  ['a stream of huge chunks', () => chunked(megabytes, 8 << 20)],
] as const) {
  test(`${name} come back as they were put, whole and in part`, async (t) => {
    const { store, root } = openRig(t);
    const bytes = await (async () => {
      const made = make();
      return made instanceof Uint8Array ? made : collect(made);
    })();
    const digest = digestOf(bytes);
    const info = await store.put(make(), { expected: digest, expectedSize: bytes.byteLength, signal: never });
    assert.deepEqual([info.digest, info.sizeBytes], [digest, bytes.byteLength]);
    assert.ok((await collect(store.read(digest))).equals(bytes));
    assert.ok((await collect(store.read(digest, { offset: 3, length: 100 }))).equals(bytes.subarray(3, 103)));
    assert.ok(Buffer.from(await store.readAll(digest, bytes.byteLength)).equals(bytes));
    assert.deepEqual(readdirSync(join(root, 'content/tmp')), []);
  });
}

for (const size of [10, megabytes.byteLength]) {
  test(`${size} bytes that are not what was expected are refused and nothing is kept`, async (t) => {
    const { store, root } = openRig(t);
    const bytes = megabytes.subarray(0, size);
    const expected = digestOf('something else');
    await assert.rejects(store.put(bytes, { expected, signal: never }), failsWith('corrupt'));
    await assert.rejects(store.put(bytes, { expectedSize: size - 1, signal: never }), failsWith('corrupt'));
    await assert.rejects(store.put(chunked(bytes, 7777), { expectedSize: size + 1, signal: never }), failsWith('corrupt'));
    assert.equal(await store.info(expected), undefined);
    assert.deepEqual([...readdirSync(join(root, 'content/tmp')), ...readdirSync(join(root, 'content/blobs/sha256'))], []);
  });
}

test('callers that put the same blob at once all get it and one copy is kept', async (t) => {
  const { store, root } = openRig(t);
  const infos = await Promise.all(Array.from({ length: 8 }, () => store.put(chunked(megabytes, 100_000), { signal: never })));
  assert.equal(new Set(infos.map((info) => info.digest)).size, 1);
  assert.equal(readdirSync(join(root, 'content/blobs/sha256')).length, 1);
  assert.equal(store.totalBytes, megabytes.byteLength);
});

test('a producer that fails or is cancelled leaves nothing behind', async (t) => {
  const { store, root } = openRig(t);
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield megabytes;
    throw new BuildError('unavailable', 'connection reset');
  }
  await assert.rejects(store.put(broken(), { signal: never }), failsWith('unavailable'));
  const controller = new AbortController();
  async function* stuck(): AsyncGenerator<Uint8Array> {
    yield megabytes;
    controller.abort(new BuildError('cancelled', 'enough'));
    await new Promise(() => {});
  }
  await assert.rejects(store.put(stuck(), { signal: controller.signal }), failsWith('cancelled'));
  assert.deepEqual(readdirSync(join(root, 'content/tmp')), []);
});

test('a leased blob stays until every lease is gone', async (t) => {
  const { store } = openRig(t);
  const { digest } = await store.put(Buffer.from('x'), { signal: never });
  const leases = [store.lease(), store.lease()];
  for (const lease of leases) lease.add(digest);
  assert.equal(await store.remove(digest), false);
  leases[0]?.[Symbol.dispose]();
  leases[0]?.[Symbol.dispose]();
  assert.equal(await store.remove(digest), false);
  leases[1]?.[Symbol.dispose]();
  assert.equal(await store.remove(digest), true);
  assert.equal(await store.remove(digest), false);
  await assert.rejects(collect(store.read(digest)), failsWith('not-found'));
});

test('a finished temporary file is adopted, a wrong size is refused', async (t) => {
  const { store } = openRig(t);
  const write = (text: string): string => {
    const path = store.tempPath();
    writeFileSync(path, text);
    return path;
  };
  const digest = digestOf('abc');
  await store.adopt(write('abc'), digest, 3);
  await store.adopt(write('abc'), digest, 3);
  await assert.rejects(store.adopt(write('abcd'), digestOf('abcd'), 3), failsWith('internal'));
  assert.equal((await collect(store.read(digest))).toString(), 'abc');
});

test('after a restart blobs are there and half-written files are gone', async (t) => {
  const { store, root, reopen } = openRig(t);
  const { digest } = await store.put(megabytes, { signal: never });
  writeFileSync(store.tempPath(), 'half');
  const again = reopen();
  assert.deepEqual(readdirSync(join(root, 'content/tmp')), []);
  assert.equal((await again.info(digest))?.sizeBytes, megabytes.byteLength);
  assert.equal(again.totalBytes, megabytes.byteLength);
  const listed: Digest[] = [];
  for await (const info of again.list()) listed.push(info.digest);
  assert.deepEqual(listed, [digest]);
});

test('a blob whose bytes rotted is found by a verified read, moved to quarantine and missed from then on', async (t) => {
  const { store, quarantined } = openRig(t);
  const [small, large, cut] = await Promise.all(
    [Buffer.from('small'), megabytes, megabytes.subarray(1)].map((bytes) => store.put(bytes, { signal: never })),
  );
  assert.ok(small && large && cut);
  await store.verify(large.digest, never);
  for (const { digest } of [small, large]) {
    const bytes = readFileSync(store.path(digest));
    bytes[bytes.length - 1] = 0;
    writeFileSync(store.path(digest), bytes);
  }
  truncateSync(store.path(cut.digest), 1000);
  await assert.rejects(store.readAll(small.digest, 100), failsWith('corrupt'));
  await assert.rejects(store.verify(large.digest, never), failsWith('corrupt'));
  await assert.rejects(collect(store.read(cut.digest)), failsWith('corrupt'));
  for (const { digest } of [small, large, cut]) assert.equal(await store.info(digest), undefined);
  assert.equal(quarantined.filter((path) => existsSync(path)).length, 3);
  assert.equal(store.totalBytes, 0);
});

test('a full disk is `exhausted`, and the store serves on', {
  skip: process.getuid?.() === 0 ? false : 'needs root',
}, async (t) => {
  const { store } = openRig(t, '4m');
  await assert.rejects(store.put(megabytes, { signal: never }), failsWith('exhausted'));
  const { digest } = await store.put(Buffer.alloc(1 << 20), { signal: never });
  assert.equal((await collect(store.read(digest))).byteLength, 1 << 20);
});

test('a blob above the limit is not read at once', async (t) => {
  const { store } = openRig(t);
  const { digest } = await store.put(Buffer.alloc(100), { signal: never });
  await assert.rejects(store.readAll(digest, 99), failsWith('exhausted'));
});
