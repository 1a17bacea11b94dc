/** Snapshots to layers and back: what comes out is what went in, whatever the form of trees and the compression. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  createReadStream,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { openSys } from '../worker/sys/sys.ts';
import type { Compression, Layer, Snapshot } from './ports.ts';
import { mountsBelow, needsRoot, never, openRig, type Rig, readView, step } from './snapshots.test-rig.ts';

const sys = openSys();
const COMPRESSIONS: readonly Compression[] = ['gzip', 'zstd', 'uncompressed'];
const plain = (compression: Compression, force = true) => ({ compression, force, signal: never });

/** Blobs of another store put into this one. */
async function copyBlobs(from: Rig, to: Rig, layers: readonly Layer[]): Promise<void> {
  for (const { descriptor } of layers) {
    const bytes = createReadStream(from.content.path(descriptor.digest));
    await to.content.put(bytes, { expected: descriptor.digest, expectedSize: descriptor.size, signal: never });
  }
}

const unpack = (rig: Rig, layers: readonly Layer[]): Promise<Snapshot> =>
  rig.snapshots.unpack(layers, { description: 'pulled', signal: never });

/** Everything a layer can carry, by path; link groups are named by their first member. */
function describe(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  const inodes = new Map<bigint, string>();
  const visit = (path: string): void => {
    for (const name of readdirSync(join(dir, path)).sort()) {
      const below = join(path, name);
      const full = join(dir, below);
      const stat = lstatSync(full, { bigint: true });
      const what = stat.isSymbolicLink()
        ? `-> ${readlinkSync(full)}`
        : stat.isFile()
          ? readFileSync(full, 'latin1')
          : String(stat.rdev);
      const time = stat.isDirectory() ? '' : String(stat.mtimeNs / 1_000_000_000n);
      const capability = sys.getXattr(full, 'security.capability')?.toString('hex') ?? '';
      const first = inodes.get(stat.ino) ?? below;
      if (stat.nlink > 1n) inodes.set(stat.ino, first);
      found[below] = [stat.mode.toString(8), stat.uid, stat.gid, time, capability, stat.isDirectory() ? '' : first, what].join(
        ' ',
      );
      if (stat.isDirectory()) visit(below);
    }
  };
  visit('');
  return found;
}

const NAMES = ['a', 'b', 'c.d', 'é', 'l'.repeat(120)] as const;
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const MODES = [0o644, 0o600, 0o4755, 0o2750, 0o1777, 0o000] as const;
type Change = (dir: string, at: number) => void;

/** Changes that do nothing where the tree does not allow them, so that any sequence is one. */
const path = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));
const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ path, content: fc.string({ maxLength: 20 }), mode: fc.constantFrom(...MODES) }).map(writing),
  },
  {
    weight: 3,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          mkdirSync(join(dir, at), { recursive: true }),
    ),
  },
  {
    weight: 2,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          rmSync(join(dir, at), { recursive: true, force: true }),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          rebuild(join(dir, at)),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(path, path).map(
      ([at, target]): Change =>
        (dir) =>
          symlinkSync(target, join(dir, at)),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(path, path).map(
      ([at, target]): Change =>
        (dir) =>
          linkSync(join(dir, target), join(dir, at)),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          sys.makeNode(join(dir, at), 0o010640, 0, 0),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          sys.makeNode(join(dir, at), 0o020666, 1, 5),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(path, fc.constantFrom(...MODES)).map(
      ([at, mode]): Change =>
        (dir) =>
          chmodSync(join(dir, at), mode),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          chownSync(join(dir, at), 1234, 4_000_000),
    ),
  },
  {
    weight: 1,
    arbitrary: path.map(
      (at): Change =>
        (dir) =>
          sys.setXattr(join(dir, at), 'security.capability', CAPABILITY),
    ),
  },
);

/** Files get times that differ, as they do when steps take longer than a tick of the kernel's clock. */
function writing({ path: at, content, mode }: { path: string; content: string; mode: number }): Change {
  return (dir, index) => {
    const full = join(dir, at);
    mkdirSync(join(full, '..'), { recursive: true });
    if (lstatSync(full, { throwIfNoEntry: false })?.isFIFO() === true) rmSync(full); // opening one would wait for a reader
    writeFileSync(full, content);
    chmodSync(full, mode);
    sys.setTimes(full, 0n, BigInt(1_000_000 + index) * 1_000_000_000n + 5n);
  };
}

/** Removed and made anew: with overlayfs the new directory is opaque. */
function rebuild(dir: string): void {
  rmSync(dir, { recursive: true });
  mkdirSync(dir);
  writeFileSync(join(dir, 'new'), 'n');
}

function applyAll(changes: readonly Change[], offset: number): (dir: string) => void {
  return (dir) => {
    for (const [index, each] of changes.entries()) {
      try {
        each(dir, offset + index);
      } catch (error) {
        if (
          !['ENOENT', 'EEXIST', 'ENOTDIR', 'EISDIR', 'ELOOP', 'EPERM', 'ENODATA', 'EINVAL'].includes(
            String((error as { code?: string }).code),
          )
        )
          throw error;
      }
    }
  };
}

for (const [from, to] of [
  ['overlay', 'overlay'],
  ['overlay', 'native'],
  ['native', 'overlay'],
] as const) {
  test(`random trees survive diff on ${from} and unpack on ${to}`, needsRoot, async (t) => {
    const source = await openRig(t, { snapshotter: from });
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { maxLength: 12 }),
        fc.array(change, { maxLength: 12 }),
        fc.constantFrom(...COMPRESSIONS),
        async (one, two, compression) => {
          round += 1;
          await using base = await step(source.snapshots, undefined, applyAll(one, round * 1000));
          await using top = await step(source.snapshots, base, applyAll(two, round * 1000 + 100));
          const layers = await top.layers(plain(compression));
          const target = await openRig(t, { snapshotter: to });
          await copyBlobs(source, target, layers);
          await using lower = await unpack(target, layers.slice(0, 1));
          await using unpacked = await unpack(target, layers);
          for (const [expected, actual] of [
            [base, lower],
            [top, unpacked],
          ] as const) {
            await using a = await expected.view();
            await using b = await actual.view();
            // A link made in the upper step to a file below is a copy in its layer, as in the real daemon's.
            const relaxed = (tree: Record<string, string>): Record<string, string> =>
              expected === base ? tree : Object.fromEntries(Object.entries(tree).map(([at, text]) => [at, withoutLink(text)]));
            assert.deepEqual(relaxed(describe(b.dir)), relaxed(describe(a.dir)));
          }
          await target.snapshots.close();
        },
      ),
      { numRuns: 12 },
    );
  });
}
const withoutLink = (text: string): string => text.split(' ').toSpliced(5, 1).join(' ');

/** Something of every kind, and enough bytes for several blocks. */
function sampleTree(dir: string): void {
  execFileSync('cp', ['-a', '/usr/lib/os-release', '/etc', dir]);
  writeFileSync(
    join(dir, 'noise'),
    Buffer.from(Array.from({ length: 300_000 }, (_, n) => ((n * n * 2_654_435_761) % 4_294_967_296) >>> 13)),
  );
  writeFileSync(join(dir, 'big'), `${'some text that repeats\n'.repeat(300_000)}`);
  linkSync(join(dir, 'big'), join(dir, 'link'));
}

const DECOMPRESS = { gzip: ['gzip', '-dc'], zstd: ['zstd', '-dc'], uncompressed: ['cat'] } as const;
for (const compression of COMPRESSIONS) {
  test(`${compression} layers are read by the system's own tools, and are the same bytes each time`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter: 'overlay' });
    await using snapshot = await step(rig.snapshots, undefined, sampleTree);
    const [layer] = await snapshot.layers(plain(compression));
    assert.ok(layer);
    const blob = rig.content.path(layer.descriptor.digest);
    const [tool, ...flags] = DECOMPRESS[compression];
    const sum = execFileSync('sh', ['-c', `${[tool, ...flags].join(' ')} < ${blob} | sha256sum`], { encoding: 'utf8' });
    assert.equal(`sha256:${sum.slice(0, 64)}`, layer.diffId);
    const listed = execFileSync('sh', ['-c', `${[tool, ...flags].join(' ')} < ${blob} | tar t | wc -l`], { encoding: 'utf8' });
    await using view = await snapshot.view();
    assert.equal(
      Number(listed),
      Number(execFileSync('sh', ['-c', `find ${view.dir} -mindepth 1 | wc -l`], { encoding: 'utf8' })),
    );
    await using again = await step(rig.snapshots, undefined, (dir) => execFileSync('cp', ['-a', `${view.dir}/.`, dir]));
    assert.deepEqual((await again.layers(plain(compression)))[0]?.descriptor, layer.descriptor);
  });
}

test('layers are made once, remembered over a restart, and converted without changing their diff id', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  await using base = await step(rig.snapshots, undefined, sampleTree);
  await using top = await step(rig.snapshots, base, (dir) => rmSync(join(dir, 'etc'), { recursive: true }));
  const made = await Promise.all([top.layers(plain('gzip')), top.layers(plain('gzip'))]);
  assert.deepEqual(made[0], made[1]);
  const diffIds = made[0]?.map(({ diffId }) => diffId);
  assert.deepEqual(await top.layers(plain('zstd', false)), made[0], 'what is there will do unless it is forced');
  for (const compression of ['zstd', 'uncompressed', 'gzip'] as const) {
    const converted = await top.layers(plain(compression));
    assert.deepEqual(
      converted.map(({ diffId }) => diffId),
      diffIds,
    );
    assert.ok(
      converted.every(({ descriptor }) =>
        descriptor.mediaType.endsWith(compression === 'uncompressed' ? '.tar' : `+${compression}`),
      ),
    );
  }
  const again = await rig.reopen();
  await using reopened = (await again.open(top.id)) as Snapshot;
  assert.deepEqual(await reopened.layers(plain('gzip', false)), made[0]);
  assert.deepEqual(readdirSync(join(rig.dir, 'content/tmp')), []);
});

test('a layer blob that got lost or corrupt is made again', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  await using snapshot = await step(rig.snapshots, undefined, sampleTree);
  const [layer] = await snapshot.layers(plain('gzip'));
  assert.ok(layer);
  await rig.content.quarantine(layer.descriptor.digest);
  assert.deepEqual((await snapshot.layers(plain('gzip')))[0], layer);
  writeFileSync(rig.content.path(layer.descriptor.digest), 'rotten');
  const [zstd] = await snapshot.layers(plain('zstd'));
  assert.equal(zstd?.diffId, layer.diffId, 'converting found the rot, so it was made from the files');
});

test('blobs live as long as a snapshot names them', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  const one = await step(rig.snapshots, undefined, (dir) => writeFileSync(join(dir, 'x'), 'x'));
  await using view = await one.view();
  const two = await step(rig.snapshots, undefined, (dir) => execFileSync('cp', ['-a', `${view.dir}/.`, dir]));
  const [a] = await one.layers(plain('gzip'));
  const [b] = await two.layers(plain('gzip'));
  assert.ok(a && b && a.descriptor.digest === b.descriptor.digest);
  assert.equal(await rig.content.remove(a.descriptor.digest), false);
  await view[Symbol.asyncDispose]();
  for (const each of [one, two]) await each[Symbol.asyncDispose]();
  await rig.snapshots.remove(one.id);
  assert.ok(await rig.content.info(a.descriptor.digest));
  await rig.snapshots.remove(two.id);
  assert.equal(await rig.content.info(a.descriptor.digest), undefined);
});

test('an abort ends packing and leaves no temporary file', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  await using snapshot = await step(rig.snapshots, undefined, sampleTree);
  const controller = new AbortController();
  const layers = snapshot.layers({ compression: 'gzip', level: 9, force: true, signal: controller.signal });
  setImmediate(() => controller.abort());
  await assert.rejects(layers, { kind: 'cancelled' });
  await snapshot.layers(plain('gzip')); // waits behind the cancelled work
  assert.deepEqual(readdirSync(join(rig.dir, 'content/tmp')), []);
});

test('a snapshot is not removed while work that its callers gave up on is still ending', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  const base = await step(rig.snapshots, undefined, sampleTree);
  const top = await step(rig.snapshots, base, (dir) => rmSync(join(dir, 'etc'), { recursive: true }));
  const controller = new AbortController();
  const work = [
    top.checksum([], controller.signal),
    top.layers({ compression: 'gzip', level: 9, force: true, signal: controller.signal }),
  ];
  setImmediate(() => controller.abort());
  for (const outcome of await Promise.allSettled(work)) assert.equal(outcome.status, 'rejected');
  for (const each of [top, base]) await each[Symbol.asyncDispose]();
  while (!(await rig.snapshots.remove(top.id))) await new Promise((resolve) => setImmediate(resolve));
  while (!(await rig.snapshots.remove(base.id))) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(mountsBelow(rig.dir), 0);
});

test('an image is unpacked once however many ask, and prefixes are shared', needsRoot, async (t) => {
  const source = await openRig(t, { snapshotter: 'overlay' });
  await using base = await step(source.snapshots, undefined, sampleTree);
  await using top = await step(source.snapshots, base, (dir) => writeFileSync(join(dir, 'x'), 'x'));
  const layers = await top.layers(plain('zstd'));
  const target = await openRig(t, { snapshotter: 'overlay' });
  await copyBlobs(source, target, layers);
  const starts: string[] = [];
  const onLayer = (digest: string, state: string): unknown => (state === 'start' ? starts.push(digest) : undefined);
  const unpacked = await Promise.all(
    [layers, layers.slice(0, 1), layers].map((each) =>
      target.snapshots.unpack(each, { description: 'image', signal: never, onLayer }),
    ),
  );
  assert.equal(unpacked[0]?.id, unpacked[2]?.id);
  assert.deepEqual(unpacked[0]?.chain()[0], unpacked[1]?.id);
  assert.equal((await target.snapshots.usage()).length, 2);
  await using known = await target.snapshots.findChain(layers.map(({ diffId }) => diffId));
  assert.equal(known?.id, unpacked[0]?.id);
  assert.deepEqual(
    await known?.layers(plain('gzip', false)).then((found) => found.map(({ descriptor }) => descriptor)),
    layers.map(({ descriptor }) => descriptor),
  );
  assert.deepEqual(await readView(unpacked[0] as Snapshot), await readView(top));
  for (const each of unpacked) await each[Symbol.asyncDispose]();
});

test('one caller giving up does not end the unpacking for the other', needsRoot, async (t) => {
  const source = await openRig(t, { snapshotter: 'overlay' });
  await using base = await step(source.snapshots, undefined, sampleTree);
  const layers = await base.layers(plain('gzip'));
  const target = await openRig(t, { snapshotter: 'overlay' });
  await copyBlobs(source, target, layers);
  const controller = new AbortController();
  const [gone, stays] = [controller.signal, never].map((signal) =>
    target.snapshots.unpack(layers, { description: 'image', signal }),
  );
  controller.abort();
  await assert.rejects(gone as Promise<Snapshot>, { kind: 'cancelled' });
  await using snapshot = await (stays as Promise<Snapshot>);
  assert.ok((await readView(snapshot)).noise);
});
