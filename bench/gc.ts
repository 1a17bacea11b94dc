/**
 * Garbage collection at size, in this process: `node bench/gc.ts [RECORDS] [DIR]`. Writes that many snapshots (small directories) with
 * keys and prints how long start, usage, plan and a prune of half take, and the longest turns of the event loop.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { openKeyIndex } from '../src/builder/cache/key-index.ts';
import { openContentStore } from '../src/builder/content/content-store.ts';
import { openEvictions } from '../src/builder/gc/evictions.ts';
import { Collector } from '../src/builder/gc/prune.ts';
import { openMetadata } from '../src/builder/metadata/metadata.ts';
import { openSnapshots } from '../src/builder/snapshot/snapshots.ts';
import { openSys } from '../src/builder/worker/sys/sys.ts';
import { systemClock } from '../src/core/clock.ts';
import { WorkerPool } from '../src/core/worker-pool.ts';

const RECORDS = Number(process.argv[2] ?? 5_000);
const root = mkdtempSync(join(process.argv[3] ?? tmpdir(), 'cooper-bench-gc-'));
const SIZE_BYTES = 4096;
const CHAIN = 10; // records that stand on one another

await prepare();
await measure();
rmSync(root, { recursive: true, force: true });

/** Rows and directories as builds leave them. */
async function prepare(): Promise<void> {
  await using pool = new WorkerPool(2);
  const metadata = await openMetadata(join(root, 'cooper.sqlite'));
  const content = openContentStore({ root, clock: systemClock(), pool });
  const snapshots = await openSnapshots({
    root,
    metadata,
    content,
    pool,
    clock: systemClock(),
    sys: openSys(),
    snapshotter: 'native',
  });
  await openKeyIndex(metadata);
  await snapshots.close();
  await metadata.close();
  await content[Symbol.asyncDispose]();
  const nowNs = systemClock().nowNs();
  using db = new DatabaseSync(join(root, 'cooper.sqlite'));
  db.exec('begin');
  const snapshot = db.prepare(
    `insert into snapshots (id, parent, kind, description, record_type, created_at_ns, last_used_at_ns, usage_count, size_bytes)
      values (?, ?, 'committed', ?, 'regular', ?, ?, ?, ?)`,
  );
  const name = db.prepare('insert into cache_names (n, text, had_result) values (?, ?, 1)');
  const result = db.prepare('insert into cache_results (key, id, created_ns) values (?, ?, ?)');
  for (let n = 1; n <= RECORDS; n++) {
    const usedAtNs = nowNs - BigInt(RECORDS - n) * 1_000_000_000n;
    const parent = n % CHAIN === 1 ? null : idOf(n - 1);
    snapshot.run(idOf(n), parent, `RUN step ${n}`, usedAtNs, usedAtNs, (n % 7) + 1, SIZE_BYTES);
    name.run(n, `sha256:${n.toString(16).padStart(64, '0')}`);
    result.run(n, idOf(n), usedAtNs);
    mkdirSync(join(root, 'snapshots', idOf(n), 'fs'), { recursive: true });
  }
  db.exec('commit');
}

async function measure(): Promise<void> {
  const clock = systemClock();
  await using stack = new AsyncDisposableStack();
  const pool = stack.use(new WorkerPool(2));
  const metadata = stack.use(await openMetadata(join(root, 'cooper.sqlite')));
  const content = stack.use(openContentStore({ root, clock, pool }));
  const opened = performance.now();
  const snapshots = await openSnapshots({ root, metadata, content, pool, clock, sys: openSys(), snapshotter: 'native' });
  stack.defer(() => snapshots.close());
  const index = await openKeyIndex(metadata);
  const evictions = await openEvictions(metadata, clock);
  console.log(`${RECORDS} records; opened in ${Math.round(performance.now() - opened)} ms`);
  const collector = stack.use(
    new Collector({
      snapshots,
      content,
      clock,
      space: () => ({ totalBytes: 1e12, freeBytes: 5e11 }),
      policies: [
        {
          filters: [],
          all: true,
          keepDurationNs: 0n,
          reservedBytes: 0,
          maxUsedBytes: (RECORDS * SIZE_BYTES) / 2,
          minFreeBytes: 0,
        },
      ],
      settled: async () => {
        await snapshots.settled();
        await metadata.flush();
      },
      onRemoved: (record, by) => evictions.add(record, index.removed(record.id), by),
    }),
  );
  await timed('usage', async () => (await snapshots.usage()).length);
  await timed('plan', async () => (await collector.plan()).removals.length);
  await timed('prune of half', async () => {
    await collector.collect('schedule');
    return (await snapshots.usage()).length;
  });
}

/** Turns of the event loop by the processor time of this thread: what other processes take of the machine is not in it. */
async function timed(what: string, work: () => Promise<number>): Promise<void> {
  const turns: number[] = [];
  let last = cpuMs();
  let going = true;
  const turn = (): void => {
    const now = cpuMs();
    turns.push(now - last);
    last = now;
    if (going) setImmediate(turn);
  };
  setImmediate(turn);
  const startedMs = performance.now();
  const answer = await work();
  const tookMs = performance.now() - startedMs;
  going = false;
  await new Promise((resolve) => setTimeout(resolve, 5));
  const longest = turns.sort((a, b) => b - a).slice(0, 3);
  const text = longest.map((ms) => ms.toFixed(1)).join(', ');
  console.log(`${what}: ${Math.round(tookMs)} ms, ${answer} records; longest turns of the loop ${text} ms of processor time`);
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function idOf(n: number): string {
  return n.toString(36).padStart(13, '0');
}
