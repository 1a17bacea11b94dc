/** One contract for both forms of trees. Needs root: overlay mounts, owners, device nodes. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openSys } from '../worker/sys/sys.ts';
import type { Snapshot } from './ports.ts';
import { mountsBelow, needsRoot, never, openRig, type Rig, readView, step } from './snapshots.test-rig.ts';

for (const snapshotter of ['overlay', 'native'] as const) {
  const contract = (name: string, run: (rig: Rig) => Promise<void>): void => {
    test(`${snapshotter}: ${name}`, needsRoot, async (t) => run(await openRig(t, { snapshotter })));
  };

  contract('a step sees what is below it and changes none of it', async ({ snapshots }) => {
    await using base = await step(snapshots, undefined, (dir) => {
      writeFileSync(join(dir, 'kept'), 'kept');
      writeFileSync(join(dir, 'changed'), 'old');
      writeFileSync(join(dir, 'removed'), '');
      mkdirSync(join(dir, 'd/e'), { recursive: true });
      writeFileSync(join(dir, 'd/e/f'), '');
    });
    await using top = await step(snapshots, base, (dir) => {
      assert.deepEqual(readdirSync(dir).sort(), ['changed', 'd', 'kept', 'removed']);
      writeFileSync(join(dir, 'changed'), 'new');
      rmSync(join(dir, 'removed'));
      rmSync(join(dir, 'd/e'), { recursive: true });
      symlinkSync('kept', join(dir, 'link'));
    });
    assert.deepEqual(await readView(base), { changed: 'old', d: 'dir', 'd/e': 'dir', 'd/e/f': '', kept: 'kept', removed: '' });
    assert.deepEqual(await readView(top), { changed: 'new', d: 'dir', kept: 'kept', link: '-> kept' });
    assert.deepEqual(top.chain(), [base.id, top.id]);
  });

  contract('a snapshot that is not committed leaves nothing, not even a mount', async ({ snapshots, dir, reopen }) => {
    await using base = await step(snapshots, undefined, (root) => writeFileSync(join(root, 'x'), ''));
    const before = (await snapshots.usage()).length;
    {
      await using mutable = await snapshots.prepare(base, { description: 'failed step' });
      writeFileSync(join(await mutable.mount(), 'y'), '');
    }
    assert.equal((await snapshots.usage()).length, before);
    assert.equal(mountsBelow(dir), 0);
    await base[Symbol.asyncDispose]();
    const again = await reopen();
    assert.equal((await again.usage()).length, before);
    assert.deepEqual(readdirSync(join(dir, 'snapshots')).sort(), [base.id, 'trash'].sort());
  });

  contract('two snapshots on one parent do not see each other', async ({ snapshots }) => {
    await using base = await step(snapshots, undefined, () => {});
    const names = ['a', 'b', 'c'];
    const tops = await Promise.all(names.map((name) => step(snapshots, base, (dir) => writeFileSync(join(dir, name), ''))));
    for (const [index, top] of tops.entries()) {
      assert.deepEqual(Object.keys(await readView(top)), [names[index]]);
      await top[Symbol.asyncDispose]();
    }
  });

  contract('the root directory keeps owner and mode from step to step', async ({ snapshots }) => {
    const { chmodSync, chownSync } = await import('node:fs');
    await using base = await step(snapshots, undefined, (dir) => {
      chmodSync(dir, 0o1777);
      chownSync(dir, 12, 34);
    });
    await using top = await step(snapshots, base, () => {});
    await using view = await top.view();
    const { mode, uid, gid } = statSync(view.dir);
    assert.deepEqual([mode & 0o7777, uid, gid], [0o1777, 12, 34]);
  });

  contract('what is in use or below others is not removed; the rest goes with its directory', async ({ snapshots, dir }) => {
    const base = await step(snapshots, undefined, () => {});
    const top = await step(snapshots, base, () => {});
    const ids = [base.id, top.id];
    assert.equal(await snapshots.remove(ids[0] ?? ''), false);
    await base[Symbol.asyncDispose]();
    assert.equal(await snapshots.remove(ids[0] ?? ''), false, 'the snapshot on top still needs it');
    assert.equal(await snapshots.remove(ids[1] ?? ''), false, 'in use');
    const other = top.clone();
    await top[Symbol.asyncDispose]();
    assert.equal(await snapshots.remove(ids[1] ?? ''), false, 'in use by a clone');
    await other[Symbol.asyncDispose]();
    assert.equal(await snapshots.remove(ids[1] ?? ''), true);
    assert.equal(await snapshots.open(ids[1] ?? ''), undefined);
    assert.equal(await snapshots.remove(ids[0] ?? ''), true);
    assert.deepEqual(readdirSync(join(dir, 'snapshots')), ['trash']);
  });

  contract('a view stays readable until it is closed, even when its snapshot was let go', async ({ snapshots }) => {
    const base = await step(snapshots, undefined, (dir) => writeFileSync(join(dir, 'x'), 'x'));
    const top = await step(snapshots, base, (dir) => writeFileSync(join(dir, 'y'), 'y'));
    const views = await Promise.all([top.view(), top.view()]);
    await base[Symbol.asyncDispose]();
    await top[Symbol.asyncDispose]();
    assert.equal(await snapshots.remove(top.id), false);
    await views[0]?.[Symbol.asyncDispose]();
    assert.equal(readFileSync(join(views[1]?.dir ?? '', 'x'), 'utf8'), 'x');
    await views[1]?.[Symbol.asyncDispose]();
    assert.equal(await snapshots.remove(top.id), true);
  });

  contract('committed snapshots are there after a restart, with what is known of them', async ({ snapshots, reopen }) => {
    await using base = await step(snapshots, undefined, (dir) => writeFileSync(join(dir, 'x'), 'one'));
    await using top = await step(snapshots, base, (dir) => writeFileSync(join(dir, 'y'), 'two'));
    const before = await snapshots.usage();
    const again = await reopen();
    const after = await again.usage();
    const stable = (usage: typeof before): unknown[] =>
      usage.map(({ inUse: _, ...rest }) => rest).sort((a, b) => (a.id < b.id ? -1 : 1));
    assert.deepEqual(stable(after), stable(before));
    assert.equal(after.find(({ id }) => id === top.id)?.parents[0], base.id);
    await using opened = (await again.open(top.id)) as Snapshot;
    assert.deepEqual(await readView(opened), { x: 'one', y: 'two' });
  });

  contract('a row without its directory is dropped, and so is what stands on it', async ({ snapshots, dir, reopen }) => {
    const base = await step(snapshots, undefined, () => {});
    const top = await step(snapshots, base, () => {});
    const other = await step(snapshots, undefined, () => {});
    for (const each of [base, top, other]) await each[Symbol.asyncDispose]();
    await snapshots.close();
    rmSync(join(dir, 'snapshots', base.id), { recursive: true });
    const again = await reopen();
    assert.deepEqual(
      (await again.usage()).map(({ id }) => id),
      [other.id],
    );
    assert.deepEqual(readdirSync(join(dir, 'snapshots')).sort(), [other.id, 'trash'].sort());
  });

  contract('a snapshot whose directory somebody deleted is a miss', async ({ snapshots, dir }) => {
    const base = await step(snapshots, undefined, () => {});
    await base[Symbol.asyncDispose]();
    rmSync(join(dir, 'snapshots', base.id), { recursive: true });
    assert.equal(await snapshots.open(base.id), undefined);
    assert.deepEqual(await snapshots.usage(), []);
  });

  contract('a shared directory has many holders and keeps what they wrote', async ({ snapshots, reopen }) => {
    const options = { description: 'cache', recordType: 'exec.cachemount', signal: never } as const;
    const first = await snapshots.openNamed('go', 'shared', options);
    const second = await snapshots.openNamed('go', 'shared', options);
    assert.equal(first.dir, second.dir);
    writeFileSync(join(first.dir, 'mod'), 'x');
    await first[Symbol.asyncDispose]();
    assert.equal((await snapshots.usage())[0]?.inUse, true);
    await second[Symbol.asyncDispose]();
    const again = await reopen();
    await using third = await again.openNamed('go', 'private', options);
    assert.equal(readFileSync(join(third.dir, 'mod'), 'utf8'), 'x');
    assert.deepEqual(
      (await again.usage()).map(({ mutable, recordType }) => [mutable, recordType]),
      [[true, 'exec.cachemount']],
    );
  });

  contract('a private directory is another one while the first is taken, and taken again afterwards', async ({ snapshots }) => {
    const options = { description: 'cache', signal: never };
    const first = await snapshots.openNamed('p', 'private', options);
    const second = await snapshots.openNamed('p', 'private', options);
    assert.notEqual(first.dir, second.dir);
    await first[Symbol.asyncDispose]();
    await using third = await snapshots.openNamed('p', 'private', options);
    assert.equal(third.id, first.id);
    await second[Symbol.asyncDispose]();
  });

  contract('a locked directory is waited for, in vain when the waiter gives up', async ({ snapshots }) => {
    const controller = new AbortController();
    const options = { description: 'cache', signal: never };
    const first = await snapshots.openNamed('l', 'locked', options);
    const second = snapshots.openNamed('l', 'locked', options);
    const third = snapshots.openNamed('l', 'locked', { ...options, signal: controller.signal });
    controller.abort();
    await assert.rejects(third, { kind: 'cancelled' });
    await first[Symbol.asyncDispose]();
    await using held = await second;
    assert.equal(held.id, first.id);
  });

  contract('a fresh directory takes the name; the old one goes with its holder', async ({ snapshots }) => {
    const options = { description: 'cache', signal: never };
    const old = await snapshots.openNamed('f', 'shared', options);
    writeFileSync(join(old.dir, 'x'), '');
    await using fresh = await snapshots.openNamed('f', 'shared', { ...options, fresh: true });
    assert.notEqual(fresh.id, old.id);
    assert.deepEqual(readdirSync(fresh.dir), []);
    await using joined = await snapshots.openNamed('f', 'shared', options);
    assert.equal(joined.id, fresh.id);
    await old[Symbol.asyncDispose]();
    assert.deepEqual(
      (await snapshots.usage()).map(({ id }) => id),
      [fresh.id],
    );
  });

  contract('a named directory can start from a snapshot', async ({ snapshots }) => {
    await using base = await step(snapshots, undefined, (dir) => writeFileSync(join(dir, 'seed'), 'x'));
    const open = () => snapshots.openNamed('s', 'locked', { description: 'cache', parent: base, signal: never });
    {
      await using first = await open();
      assert.deepEqual(readdirSync(first.dir), ['seed']);
      writeFileSync(join(first.dir, 'more'), '');
    }
    await using second = await open();
    assert.deepEqual(readdirSync(second.dir).sort(), ['more', 'seed']);
    assert.deepEqual(Object.keys(await readView(base)), ['seed']);
  });
}

test('overlay: a chain of 200 steps mounts, and the first file is still there', needsRoot, async (t) => {
  const { snapshots } = await openRig(t, { snapshotter: 'overlay' });
  let top = await step(snapshots, undefined, (dir) => writeFileSync(join(dir, 'file-0'), ''));
  for (let n = 1; n < 200; n += 1) {
    const next = await step(snapshots, top, (dir) => writeFileSync(join(dir, `file-${n}`), ''));
    await top[Symbol.asyncDispose]();
    top = next;
  }
  assert.equal(Object.keys(await readView(top)).length, 200);
  assert.equal(top.chain().length, 200);
  await top[Symbol.asyncDispose]();
});

test('overlay: a snapshot that was looked at when the daemon was killed can be looked at again', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  const below = await step(rig.snapshots, undefined, (dir) => writeFileSync(join(dir, 'a'), '1'));
  const { id } = await step(rig.snapshots, below, (dir) => writeFileSync(join(dir, 'b'), '2'));
  await rig.suspend();
  mkdirSync(join(rig.dir, 'snapshots', id, 'view')); // the mount went with the process, its directory did not
  const snapshots = await rig.reopen();
  await using snapshot = (await snapshots.open(id)) as Snapshot;
  assert.deepEqual(Object.keys(await readView(snapshot)).sort(), ['a', 'b']);
});

test('overlay: what is put straight into the layer of a snapshot is in its tree', needsRoot, async (t) => {
  const { snapshots } = await openRig(t, { snapshotter: 'overlay' });
  await using base = await step(snapshots, undefined, (dir) => writeFileSync(join(dir, 'below'), 'b'));
  await using mutable = await snapshots.prepare(base, { description: 'copy' });
  const { layer } = mutable;
  assert.ok(layer);
  writeFileSync(join(layer, 'direct'), 'd');
  const mounted = await mutable.mount();
  assert.equal(mutable.layer, undefined, 'not while it is mounted');
  assert.deepEqual(readdirSync(mounted).sort(), ['below', 'direct']);
  await using top = await mutable.commit();
  assert.deepEqual(await readView(top), { below: 'b', direct: 'd' });
});

test('native: there is no layer to put anything into', needsRoot, async (t) => {
  const { snapshots } = await openRig(t, { snapshotter: 'native' });
  await using mutable = await snapshots.prepare(undefined, { description: 'copy' });
  assert.equal(mutable.layer, undefined);
});

test('overlay: snapshots work with spawned tools where native calls are missing', needsRoot, async (t) => {
  const { snapshots, dir } = await openRig(t, { snapshotter: 'overlay', sys: openSys({ prefer: 'commands' }) });
  await using base = await step(snapshots, undefined, (at) => writeFileSync(join(at, 'a'), 'a'));
  await using middle = await step(snapshots, base, (at) => writeFileSync(join(at, 'b'), 'b'));
  await using top = await step(snapshots, middle, (at) => rmSync(join(at, 'a')));
  assert.deepEqual(await readView(top), { b: 'b' });
  assert.equal(mountsBelow(dir), 0);
});
