import assert from 'node:assert/strict';
import { linkSync, lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { BuildError, cancelled, GRPC } from '../../core/errors.ts';
import { FileActionSchema, FileOpSchema, type Op } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { readView } from '../snapshot/snapshots.test-rig.ts';
import { cannotRun } from '../worker/sandbox.test-rig.ts';
import { chainsOf } from './file.ts';
import { openOpsRig, sh } from './ops.test-rig.ts';
import { contentKeyOf, pathSelector } from './results.ts';

const skip = cannotRun;
type ActionInit = MessageInitShape<typeof FileActionSchema>;
const files = (...actions: ActionInit[]): Op['op'] => ({ case: 'file', value: create(FileOpSchema, { actions }) });
const mkdir = (path: string) => ({ case: 'mkdir', value: { path, mode: 0o755, makeParents: true, timestamp: -1n } }) as const;
const mkfile = (path: string, text: string) =>
  ({ case: 'mkfile', value: { path, mode: 0o644, data: Buffer.from(text), timestamp: -1n } }) as const;
const copy = (src: string, dest: string) =>
  ({ case: 'copy', value: { src, dest, mode: -1, timestamp: -1n, createDestPath: true, dirCopyContents: true } }) as const;

test('a chain of actions makes one snapshot on top of its input', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => writeFileSync(join(dir, 'f'), 'file'));
  const { results } = await rig.run(
    files(
      { input: 0n, secondaryInput: -1n, output: -1n, action: mkdir('/new/dir') },
      { input: 2n, secondaryInput: 1n, output: -1n, action: copy('/f', '/new/dir/') },
      { input: 3n, secondaryInput: -1n, output: 0n, action: mkfile('/new/g', 'made') },
    ),
    [rig.base, source],
  );
  const tree = await readView(results[0] as Snapshot);
  assert.deepEqual([tree['new/dir/f'], tree['new/g'], tree['bin/sh']], ['file', 'made', '-> busybox']);
  assert.equal((results[0] as Snapshot).chain().length, rig.base.chain().length + 1);
});

test('an intermediate tree that is an output, or is copied from, is a snapshot of its own', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const { results } = await rig.run(
    files(
      { input: -1n, secondaryInput: -1n, output: 1n, action: mkfile('/a', 'a') },
      { input: 1n, secondaryInput: -1n, output: -1n, action: mkfile('/b', 'b') },
      { input: 0n, secondaryInput: 2n, output: 0n, action: copy('/', '/got') },
    ),
    [rig.base],
  );
  assert.deepEqual(await readView(results[1] as Snapshot), { a: 'a' });
  const tree = await readView(results[0] as Snapshot);
  assert.deepEqual([tree['got/a'], tree['got/b']], ['a', 'b']);
});

test('what a copy brought can be changed by a later step without a trace in the source', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => writeFileSync(join(dir, 'f'), 'file'));
  const copied = await rig.run(files({ input: 0n, secondaryInput: 1n, output: 0n, action: copy('/f', '/f') }), [
    rig.base,
    source,
  ]);
  const changed = await rig.run(sh('echo more >> /f; touch /f'), copied.results);
  assert.equal((await readView(changed.results[0] as Snapshot)).f, 'filemore\n');
  assert.deepEqual(await readView(source), { f: 'file' });
  assert.equal((await readView(copied.results[0] as Snapshot)).f, 'file');
});

/** Inode numbers as whoever looks into the snapshot sees them. */
async function inodesOf(snapshot: Snapshot, ...paths: string[]): Promise<number[]> {
  await using view = await snapshot.view();
  return paths.map((path) => lstatSync(join(view.dir, path)).ino);
}
const copyFrom = (src: string, dest: string): Op['op'] =>
  files({ input: 0n, secondaryInput: 1n, output: 0n, action: copy(src, dest) });
const scratchFrom = (src: string, dest: string): Op['op'] =>
  files({ input: -1n, secondaryInput: 0n, output: 0n, action: copy(src, dest) });
const only = ({ results }: { readonly results: readonly Snapshot[] }): Snapshot => results[0] as Snapshot;

test('a file copied by two steps is linked by the first and a file of its own in the second', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => writeFileSync(join(dir, 'f'), 'file'));
  const first = only(await rig.run(copyFrom('/f', '/1'), [rig.base, source]));
  const second = only(await rig.run(copyFrom('/f', '/2'), [first, source]));
  const [original] = await inodesOf(source, 'f');
  const [one, two] = await inodesOf(second, '1', '2');
  assert.equal(one, original, 'no bytes were copied');
  assert.notEqual(two, one);
  const moved = only(await rig.run(sh('cp /1 /2 && mv /1 /3 && [ ! -e /1 ]'), [second])); // both refuse or do nothing for links
  const tree = await readView(moved);
  assert.deepEqual([tree['1'], tree['2'], tree['3']], [undefined, 'file', 'file']);
});

test('links of the source are links in each copy, and not between copies', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => {
    mkdirSync(join(dir, 'd'));
    writeFileSync(join(dir, 'd/x'), 'file');
    linkSync(join(dir, 'd/x'), join(dir, 'd/y'));
  });
  const first = only(await rig.run(copyFrom('/d', '/1'), [rig.base, source]));
  const second = only(await rig.run(copyFrom('/d', '/2'), [first, source]));
  const [a, b, c, d] = await inodesOf(second, '1/x', '1/y', '2/x', '2/y');
  assert.deepEqual([a === b, c === d, a === c], [true, true, false]);
  const again = only(await rig.run(copyFrom('/', '/3'), [rig.base, second])); // out of a stack
  const [e, f, g, h] = await inodesOf(again, '3/1/x', '3/1/y', '3/2/x', '3/2/y');
  assert.deepEqual([e === f, g === h, e === g], [true, true, false]);
});

test('a file copied onto the layer it comes from, also by way of another snapshot, is a file of its own', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => writeFileSync(join(dir, 'f'), 'file'));
  const other = only(await rig.run(scratchFrom('/f', '/g'), [source]));
  assert.deepEqual(await inodesOf(other, 'g'), await inodesOf(source, 'f'));
  const direct = only(await rig.run(copyFrom('/f', '/2'), [source, source]));
  const around = only(await rig.run(copyFrom('/g', '/2'), [source, other]));
  for (const snapshot of [direct, around]) {
    const [f, two] = await inodesOf(snapshot, 'f', '2');
    assert.notEqual(f, two);
  }
});

test('two states of a local source in one stack have no file in common', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const options = { description: 'context', signal: new AbortController().signal };
  await using named = await rig.deps.snapshots.openNamed('context', 'private', options);
  writeFileSync(join(named.dir, 'f'), 'file');
  await using before = await named.snapshot(options);
  await using after = await named.snapshot(options);
  assert.deepEqual(await inodesOf(before, 'f'), await inodesOf(after, 'f'));
  const [f, two] = await inodesOf(only(await rig.run(copyFrom('/f', '/2'), [before, after])), 'f', '2');
  assert.notEqual(f, two);
});

test('owners are looked up in the input they name, or in the tree that is being made', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const owned = (input: bigint) => ({
    case: 'mkdir' as const,
    value: {
      path: '/d',
      mode: 0o755,
      timestamp: -1n,
      owner: { user: { user: { case: 'byName' as const, value: { name: 'app', input } } } },
    },
  });
  for (const [actions, inputs] of [
    [[{ input: -1n, secondaryInput: -1n, output: 0n, action: owned(0n) }], [rig.base]],
    [
      [
        { input: -1n, secondaryInput: -1n, output: -1n, action: mkdir('/etc') },
        { input: 0n, secondaryInput: -1n, output: -1n, action: mkfile('/etc/passwd', 'app:x:1000:1001::/:/\n') },
        { input: 1n, secondaryInput: -1n, output: 0n, action: owned(1n) },
      ],
      [],
    ],
  ] as const) {
    const { results } = await rig.run(files(...(actions as readonly ActionInit[])), inputs);
    const look = sh('stat -c %u:%g /m/d', [{ input: 1n, dest: '/m', output: -1n, readonly: true }]);
    const shown = await rig.run(look, [rig.base, ...results]);
    assert.equal(shown.out, '1000:1001\n');
  }
});

test('errors of file ops come as plain errors of the user, as BuildKit sends them', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const missing = files({ input: 0n, secondaryInput: 0n, output: 0n, action: copy('/nosuch', '/x') });
  await assert.rejects(rig.run(missing, [rig.base]), (error) => {
    assert.ok(error instanceof BuildError);
    assert.deepEqual(
      [error.kind, error.message, error.detail.grpcCode],
      ['not-found', 'lstat /nosuch: no such file or directory', GRPC.UNKNOWN],
    );
    return true;
  });
  await assert.rejects(rig.run(files({ input: -1n, secondaryInput: -1n, output: -1n, action: mkdir('/x') }), []), /no outputs/);
  const context = { signal: new AbortController().signal } as Parameters<ReturnType<typeof contentKeyOf>>[1];
  await assert.rejects(contentKeyOf([pathSelector('/nosuch')], rig.deps)(rig.base, context), (error) => {
    assert.ok(error instanceof BuildError);
    assert.equal(error.message, `failed to calculate checksum of ref worker::${rig.base.id}: "/nosuch": not found`);
    return error.detail.grpcCode === GRPC.UNKNOWN;
  });
});

test('an aborted copy ends with the reason', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const source = await rig.snapshot(undefined, (dir) => {
    for (let i = 0; i < 200; i += 1) {
      mkdirSync(join(dir, `d${i}`));
      symlinkSync('x', join(dir, `d${i}/l`));
    }
  });
  const controller = new AbortController();
  const running = rig.run(files({ input: 0n, secondaryInput: 1n, output: 0n, action: copy('/', '/x') }), [rig.base, source], {
    signal: controller.signal,
  });
  controller.abort(cancelled());
  await assert.rejects(running, (error) => error instanceof BuildError && error.kind === 'cancelled');
});

for (const [what, actions, chains] of [
  [
    'one after the other',
    [
      [0, -1, -1],
      [2, -1, -1],
      [3, -1, 0],
    ],
    [[0, 1, 2]],
  ],
  [
    'an output in between',
    [
      [0, -1, 0],
      [2, -1, 1],
    ],
    [[0], [1]],
  ],
  [
    'two on the same tree',
    [
      [0, -1, -1],
      [2, -1, 0],
      [2, -1, 1],
    ],
    [[0], [1], [2]],
  ],
  [
    'one copied into another',
    [
      [-1, -1, -1],
      [0, 2, 0],
    ],
    [[0], [1]],
  ],
  [
    'two independent ones',
    [
      [0, -1, 0],
      [1, -1, 1],
    ],
    [[0], [1]],
  ],
] as const) {
  test(`file actions in chains: ${what}`, () => {
    const list = actions.map(([input, secondaryInput, output]) =>
      create(FileActionSchema, {
        input: BigInt(input),
        secondaryInput: BigInt(secondaryInput),
        output: BigInt(output),
        action: mkdir('/x'),
      }),
    );
    assert.deepEqual(
      chainsOf(list, 2).map((chain) => [...chain.actions]),
      chains.map((chain) => [...chain]),
    );
  });
}
