import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

const CHILD = new URL('./rootless.test-child.ts', import.meta.url).pathname;
const unshare = ['--user', '--map-root-user', '--mount'];
const possible = spawnSync('unshare', [...unshare, 'true']).status === 0;

test('in a user namespace overlay snapshots hide what was removed, and so do the layers made of them', {
  skip: possible ? false : 'needs user namespaces',
}, () => {
  const child = spawnSync('unshare', [...unshare, process.execPath, CHILD], { encoding: 'utf8' });
  assert.equal(child.status, 0, child.stderr);
  assert.deepEqual(JSON.parse(child.stdout), [
    { d: 'dir', 'd/new': '' },
    { d: 'dir', 'd/new': '' },
  ]);
});
