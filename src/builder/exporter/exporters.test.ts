/** Every exporter on real snapshots; clients are a real buildctl, registries a real docker-registry, and skopeo reads what came out. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { missingTool, startRegistry } from '../../../test/fixtures/registry.ts';
import { type Digest, digestOf, hexOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import { MEDIA } from '../registry/manifest.ts';
import { buildctlPath } from '../session/session.test-rig.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { readTree } from '../snapshot/snapshots.test-rig.ts';
import { openSys } from '../worker/sys/sys.ts';
import { type ExportRig, multi, needsRoot, noSessions, openExportRig, single, step } from './export.test-rig.ts';
import { validateImage } from './validate-image.ts';

const withBuildctl = { ...needsRoot, ...(buildctlPath === undefined ? { skip: 'buildctl is not installed' } : {}) };
const withRegistry = {
  ...needsRoot,
  ...(missingTool('docker-registry') === false ? {} : { skip: 'docker-registry is not installed' }),
};
const skopeo = missingTool('skopeo') === false;
const EPOCH = 1_700_000_000;

/** Two layers: files of all kinds, then a change and a removal. */
async function twoLayers(t: TestContext, rig: ExportRig): Promise<Snapshot> {
  const base = await step(rig.snapshots, undefined, (dir) => {
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'bin/tool'), 'tool\n', { mode: 0o755 });
    writeFileSync(join(dir, 'gone'), 'x');
    symlinkSync('bin/tool', join(dir, 'link'));
  });
  t.after(() => base[Symbol.asyncDispose]());
  const top = await step(rig.snapshots, base, (dir) => {
    execFileSync('rm', [join(dir, 'gone')]);
    writeFileSync(join(dir, 'new'), 'n'.repeat(100_000));
    linkSync(join(dir, 'new'), join(dir, 'same'));
    chmodSync(join(dir, 'new'), 0o4750);
  });
  t.after(() => top[Symbol.asyncDispose]());
  return top;
}
const config = JSON.stringify({ os: 'linux', architecture: 'amd64', config: { Env: ['A=b'], Cmd: ['/bin/tool'] } });
const tree = { bin: 'dir', 'bin/tool': 'tool\n', link: '-> bin/tool', new: 'n'.repeat(100_000), same: 'n'.repeat(100_000) };

test('an image of two layers is whole, and its response names what was made', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  const snapshot = await twoLayers(t, rig);
  const { outcome, lines } = await rig.export(
    'image',
    { name: 'example.com/a:1,example.com/b' },
    single(snapshot, { 'containerimage.config': config }),
  );
  const [image] = await rig.validate(outcome.descriptor);
  assert.equal(image?.manifest.layers.length, 2);
  assert.deepEqual(image?.config.config, { Env: ['A=b'], Cmd: ['/bin/tool'] });
  const { digest } = outcome.descriptor ?? assert.fail();
  assert.deepEqual(Object.fromEntries(outcome.response), {
    'containerimage.digest': digest,
    'containerimage.config.digest': image?.manifest.config.digest,
    'containerimage.descriptor': Buffer.from(
      `{"mediaType":"${MEDIA.ociManifest}","digest":"${digest}","size":${outcome.descriptor?.size},"platform":{"architecture":"amd64","os":"linux"}}`,
    ).toString('base64'),
    'image.name': 'example.com/a:1,example.com/b',
  });
  assert.deepEqual(lines, [
    'exporting layers done',
    `exporting manifest ${digest} done`,
    `exporting config ${image?.manifest.config.digest} done`,
    'naming to example.com/a:1 done',
    'naming to example.com/b done',
  ]);
  assert.equal(rig.images.find('example.com/a:1')?.digest, digest);
  assert.equal(outcome.blobs.length, 4);
});

test('the same result exported twice is the same image', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  const digests = [await rig.export('image', {}, source), await rig.export('image', {}, source)].map(
    ({ outcome }) => outcome.descriptor?.digest,
  );
  assert.equal(digests[0], digests[1]);
});

for (const [attributes, manifestType, layerType] of [
  [{ 'oci-mediatypes': 'false' }, MEDIA.dockerManifest, MEDIA.dockerLayerGzip],
  [{ compression: 'zstd', 'force-compression': 'true' }, MEDIA.ociManifest, MEDIA.ociLayerZstd],
  [{ compression: 'uncompressed' }, MEDIA.ociManifest, MEDIA.ociLayer],
  [{ compression: 'gzip', 'compression-level': '9' }, MEDIA.ociManifest, MEDIA.ociLayerGzip],
] as const)
  test(`${JSON.stringify(attributes)} gives layers of type ${layerType}`, needsRoot, async (t) => {
    const rig = await openExportRig(t);
    const { outcome } = await rig.export(
      'image',
      attributes,
      single(await twoLayers(t, rig), { 'containerimage.config': config }),
    );
    const [image] = await rig.validate(outcome.descriptor);
    assert.equal(image?.manifest.mediaType, manifestType);
    assert.deepEqual(
      image?.manifest.layers.map(({ mediaType }) => mediaType),
      [layerType, layerType],
    );
  });

test('annotations land on manifest, index and descriptors as asked', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  const snapshot = await twoLayers(t, rig);
  const { outcome } = await rig.export(
    'image',
    {
      'annotation.all': '1',
      'annotation-manifest[linux/arm64].arm': '2',
      'annotation-index.index': '3',
      'annotation-manifest-descriptor.descriptor': '4',
      'annotation-index-descriptor.root': '5',
    },
    multi({ 'linux/amd64': snapshot, 'linux/arm64': snapshot }),
  );
  const images = await rig.validate(outcome.descriptor);
  assert.deepEqual(
    images.map(({ manifest }) => manifest.annotations),
    [{ all: '1' }, { all: '1', arm: '2' }],
  );
  const index = JSON.parse(
    Buffer.from(await rig.content.readAll(outcome.descriptor?.digest ?? assert.fail(), 10_000)).toString(),
  );
  assert.deepEqual(index.annotations, { index: '3' });
  assert.deepEqual(
    index.manifests.map((m: { annotations: unknown }) => m.annotations),
    [{ descriptor: '4' }, { descriptor: '4' }],
  );
  assert.deepEqual(outcome.descriptor?.annotations, { root: '5' });
  assert.equal(outcome.response.has('containerimage.config.digest'), false);
});

test('scratch is an image without layers', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  const { outcome } = await rig.export('image', {}, single(undefined, { 'containerimage.config': config }));
  const [image] = await rig.validate(outcome.descriptor);
  assert.deepEqual(image?.manifest.layers, []);
});

test('a source date epoch with rewrite-timestamp makes files, history and config no newer', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  const snapshot = await step(rig.snapshots, undefined, (dir) => {
    for (const [name, time] of [
      ['later', EPOCH + 100],
      ['earlier', EPOCH - 100],
    ] as const) {
      writeFileSync(join(dir, name), name);
      utimesSync(join(dir, name), time, time);
    }
    utimesSync(dir, EPOCH, EPOCH);
  });
  t.after(() => snapshot[Symbol.asyncDispose]());
  const attributes = { 'source-date-epoch': String(EPOCH), 'rewrite-timestamp': 'true' };
  const { outcome, lines } = await rig.export('image', attributes, single(snapshot, { 'containerimage.config': config }));
  assert.ok(
    lines.includes(`rewriting layers with source-date-epoch ${EPOCH} (2023-11-14 22:13:20 +0000 UTC) done`),
    lines.join('\n'),
  );
  const [image] = await rig.validate(outcome.descriptor);
  assert.equal(image?.config.created, '2023-11-14T22:13:20Z');
  const layer = image?.manifest.layers[0] ?? assert.fail();
  assert.deepEqual(layer.annotations, { 'buildkit/rewritten-timestamp': String(EPOCH) });
  const listing = execFileSync('tar', ['tzvf', rig.content.path(layer.digest), '--full-time', '--utc']).toString();
  assert.match(listing, /2023-11-14 22:13:20 later/);
  assert.match(listing, /2023-11-14 22:11:40 earlier/);
});

for (const [attributes, message] of [
  [{ push: 'maybe' }, 'non-bool value specified for push'],
  [{ compression: 'lzma' }, 'unsupported compression type lzma'],
  [{ compression: 'zstd', 'oci-mediatypes': 'false' }, 'conflicts with "oci-mediatypes=false"'],
  [{ 'source-date-epoch': 'now' }, 'invalid source-date-epoch'],
  [{ 'annotation-planet.x': 'y' }, 'unrecognized annotation type planet'],
  [{ name: 'example.com/Case', push: 'true' }, 'must be lowercase'],
  [{ name: 'a:1', push: 'true', 'push-by-digest': 'true' }, "can't push tagged ref docker.io/library/a:1 by digest"],
] as const)
  test(`the image exporter refuses ${JSON.stringify(attributes)} before the build runs`, needsRoot, async (t) => {
    const rig = await openExportRig(t);
    assert.throws(
      () => rig.exportersFor(noSessions).create('image', new Map(Object.entries(attributes))),
      (error: unknown) => error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes(message),
    );
  });

test('an unknown exporter is not found', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  assert.throws(() => rig.exportersFor(noSessions).create('floppy', new Map()), /exporter "floppy" could not be found/);
});

test('an image is pushed whole, mounted the second time, and skopeo reads it', withRegistry, async (t) => {
  const rig = await openExportRig(t);
  await using registry = await startRegistry();
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  const name = `${registry.host}/team/app`;
  const { outcome, lines } = await rig.export('image', { name: `${name}:1`, push: 'true' }, source);
  const digest = outcome.descriptor?.digest ?? assert.fail();
  assert.deepEqual(lines.slice(-2), ['pushing layers done', `pushing manifest for ${name}:1@${digest} done`]);
  const read = async (blob: Digest): Promise<Uint8Array> => {
    const kind = blob === digest ? 'manifests' : 'blobs';
    return new Uint8Array(
      await (
        await fetch(`${registry.url}/v2/team/app/${kind}/${blob}`, { headers: { accept: MEDIA.ociManifest } })
      ).arrayBuffer(),
    );
  };
  await validateImage(outcome.descriptor ?? assert.fail(), read);
  await rig.export('image', { name: `${registry.host}/other:1`, push: 'true' }, source);
  const byDigest = await rig.export('image', { name, push: 'true', 'push-by-digest': 'true' }, source);
  assert.deepEqual(byDigest.lines.at(-1), `pushing manifest for ${name} done`);
  if (!skopeo) return t.diagnostic('skopeo is not installed: not asked');
  for (const reference of [`${name}:1`, `${registry.host}/other:1`, `${name}@${digest}`]) {
    const text = execFileSync('skopeo', ['inspect', '--tls-verify=false', `docker://${reference}`]).toString();
    assert.equal(JSON.parse(text).Digest, digest);
  }
});

test('a push that fails names the image', withRegistry, async (t) => {
  const rig = await openExportRig(t);
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  await assert.rejects(
    rig.export('image', { name: 'no-such-registry.invalid/a:1', push: 'true' }, source),
    (error: unknown) =>
      error instanceof BuildError &&
      error.kind === 'unavailable' &&
      error.message.startsWith('failed to push no-such-registry.invalid/a:1: failed to do request: Head'),
  );
});

test('several platforms are pushed as an index', withRegistry, async (t) => {
  const rig = await openExportRig(t);
  await using registry = await startRegistry();
  const snapshot = await twoLayers(t, rig);
  const { outcome } = await rig.export(
    'image',
    { name: `${registry.host}/m:1`, push: 'true' },
    multi({ 'linux/amd64': snapshot, 'linux/arm64': snapshot }),
  );
  assert.equal(outcome.descriptor?.mediaType, MEDIA.ociIndex);
  assert.equal((await rig.validate(outcome.descriptor)).length, 2);
  if (!skopeo) return t.diagnostic('skopeo is not installed: not asked');
  const args = ['inspect', '--tls-verify=false', '--override-arch', 'arm64', `docker://${registry.host}/m:1`];
  assert.equal(JSON.parse(execFileSync('skopeo', args).toString()).Architecture, 'arm64');
});

test('an OCI tarball arrives at the client whole, in the order of names', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'out.tar');
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  const { outcome, status, output, lines } = await rig.exportTo(`type=oci,dest=${dest}`, source, 'oci', {
    name: 'example.com/app:1',
  });
  assert.equal(status, 0, output);
  assert.ok(lines.includes('sending tarball done'));
  const names = execFileSync('tar', ['tf', dest]).toString().trim().split('\n');
  assert.deepEqual(names, [...names].sort());
  assert.deepEqual(
    names.filter((name) => !name.startsWith('blobs/')),
    ['index.json', 'oci-layout'],
  );
  const file = (name: string): Buffer => execFileSync('tar', ['xOf', dest, name], { maxBuffer: 2 ** 30 });
  const index = JSON.parse(file('index.json').toString());
  assert.equal(index.manifests.length, 1);
  const { annotations, ...descriptor } = index.manifests[0] as Descriptor & { annotations: Record<string, string> };
  assert.equal(annotations['io.containerd.image.name'], 'example.com/app:1');
  assert.equal(annotations['org.opencontainers.image.ref.name'], '1');
  assert.match(annotations['org.opencontainers.image.created'] ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.deepEqual(descriptor, { ...outcome.descriptor });
  await validateImage(descriptor, async (digest) => file(`blobs/sha256/${hexOf(digest)}`));
  if (skopeo)
    assert.equal(JSON.parse(execFileSync('skopeo', ['inspect', `oci-archive:${dest}`]).toString()).Digest, descriptor.digest);
});

test('a Docker tarball has the manifest that docker load reads', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'out.tar');
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  const { status, output } = await rig.exportTo(`type=docker,dest=${dest}`, source, 'docker', { name: 'app,example.com/app:1' });
  assert.equal(status, 0, output);
  const [image] = JSON.parse(execFileSync('tar', ['xOf', dest, 'manifest.json']).toString());
  assert.deepEqual(image.RepoTags, ['app:latest', 'example.com/app:1']);
  const names = execFileSync('tar', ['tf', dest]).toString().trim().split('\n');
  for (const name of [image.Config, ...image.Layers]) assert.ok(names.includes(name), name);
  if (skopeo)
    assert.match(execFileSync('skopeo', ['inspect', `docker-archive:${dest}:app:latest`]).toString(), /"Architecture": "amd64"/);
});

test('the docker exporter refuses several platforms', needsRoot, async (t) => {
  const rig = await openExportRig(t);
  await assert.rejects(
    rig.export('docker', {}, multi({ 'linux/amd64': undefined })),
    /docker exporter does not currently support exporting manifest lists/,
  );
});

test('an OCI layout directory is filled through the client, which writes the index', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'layout');
  const source = single(await twoLayers(t, rig), { 'containerimage.config': config });
  const { outcome, output } = await rig.exportTo(`type=oci,dest=${dest},tar=false`, source, 'oci', { tar: 'false' });
  const read = async (digest: Digest): Promise<Uint8Array> =>
    new Uint8Array(readFileSync(join(dest, 'blobs/sha256', hexOf(digest))));
  assert.equal((await validateImage(outcome.descriptor ?? assert.fail(output), read)).length, 1);
});

test('files arrive in a directory of the client', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'out');
  const { status, output, lines } = await rig.exportTo(`type=local,dest=${dest}`, single(await twoLayers(t, rig)), 'local');
  assert.equal(status, 0, output);
  assert.deepEqual(readTree(dest), tree);
  assert.deepEqual(lines, ['copying files done']);
});

test('platforms arrive in directories of their own, and an empty result is an empty directory', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'out');
  const source = multi({ 'linux/amd64': await twoLayers(t, rig), 'linux/arm64': undefined });
  const { status, output, lines } = await rig.exportTo(`type=local,dest=${dest}`, source, 'local');
  assert.equal(status, 0, output);
  assert.deepEqual(readTree(join(dest, 'linux_amd64')), tree);
  assert.deepEqual(lines, ['copying files linux/amd64 done', 'copying files linux/arm64 done']);
  assert.equal(existsSync(join(dest, 'linux_arm64/bin')), false);
});

test('a tarball of the root filesystem keeps links, modes, attributes and times', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const dest = join(rig.dir, 'root.tar');
  const sys = openSys();
  const snapshot = await step(rig.snapshots, undefined, (dir) => {
    writeFileSync(join(dir, 'a'), 'x'.repeat(5_000_000), { mode: 0o600 });
    linkSync(join(dir, 'a'), join(dir, 'b'));
    sys.setXattr(join(dir, 'a'), 'user.test', Buffer.from('v'));
    symlinkSync('/a', join(dir, 'l'));
    mkdirSync(join(dir, 'd'), { mode: 0o700 });
    lutimesSync(join(dir, 'a'), EPOCH, EPOCH);
  });
  t.after(() => snapshot[Symbol.asyncDispose]());
  const { status, output } = await rig.exportTo(`type=tar,dest=${dest}`, single(snapshot), 'tar');
  assert.equal(status, 0, output);
  const listing = execFileSync('tar', [
    'tvf',
    dest,
    '--numeric-owner',
    '--full-time',
    '--utc',
    '--xattrs',
    '--xattrs-include=*',
  ]).toString();
  assert.match(listing, /^-rw-------\*? 0\/0 +5000000 2023-11-14 22:13:20 a$/m);
  assert.match(listing, /^hrw-------\*? 0\/0 +0 2023-11-14 22:13:20 b link to a$/m);
  assert.match(listing, /^l.* l -> \/a$/m);
  assert.match(listing, /^drwx------ .* d\/$/m);
  assert.ok(readFileSync(dest).includes('SCHILY.xattr.user.test=v'));
  assert.equal(digestOf(execFileSync('tar', ['xOf', dest, 'a'], { maxBuffer: 2 ** 30 })), digestOf('x'.repeat(5_000_000)));
});

test('a client that goes away in the middle of a tarball stops the packing', withBuildctl, async (t) => {
  const rig = await openExportRig(t);
  const snapshot = await step(rig.snapshots, undefined, (dir) => writeFileSync(join(dir, 'big'), Buffer.alloc(60_000_000)));
  t.after(() => snapshot[Symbol.asyncDispose]());
  // /dev/full takes the file but not the bytes
  await assert.rejects(rig.exportTo('type=tar,dest=/dev/full', single(snapshot), 'tar'));
  assert.equal(rig.pool.waiting, 0);
});
