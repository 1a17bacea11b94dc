import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import {
  type FileAction,
  FileActionCopySchema,
  FileActionMkDirSchema,
  FileActionMkFileSchema,
  FileActionRmSchema,
  FileActionSymlinkSchema,
} from '../proto/gen/pb/ops_pb.ts';
import { openSys } from '../worker/sys/sys.ts';
import { runFileActions } from './file-task.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
/** Each task has one of its own. */
const newContext = () => ({ aborted: () => false, progress: () => {} });

/** What a tree holds: text is a file, `-> x` a symlink, null a directory; owner and mode after the path (`a:7:8:600`). */
type Tree = Readonly<Record<string, string | null>>;

interface Rig {
  readonly source: string;
  /** Runs actions on a tree that holds `before`, and gives the directory where the result can be read. */
  run(before: Tree, actions: readonly ActionInit[], source?: 'tree' | 'scratch'): Promise<string>;
}

/** Both ways a target can be written: a whole tree, and a layer on a base that is then seen through a real overlay mount. */
const MODES = ['tree', 'layer'] as const;

function openRig(t: TestContext, mode: (typeof MODES)[number], sourceTree: Tree): Rig {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-file-'));
  const sys = openSys();
  t.after(() => {
    sys.unmount(join(dir, 'merged'));
    rmSync(dir, { recursive: true, force: true });
  });
  for (const name of ['source', 'base', 'layer', 'work', 'merged']) mkdirSync(join(dir, name));
  makeTree(join(dir, 'source'), sourceTree);
  return {
    source: join(dir, 'source'),
    async run(before, actions, from = 'tree') {
      const [base, layer, merged] = [join(dir, 'base'), join(dir, 'layer'), join(dir, 'merged')];
      makeTree(base, before);
      const steps = actions.map((action) => ({
        action,
        source: from === 'tree' ? join(dir, 'source') : undefined,
        userRoot: undefined,
        groupRoot: undefined,
      }));
      if (mode === 'tree') {
        await runFileActions({ layer: base, base: undefined, below: [], steps }, newContext());
        return base;
      }
      await runFileActions({ layer, base, below: [], steps }, newContext());
      sys.mountOverlay({ lowers: [base], upper: layer, work: join(dir, 'work'), target: merged });
      return merged;
    },
  };
}

function makeTree(dir: string, tree: Tree): void {
  for (const [key, content] of Object.entries(tree)) {
    const [name = '', uid, gid, mode] = key.split(':');
    const path = join(dir, name);
    mkdirSync(dirname(path), { recursive: true });
    if (content === null) mkdirSync(path, { recursive: true });
    else if (content.startsWith('-> ')) symlinkSync(content.slice(3), path);
    else writeFileSync(path, content);
    if (uid !== undefined) chownSync(path, Number(uid), Number(gid));
    if (mode !== undefined) chmodSync(path, Number.parseInt(mode, 8));
    if (content === null || !content.startsWith('-> ')) utimesSync(path, 1000, 1000);
  }
}

function treeAt(dir: string, prefix = ''): Record<string, string | null> {
  const found: Record<string, string | null> = {};
  for (const name of readdirSync(join(dir, prefix)).sort()) {
    const path = prefix === '' ? name : `${prefix}/${name}`;
    const stat = lstatSync(join(dir, path));
    if (stat.isDirectory()) Object.assign(found, { [path]: null }, treeAt(dir, path));
    else found[path] = stat.isSymbolicLink() ? `-> ${readlinkSync(join(dir, path))}` : readFileSync(join(dir, path), 'utf8');
  }
  return found;
}
const attributes = (path: string): string => {
  const { uid, gid, mode, mtimeMs } = lstatSync(path);
  return `${uid}:${gid}:${(mode & 0o7777).toString(8)}@${mtimeMs / 1000}`;
};

type ActionInit = FileAction['action'];
type CopyInit = MessageInitShape<typeof FileActionCopySchema>;
/** COPY as the Dockerfile frontend writes it. */
const copy = (src: string, dest: string, more: CopyInit = {}): ActionInit => ({
  case: 'copy',
  value: create(FileActionCopySchema, {
    src,
    dest,
    mode: -1,
    timestamp: -1n,
    followSymlink: true,
    dirCopyContents: true,
    createDestPath: true,
    allowWildcard: true,
    allowEmptyWildcard: true,
    ...more,
  } as CopyInit),
});
const makeDir = (init: MessageInitShape<typeof FileActionMkDirSchema>): ActionInit => ({
  case: 'mkdir',
  value: create(FileActionMkDirSchema, init),
});
const makeFile = (init: MessageInitShape<typeof FileActionMkFileSchema>): ActionInit => ({
  case: 'mkfile',
  value: create(FileActionMkFileSchema, init),
});
const makeLink = (init: MessageInitShape<typeof FileActionSymlinkSchema>): ActionInit => ({
  case: 'symlink',
  value: create(FileActionSymlinkSchema, init),
});

const SOURCE: Tree = {
  'f:3:4:640': 'file',
  g: 'other',
  'd:5:6:750': null,
  'd/x': 'x',
  'd/s:0:0:755': null,
  'd/s/y': 'y',
  'd/l': '-> x',
  l: '-> d',
};
const D = { x: 'x', s: null, 's/y': 'y', l: '-> x' };
const below = (prefix: string, tree: Tree): Tree =>
  Object.fromEntries(Object.entries(tree).map(([k, v]) => [`${prefix}/${k}`, v]));

for (const mode of MODES) {
  for (const [what, before, actions, after] of [
    ['a file to a new name', {}, [copy('/f', '/a/b')], { a: null, 'a/b': 'file' }],
    ['a file to a directory that is named with a slash', {}, [copy('/f', '/a/')], { a: null, 'a/f': 'file' }],
    ['a file into an existing directory', { a: null }, [copy('/f', '/a')], { a: null, 'a/f': 'file' }],
    ['a file over a file', { f: 'old' }, [copy('/f', '/f')], { f: 'file' }],
    [
      'a file over a symlink in an existing directory',
      { 'a/f': '-> ../keep', keep: 'k' },
      [copy('/f', '/a/')],
      { a: null, 'a/f': 'file', keep: 'k' },
    ],
    ['the content of a directory to a new one', {}, [copy('/d', '/a')], { a: null, ...below('a', D) }],
    [
      'the content of a directory into an existing one',
      { 'a/x': 'old', 'a/k': 'k' },
      [copy('/d', '/a')],
      { a: null, 'a/k': 'k', ...below('a', D) },
    ],
    [
      'a directory itself into an existing one',
      { a: null },
      [copy('/d', '/a', { dirCopyContents: false })],
      { a: null, 'a/d': null, ...below('a/d', D) },
    ],
    ['a directory through a symlink', {}, [copy('/l', '/a')], { a: null, ...below('a', D) }],
    ['a symlink to a file, under its own name', {}, [copy('/d/[l]', '/a/')], { a: null, 'a/l': 'x' }],
    ['a symlink itself', {}, [copy('/l', '/a', { followSymlink: false })], { a: '-> d' }],
    [
      'by wildcard',
      {},
      [copy('/*', '/a/', { dirCopyContents: false, followSymlink: false })],
      { a: null, 'a/f': 'file', 'a/g': 'other', 'a/d': null, ...below('a/d', D), 'a/l': '-> d' },
    ],
    ['by wildcard in the middle', {}, [copy('/d/?/y', '/a/')], { a: null, 'a/y': 'y' }],
    ['by a wildcard that matches nothing', {}, [copy('/no*', '/a/')], {}],
    [
      'included paths with their parents only',
      {},
      [copy('/', '/a', { includePatterns: ['d/*/y'] })],
      { a: null, 'a/d': null, 'a/d/s': null, 'a/d/s/y': 'y' },
    ],
    ['without excluded paths', {}, [copy('/d', '/a', { excludePatterns: ['s', 'l'] })], { a: null, 'a/x': 'x' }],
    [
      'excluded paths with an exception',
      {},
      [copy('/d', '/a', { excludePatterns: ['s/*', '!s/y', 'l', 'x'] })],
      { a: null, 'a/s': null, 'a/s/y': 'y' },
    ],
    [
      'into a directory reached by a symlink',
      { real: null, way: '-> real' },
      [copy('/f', '/way/')],
      { real: null, 'real/f': 'file', way: '-> real' },
    ],
    [
      'into a directory reached by a hostile symlink',
      { way: '-> ../../../../../../../../tmp' },
      [copy('/f', '/way/')],
      { tmp: null, 'tmp/f': 'file', way: '-> ../../../../../../../../tmp' },
    ],
    [
      'two actions, the second on the result of the first',
      {},
      [copy('/d', '/a'), copy('/f', '/a/s/')],
      { a: null, ...below('a', D), 'a/s/f': 'file' },
    ],
    ['the same file twice', {}, [copy('/f', '/1'), copy('/f', '/2')], { 1: 'file', 2: 'file' }],
    ['onto the root', { k: 'k' }, [copy('/d', '/')], { k: 'k', ...D }],
  ] as const satisfies readonly (readonly [string, Tree, readonly ActionInit[], Tree])[]) {
    test(`${mode}: copy ${what}`, { skip }, async (t) => {
      assert.deepEqual(
        treeAt(await openRig(t, mode, SOURCE).run(before, actions)),
        Object.fromEntries(Object.entries(after).sort(([a], [b]) => (a.split('/') < b.split('/') ? -1 : 1))),
      );
    });
  }

  test(`${mode}: a copy keeps owner, mode, time, extended attributes and hard links`, { skip }, async (t) => {
    const rig = openRig(t, mode, SOURCE);
    linkSync(join(rig.source, 'd/x'), join(rig.source, 'd/z'));
    chmodSync(join(rig.source, 'g'), 0o4755);
    openSys().setXattr(join(rig.source, 'f'), 'user.note', Buffer.from('kept'));
    const dir = await rig.run({}, [copy('/f', '/f'), copy('/g', '/g'), copy('/d', '/d')]);
    assert.equal(attributes(join(dir, 'f')), '3:4:640@1000');
    assert.equal(attributes(join(dir, 'g')), '0:0:4755@1000');
    assert.equal(attributes(join(dir, 'd/s/y')), '0:0:644@1000');
    assert.equal(openSys().getXattr(join(dir, 'f'), 'user.note')?.toString(), 'kept');
    assert.equal(lstatSync(join(dir, 'd/x')).ino, lstatSync(join(dir, 'd/z')).ino);
  });

  test(`${mode}: owner, mode and time given with the copy go to everything copied and made`, { skip }, async (t) => {
    const rig = openRig(t, mode, SOURCE);
    const owner = {
      user: { user: { case: 'byName', value: { name: 'app' } } },
      group: { user: { case: 'byID', value: 9 } },
    } as const;
    const dir = await rig.run({ 'etc/passwd': 'root:x:0:0\napp:x:1000:1001\n' }, [
      copy('/d', '/new/a', { owner, mode: 0o711, timestamp: 5_000_000_000n }),
    ]);
    for (const path of ['new', 'new/a', 'new/a/x', 'new/a/s', 'new/a/s/y'])
      assert.equal(attributes(join(dir, path)), '1000:9:711@5', path);
    assert.equal(attributes(join(rig.source, 'd/x')), '0:0:644@1000', 'the source is as it was');
  });

  test(`${mode}: symbolic modes change what is there`, { skip }, async (t) => {
    const dir = await openRig(t, mode, SOURCE).run({}, [copy('/d', '/a', { modeStr: 'go=,u+X' })]);
    assert.equal(attributes(join(dir, 'a/x')), '0:0:600@1000');
    assert.equal(attributes(join(dir, 'a/s')).split('@')[0], '0:0:700');
  });

  test(`${mode}: the second copy of a file is a file of its own`, { skip }, async (t) => {
    const dir = await openRig(t, mode, SOURCE).run({}, [copy('/f', '/1'), copy('/f', '/2')]);
    assert.notEqual(lstatSync(join(dir, '1')).ino, lstatSync(join(dir, '2')).ino);
  });

  test(`${mode}: a file written over a copied one does not change the source`, { skip }, async (t) => {
    const rig = openRig(t, mode, SOURCE);
    const mkfile = makeFile({ path: '/f', mode: 0o600, data: Buffer.from('new'), timestamp: -1n });
    const dir = await rig.run({}, [copy('/f', '/f'), mkfile]);
    assert.equal(readFileSync(join(dir, 'f'), 'utf8'), 'new');
    assert.equal(readFileSync(join(rig.source, 'f'), 'utf8'), 'file');
    assert.equal(attributes(join(dir, 'f')).split('@')[0], '3:4:640', 'an existing file keeps owner and mode');
  });

  test(`${mode}: scratch can be copied as a whole, and holds nothing else`, { skip }, async (t) => {
    const dir = await openRig(t, mode, {}).run({ a: 'kept' }, [copy('/', '/'), copy('/*', '/'), copy('/', '/new')], 'scratch');
    assert.deepEqual(treeAt(dir), { a: 'kept', new: null });
    const missing = openRig(t, mode, {}).run({}, [copy('/foo', '/')], 'scratch');
    await assert.rejects(missing, /lstat \/foo: no such file or directory/);
  });

  for (const [what, before, action, message] of [
    ['a missing source', {}, copy('/nosuch', '/a', { allowWildcard: false }), 'lstat /nosuch: no such file or directory'],
    ['no match where one is needed', {}, copy('/no*', '/a', { allowEmptyWildcard: false }), '/no* not found'],
    [
      'a missing destination directory',
      {},
      copy('/f', '/a/b', { createDestPath: false }),
      'failed to stat /a/b: lstat /a: no such file or directory',
    ],
    ['a file over a directory', { 'a/f/k': 'k' }, copy('/f', '/a/'), 'cannot replace to directory /a/f with file'],
    ['a directory over a file', { a: 'file' }, copy('/d', '/a'), 'cannot copy to non-directory: /a'],
    ['a directory below over a file', { 'a/s': 'file' }, copy('/d', '/a'), 'cannot copy to non-directory: /a/s'],
    ['mkdir below nothing', {}, makeDir({ path: '/a/b', mode: 0o755, timestamp: -1n }), 'mkdir /a/b: no such file or directory'],
    ['mkfile below nothing', {}, makeFile({ path: '/a/b', mode: 0o644, timestamp: -1n }), 'open /a/b: no such file or directory'],
    ['a symlink over a file', { a: 'x' }, makeLink({ oldpath: 't', newpath: '/a', timestamp: -1n }), 'symlink t /a: file exists'],
    ['a malformed mode', {}, copy('/f', '/a', { modeStr: 'u+q' }), 'invalid mode "u+q"'],
  ] as const) {
    test(`${mode}: ${what} is an error in the words of BuildKit`, { skip }, async (t) => {
      const rig = openRig(t, mode, SOURCE);
      await assert.rejects(
        rig.run(before, [action]),
        (error) => error instanceof BuildError && error.message === message && error.fault === 'user',
      );
    });
  }

  test(`${mode}: mkdir, mkfile and symlink give what they are asked for`, { skip }, async (t) => {
    const owner = { user: { user: { case: 'byID', value: 7 } } } as const;
    const dir = await openRig(t, mode, SOURCE).run({ 'k:1:2:700': null }, [
      makeDir({ path: '/k/a/b', mode: 0o751, makeParents: true, owner, timestamp: 9_000_000_000n }),
      makeFile({ path: '/k/f', mode: 0o640, data: Buffer.from('text'), owner, timestamp: 8_000_000_000n }),
      makeLink({ oldpath: '../x', newpath: '/k/l', owner, timestamp: 7_000_000_000n }),
    ]);
    assert.deepEqual(treeAt(dir), { k: null, 'k/a': null, 'k/a/b': null, 'k/f': 'text', 'k/l': '-> ../x' });
    assert.equal(attributes(join(dir, 'k/a/b')), '7:7:751@9');
    assert.equal(attributes(join(dir, 'k/f')), '7:7:640@8');
    assert.equal(attributes(join(dir, 'k/l')), '7:7:777@7');
    assert.equal(attributes(join(dir, 'k')).split('@')[0], '1:2:700', 'a directory of the base keeps its attributes');
  });
}

const rm = (path: string, more: MessageInitShape<typeof FileActionRmSchema> = {}): ActionInit => ({
  case: 'rm',
  value: create(FileActionRmSchema, { path, ...more } as MessageInitShape<typeof FileActionRmSchema>),
});
for (const [what, actions, left] of [
  ['a file', [rm('/a/x')], { a: null, 'a/y': 'y', z: 'z' }],
  ['a directory', [rm('/a')], { z: 'z' }],
  ['by wildcard', [rm('/a/*', { allowWildcard: true })], { a: null, z: 'z' }],
  [
    'what is not there, if that is allowed',
    [rm('/nosuch', { allowNotFound: true })],
    { a: null, 'a/x': 'x', 'a/y': 'y', z: 'z' },
  ],
] as const) {
  test(`rm ${what}`, { skip }, async (t) => {
    const before = { 'a/x': 'x', 'a/y': 'y', z: 'z' };
    assert.deepEqual(treeAt(await openRig(t, 'tree', SOURCE).run(before, actions)), left);
  });
}

test('rm does not follow a symlink out of the root', { skip }, async (t) => {
  const rig = openRig(t, 'tree', SOURCE);
  writeFileSync(join(rig.source, 'precious'), 'p');
  await rig.run({ way: `-> ${rig.source}` }, [rm('/way/precious', { allowNotFound: true })]);
  assert.equal(readFileSync(join(rig.source, 'precious'), 'utf8'), 'p');
});

test('a copy that always replaces puts a directory where a file was', { skip }, async (t) => {
  const dir = await openRig(t, 'tree', SOURCE).run({ 'a/s': 'file', 'a/x/k': 'k' }, [
    copy('/d', '/a', { alwaysReplaceExistingDestPaths: true }),
  ]);
  assert.deepEqual(treeAt(dir), { a: null, ...Object.fromEntries(Object.entries(below('a', D)).sort()) });
});

test('a plain copy shares its files with the source, and a file with holes keeps them', { skip }, async (t) => {
  const rig = openRig(t, 'tree', SOURCE);
  truncateSync(join(rig.source, 'g'), 64 * 1024 * 1024);
  const dir = await rig.run({}, [copy('/f', '/f'), copy('/g', '/h', { mode: 0o600 })]);
  assert.equal(lstatSync(join(dir, 'f')).ino, lstatSync(join(rig.source, 'f')).ino);
  const { size, blocks } = lstatSync(join(dir, 'h'));
  assert.equal(size, 64 * 1024 * 1024);
  assert.ok(blocks * 512 < 1024 * 1024, `${blocks} blocks`);
});

test('names that are not UTF-8 are copied as they are', { skip }, async (t) => {
  const rig = openRig(t, 'tree', SOURCE);
  const name = Buffer.from([0x66, 0xff, 0xfe]);
  writeFileSync(Buffer.concat([Buffer.from(`${rig.source}/d/`), name]), 'odd');
  const dir = await rig.run({}, [copy('/d', '/a')]);
  assert.equal(readFileSync(Buffer.concat([Buffer.from(`${dir}/a/`), name]), 'utf8'), 'odd');
});
