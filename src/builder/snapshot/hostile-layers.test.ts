/** Layers made to hurt: whatever they say, nothing outside the snapshot changes, and what fails leaves nothing behind. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { type DiffId, type Digest, diffIdOf, digestOf } from '../../core/digest.ts';
import { BuildError, type ErrorKind } from '../../core/errors.ts';
import type { Snapshot, UnpackLayer } from './ports.ts';
import { mountsBelow, needsRoot, never, openRig, type Rig, readTree, readView } from './snapshots.test-rig.ts';
import { padding, type TarEntry, TYPE } from './tar/header.ts';
import { END, tarHeader } from './tar/write.ts';

type Item = Partial<TarEntry> & { readonly name: string; readonly content?: string };
const file = (name: string, content = 'x'): Item => ({ name, content });
const symlink = (name: string, linkname: string): Item => ({ name, linkname, type: TYPE.symlink, mode: 0o777 });
const hardlink = (name: string, linkname: string): Item => ({ name, linkname, type: TYPE.link });
const directory = (name: string, mode = 0o755): Item => ({ name, type: TYPE.directory, mode });

function archive(items: readonly Item[]): Buffer {
  return Buffer.concat([
    ...items.flatMap(({ content = '', ...fields }) => {
      const entry: TarEntry = {
        type: TYPE.file,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: content.length,
        mtimeNs: 1_000_000_000n,
        linkname: '',
        devMajor: 0,
        devMinor: 0,
        xattrs: new Map(),
        ...fields,
      };
      return [tarHeader(entry), Buffer.from(content), Buffer.alloc(padding(content.length))];
    }),
    END,
  ]);
}

async function put(rig: Rig, tar: Buffer, blob: Buffer = tar, diffId: DiffId = diffIdOf(digestOf(tar))): Promise<UnpackLayer> {
  const { digest, sizeBytes } = await rig.content.put(blob, { signal: never });
  return { descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: sizeBytes }, diffId };
}

const unpack = (rig: Rig, layers: readonly UnpackLayer[]): Promise<Snapshot> =>
  rig.snapshots.unpack(layers, { description: 'hostile', signal: never });

/** A directory that must stay as it is, and a link target that leads there. */
function sentinel(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-sentinel-'));
  writeFileSync(join(dir, 'victim'), 'untouched');
  mkdirSync(join(dir, 'sub'), { mode: 0o750 });
  t.after(() => {
    assert.deepEqual(readTree(dir), { sub: 'dir', victim: 'untouched' });
    rmSync(dir, { recursive: true });
  });
  return dir;
}

const outside = '/@outside@';
const REFUSED: readonly (readonly [name: string, items: readonly Item[], kind: ErrorKind])[] = [
  ['a name that climbs out', [file('../escape')], 'invalid-input'],
  ['a name that climbs out later', [directory('a/'), file('a/../../escape')], 'invalid-input'],
  ['a hard link that climbs out', [hardlink('h', `../../../../../../../..${outside}/victim`)], 'invalid-input'],
  ['a hard link to a path of the host', [hardlink('h', `${outside}/victim`)], 'invalid-input'],
  ['a hard link through a symlink to the host', [symlink('s', outside), hardlink('h', 's/victim')], 'invalid-input'],
  ['a hard link to the root', [hardlink('h', '/')], 'invalid-input'],
  ['a hard link to a directory', [directory('d/'), hardlink('h', 'd')], 'invalid-input'],
  ['a whiteout of the parent', [file('d/.wh...', '')], 'invalid-input'],
  ['a whiteout of nothing', [file('d/.wh.', '')], 'invalid-input'],
  ['an entry below a file', [file('f'), file('f/below')], 'invalid-input'],
  ['a loop of links', [symlink('a', 'b'), symlink('b', 'a'), file('a/x')], 'invalid-input'],
  ['a name no file system takes', [file('n'.repeat(300))], 'invalid-input'],
  ['an unknown type', [{ name: 'x', type: 'Z' }], 'invalid-input'],
];

const CONTAINED: readonly (readonly [name: string, items: readonly Item[], tree: Record<string, string>])[] = [
  ['an absolute name', [file(`${outside}/x`)], { [`${outside.slice(1)}`]: 'dir', [`${outside.slice(1)}/x`]: 'x' }],
  [
    'a file behind an absolute symlink',
    [directory('in/'), symlink('s', '/in'), file('s/x')],
    { in: 'dir', 'in/x': 'x', s: '-> /in' },
  ],
  ['a file behind a climbing symlink', [symlink('s', '../../../../../..'), file('s/x')], { s: '-> ../../../../../..', x: 'x' }],
  [
    'a symlink in place of a file, then the file again',
    [file('f'), symlink('f', `${outside}/victim`), file('f', 'mine')],
    { f: 'mine' },
  ],
  [
    'a symlink in place of a directory that was written to',
    [directory('d/'), file('d/a'), symlink('d', '/e'), directory('e/'), file('d/b')],
    { d: '-> /e', e: 'dir', 'e/b': 'x' },
  ],
  ['a directory in place of a symlink', [symlink('d', outside), directory('d/'), file('d/x')], { d: 'dir', 'd/x': 'x' }],
  ['the same file twice', [file('f', '1'), file('f', '22')], { f: '22' }],
  [
    'attributes that belong to the machine',
    [{ ...directory('d/'), xattrs: new Map([['trusted.overlay.opaque', Buffer.from('y')]]) }],
    { d: 'dir' },
  ],
  ['nothing at all', [], {}],
];

/** What can only be settled with the layers below must not lead through a symlink of any of them. */
const THROUGH_LINKS: readonly (readonly [name: string, below: readonly Item[], above: readonly Item[], outcome?: ErrorKind])[] = [
  ['a hard link through a symlink of the layer below', [symlink('s', outside)], [hardlink('h', 's/victim')], 'invalid-input'],
  ['a hard link through a symlink of its own', [file('x')], [symlink('s', outside), hardlink('h', 's/victim')], 'invalid-input'],
  [
    'a hard link out of a directory that became a symlink',
    [directory('d/'), file('d/f')],
    [hardlink('d/h', 'd/f'), symlink('d', outside)],
  ],
  [
    'times of a directory whose parent became a symlink',
    [file('x')],
    [directory('d/'), directory('d/sub/'), symlink('d', outside)],
  ],
  [
    'attributes for an implied directory whose parent became a symlink',
    [directory('d/'), directory('d/sub/', 0o711)],
    [file('d/sub/x'), symlink('d', outside)],
  ],
  [
    'a whiteout in a directory that became a symlink',
    [directory('d/'), file('d/victim')],
    [file('d/.wh.victim', ''), symlink('d', outside)],
  ],
];

for (const snapshotter of ['overlay', 'native'] as const) {
  for (const [name, items, kind] of REFUSED) {
    test(`${snapshotter}: a layer with ${name} is refused, and nothing is left of it`, needsRoot, async (t) => {
      const host = sentinel(t);
      const rig = await openRig(t, { snapshotter });
      const layer = await put(rig, archive(items.map((item) => pointed(item, host))));
      await assert.rejects(unpack(rig, [layer]), (error) => error instanceof BuildError && error.kind === kind);
      assert.deepEqual(await rig.snapshots.usage(), []);
      await rig.snapshots.close();
      assert.deepEqual(readdirSync(join(rig.dir, 'snapshots')), ['trash']);
      assert.deepEqual(readdirSync(join(rig.dir, 'snapshots/trash')), []);
    });
  }
  for (const [name, items, tree] of CONTAINED) {
    test(`${snapshotter}: a layer with ${name} stays inside its root`, needsRoot, async (t) => {
      const host = sentinel(t);
      const rig = await openRig(t, { snapshotter });
      const own = name === 'an absolute name' ? '/only/inside' : host;
      await using snapshot = await unpack(rig, [await put(rig, archive(items.map((item) => pointed(item, own))))]);
      const found = await readView(snapshot);
      if (own === host) assert.deepEqual(found, tree);
      else assert.equal(found['only/inside/x'], 'x');
    });
  }

  test(`${snapshotter}: whiteouts reach through no symlink`, needsRoot, async (t) => {
    const host = sentinel(t);
    const rig = await openRig(t, { snapshotter });
    const layers = [
      await put(rig, archive([directory('d/'), file('d/victim'), file('victim'), symlink('out', host), symlink('in', '/d')])),
      await put(rig, archive([file('out/.wh.victim', ''), file('.wh.nosuch', ''), file('d/.wh.victim', '')])),
    ];
    await using snapshot = await unpack(rig, layers);
    const found = await readView(snapshot);
    assert.equal(found.victim, 'x');
    assert.equal(found['d/victim'], undefined);
    assert.equal(found['out/victim'], undefined);
  });

  for (const [name, below, above, outcome] of THROUGH_LINKS) {
    test(`${snapshotter}: ${name}`, needsRoot, async (t) => {
      const host = sentinel(t);
      const rig = await openRig(t, { snapshotter });
      const before = lstatSync(join(host, 'sub'));
      const layers = [
        await put(rig, archive(below.map((item) => pointed(item, host)))),
        await put(rig, archive(above.map((item) => pointed(item, host)))),
      ];
      const unpacked = unpack(rig, layers);
      if (outcome !== undefined) await assert.rejects(unpacked, { kind: outcome });
      else await (await unpacked)[Symbol.asyncDispose]();
      const after = lstatSync(join(host, 'sub'));
      assert.deepEqual([after.mode, after.mtimeMs, after.ctimeMs], [before.mode, before.mtimeMs, before.ctimeMs]);
      assert.equal(lstatSync(join(host, 'victim')).nlink, 1);
    });
  }

  test(`${snapshotter}: whiteouts hide layers below only, and opaque directories all of them`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter });
    const below = [
      directory('d/'),
      file('d/old'),
      directory('o/'),
      file('o/old'),
      directory('o/sub/'),
      file('o/sub/old'),
      file('gone'),
      directory('re/'),
      file('re/old'),
    ];
    const above = [
      file('d/new'),
      file('d/.wh.new', ''),
      file('d/.wh.old', ''),
      file('o/new'),
      file('o/.wh..wh..opq', ''),
      file('.wh.gone', ''),
      file('.wh.re', ''),
      directory('re/'),
      file('re/new'),
    ];
    await using snapshot = await unpack(rig, [await put(rig, archive(below)), await put(rig, archive(above))]);
    assert.deepEqual(await readView(snapshot), { d: 'dir', 'd/new': 'x', o: 'dir', 'o/new': 'x', re: 'dir', 're/new': 'x' });
  });

  test(`${snapshotter}: an opaque root hides everything below`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter });
    const layers = [
      await put(rig, archive([directory('d/'), file('d/x'), file('y')])),
      await put(rig, archive([file('.wh..wh..opq', ''), directory('d/'), file('new')])),
    ];
    await using snapshot = await unpack(rig, layers);
    assert.deepEqual(await readView(snapshot), { d: 'dir', new: 'x' });
  });

  test(`${snapshotter}: directories that a layer only implies look like those below it`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter });
    const owned = { ...directory('a/', 0o750), uid: 7, gid: 8, mtimeNs: 5_000_000_000n };
    const layers = [
      await put(rig, archive([owned, { ...owned, name: 'a/b/', mode: 0o711 }])),
      await put(rig, archive([file('a/b/c/f')])),
    ];
    await using snapshot = await unpack(rig, layers);
    await using view = await snapshot.view();
    const seen = ['a', 'a/b', 'a/b/c'].map((at) => {
      const { mode, uid, gid } = lstatSync(join(view.dir, at));
      return [(mode & 0o7777).toString(8), uid, gid].join(' ');
    });
    assert.deepEqual(seen, ['750 7 8', '711 7 8', '755 0 0']);
  });

  test(`${snapshotter}: a hard link to a file of a layer below is that file`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter });
    const layers = [
      await put(rig, archive([{ ...file('a/f', 'content'), mode: 0o4711, uid: 3 }])),
      await put(rig, archive([{ ...hardlink('h', 'a/f'), mode: 0o4711, uid: 3 }])),
    ];
    await using snapshot = await unpack(rig, layers);
    await using view = await snapshot.view();
    const stat = lstatSync(join(view.dir, 'h'));
    assert.deepEqual([readFileSync(join(view.dir, 'h'), 'utf8'), stat.mode & 0o7777, stat.uid], ['content', 0o4711, 3]);
  });
}

/** The item with the place that stands for a directory of the host filled in. */
const pointed = (item: Item, host: string): Item => ({
  ...item,
  name: item.name.replace(outside, host),
  ...(item.linkname === undefined ? {} : { linkname: item.linkname.replace(outside, host) }),
});

const zeros = archive([{ name: 'bomb', content: '\0'.repeat(8 << 20) }]);
const good = archive([file('f', 'content'.repeat(1000))]);
const gzipped = gzipSync(good);
const BROKEN: readonly (readonly [name: string, tar: Buffer, blob: Buffer, kind: ErrorKind, diffId?: Digest])[] = [
  ['a gzip bomb', zeros, gzipSync(zeros), 'invalid-input'],
  ['a zstd bomb', zeros, zstdCompressSync(zeros), 'invalid-input'],
  ['a cut gzip stream', good, gzipped.subarray(0, -20), 'corrupt'],
  ['a cut zstd stream', good, zstdCompressSync(good).subarray(0, -5), 'corrupt'],
  ['a gzip stream with a flipped bit', good, Buffer.from(gzipped.map((byte, at) => (at === 40 ? byte ^ 8 : byte))), 'corrupt'],
  ['garbage', Buffer.from('garbage'.repeat(1000)), Buffer.from('garbage'.repeat(1000)), 'corrupt'],
  ['gzipped garbage', Buffer.from('x'), gzipSync(Buffer.alloc(5000, 7)), 'corrupt'],
  ['another diff id', good, gzipped, 'corrupt', digestOf('another')],
  [
    'too many entries',
    archive(Array.from({ length: 101 }, (_, n) => file(`f${n}`))),
    archive(Array.from({ length: 101 }, (_, n) => file(`f${n}`))),
    'invalid-input',
  ],
];
for (const [name, tar, blob, kind, diffId] of BROKEN) {
  test(`a layer that is ${name} is ${kind}, and nothing is left of it`, needsRoot, async (t) => {
    const rig = await openRig(t, { limits: { maxLayerBytes: 4 << 20, maxLayerEntries: 100 } });
    const layer = await put(rig, tar, blob, diffIdOf(diffId ?? digestOf(tar)));
    await assert.rejects(unpack(rig, [layer]), (error) => error instanceof BuildError && error.kind === kind);
    await rig.snapshots.close();
    assert.deepEqual(readdirSync(join(rig.dir, 'snapshots/trash')), []);
    assert.deepEqual(readdirSync(join(rig.dir, 'snapshots')), ['trash']);
  });
}

test('several gzip members and trailing bytes are one layer', needsRoot, async (t) => {
  const rig = await openRig(t);
  const half = good.length >> 1;
  const blob = Buffer.concat([
    gzipSync(good.subarray(0, half)),
    gzipSync(good.subarray(half), { level: constants.Z_NO_COMPRESSION }),
  ]);
  await using snapshot = await unpack(rig, [await put(rig, good, blob)]);
  assert.equal((await readView(snapshot)).f?.length, 7000);
});

test('a blob that rotted on disk is quarantined, so that the next pull fetches it again', needsRoot, async (t) => {
  const rig = await openRig(t);
  const layer = await put(rig, good, gzipped);
  writeFileSync(rig.content.path(layer.descriptor.digest), gzipSync(archive([file('other')])));
  await assert.rejects(unpack(rig, [layer]), { kind: 'corrupt' });
  assert.equal(await rig.content.info(layer.descriptor.digest), undefined);
  await assert.rejects(unpack(rig, [layer]), { kind: 'not-found' });
});

for (const snapshotter of ['overlay', 'native'] as const) {
  test(`${snapshotter}: a full disk is \`exhausted\`, and the store serves on`, needsRoot, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'cooper-full-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', dir]);
    const root = join(dir, 'root');
    mkdirSync(root);
    const rig = await openRig(t, { snapshotter, dir: root });
    t.after(() => {
      execFileSync('umount', [dir]);
      rmSync(dir, { recursive: true });
    });
    const big = archive([{ name: 'big', content: '\0'.repeat(40 << 20) }]);
    const layer = await put(rig, big, gzipSync(big));
    await assert.rejects(unpack(rig, [layer]), { kind: 'exhausted' });
    await using snapshot = await unpack(rig, [await put(rig, good)]);
    assert.ok((await readView(snapshot)).f);
    await using mutable = await rig.snapshots.prepare(snapshot, { description: 'fills' });
    const at = await mutable.mount();
    assert.throws(() => writeFileSync(join(at, 'big'), Buffer.alloc(40 << 20)), { code: 'ENOSPC' });
    await mutable[Symbol.asyncDispose]();
    assert.equal(mountsBelow(root), 0);
  });
}
