import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import type { Build } from '../build/build.ts';
import type { Builder } from '../build/builder.ts';
import type { ImageConfigRequest } from '../frontend/ports.ts';
import {
  type ResolveSourceMetaRequest,
  ResolveSourceMetaRequestSchema,
  type ResolveSourceMetaResponse,
} from '../proto/gen/moby/buildkit/v1/frontend/gateway_pb.ts';
import type { CallContext } from '../rpc/handlers.ts';
import { bridgeHandlers } from './bridge-service.ts';
import type { WorkerInfo } from './worker-record.ts';

type Answer = (request: ResolveSourceMetaRequest, context: CallContext) => Promise<ResolveSourceMetaResponse>;

/** What the service answers about a source when the build's bridge is `bridge`. */
async function askMetadata(bridge: object, identifier: string, attrs: Record<string, string> = {}) {
  const builder = { find: async () => ({ bridge }) as unknown as Build } as unknown as Builder;
  const headers = new Map([['buildkit-controlapi-buildid', 'b']]);
  const context = { headers, signal: new AbortController().signal } as unknown as CallContext;
  const request = create(ResolveSourceMetaRequestSchema, { Source: { identifier, attrs } });
  return await (bridgeHandlers(builder, {} as WorkerInfo).resolveSourceMeta as Answer)(request, context);
}

test('metadata of a file on a web server is its digest, name and time', async () => {
  const describeFile = async () => ({ digest: 'sha256:33', filename: 'f', lastModified: new Date(5_000) });
  const answer = await askMetadata({ describeFile }, 'https://example.com/dir/f');
  assert.equal(answer.HTTP?.Checksum, 'sha256:33');
  assert.equal(answer.HTTP?.Filename, 'f');
  assert.equal(answer.HTTP?.LastModified?.seconds, 5n);
  assert.equal(answer.Source?.identifier, 'https://example.com/dir/f');
});

test('metadata of images is looked up where the source says: in a registry, or in a layout that a client holds', async () => {
  const asked: ImageConfigRequest[] = [];
  const resolveImageConfig = async (request: ImageConfigRequest) => {
    asked.push(request);
    return { ref: request.ref, digest: 'sha256:11', config: new Uint8Array([1]) };
  };
  const digestOf = async (identifier: string, attrs?: Record<string, string>): Promise<string | undefined> =>
    (await askMetadata({ resolveImageConfig }, identifier, attrs)).Image?.Digest;
  assert.equal(await digestOf('docker-image://busybox'), 'sha256:11');
  assert.equal(await digestOf('oci-layout://base@sha256:22', { 'oci.session': 's', 'oci.store': 'base' }), 'sha256:11');
  assert.equal(await digestOf('git://example.com/a.git'), undefined);
  assert.deepEqual(
    asked.map(({ ref, resolver }) => [ref, resolver]),
    [
      ['busybox', { kind: 'registry' }],
      ['base@sha256:22', { kind: 'oci-layout', sessionId: 's', storeId: 'base' }],
    ],
  );
});
