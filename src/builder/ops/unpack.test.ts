import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import { type ChownOpt, ChownOptSchema, FileActionCopySchema } from '../proto/gen/pb/ops_pb.ts';
import { runFileActions } from './file-task.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';

function openRig(t: TestContext): {
  dir: string;
  content: string;
  add(name: string, dest: string, owner?: ChownOpt): Promise<string>;
} {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-add-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const name of ['source', 'target', 'content/sub']) mkdirSync(join(dir, name), { recursive: true });
  writeFileSync(join(dir, 'content/sub/file'), 'text');
  writeFileSync(join(dir, 'content/.wh.name'), 'not a whiteout here');
  symlinkSync('sub', join(dir, 'content/link'));
  return {
    dir,
    content: join(dir, 'content'),
    async add(name, dest, owner) {
      const value = create(FileActionCopySchema, {
        src: `/${name}`,
        dest,
        mode: -1,
        timestamp: -1n,
        createDestPath: true,
        attemptUnpackDockerCompatibility: true,
        ...(owner === undefined ? {} : { owner }),
      });
      const steps = [
        {
          action: { case: 'copy', value: value },
          source: join(dir, 'source'),
          userRoot: undefined,
          groupRoot: undefined,
        } as const,
      ];
      await runFileActions(
        { layer: join(dir, 'target'), base: undefined, below: [], steps },
        { aborted: () => false, progress: () => {} },
      );
      return join(dir, 'target', dest);
    },
  };
}

for (const [format, flag] of [
  ['plain', ''],
  ['gzip', '-z'],
  ['bzip2', '-j'],
  ['xz', '-J'],
  ['zstd', undefined],
] as const) {
  const tool = format === 'bzip2' || format === 'xz' ? format : 'tar';
  const missing = spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined ? false : `needs ${tool}`;
  test(`ADD unpacks an archive: ${format}`, { skip: skip || missing }, async (t) => {
    const rig = openRig(t);
    const archive = join(rig.dir, 'source/a');
    execFileSync('tar', [...(flag ? [flag] : []), '-cf', archive, '-C', rig.content, '.']);
    if (format === 'zstd') writeFileSync(archive, zstdCompressSync(readFileSync(archive)));
    const dir = await rig.add('a', '/opt/x');
    assert.deepEqual(readdirSync(dir).sort(), ['.wh.name', 'link', 'sub']);
    assert.equal(readFileSync(join(dir, 'link/file'), 'utf8'), 'text');
  });
}

test('the owner that ADD names goes to everything in the archive', { skip }, async (t) => {
  const rig = openRig(t);
  execFileSync('tar', ['-cf', join(rig.dir, 'source/a'), '-C', rig.content, '.']);
  const dir = await rig.add('a', '/x', create(ChownOptSchema, { user: { user: { case: 'byID', value: 7 } } }));
  for (const path of ['', 'sub', 'sub/file']) assert.equal(lstatSync(join(dir, path)).uid, 7, path);
});

for (const [what, bytes] of [
  ['text', Buffer.from('hello\n'.repeat(1000))],
  ['compressed text', zstdCompressSync(Buffer.from('hello\n'.repeat(1000)))],
  ['what only looks compressed', Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), Buffer.alloc(600, 1)])],
  ['zeros', Buffer.alloc(4096)],
  ['an empty file', Buffer.alloc(0)],
] as const) {
  test(`ADD copies ${what} as it is`, { skip }, async (t) => {
    const rig = openRig(t);
    writeFileSync(join(rig.dir, 'source/a'), bytes);
    assert.deepEqual(readFileSync(await rig.add('a', '/b')), bytes);
  });
}

test('an archive cannot write outside its destination', { skip }, async (t) => {
  const rig = openRig(t);
  const outside = join(rig.dir, 'outside');
  mkdirSync(outside);
  symlinkSync(outside, join(rig.content, 'way'));
  const archive = join(rig.dir, 'source/a');
  execFileSync('tar', ['-cf', archive, '-C', rig.content, 'way']);
  rmSync(join(rig.content, 'way'));
  mkdirSync(join(rig.content, 'way'));
  writeFileSync(join(rig.content, 'way/evil'), 'x');
  execFileSync('tar', ['-rf', archive, '-C', rig.content, 'way/evil']);
  await rig.add('a', '/opt');
  assert.deepEqual(readdirSync(outside), []);
});

test('a truncated archive is the fault of whoever sent it', { skip }, async (t) => {
  const rig = openRig(t);
  const archive = join(rig.dir, 'source/a');
  writeFileSync(join(rig.content, 'big'), randomBytes(1_000_000));
  for (const flags of [['-z'], []]) {
    execFileSync('tar', [...flags, '-cf', archive, '-C', rig.content, '.']);
    const whole = readFileSync(archive);
    writeFileSync(archive, whole.subarray(0, 900_000));
    await assert.rejects(
      rig.add('a', '/x'),
      (error) => error instanceof BuildError && error.kind === 'invalid-input' && /^broken archive/.test(error.message),
    );
  }
});
