import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { MOUNT } from '../../builder/worker/sys/ports.ts';
import { openSys } from '../../builder/worker/sys/sys.ts';
import { openTemp } from './state-folder.ts';

test('the temporary folder is empty at start, but nothing is deleted through a mount', {
  skip: process.getuid?.() === 0 ? false : 'needs root',
}, (t) => {
  const root = mkdtempSync(join(tmpdir(), 'cooper-state-'));
  const temp = openTemp(root);
  for (const name of ['left', 'mounted', 'precious']) mkdirSync(join(temp, name));
  writeFileSync(join(temp, 'left/file'), 'x');
  const precious = join(root, 'precious');
  mkdirSync(precious);
  writeFileSync(join(precious, 'file'), 'x');
  const sys = openSys();
  sys.mount({ type: '', source: precious, target: join(temp, 'mounted'), flags: MOUNT.BIND });
  t.after(() => {
    sys.unmount(join(temp, 'mounted'));
    rmSync(root, { recursive: true, force: true });
  });
  assert.equal(openTemp(root), temp);
  assert.deepEqual(readdirSync(temp), ['mounted']);
  assert.deepEqual(readdirSync(precious), ['file']);
});
