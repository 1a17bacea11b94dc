import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { startS3 } from '../../../../test/fixtures/cache-servers.ts';
import { missingTool } from '../../../../test/fixtures/registry.ts';
import { BuildError } from '../../../core/errors.ts';
import { S3_BACKEND } from './s3.ts';
import { blobOf, kindOf, openStore, storeContract } from './store-contract.test-suite.ts';

const skip = missingTool('versitygw');

storeContract(S3_BACKEND, {
  skip,
  bigBytes: 65 * 1024 * 1024,
  async start() {
    const server = await startS3();
    const refused = { ...server.attributes, secret_access_key: 'not-the-right-secret' };
    return { ...server, refused, secrets: ['not-the-right-secret'] };
  },
});

test('s3: objects have the names that BuildKit gives them', { skip }, async () => {
  await using server = await startS3();
  const attributes = { ...server.attributes, prefix: 'team/', name: 'main;release' };
  await using store = openStore(S3_BACKEND, attributes);
  await using blob = await blobOf(Buffer.from('layer'));
  const never = new AbortController().signal;
  await store.writeBlob(blob.descriptor, blob.content, never);
  for (const name of store.manifestNames) await store.writeManifest(name, Buffer.from('{}'), never);
  const stored = (await readdir(join(server.dir, 'cache', 'team'), { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isFile(),
  );
  assert.deepEqual(stored.map(({ parentPath, name }) => `${basename(parentPath)}/${name}`).sort(), [
    `blobs/${blob.digest}`,
    'manifests/main',
    'manifests/release',
  ]);
});

test('s3: a bucket that does not exist is not-found', { skip }, async () => {
  await using server = await startS3();
  await using store = openStore(S3_BACKEND, { ...server.attributes, bucket: 'elsewhere' });
  assert.equal(await kindOf(store.readManifest('buildkit', new AbortController().signal)), 'not-found');
});

for (const [status, code, kind] of [
  [503, 'SlowDown', 'exhausted'],
  [503, 'ServiceUnavailable', 'unavailable'],
  [400, 'ExpiredToken', 'denied'],
] as const)
  test(`s3: ${status} ${code} is ${kind}, with the time to wait`, async () => {
    const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>secret of the service</Message></Error>`;
    const server = createServer((_request, response) => response.writeHead(status, { 'retry-after': '9' }).end(body));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    try {
      const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const attributes = { bucket: 'b', region: 'r', endpoint_url: endpoint, access_key_id: 'k', secret_access_key: 's' };
      await using store = openStore(S3_BACKEND, attributes);
      const error = await store.readManifest('x', new AbortController().signal).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof BuildError);
      assert.deepEqual([error.kind, error.detail.retryAfterS], [kind, 9]);
      assert.doesNotMatch(error.message, /secret of the service/);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
