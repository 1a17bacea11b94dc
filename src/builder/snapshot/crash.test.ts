/** kill -9 at any moment: the next start has everything that was reported as stored, and nothing that was not finished. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { Snapshot } from './ports.ts';
import { mountsBelow, needsRoot, openRig, readView } from './snapshots.test-rig.ts';

const CHILD = new URL('./crash.test-child.ts', import.meta.url).pathname;
const ROUNDS = 6;

interface Stored {
  readonly id: string;
  readonly depth: number;
}

/** Lets the child work until it has reported `reports` things and a little more time has passed, then kills it. */
async function killAfter(child: ChildProcess, reports: number, moreMs: number): Promise<Stored[]> {
  const stored: Stored[] = [];
  assert.ok(child.stdout);
  for await (const line of createInterface({ input: child.stdout })) {
    stored.push(JSON.parse(line) as Stored);
    if (stored.length === reports) {
      setTimeout(() => child.kill('SIGKILL'), moreMs);
      break;
    }
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  assert.equal(child.signalCode, 'SIGKILL', 'the child ended by itself');
  return stored;
}

test('a store that is killed again and again keeps what it reported and collects what was half done', needsRoot, async (t) => {
  const rig = await openRig(t, { snapshotter: 'overlay' });
  for (let round = 0; round < ROUNDS; round += 1) {
    await rig.suspend();
    const child = spawn(process.execPath, [CHILD, rig.dir], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const stored = await killAfter(child, 2 + round * 3, round * 7);
    const snapshots = await rig.reopen();
    assert.equal(mountsBelow(rig.dir), 0);
    for (const { id, depth } of stored) {
      await using snapshot = (await snapshots.open(id)) as Snapshot;
      assert.ok(snapshot, `snapshot ${id} is gone`);
      const names = Object.keys(await readView(snapshot)).filter((name) => name.startsWith('step-'));
      assert.equal(names.length, depth);
    }
    const ids = (await snapshots.usage()).map(({ id }) => id);
    assert.deepEqual(
      readdirSync(join(rig.dir, 'snapshots'))
        .filter((name) => name !== 'trash')
        .sort(),
      ids.sort(),
    );
    assert.deepEqual(readdirSync(join(rig.dir, 'content/tmp')), []);
  }
});
