/** Digests against those the real daemon put into its exported cache for the same tree and the same COPY instructions. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type CacheDigest, type Digest, digestOf } from '../../../core/digest.ts';
import { openSys } from '../../worker/sys/sys.ts';
import type { Selector, Snapshot } from '../ports.ts';
import { needsRoot, never, openRig, type Rig, step } from '../snapshots.test-rig.ts';

const selector = (path: string, more: Partial<Selector> = {}): Selector => ({
  path,
  wildcard: path.includes('*'),
  followLinks: true,
  includePatterns: [],
  excludePatterns: [],
  requiredPaths: [],
  ...more,
});

function makeTree(dir: string): void {
  for (const name of ['out', 'out/x', 'out/e']) {
    mkdirSync(join(dir, name));
    chmodSync(join(dir, name), 0o755);
  }
  for (const [name, content, mode] of [
    ['out/f', 'hi\n', 0o644],
    ['out/x/y', '2\n', 0o4711],
  ] as const) {
    writeFileSync(join(dir, name), content);
    chmodSync(join(dir, name), mode);
  }
  for (const [name, target] of [
    ['out/l', 'f'],
    ['out/lx', '/out/x'],
    ['tolink', '/out/f'],
  ] as const)
    symlinkSync(target, join(dir, name));
  openSys().makeNode(join(dir, 'out/p'), 0o010644, 0, 0);
  openSys().makeNode(join(dir, 'out/n'), 0o020644, 1, 3);
}

const GOLDEN: readonly (readonly [instruction: string, selector: Selector, digest: string])[] = [
  ['COPY /out/f', selector('/out/f'), '0c23b903c6b177eed9bd56c34f4913bbdaf81295ea102f45f79493c2f755072a'],
  ['COPY /out', selector('/out'), 'bcf15b62c607d16df60df0d36c58cbd954e8811b32af171589be66f25dd5e9d3'],
  ['COPY /out/lx/y, through a link', selector('/out/lx/y'), '32f0a95da811f444800607c3d92035d3141f9f3590d28fad56b63b62b9b09c7a'],
  ['COPY /out/l, a link itself', selector('/out/l'), '0c23b903c6b177eed9bd56c34f4913bbdaf81295ea102f45f79493c2f755072a'],
  ['COPY /tolink, an absolute link', selector('/tolink'), '0c23b903c6b177eed9bd56c34f4913bbdaf81295ea102f45f79493c2f755072a'],
  ['COPY /out/*', selector('/out/*'), '50c12402738e07cc904bc30bd8542b1e65729de07602327fa0347d24d1d32747'],
  ['COPY /o*t/x', selector('/o*t/x'), 'd779410a0f42e177f18136512772550a25641e3e884f1c2a189439322daad13c'],
  ['COPY /tol*, which matches a link', selector('/tol*'), 'e18a74af317d00def8258f655565ecdd45a650cc9feaa37499392ea57e1a54c5'],
  [
    'COPY --exclude=*/f --exclude=x /out',
    selector('/out', { excludePatterns: ['*/f', 'x'] }),
    'cee3b95126700890cdc400047b180c88995d7852f5fac9c6ab69c95d497c3dd2',
  ],
  [
    'COPY --exclude=y /out/l*',
    selector('/out/l*', { excludePatterns: ['y'] }),
    '323e150b61a3545150c30128899616e63237ccfb127e79b03e5041f74ab8a963',
  ],
  [
    'COPY --exclude=* /out/x',
    selector('/out/x', { excludePatterns: ['*'] }),
    '0364e78be895cef9249b83b20cdb6362cd3c317f55240669624258bc449a86fc',
  ],
  [
    'COPY --parents /out/./x/y',
    selector('/out', { includePatterns: ['x/y'], requiredPaths: ['/out/x/y'] }),
    '1ff079dd23580c150d8ab63a0fd491d85b2bec682b35217e6b38c4be2bcf4ad0',
  ],
];

for (const snapshotter of ['overlay', 'native'] as const) {
  test(`${snapshotter}: content keys equal the real daemon's, hashed and remembered`, needsRoot, async (t) => {
    const rig = await openRig(t, { snapshotter });
    await using base = await step(rig.snapshots, undefined, (dir) => writeFileSync(join(dir, 'below'), ''));
    await using snapshot = await step(rig.snapshots, base, makeTree);
    const check = async (from: Snapshot, how: string): Promise<void> => {
      for (const [instruction, each, digest] of GOLDEN) {
        assert.equal(await from.checksum([each], never), `sha256:${digest}`, `${instruction}, ${how}`);
      }
    };
    await check(snapshot, 'hashed');
    await check(snapshot, 'remembered');
    const again = await rig.reopen();
    await using reopened = (await again.open(snapshot.id)) as Snapshot;
    await check(reopened, 'from the saved digests');
  });
}

test('a path that is not there is `not-found`, by its name', needsRoot, async (t) => {
  const { snapshots } = await openRig(t);
  await using snapshot = await step(snapshots, undefined, makeTree);
  for (const path of ['/nosuch', '/out/f/below', '/out/lx/nosuch']) {
    await assert.rejects(snapshot.checksum([selector(path)], never), { kind: 'not-found', message: `"${path}": not found` });
  }
  const required = selector('/out', { includePatterns: ['z'], requiredPaths: ['/out/z'] });
  await assert.rejects(snapshot.checksum([required], never), { kind: 'not-found', message: '"/out/z": not found' });
});

test('a loop of links is an error, not a hang', needsRoot, async (t) => {
  const { snapshots } = await openRig(t);
  await using snapshot = await step(snapshots, undefined, (dir) => {
    symlinkSync('b', join(dir, 'a'));
    symlinkSync('a', join(dir, 'b'));
  });
  await assert.rejects(snapshot.checksum([selector('/a')], never), { kind: 'invalid-input' });
});

for (const [change, same, apply] of [
  ['one byte', false, (dir: string) => writeFileSync(join(dir, 'out/f'), 'ho\n')],
  ['an execute bit', false, (dir: string) => chmodSync(join(dir, 'out/f'), 0o755)],
  ['the mode of a directory', false, (dir: string) => chmodSync(join(dir, 'out/e'), 0o700)],
  ['a new empty directory', false, (dir: string) => mkdirSync(join(dir, 'out/new'))],
  ['another name', false, (dir: string) => renameSync(join(dir, 'out/x/y'), join(dir, 'out/x/z'))],
  ['an extended attribute', false, (dir: string) => openSys().setXattr(join(dir, 'out/f'), 'user.x', Buffer.from('y'))],
  ['a time', true, (dir: string) => utimesSync(join(dir, 'out/f'), 1, 2)],
  ['a security label', true, (dir: string) => openSys().setXattr(join(dir, 'out/f'), 'security.cooper', Buffer.from('y'))],
  ['a file beside the selected path', true, (dir: string) => writeFileSync(join(dir, 'beside'), '')],
] as const) {
  test(`${change} ${same ? 'keeps' : 'changes'} the content key`, needsRoot, async (t) => {
    const { snapshots } = await openRig(t);
    const keys: CacheDigest[] = [];
    for (const changed of [false, true]) {
      await using snapshot = await step(snapshots, undefined, (dir) => {
        makeTree(dir);
        if (changed) apply(dir);
      });
      keys.push(await snapshot.checksum([selector('/out')], never));
    }
    assert.equal(keys[0] === keys[1], same);
  });
}

const LOCAL = { description: 'local source for context', recordType: 'source.local' } as const;
const everything = selector('/');

/** One transfer into the context directory, as a receiver does it: files are replaced, never written into. */
async function transfer(
  rig: Pick<Rig, 'snapshots'>,
  files: Record<string, string | undefined>,
  report = true,
): Promise<Snapshot> {
  await using directory = await rig.snapshots.openNamed('context', 'private', { ...LOCAL, signal: never });
  const digests = new Map<string, Digest>();
  for (const [path, content] of Object.entries(files)) {
    rmSync(join(directory.dir, path), { force: true });
    if (content === undefined) continue;
    mkdirSync(join(directory.dir, path, '..'), { recursive: true });
    writeFileSync(join(directory.dir, path), content);
    chmodSync(join(directory.dir, path), 0o644);
    digests.set(
      path,
      digestOf(`namemode420uid0gid0size${content.length}typeflag0linknameunamegnamedevmajor0devminor0${content}`),
    );
  }
  return await directory.snapshot(report ? { ...LOCAL, received: { changed: Object.keys(files).length, digests } } : LOCAL);
}

test('a frozen context has the same key whether digests were handed over or computed', needsRoot, async (t) => {
  const [one, two] = [await openRig(t), await openRig(t)];
  for (const files of [{ a: '1', 'd/b': '2', 'd/é': '3' }, { a: 'x' }, { 'd/b': undefined }, { 'd/é': '4', new: '' }]) {
    await using reported = await transfer(one, files);
    await using hashed = await transfer(two, files, false);
    assert.equal(await reported.checksum([everything], never), await hashed.checksum([everything], never), JSON.stringify(files));
  }
});

test('digests that are handed over are used, so nothing is hashed again', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using first = await transfer(rig, { a: '1', b: '2' });
  await using second = await transfer(rig, { a: 'x' });
  // Both snapshots share the inode of b. Its content is changed behind their back: a key that still holds was not made by reading it.
  await using view = await second.view();
  const honest = await (async () => {
    await using hashed = await transfer(await openRig(t), { a: 'x', b: '2' }, false);
    return await hashed.checksum([everything], never);
  })();
  writeFileSync(join(view.dir, 'b'), '9');
  assert.equal(await second.checksum([everything], never), honest);
  assert.equal(await first.checksum([selector('/b')], never), await second.checksum([selector('/b')], never));
});

test('a transfer that changed nothing gives the same snapshot again', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using first = await transfer(rig, { a: '1' });
  await using second = await transfer(rig, {});
  assert.equal(second.id, first.id);
  await using third = await transfer(rig, { a: '2' });
  assert.notEqual(third.id, first.id);
});

test('after a transfer that broke off, the next one does not believe what was known before', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using first = await transfer(rig, { a: '1' });
  {
    await using broken = await rig.snapshots.openNamed('context', 'private', { ...LOCAL, signal: never });
    rmSync(join(broken.dir, 'a'));
    writeFileSync(join(broken.dir, 'a'), '2');
  }
  await using second = await transfer(rig, {}); // the client's `a` holds 2, so nothing differs
  assert.notEqual(second.id, first.id);
  await using expected = await transfer(await openRig(t), { a: '2' });
  assert.equal(await second.checksum([everything], never), await expected.checksum([everything], never));
});

test('a frozen context does not change with the directory it was taken from', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using first = await transfer(rig, { a: '1', b: '1' });
  const key = await first.checksum([everything], never);
  await using second = await transfer(rig, { a: '2', b: undefined });
  await using view = await first.view();
  const { readFileSync } = await import('node:fs');
  assert.deepEqual([readFileSync(join(view.dir, 'a'), 'utf8'), readFileSync(join(view.dir, 'b'), 'utf8')], ['1', '1']);
  assert.equal(await first.checksum([everything], never), key);
  assert.notEqual(await second.checksum([everything], never), key);
});

test('a frozen state goes when a newer one took its place and nobody uses it', needsRoot, async (t) => {
  const rig = await openRig(t);
  const first = await transfer(rig, { a: '1' });
  const second = await transfer(rig, { a: '2' });
  const frozen = async (): Promise<string[]> =>
    (await rig.snapshots.usage()).filter(({ mutable }) => !mutable).map(({ id }) => id);
  assert.deepEqual((await frozen()).sort(), [first.id, second.id].sort(), 'a build still uses the first');
  await first[Symbol.asyncDispose]();
  assert.deepEqual(await frozen(), [second.id]);
  await second[Symbol.asyncDispose]();
  assert.deepEqual(await frozen(), [second.id], 'the newest is kept for a transfer that changes nothing');
});

test('a frozen state is found again after a restart, unless a transfer broke off', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using first = await transfer(rig, { a: '1' });
  const again = await rig.reopen();
  const second = await transfer({ snapshots: again }, {});
  assert.equal(second.id, first.id);
  await second[Symbol.asyncDispose]();
  const broken = await again.openNamed('context', 'private', { ...LOCAL, signal: never });
  await rig.suspend(); // as after kill -9: the directory was never released
  const last = await rig.reopen();
  assert.deepEqual(
    (await last.usage()).map(({ mutable }) => mutable),
    [true],
  );
  await using third = await transfer({ snapshots: last }, {});
  assert.notEqual(third.id, first.id);
  assert.ok(broken.id);
});

test('files that a frozen state shares with its directory count once', needsRoot, async (t) => {
  const rig = await openRig(t);
  await using _ = await transfer(rig, { a: 'x'.repeat(1 << 20) });
  const total = (await rig.snapshots.usage()).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  assert.ok(total > 1 << 20 && total < 1.5 * (1 << 20), String(total));
});
