/** Images from a real registry, unpacked into real snapshots. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { missingTool, startRegistry } from '../../../test/fixtures/registry.ts';
import { chainIdsOf, diffIdOf, digestOf, parseDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { encodeIndex, encodeManifest, MEDIA } from '../registry/manifest.ts';
import type { RegistryCall } from '../registry/ports.ts';
import { parseReference } from '../registry/reference.ts';
import { needsRoot } from '../snapshot/snapshots.test-rig.ts';
import { createMetadataResolver } from './metadata-resolver.ts';
import { contextOf, LINUX, loadFrom, noSessions, openSourceRig, type SourceRig } from './source.test-rig.ts';

const options = {
  ...needsRoot,
  ...(missingTool('docker-registry') === false ? {} : { skip: 'docker-registry is not installed' }),
};
const call: RegistryCall = {
  auth: { token: async () => undefined, credentials: async () => ({ username: '', secret: '' }) },
  signal: new AbortController().signal,
};

/** A tar of files by name. */
function tarOf(files: Readonly<Record<string, string>>): Buffer {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-tar-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(dir, name, '..'), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  const tar = execFileSync('tar', ['-C', dir, '--sort=name', '-cf', '-', '.'], { maxBuffer: 2 ** 30 });
  rmSync(dir, { recursive: true });
  return tar;
}

async function put(rig: SourceRig, bytes: Uint8Array, mediaType: string): Promise<Descriptor> {
  await rig.content.put(bytes, { signal: call.signal });
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
}

/** Publishes an image whose layers are tars, and empties the local store of it, so that it must be pulled. */
async function publish(
  rig: SourceRig,
  name: string,
  layers: readonly Buffer[],
  architecture = 'amd64',
  diffIds?: readonly string[],
) {
  const reference = parseReference(name);
  const descriptors = await Promise.all(layers.map((tar) => put(rig, gzipSync(tar, { level: 1 }), MEDIA.ociLayerGzip)));
  const ids = diffIds ?? layers.map((tar) => digestOf(tar));
  const configJson = {
    os: 'linux',
    architecture,
    config: { Env: [`ARCH=${architecture}`] },
    rootfs: { type: 'layers', diff_ids: ids },
  };
  const config = await put(rig, new TextEncoder().encode(JSON.stringify(configJson)), MEDIA.ociConfig);
  for (const descriptor of [...descriptors, config])
    await rig.deps.registry.pushBlob(reference, descriptor, { ...call, onProgress: () => undefined });
  const bytes = encodeManifest({ mediaType: MEDIA.ociManifest, config, layers: descriptors });
  const manifest: Descriptor = { mediaType: MEDIA.ociManifest, digest: digestOf(bytes), size: bytes.byteLength };
  await rig.deps.registry.pushManifest(reference, manifest, bytes, call);
  for (const { digest } of [...descriptors, config]) await rig.content.remove(digest);
  return { reference, manifest, config, layers: descriptors, diffIds: ids };
}
async function publishIndex(rig: SourceRig, name: string, manifests: readonly Descriptor[]): Promise<Descriptor> {
  const bytes = encodeIndex({ mediaType: MEDIA.ociIndex, manifests });
  const descriptor: Descriptor = { mediaType: MEDIA.ociIndex, digest: digestOf(bytes), size: bytes.byteLength };
  await rig.deps.registry.pushManifest(parseReference(name), descriptor, bytes, call);
  return descriptor;
}
const resolverOf = (rig: SourceRig) => createMetadataResolver({ ...rig.deps, sessions: noSessions, defaultPlatform: LINUX });

async function openRegistryRig(t: TestContext): Promise<{ rig: SourceRig; host: string }> {
  const registry = await startRegistry();
  t.after(() => registry[Symbol.asyncDispose]());
  return { rig: await openSourceRig(t), host: registry.host };
}

test('an image is pulled, unpacked in order, and shown layer by layer', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const image = await publish(rig, `${host}/app:1`, [
    tarOf({ 'etc/a': 'base', b: 'base' }),
    tarOf({ b: 'top', '.wh.c': '' }),
    tarOf({ d: 'last' }),
  ]);
  const { key, tree, lines } = await rig.load(`docker-image://${host}/app:1`);
  assert.deepEqual(tree, { b: 'top', d: 'last', etc: 'dir', 'etc/a': 'base' });
  assert.equal(key, digestOf(`{"Digest":"${image.manifest.digest}","OS":"linux","Arch":"amd64"}`));
  assert.deepEqual(
    [...lines].sort(),
    [
      ...image.layers.map(({ digest }) => `extracting ${digest} done`),
      `resolve ${host}/app:1 done`,
      ...image.layers.map(({ digest }) => `${digest} done`),
    ].sort(),
  );
  assert.deepEqual(
    rig.deps.origins.of(image.layers[0]?.digest ?? assert.fail()).map(({ text }) => text),
    [`${host}/app:1`],
  );
});

test('the second key is the chain id of the layers, the same in any registry', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const image = await publish(rig, `${host}/app:1`, [tarOf({ a: '1' }), tarOf({ b: '2' })]);
  const instance = rig.open(`docker-image://${host}/app:1`);
  const { context } = contextOf([]);
  assert.equal((await instance.cacheKey(context, 0)).done, false);
  const chain = chainIdsOf(image.diffIds.map((id) => diffIdOf(parseDigest(id)))).at(-1);
  assert.deepEqual(await instance.cacheKey(context, 1), { key: chain, done: true, pin: image.manifest.digest });
});

test('an unpacked image is not fetched again', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const image = await publish(rig, `${host}/app:1`, [tarOf({ a: '1' })]);
  const { context, lines } = contextOf([]);
  const first = rig.open(`docker-image://${host}/app:1`);
  await first.cacheKey(context, 0);
  await using held = await first.fetch(context);
  assert.ok(lines.includes(`${image.layers[0]?.digest} done`));
  const again = await rig.load(`docker-image://${host}/app:1`);
  assert.deepEqual(again.lines, [`resolve ${host}/app:1 done`]);
  assert.deepEqual(again.tree, { a: '1' });
  assert.notEqual(held, undefined);
});

test('the platform chooses the image of an index, and what nobody offers is not found', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const entries: Descriptor[] = [];
  for (const architecture of ['arm64', 'amd64']) {
    const { manifest } = await publish(rig, `${host}/multi:${architecture}`, [tarOf({ arch: architecture })], architecture);
    entries.push({ ...manifest, platform: { os: 'linux', architecture } });
  }
  const index = await publishIndex(rig, `${host}/multi:1`, entries);
  for (const architecture of ['amd64', 'arm64']) {
    const { context, lines } = contextOf([]);
    const { key, tree } = await loadFrom(
      rig.open(`docker-image://${host}/multi:1`, {}, { ...LINUX, architecture }),
      context,
      lines,
    );
    assert.deepEqual(tree, { arch: architecture });
    assert.equal(key, digestOf(`{"Digest":"${index.digest}","OS":"linux","Arch":"${architecture}"}`));
  }
  const riscv = rig.open(`docker-image://${host}/multi:1`, {}, { ...LINUX, architecture: 'riscv64' });
  await assert.rejects(riscv.cacheKey(contextOf([]).context, 0), (error: unknown) => {
    assert.ok(error instanceof BuildError && error.kind === 'not-found');
    assert.equal(error.message, 'no match for platform in manifest: not found');
    return error.detail.hint === 'wanted linux/riscv64; the image has linux/arm64, linux/amd64';
  });
});

test('an image without layers is scratch', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  await publish(rig, `${host}/empty:1`, []);
  assert.equal((await rig.load(`docker-image://${host}/empty:1`)).tree, undefined);
});

test('a layer limit takes the lowest layers and changes both keys', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const { manifest } = await publish(rig, `${host}/app:1`, [tarOf({ a: '1' }), tarOf({ b: '2' })]);
  const { key, tree } = await rig.load(`docker-image://${host}/app:1`, { 'image.layerlimit': '1' });
  assert.deepEqual(tree, { a: '1' });
  assert.equal(key, digestOf(`{"Digest":"${manifest.digest}","OS":"linux","Arch":"amd64","Limit":1}`));
  await assert.rejects(
    rig.load(`docker-image://${host}/app:1`, { 'image.layerlimit': '3' }),
    /layer limit 3 is greater than the number of layers in the image 2/,
  );
});

test('a checksum that does not match fails the step, one that matches does not', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const { manifest } = await publish(rig, `${host}/app:1`, [tarOf({ a: '1' })]);
  await rig.load(`docker-image://${host}/app:1`, { 'image.checksum': manifest.digest });
  await assert.rejects(
    rig.load(`docker-image://${host}/app:1`, { 'image.checksum': digestOf('other') }),
    (error: unknown) =>
      error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes('does not match expected checksum'),
  );
});

for (const [attrs, message] of [
  [{ 'image.resolvemode': 'maybe' }, 'invalid resolvemode: maybe'],
  [{ 'image.layerlimit': '0' }, 'invalid layer limit 0'],
  [{ 'image.recordtype': 'odd' }, 'invalid record type odd'],
  [{ 'image.checksum': 'md5:x' }, '"md5:x" is not a digest'],
] as const)
  test(`the attribute ${JSON.stringify(attrs)} is refused when the op is made`, needsRoot, async (t) => {
    const rig = await openSourceRig(t);
    assert.throws(
      () => rig.open('docker-image://busybox', attrs),
      (error: unknown) => error instanceof BuildError && error.message.includes(message),
    );
  });

test('a layer that does not unpack to its diff id is corrupt, and the daemon goes on', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  await publish(rig, `${host}/bad:1`, [tarOf({ a: '1' })], 'amd64', [digestOf('something else')]);
  await assert.rejects(
    rig.load(`docker-image://${host}/bad:1`),
    (error: unknown) => error instanceof BuildError && error.kind === 'corrupt',
  );
  await publish(rig, `${host}/good:1`, [tarOf({ a: '2' })]);
  assert.deepEqual((await rig.load(`docker-image://${host}/good:1`)).tree, { a: '2' });
});

test('a config that counts other layers than the manifest is refused', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  await publish(rig, `${host}/odd:1`, [tarOf({ a: '1' })], 'amd64', []);
  await assert.rejects(rig.load(`docker-image://${host}/odd:1`), /mismatched image rootfs and manifest layers: 0 and 1/);
});

test('a layer that is missing from the registry fails the pull and stops the other downloads', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const image = await publish(rig, `${host}/hole:1`, [tarOf({ a: '1' }), tarOf({ b: '2' })]);
  await fetch(`http://${host}/v2/hole/blobs/${image.layers[1]?.digest}`, { method: 'DELETE' });
  await assert.rejects(
    rig.load(`docker-image://${host}/hole:1`),
    (error: unknown) => error instanceof BuildError && error.kind === 'not-found',
  );
});

test('a tag resolves once per build, and a new build sees where it moved', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const first = await publish(rig, `${host}/moving:1`, [tarOf({ a: '1' })]);
  const request = { ref: `${host}/moving:1`, platform: undefined, resolveMode: 'default' };
  const { context } = contextOf([]);
  const build = resolverOf(rig);
  const [one, two] = await Promise.all([build.resolveImageConfig(request, context), build.resolveImageConfig(request, context)]);
  assert.equal(one.digest, first.manifest.digest);
  assert.equal(one, two);
  assert.equal(digestOf(one.config), first.config.digest);
  const second = await publish(rig, `${host}/moving:1`, [tarOf({ a: '2' })]);
  assert.equal((await build.resolveImageConfig(request, context)).digest, first.manifest.digest);
  assert.equal((await resolverOf(rig).resolveImageConfig(request, context)).digest, second.manifest.digest);
});

test('a missing base image says which and why', options, async (t) => {
  const { rig, host } = await openRegistryRig(t);
  const request = { ref: `${host}/nothing:1`, platform: undefined, resolveMode: 'default' };
  await assert.rejects(
    resolverOf(rig).resolveImageConfig(request, contextOf([]).context),
    (error: unknown) =>
      error instanceof BuildError && error.kind === 'not-found' && error.message === `${host}/nothing:1: not found`,
  );
});
