import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BuildError } from '../../core/errors.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { HOST_PLATFORM } from './platforms.ts';
import type { ExportSource } from './ports.ts';
import { openTrees, parseTreeOptions } from './tree-outputs.ts';

async function sourceOf(t: TestContext, results: Readonly<Record<string, readonly string[]>>): Promise<[ExportSource, string]> {
  const root = await mkdtemp(join(tmpdir(), 'trees-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const snapshots = new Map<string, Snapshot>();
  for (const [id, files] of Object.entries(results)) {
    const dir = join(root, id.replaceAll('/', '-') || 'single');
    await mkdir(dir);
    for (const file of files) {
      await mkdir(dirname(join(dir, file)), { recursive: true });
      await writeFile(join(dir, file), id);
    }
    const view = async () => ({ dir, [Symbol.asyncDispose]: async () => undefined });
    snapshots.set(id, { view } as unknown as Snapshot);
  }
  const ids = Object.keys(results).filter((id) => id !== '');
  const Platforms = ids.map((ID) => ({ ID, Platform: { os: ID.split('/')[0], architecture: ID.split('/')[1] } }));
  const metadata = new Map(ids.length === 0 ? [] : [['refs.platforms', Buffer.from(JSON.stringify({ Platforms }))]]);
  return [{ results: snapshots, metadata, multiPlatform: ids.length > 0 } as unknown as ExportSource, root];
}
const prefixesOf = async (t: TestContext, results: Parameters<typeof sourceOf>[1], split?: string): Promise<string[]> => {
  const [source, temp] = await sourceOf(t, results);
  const options = parseTreeOptions(new Map(split === undefined ? [] : [['platform-split', split]]));
  await using open = await openTrees(source, options, temp);
  return open.trees.map(({ prefix }) => prefix);
};
const two = { 'linux/amd64': ['bin/a', 'only-amd64'], 'linux/arm64': ['bin/b'] };

test('several platforms get directories of their own, one platform when it is asked for', async (t) => {
  assert.deepEqual(await prefixesOf(t, two), ['linux_amd64', 'linux_arm64']);
  assert.deepEqual(await prefixesOf(t, { '': ['a'] }), ['']);
  assert.deepEqual(await prefixesOf(t, { '': ['a'] }, 'true'), [`linux_${HOST_PLATFORM.architecture}`]);
});

test('several platforms go into one directory unless a file would replace another', async (t) => {
  assert.deepEqual(await prefixesOf(t, two, 'false'), ['', '']);
  await assert.rejects(
    prefixesOf(t, { ...two, 'linux/s390x': ['bin/b'] }, 'false'),
    (error: unknown) =>
      error instanceof BuildError &&
      error.kind === 'invalid-input' &&
      error.message === 'cannot overwrite bin/b from linux/arm64 with linux/s390x when split option is disabled',
  );
});
