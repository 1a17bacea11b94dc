/** Garbage collection of a real daemon: plans that come true, sizes that add up, kills, full disks, and builds that lose nothing. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext as NodeTestContext, test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { holdingsOf } from '../fixtures/leaks.ts';

const skip = unableTo('runc', 'du', 'mount');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const MB = 1024 * 1024;
const cooper = (daemon: TestDaemon, args: readonly string[]): Promise<Run> =>
  run(process.execPath, [MAIN, ...args], { env: { COOPER_HOST: daemon.address } });

async function json<T>(daemon: TestDaemon, args: readonly string[]): Promise<T> {
  const { status, stdout, stderr } = await cooper(daemon, [...args, '--json']);
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as T;
}
interface Removal {
  readonly id: string;
  readonly policy: string;
  readonly rule: string;
  readonly sizeBytes: number;
}
interface Plan {
  readonly removals: readonly Removal[];
  readonly freesBytes: number;
  readonly usedBytes: number;
}

/** Builds `count` images of two layers with bytes nobody has seen. */
async function fillWith(daemon: TestDaemon, count: number, bytes: number): Promise<Run[]> {
  const runs: Run[] = [];
  for (let n = 0; n < count; n++) {
    await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY a /a\nCOPY b /b\n' });
    context.writeBytes('a', randomBytes(bytes));
    context.writeBytes('b', randomBytes(Math.max(1, Math.floor(bytes / 2))));
    runs.push(await cooper(daemon, ['build', '--progress', 'quiet', '--tag', `example.org/gc:${n}`, context.dir]));
  }
  return runs;
}
const metric = async (daemon: TestDaemon, series: string): Promise<number> => {
  const line = (await daemon.ops('/metrics')).body.split('\n').find((text) => text.startsWith(`${series} `));
  return Number(line?.split(' ')[1] ?? 'NaN');
};
async function eventually(what: string, look: () => Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + 20_000;
  while (!(await look())) {
    assert.ok(performance.now() < untilMs, `${what}, still not after 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('what gc plan names is what gc run removes, in that order and for that reason; then it is evicted, and wanted again', {
  skip,
}, async () => {
  await using daemon = await TestDaemon.start({ toml: '[worker.oci]\nmaxUsedSpace = "6MB"\nreservedSpace = 1\n' });
  await fillWith(daemon, 4, 2 * MB);
  const strip = ({ id, policy, rule }: Removal) => ({ id, policy, rule });
  for (const flags of [['--filter', 'type==source.local'], []]) {
    const plan = await json<Plan>(daemon, ['gc', 'plan', ...flags]);
    assert.ok(plan.removals.length > 0, 'something is over the limit');
    const done = await json<{ removals: readonly Removal[]; freedBytes: number }>(daemon, ['gc', 'run', ...flags]);
    assert.deepEqual(done.removals.map(strip), plan.removals.map(strip));
    assert.equal(done.freedBytes, plan.freesBytes);
  }
  const after = await json<Plan>(daemon, ['gc', 'plan']);
  assert.ok(after.usedBytes <= 6_000_000, `${after.usedBytes} bytes left`);
  const overHttp = JSON.parse((await daemon.ops('/api/v1/gc/plan')).body) as { usedBytes: number };
  assert.equal(overHttp.usedBytes, after.usedBytes);

  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY a /a\n', a: 'again' });
  for (let n = 0; n < 2; n++) {
    assert.equal((await cooper(daemon, ['build', '--progress', 'quiet', context.dir])).status, 0);
    if (n === 0) assert.equal((await cooper(daemon, ['gc', 'run', '--all'])).status, 0);
  }
  assert.ok((await metric(daemon, 'cooper_gc_regret_total')) >= 1, 'evicted, then wanted');
});

test('du tells what the disk really holds, shared bytes once', { skip }, async () => {
  await using daemon = await TestDaemon.start({ args: ['--oci-worker-gc=false'] });
  for (let n = 0; n < 3; n++) await fillWith(daemon, 1, randomInt(1, 4) * MB);
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY . /all\nCOPY . /again\n' });
  for (let n = 0; n < 200; n++) context.write(`dir${n % 7}/file${n}`, 'x'.repeat(randomInt(0, 9000)));
  assert.equal((await cooper(daemon, ['build', '--progress', 'quiet', context.dir])).status, 0);
  const { usedBytes } = await json<Plan>(daemon, ['gc', 'plan']);
  const real = async (...args: string[]): Promise<number> => Number.parseInt((await run('du', ['-sB1', ...args])).stdout, 10);
  const snapshots = await real(join(daemon.root, 'snapshots'));
  const blobs = await real(join(daemon.root, 'content/blobs'));
  // Blobs that describe images and builds (manifests, logs, traces) are no records; blocks round a blob up; the folder itself is no record.
  const described = readdirSync(join(daemon.root, 'content/blobs/sha256')).length * 3 * 4096 + 64 * 1024;
  assert.ok(Math.abs(usedBytes - (snapshots + blobs)) <= described, `du ${usedBytes}, disk ${snapshots} + ${blobs}`);
});

test('killed at any moment of a collection, the daemon starts again, holds no leftovers and builds', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const root = await newRoot(t);
  for (let round = 0; round < 3; round++) {
    const daemon = await TestDaemon.start({ root, args: ['--oci-worker-gc=false'] });
    try {
      await fillWith(daemon, 2, MB);
      const collecting = cooper(daemon, ['gc', 'run', '--all']);
      const seen = async (): Promise<boolean> => readdirSync(join(root, 'snapshots')).length < 6 + round;
      await Promise.race([eventually('the collection has begun', seen), collecting]);
      await daemon.kill('SIGKILL');
      await collecting;
    } finally {
      await daemon[Symbol.asyncDispose]();
    }
    await using next = await TestDaemon.start({ root, args: ['--oci-worker-gc=false'] });
    assert.deepEqual((await holdingsOf(next)).orphans, []);
    const check = await cooper(next, ['cache', 'check', '--json']);
    assert.equal(check.status, 0, check.stdout);
    for (const { status, stderr } of await fillWith(next, 1, MB)) assert.equal(status, 0, stderr);
  }
});

test('collections that run all the time take nothing from builds that run', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({
    Dockerfile: 'FROM scratch AS a\nCOPY a /a\nFROM scratch AS b\nCOPY b /b\nFROM a\nCOPY --from=b /b /b\nCOPY a /c\n',
  });
  let building = true;
  const collecting = (async () => {
    let runs = 0;
    for (; building; runs++) {
      const { status, stderr } = await cooper(daemon, ['gc', 'run', '--all']);
      assert.equal(status, 0, stderr);
    }
    return runs;
  })();
  for (let n = 0; n < 4; n++) {
    context.writeBytes('a', randomBytes(MB));
    context.writeBytes('b', randomBytes(MB));
    const builds = ['one', 'two'].map((tag) =>
      cooper(daemon, ['build', '--progress', 'plain', '--tag', `example.org/${tag}:1`, context.dir]),
    );
    for (const { status, stderr } of await Promise.all(builds)) assert.equal(status, 0, stderr);
  }
  building = false;
  assert.ok((await collecting) > 0);
  const check = await cooper(daemon, ['cache', 'check', '--json']);
  assert.equal(check.status, 0, check.stdout);
});

test('on a small disk, build after build succeeds: the guard collects before the disk is full, below what policies keep', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { root, freeBytes } = await smallDisk(t, 96);
  const toml = '[worker.oci]\nreservedSpace = "1TB"\n[cooper.gc.guard]\nmin-free-space = "48MiB"\n';
  await using daemon = await TestDaemon.start({ root, toml });
  for (let n = 0; n < 8; n++) {
    for (const { status, stderr } of await fillWith(daemon, 1, 3 * MB)) assert.equal(status, 0, stderr);
    if (freeBytes() < 48 * MB) await eventually('the guard made room', async () => freeBytes() >= 48 * MB);
  }
  assert.ok((await metric(daemon, 'cooper_gc_runs_total{trigger="pressure",result="ok"}')) >= 1);
});

test('a full disk does not stop a collection; it is what makes room, and a build that ran out of space starts it', {
  skip,
  timeout: 120_000,
}, async (t) => {
  const { root, freeBytes, fill } = await smallDisk(t, 64);
  await using daemon = await TestDaemon.start({ root, toml: '[cooper.gc.guard]\nmin-free-space = 1\n' });
  for (const { status, stderr } of await fillWith(daemon, 2, 3 * MB)) assert.equal(status, 0, stderr);
  const release = fill();
  const [failed] = await fillWith(daemon, 1, 4 * MB);
  assert.notEqual(failed?.status, 0);
  await eventually('the failed build started a collection', async () => freeBytes() > 4 * MB);
  const run = await cooper(daemon, ['gc', 'run', '--all']);
  assert.equal(run.status, 0, run.stderr);
  release();
  for (const { status, stderr } of await fillWith(daemon, 1, MB)) assert.equal(status, 0, stderr);
  assert.equal((await cooper(daemon, ['cache', 'check'])).status, 0);
});

test('a list of targets is warm after cache warm, on demand and on schedule; a broken one is named and the others are built', {
  skip,
}, async (t) => {
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nARG V\nCOPY a /a\n', a: 'a' });
  const list = join(await newRoot(t), '..', 'warm.toml');
  const target = (name: string, rest: string): string => `[[target]]\nname = "${name}"\n${rest}\n`;
  writeFileSync(list, target('app', `context = ${JSON.stringify(context.dir)}\nargs = { V = "1" }`));
  await using daemon = await TestDaemon.start({ toml: `[cooper.warm]\nfile = ${JSON.stringify(list)}\nperiod = "1h"\n` });
  const warmed = (result: string): Promise<number> => metric(daemon, `cooper_cache_warm_targets_total{result="${result}"}`);
  await eventually('the schedule warmed it', async () => (await warmed('built')) === 1);
  appendFileSync(list, target('broken', 'context = "nosuch"'));
  const { status, stdout, stderr } = await cooper(daemon, ['cache', 'warm', list, '--json']);
  assert.equal(status, 1);
  assert.match(stderr, /^broken: .*nosuch/m);
  const { targets } = JSON.parse(stdout) as { targets: readonly { target: string; steps: number; cached: number }[] };
  assert.deepEqual(targets.map(({ target: name, steps, cached }) => [name, steps, cached])[0], ['app', 1, 1]);
  assert.deepEqual([await warmed('built'), await warmed('failed')], [2, 1]);
});

const newRoot = async (t: NodeTestContext): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-gc-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return join(dir, 'root');
};

async function smallDisk(t: NodeTestContext, megabytes: number) {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-gc-disk-'));
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', dir]);
  assert.equal(mounted.status, 0, mounted.stderr);
  t.after(async () => {
    await run('umount', ['-l', dir]);
    await rm(dir, { recursive: true, force: true });
  });
  const root = join(dir, 'root');
  mkdirSync(root);
  const freeBytes = (): number => {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  };
  return {
    root,
    freeBytes,
    fill() {
      const filler = join(dir, 'filler');
      writeFileSync(filler, '');
      for (let left = freeBytes(); left > 0; left = freeBytes()) {
        try {
          appendFileSync(filler, Buffer.alloc(left));
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
        }
      }
      return () => rmSync(filler);
    },
  };
}
