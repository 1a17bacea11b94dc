import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { ACTIONS_REST_TOKEN, type ActionsCache, startActionsCache } from '../../../../test/fixtures/actions-cache.ts';
import { BuildError } from '../../../core/errors.ts';
import { GHA_BACKEND } from './gha.ts';
import type { CacheStore } from './ports.ts';
import { blobOf, kindOf, openStore, readAll, storeContract, TEST_DEPS } from './store-contract.test-suite.ts';

const NEVER = new AbortController().signal;
const MAIN = { Scope: 'refs/heads/main', Permission: 3 };

const attributesOf = (service: ActionsCache, version: 1 | 2, token = service.token([MAIN])): Record<string, string> => ({
  [version === 1 ? 'url' : 'url_v2']: service.url,
  token,
});

for (const version of [1, 2] as const)
  storeContract(
    {
      ...GHA_BACKEND,
      open: (attributes, deps) => GHA_BACKEND.open(new Map([...attributes, ['version', String(version)]]), deps),
    },
    {
      title: `gha v${version}`,
      skip: false,
      bigBytes: 33 * 1024 * 1024,
      async start() {
        const service = await startActionsCache();
        const attributes = attributesOf(service, version);
        const refused = { ...attributes, token: attributes.token?.replace(/\.[^.]+$/, '.forged-signature') ?? '' };
        return Object.assign(service, { attributes, refused, secrets: ['forged-signature', refused.token, service.signature] });
      },
    },
  );

for (const version of [1, 2] as const) {
  const rule = (name: string, body: (service: ActionsCache, open: (token?: string) => CacheStore) => Promise<void>): void => {
    test(`gha v${version}: ${name}`, async () => {
      await using service = await startActionsCache();
      await body(service, (token) => openStore(GHA_BACKEND, attributesOf(service, version, token)));
    });
  };

  rule('entries have the keys that BuildKit gives them', async (service, open) => {
    await using store = open();
    await using blob = await blobOf(randomBytes(10));
    await store.writeBlob(blob.descriptor, blob.content, NEVER);
    for (const text of ['{}', '{"records":[]}'])
      await store.writeManifest(store.manifestNames[0] ?? '', Buffer.from(text), NEVER);
    // 8 hex digits of the SHA-256 of refs/heads/main
    const index = 'index-buildkit-1-f921bd05';
    assert.deepEqual(service.keys(), [`buildkit-blob-1-${blob.digest}`, `${index}#1`, `${index}#2`]);
  });

  rule('a branch reads the cache it comes from and writes only its own', async (service, open) => {
    await using main = open();
    const [mainName = ''] = main.manifestNames;
    await main.writeManifest(mainName, Buffer.from('"main"'), NEVER);
    await using branch = open(
      service.token([
        { Scope: 'refs/heads/fix', Permission: 3 },
        { ...MAIN, Permission: 1 },
      ]),
    );
    assert.equal(branch.manifestNames.length, 2);
    for (const name of branch.manifestNames) await branch.writeManifest(name, Buffer.from('"fix"'), NEVER);
    const read = await Promise.all(branch.manifestNames.map((name) => branch.readManifest(name, NEVER)));
    assert.deepEqual(
      read.map((bytes) => Buffer.from(bytes ?? []).toString()),
      ['"fix"', '"main"'],
    );
    assert.equal(Buffer.from((await main.readManifest(mainName, NEVER)) ?? []).toString(), '"main"');
  });

  rule('a number that a crashed export left reserved is skipped', async (service, open) => {
    await using store = open();
    const [name = ''] = store.manifestNames;
    await store.writeManifest(name, Buffer.from('1'), NEVER);
    service.occupy(`${name}#2`);
    await store.writeManifest(name, Buffer.from('3'), NEVER);
    assert.equal(Buffer.from((await store.readManifest(name, NEVER)) ?? []).toString(), '3');
    assert.ok(service.keys().includes(`${name}#3`));
  });

  rule('a layer whose key is taken is no failure', async (service, open) => {
    await using store = open();
    await using blob = await blobOf(randomBytes(10));
    await store.writeManifest(store.manifestNames[0] ?? '', Buffer.from('{}'), NEVER);
    service.occupy(`buildkit-blob-1-${blob.digest}`);
    await store.writeBlob(blob.descriptor, blob.content, NEVER);
    assert.equal(await store.statBlob(blob.digest, NEVER), undefined);
  });

  rule('429 is exhausted and 503 unavailable, both with the time to wait', async (service, open) => {
    await using store = open();
    for (const [status, kind] of [
      [429, 'exhausted'],
      [503, 'unavailable'],
    ] as const) {
      service.answerNext(/./, status, { 'retry-after': '7' });
      const error = await store.readManifest(store.manifestNames[0] ?? '', NEVER).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof BuildError);
      assert.deepEqual([error.kind, error.detail.retryAfterS], [kind, 7]);
    }
  });

  rule('an expired token is denied without asking', async (service, open) => {
    await using store = open(service.token([MAIN], -1));
    assert.equal(await kindOf(store.readManifest(store.manifestNames[0] ?? '', NEVER)), 'denied');
    assert.deepEqual(service.requests, []);
  });

  rule('a token that may only read cannot export', async (service, open) => {
    await using store = open(service.token([{ ...MAIN, Permission: 1 }]));
    assert.equal(await kindOf(store.writeManifest(store.manifestNames[0] ?? '', Buffer.from('{}'), NEVER)), 'denied');
    await using blob = await blobOf(randomBytes(10));
    assert.equal(await kindOf(store.writeBlob(blob.descriptor, blob.content, NEVER)), 'denied');
  });

  rule('a download whose address has been refused says so without the address', async (service, open) => {
    await using store = open();
    await using blob = await blobOf(randomBytes(10));
    await store.writeBlob(blob.descriptor, blob.content, NEVER);
    service.answerNext(/storage/, 403, { 'x-ms-error-code': 'AuthenticationFailed' });
    const error = await readAll(store.readBlob(blob.digest, 0, NEVER)).catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BuildError && error.kind === 'denied');
    assert.ok(!`${error.stack}${JSON.stringify(error)}`.includes(service.signature));
  });
}

test('gha: with a repository and a token the layers that are there are listed once', async () => {
  await using service = await startActionsCache();
  await using writer = openStore(GHA_BACKEND, attributesOf(service, 2));
  const blobs = await Promise.all(Array.from({ length: 3 }, () => blobOf(randomBytes(20))));
  for (const blob of blobs) await writer.writeBlob(blob.descriptor, blob.content, NEVER);
  const attributes = { ...attributesOf(service, 2), repository: 'o/r', ghtoken: ACTIONS_REST_TOKEN };
  await using store = GHA_BACKEND.open(new Map(Object.entries(attributes)), {
    ...TEST_DEPS,
    env: { GITHUB_API_URL: service.url },
  });
  const before = service.requests.length;
  for (const { digest } of blobs) assert.deepEqual(await store.statBlob(digest, NEVER), { sizeBytes: 20 });
  assert.deepEqual(service.requests.slice(before), ['GET /repos/o/r/actions/caches']);
  for (const blob of blobs) await blob[Symbol.asyncDispose]();
});

test('gha: attributes that can never work are refused by name, never with the token', () => {
  const token = `x.${Buffer.from('{"exp":1}').toString('base64url')}.secret`;
  for (const [attributes, expected] of [
    [{ url: 'http://127.0.0.1' }, /attribute token .*not set/],
    [{ url: 'http://127.0.0.1', token }, /attribute token is not a runtime token/],
    [{ url: 'not an address', token }, /attribute url: the value is not an address/],
    [{ url: 'http://127.0.0.1', token, timeout: 'soon' }, /attribute timeout: "soon" is not a duration/],
  ] as const)
    assert.throws(
      () => openStore(GHA_BACKEND, attributes as Record<string, string>),
      (error) =>
        error instanceof BuildError &&
        error.kind === 'invalid-input' &&
        expected.test(error.message) &&
        !error.message.includes('secret'),
    );
});
