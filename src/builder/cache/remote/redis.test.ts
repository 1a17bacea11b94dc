import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { type CacheServer, startRedis } from '../../../../test/fixtures/cache-servers.ts';
import { missingTool } from '../../../../test/fixtures/registry.ts';
import { type Digest, digestOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import { encodeCacheConfig, parseCacheConfig } from './config.ts';
import { mergeConfigs } from './merge-configs.ts';
import type { BlobContent } from './ports.ts';
import { REDIS_BACKEND } from './redis.ts';
import { blobOf, kindOf, openStore, readAll, storeContract, TEST_DEPS } from './store-contract.test-suite.ts';

const skip = missingTool('redis-server');

storeContract(REDIS_BACKEND, {
  skip,
  bigBytes: 9 * 1024 * 1024 + 1,
  async start() {
    const server = await startRedis();
    return { ...server, refused: { ...server.attributes, password: 'not-the-right-secret' }, secrets: ['not-the-right-secret'] };
  },
});

const NEVER = new AbortController().signal;
const configOf = (digest: Digest, blob?: Digest): Uint8Array =>
  encodeCacheConfig(
    {
      layers: blob === undefined ? [] : [{ blob, parent: -1 }],
      records: [{ digest, inputs: [], results: blob === undefined ? [] : [{ layer: 0, createdAtNs: 0n }], chains: [] }],
    },
    true,
  );
const command = async (server: CacheServer, ...args: string[]): Promise<unknown> => {
  const redis = new Redis(Number(server.host.split(':')[1]), { password: server.attributes.password ?? '' });
  try {
    return await redis.call(args[0] ?? '', ...args.slice(1));
  } finally {
    redis.disconnect();
  }
};

test('redis: exports of many daemons at the same time are all found, none undoes another', { skip }, async () => {
  await using server = await startRedis();
  const digests = Array.from({ length: 20 }, (_, at) => digestOf(`record ${at}`));
  const stores = digests.map(() => openStore(REDIS_BACKEND, server.attributes));
  await Promise.all(stores.map((store, at) => store.writeManifest('cooper', configOf(digests[at] as Digest), NEVER)));
  const { records } = parseCacheConfig((await stores[0]?.readManifest('cooper', NEVER)) ?? new Uint8Array());
  assert.deepEqual(records.map(({ digest }) => digest).sort(), digests.toSorted());
  for (const store of stores) await store[Symbol.asyncDispose]();
});

test('redis: the same export again takes no further place, and only the newest are kept', { skip }, async () => {
  await using server = await startRedis();
  let nowMs = Date.now();
  const deps = { ...TEST_DEPS, nowMs: () => (nowMs += 1000) };
  await using store = REDIS_BACKEND.open(new Map(Object.entries({ ...server.attributes, keep_configs: '3' })), deps);
  const [one, ...others] = ['one', 'two', 'three', 'four'].map(digestOf) as [Digest, Digest, Digest, Digest];
  for (const digest of [one, ...others.slice(0, 2), one, one, ...others.slice(2)])
    await store.writeManifest('cooper', configOf(digest), NEVER);
  const { records } = parseCacheConfig((await store.readManifest('cooper', NEVER)) ?? new Uint8Array());
  // two was the oldest
  assert.deepEqual(records.map(({ digest }) => digest).sort(), [one, others[1], others[2]].toSorted());
  assert.equal(((await command(server, 'KEYS', 'cooper:config:*')) as string[]).length, 3);
});

test('redis: what is not used expires, what is read stays, and nothing is left of a writer that died', { skip }, async () => {
  await using server = await startRedis();
  await using store = openStore(REDIS_BACKEND, { ...server.attributes, ttl: '1h' });
  await using blob = await blobOf(Buffer.from('layer'));
  await store.writeBlob(blob.descriptor, blob.content, NEVER);
  await store.writeManifest('cooper', configOf(blob.digest), NEVER);
  for (const key of (await command(server, 'KEYS', '*')) as string[])
    assert.ok(Number(await command(server, 'PTTL', key)) > 0, key);
  const key = `cooper:blob:${blob.digest}`;
  await command(server, 'PEXPIRE', key, '60000');
  const before = await store.statBlob(blob.digest, NEVER);
  await readAll(store.readBlob(blob.digest, 0, NEVER));
  assert.ok(Number(await command(server, 'PTTL', key)) > 3_600_000);
  assert.ok(((await store.statBlob(blob.digest, NEVER))?.modifiedAtMs ?? 0) > (before?.modifiedAtMs ?? 0));
});

test('redis: an upload that was evicted on its way is not published', { skip }, async () => {
  await using server = await startRedis();
  await using store = openStore(REDIS_BACKEND, server.attributes);
  await using blob = await blobOf(Buffer.alloc(3 * 1024 * 1024, 7));
  const evicted: BlobContent = {
    ...blob.content,
    async *read() {
      yield blob.bytes.subarray(0, 1024 * 1024);
      await store.statBlob(blob.digest, NEVER); // the first chunk has arrived: answers come in order
      const [upload = ''] = (await command(server, 'KEYS', 'cooper:upload:*')) as string[];
      assert.equal(await command(server, 'DEL', upload), 1);
      yield blob.bytes.subarray(1024 * 1024);
    },
  };
  assert.equal(await kindOf(store.writeBlob(blob.descriptor, evicted, NEVER)), 'unavailable');
  assert.equal(await store.statBlob(blob.digest, NEVER), undefined);
});

test('redis: a full server is exhausted, with what to do about it', { skip }, async () => {
  await using server = await startRedis(['--maxmemory', '4mb', '--maxmemory-policy', 'noeviction']);
  await using store = openStore(REDIS_BACKEND, server.attributes);
  await using blob = await blobOf(Buffer.alloc(8 * 1024 * 1024, 7));
  const error = await store.writeBlob(blob.descriptor, blob.content, NEVER).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof BuildError && error.kind === 'exhausted', String(error));
  assert.match(error.detail.hint ?? '', /maxmemory-policy/);
});

test('redis: merging joins what is the same and keeps links right', () => {
  const layer = (name: string, parent: number) => ({ blob: digestOf(name), parent });
  const record = (name: string, links: number[], layers: number[]) => ({
    digest: digestOf(name),
    inputs: links.map((link) => [{ selector: '', link }]),
    results: layers.map((at) => ({ layer: at, createdAtNs: 0n })),
    chains: [],
  });
  const one = { layers: [layer('a', -1), layer('b', 0)], records: [record('run b', [1], [1]), record('from', [], [0])] };
  const two = { layers: [layer('c', 1), layer('a', -1)], records: [record('from', [], [1]), record('run c', [0], [0])] };
  const { layers, records } = mergeConfigs([one, two]);
  assert.deepEqual(layers, [layer('a', -1), layer('b', 0), layer('c', 0)]);
  assert.deepEqual(
    records.map(({ digest, inputs, results }) => [
      digest,
      inputs.flat().map(({ link }) => records[link]?.digest),
      results.map(({ layer: at }) => at),
    ]),
    [
      [digestOf('from'), [], [0]],
      [digestOf('run b'), [digestOf('from')], [1]],
      [digestOf('run c'), [digestOf('from')], [2]],
    ],
  );
});
