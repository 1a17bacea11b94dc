/** Child of rootless.test.ts, inside a user namespace: prints what it sees of a rebuilt directory, and of the same after a round trip. */
import { createReadStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../core/clock.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { openContentStore } from '../content/content-store.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { openSys } from '../worker/sys/sys.ts';
import { never, readView, step } from './snapshots.test-rig.ts';
import { type OpenedSnapshots, openSnapshots } from './snapshots.ts';

await using stack = new AsyncDisposableStack();
const root = mkdtempSync(join(tmpdir(), 'cooper-rootless-'));
stack.defer(() => rmSync(root, { recursive: true }));
const pool = stack.use(new WorkerPool(2));
const clock = systemClock();

async function open(name: string): Promise<{ snapshots: OpenedSnapshots; content: ReturnType<typeof openContentStore> }> {
  const dir = join(root, name);
  mkdirSync(dir);
  const metadata = stack.use(await openMetadata(join(dir, 'metadata.sqlite')));
  const content = stack.use(openContentStore({ root: dir, clock, pool }));
  const options = { root: dir, metadata, content, pool, clock, sys: openSys(), snapshotter: 'overlay' } as const;
  return { content, snapshots: stack.use(await openSnapshots(options)) };
}

const one = await open('one');
await using base = await step(one.snapshots, undefined, (dir) => {
  mkdirSync(join(dir, 'd'));
  writeFileSync(join(dir, 'd/old'), '');
  writeFileSync(join(dir, 'gone'), '');
});
await using top = await step(one.snapshots, base, (dir) => {
  rmSync(join(dir, 'd'), { recursive: true });
  rmSync(join(dir, 'gone'));
  mkdirSync(join(dir, 'd'));
  writeFileSync(join(dir, 'd/new'), '');
});
const layers = await top.layers({ compression: 'gzip', force: true, signal: never });
const two = await open('two');
for (const { descriptor } of layers)
  await two.content.put(createReadStream(one.content.path(descriptor.digest)), { signal: never });
await using unpacked = await two.snapshots.unpack(layers, { description: 'pulled', signal: never });
console.log(JSON.stringify([await readView(top), await readView(unpacked)]));
