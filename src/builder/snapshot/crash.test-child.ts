/** Child of crash.test.ts: prepares, commits, packs and unpacks for ever, and prints each snapshot once it is stored. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../core/clock.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { openContentStore } from '../content/content-store.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { openSys } from '../worker/sys/sys.ts';
import type { Snapshot } from './ports.ts';
import { openSnapshots } from './snapshots.ts';

const signal = new AbortController().signal;
const root = process.argv[2] ?? '';
const pool = new WorkerPool(2);
const metadata = await openMetadata(join(root, 'metadata.sqlite'));
const content = openContentStore({ root, clock: systemClock(), pool });
const snapshots = await openSnapshots({
  root,
  metadata,
  content,
  pool,
  clock: systemClock(),
  sys: openSys(),
  snapshotter: 'overlay',
});

const report = async (snapshot: Snapshot, depth: number): Promise<void> => {
  await metadata.flush();
  process.stdout.write(`${JSON.stringify({ id: snapshot.id, depth })}\n`);
};

while (true) {
  let top: Snapshot | undefined;
  for (let depth = 1; depth <= 3; depth += 1) {
    await using mutable = await snapshots.prepare(top, { description: 'step' });
    const dir = await mutable.mount();
    writeFileSync(join(dir, `step-${depth}`), String(Math.random()).repeat(5000 * depth));
    top = await mutable.commit();
    await report(top, depth);
  }
  const layers = (await top?.layers({ compression: 'gzip', force: true, signal })) ?? [];
  const pulled = await snapshots.unpack(layers, { description: 'pulled', signal });
  await report(pulled, 3);
  await using named = await snapshots.openNamed('context', 'private', { description: 'context', signal });
  writeFileSync(join(named.dir, `step-${Math.random()}`), 'x');
  await using _ = await named.snapshot({ description: 'frozen' });
}
