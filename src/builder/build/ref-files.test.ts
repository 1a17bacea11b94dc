import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Snapshot } from '../snapshot/ports.ts';
import { readDirOf, statOf } from './ref-files.ts';

test('sizes of files and links are those of lstat; a directory has none', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'ref-files-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  await writeFile(join(dir, 'bar.log'), 'four');
  await symlink('bar.log', join(dir, 'link.log'));
  await mkdir(join(dir, 'sub'));
  const view = async () => ({ dir, [Symbol.asyncDispose]: async () => undefined });
  const snapshot = { view } as unknown as Snapshot;
  const entries = await readDirOf(snapshot, '/', '');
  assert.deepEqual(
    entries.map(({ path, size, linkname }) => [path, size, linkname]),
    [
      ['bar.log', 4n, ''],
      ['link.log', 7n, 'bar.log'],
      ['sub', 0n, ''],
    ],
  );
  assert.equal((await statOf(snapshot, 'link.log')).size, 7n);
});
