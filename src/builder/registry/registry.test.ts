/** The registry client against Debian's docker-registry, and with skopeo as the judge of what was pushed. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { openTestContent, type TestContent } from '../../../test/fixtures/content.ts';
import { missingTool, startRegistry, type TestRegistry } from '../../../test/fixtures/registry.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { encodeManifest, MEDIA } from './manifest.ts';
import type { RegistryCall } from './ports.ts';
import { parseReference } from './reference.ts';
import { createRegistry, type RegistryLimits, type RegistryService } from './registry.ts';

const skip = missingTool('docker-registry');
const run = promisify(execFile);
const call: RegistryCall = {
  auth: { token: async () => undefined, credentials: async () => ({ username: '', secret: '' }) },
  signal: new AbortController().signal,
};
const ignore = { onProgress: () => undefined };

interface Rig extends AsyncDisposable {
  readonly host: string;
  readonly store: TestContent;
  readonly registry: RegistryService;
  /** A client with an empty store of its own. */
  other(): Promise<{ readonly store: TestContent; readonly registry: RegistryService }>;
}
async function openRig(limits: Partial<RegistryLimits> = {}): Promise<Rig> {
  await using stack = new AsyncDisposableStack();
  const server: TestRegistry = stack.use(await startRegistry());
  const client = async () => {
    const store = stack.use(await openTestContent());
    return { store, registry: stack.use(createRegistry({ content: store.content, hosts: {}, limits })) };
  };
  const first = await client();
  const held = stack.move();
  const other = async () => {
    const store = held.use(await openTestContent());
    return { store, registry: held.use(createRegistry({ content: store.content, hosts: {}, limits })) };
  };
  return { host: server.host, ...first, other, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

async function blob(store: TestContent, bytes: Uint8Array, mediaType: string): Promise<Descriptor> {
  await store.content.put(bytes, { signal: call.signal });
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
}

/** Pushes an image of one layer of random bytes. */
async function pushImage(rig: Rig, name: string, layerBytes = 3_000_000) {
  const reference = parseReference(name);
  const layer = await blob(rig.store, randomBytes(layerBytes), MEDIA.ociLayer);
  const config = await blob(
    rig.store,
    new TextEncoder().encode(
      JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [layer.digest] } }),
    ),
    MEDIA.ociConfig,
  );
  for (const descriptor of [layer, config]) await rig.registry.pushBlob(reference, descriptor, { ...call, ...ignore });
  const bytes = encodeManifest({ mediaType: MEDIA.ociManifest, config, layers: [layer] });
  const manifest: Descriptor = { mediaType: MEDIA.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
  await rig.registry.pushManifest(reference, manifest, bytes, call);
  return { reference, layer, config, manifest, bytes };
}

test('what is pushed can be resolved and pulled, byte for byte, and skopeo agrees', { skip }, async (t) => {
  await using rig = await openRig();
  const image = await pushImage(rig, `${rig.host}/team/app:v1`);
  const { store, registry } = await rig.other();
  const resolved = await registry.resolve(image.reference, call);
  assert.deepEqual(resolved.descriptor, image.manifest);
  assert.deepEqual(Buffer.from(resolved.bytes), Buffer.from(image.bytes));
  let received = 0;
  await registry.fetchBlob(image.reference, image.layer, { ...call, onProgress: (bytes) => (received += bytes) });
  assert.equal(received, image.layer.size);
  await store.content.verify(image.layer.digest, call.signal);
  assert.equal(digestOf(await registry.fetchSmall(image.reference, image.config, call)), image.config.digest);
  if (missingTool('skopeo') !== false) return t.diagnostic('skopeo is not installed: not asked');
  const { stdout } = await run('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${image.reference.text}`]);
  assert.equal(digestOf(stdout), image.manifest.digest);
});

test('a blob that another repository of the registry has is mounted, not sent', { skip }, async () => {
  await using rig = await openRig();
  const { reference, layer } = await pushImage(rig, `${rig.host}/base:1`);
  let sent = 0;
  const target = parseReference(`${rig.host}/derived:1`);
  const onProgress = (bytes: number) => (sent += bytes);
  await rig.registry.pushBlob(target, layer, { ...call, mountFrom: reference, onProgress });
  assert.equal(sent, 0);
  const { registry, store } = await rig.other();
  await registry.fetchBlob(target, layer, { ...call, ...ignore });
  assert.notEqual(await store.content.info(layer.digest), undefined);
});

test('a mount from a repository without the blob falls back to sending it', { skip }, async () => {
  await using rig = await openRig();
  const layer = await blob(rig.store, randomBytes(1000), MEDIA.ociLayer);
  let sent = 0;
  await rig.registry.pushBlob(parseReference(`${rig.host}/a:1`), layer, {
    ...call,
    mountFrom: parseReference(`${rig.host}/never-pushed:1`),
    onProgress: (bytes) => (sent += bytes),
  });
  assert.equal(sent, 1000);
});

test('a push of what is there already sends nothing', { skip }, async () => {
  await using rig = await openRig();
  const { reference, layer } = await pushImage(rig, `${rig.host}/twice:1`);
  let sent = 0;
  await rig.registry.pushBlob(reference, layer, { ...call, onProgress: (bytes) => (sent += bytes) });
  assert.equal(sent, 0);
});

test('an empty blob and a blob of one byte arrive whole', { skip }, async () => {
  await using rig = await openRig();
  const reference = parseReference(`${rig.host}/small:1`);
  for (const bytes of [new Uint8Array(1)]) {
    const descriptor = await blob(rig.store, bytes, MEDIA.ociLayer);
    await rig.registry.pushBlob(reference, descriptor, { ...call, ...ignore });
    const { registry, store } = await rig.other();
    await registry.fetchBlob(reference, descriptor, { ...call, ...ignore });
    await store.content.verify(descriptor.digest, call.signal);
  }
});

test('callers that want the same blob at once share one download, and each sees its progress', { skip }, async () => {
  await using rig = await openRig();
  const { reference, layer } = await pushImage(rig, `${rig.host}/shared:1`, 8_000_000);
  const { registry, store } = await rig.other();
  const seen = [0, 0, 0];
  await Promise.all(
    seen.map((_, at) =>
      registry.fetchBlob(reference, layer, { ...call, onProgress: (bytes) => (seen[at] = (seen[at] ?? 0) + bytes) }),
    ),
  );
  assert.deepEqual(seen, [layer.size, layer.size, layer.size]);
  assert.deepEqual(await readdir(join(store.root, 'content/tmp')), []);
});

test('a missing tag, repository or blob is not-found and names the reference', { skip }, async () => {
  await using rig = await openRig();
  const { reference } = await pushImage(rig, `${rig.host}/there:1`, 10);
  for (const name of ['there:2', 'nowhere:1']) {
    const missing = parseReference(`${rig.host}/${name}`);
    await assert.rejects(rig.registry.resolve(missing, call), (error: unknown) => {
      assert.ok(error instanceof BuildError);
      assert.equal(error.kind, 'not-found');
      return error.message === `${missing.text}: not found`;
    });
  }
  const digest = digestOf('no such blob');
  const gone = rig.registry.fetchBlob(reference, { mediaType: MEDIA.ociLayer, digest, size: 5 }, { ...call, ...ignore });
  await assert.rejects(gone, (error: unknown) => error instanceof BuildError && error.kind === 'not-found');
});

test('a reference pinned to a digest gets that manifest and no other', { skip }, async () => {
  await using rig = await openRig();
  const first = await pushImage(rig, `${rig.host}/moving:1`, 10);
  const second = await pushImage(rig, `${rig.host}/moving:1`, 11);
  assert.notEqual(first.manifest.digest, second.manifest.digest);
  const { registry } = await rig.other();
  const pinned = await registry.resolve(parseReference(`${rig.host}/moving:1@${first.manifest.digest}`), call);
  assert.equal(pinned.descriptor.digest, first.manifest.digest);
  const moved = await registry.resolve(parseReference(`${rig.host}/moving:1`), call);
  assert.equal(moved.descriptor.digest, second.manifest.digest);
});

test('a cancelled download stops at once and leaves nothing behind', { skip }, async () => {
  await using rig = await openRig();
  const { reference, layer } = await pushImage(rig, `${rig.host}/cancel:1`, 30_000_000);
  const { registry, store } = await rig.other();
  const controller = new AbortController();
  const reason = new BuildError('cancelled', 'the client went away');
  const onProgress = () => controller.abort(reason);
  const fetched = registry.fetchBlob(reference, layer, { ...call, signal: controller.signal, onProgress });
  await assert.rejects(fetched, (error: unknown) => error instanceof BuildError && error.kind === 'cancelled');
  await registry[Symbol.asyncDispose]();
  assert.equal(await store.content.info(layer.digest), undefined);
});
