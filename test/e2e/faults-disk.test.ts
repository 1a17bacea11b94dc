/** A disk that is full: the client is told so, the daemon lives, and once there is room again it builds, with all it knew before. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFileSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Control } from '../../src/builder/proto/gen/moby/buildkit/v1/control_pb.ts';
import { connect } from '../../src/builder/rpc/client.ts';
import { GRPC } from '../../src/core/errors.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { assertNothingLeaked, holdingsOf } from '../fixtures/leaks.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';
import { tarOf } from '../fixtures/tar.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'mount');
const MB = 1024 * 1024;
const DISK_MB = 64;
let registry: TestRegistry;
let base: string;
let huge: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  const rootfs = await busyboxRootfs();
  await pushImage(registry.host, 'base', 'latest', [rootfs]);
  await pushImage(registry.host, 'huge', 'latest', [rootfs, tarOf([{ path: 'zeros', data: Buffer.alloc(100 * MB) }])]);
  base = `${registry.host}/base:latest`;
  huge = `${registry.host}/huge:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

interface SmallDisk extends AsyncDisposable {
  readonly daemon: TestDaemon;
  readonly freeBytes: () => number;
  /** Takes all but `leftBytes` away; returns what gives it back. */
  readonly fill: (leftBytes: number) => () => void;
}

/** A daemon whose root is a file system of its own, and not a large one. */
async function smallDisk(toml = ''): Promise<SmallDisk> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-small-'));
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'tmpfs', dir]);
  assert.equal(mounted.status, 0, mounted.stderr);
  const unmount = async (): Promise<void> => {
    const { status, stderr } = await run('umount', [dir]);
    assert.equal(status, 0, stderr);
    await rm(dir, { recursive: true });
  };
  const root = join(dir, 'root');
  mkdirSync(root);
  const freeBytes = (): number => {
    const { bavail, bsize } = statfsSync(dir);
    return bavail * bsize;
  };
  try {
    const daemon = await TestDaemon.start({ root, toml });
    return {
      daemon,
      freeBytes,
      fill(leftBytes) {
        const filler = join(dir, 'filler');
        writeFileSync(filler, '');
        for (let left = freeBytes() - leftBytes; left > 0; left = freeBytes() - leftBytes) {
          try {
            appendFileSync(filler, Buffer.alloc(left));
          } catch (error) {
            assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
          }
        }
        return () => rmSync(filler);
      },
      [Symbol.asyncDispose]: async () => {
        await daemon[Symbol.asyncDispose]();
        await unmount();
      },
    };
  } catch (error) {
    await unmount();
    throw error;
  }
}

const SMALL = (): string => `FROM ${base}\nCOPY word /word\nRUN cat /word > /copy\nFROM scratch\nCOPY --from=0 /copy /copy\n`;

async function buildSmall(daemon: TestDaemon, word: string): Promise<Run> {
  await using context = await contextOf({ Dockerfile: SMALL(), word });
  await using out = await contextOf({});
  return await buildDir(daemon, context.dir, ['--output', `type=local,dest=${out.dir}`]);
}

/** What must hold after a build that found the disk full. */
async function assertRecovers(disk: SmallDisk): Promise<void> {
  const { daemon } = disk;
  assert.ok(daemon.running);
  assert.equal((await daemon.ops('/livez')).status, 200);
  const pruned = await buildctl(daemon, ['prune', '--all']);
  assert.equal(pruned.status, 0, pruned.stderr);
  const { status, stderr } = await buildSmall(daemon, `after ${Date.now()}`);
  assert.equal(status, 0, stderr);
}

/** The disk is told by name, as a resource that is used up; the code is in the record of the build, for the client prints words only. */
async function assertToldFull(daemon: TestDaemon, { status, stderr }: Run): Promise<void> {
  assert.equal(status, 1, stderr);
  assert.match(stderr, /^error: failed to solve: .*no space left on device/m, stderr);
  await using client = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });
  const codes = new Set<number | undefined>();
  for await (const { record } of client.serverStream(Control.method.listenBuildHistory, { EarlyExit: true }))
    codes.add(record?.error?.code);
  codes.delete(undefined);
  assert.deepEqual([...codes], [GRPC.RESOURCE_EXHAUSTED], 'the one build that failed so far');
}

test('a context that does not fit', { skip }, async () => {
  await using disk = await smallDisk();
  const before = await holdingsOf(disk.daemon);
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nCOPY big /big\n` });
  writeFileSync(join(context.dir, 'big'), randomBytes(80 * MB));
  await assertToldFull(disk.daemon, await buildDir(disk.daemon, context.dir));
  await assertNothingLeaked(disk.daemon, before);
  await assertRecovers(disk);
});

test('a layer of the base image that does not fit', { skip }, async () => {
  await using disk = await smallDisk();
  const before = await holdingsOf(disk.daemon);
  await using context = await contextOf({ Dockerfile: `FROM ${huge}\nRUN true\n` });
  const failed = await buildDir(disk.daemon, context.dir);
  await assertToldFull(disk.daemon, failed);
  assert.match(failed.stderr, /zeros|layer|sha256/, 'says what did not fit');
  await assertNothingLeaked(disk.daemon, before);
  assert.ok(disk.freeBytes() > 40 * MB, `${disk.freeBytes()} bytes free after the failure: what was half unpacked is gone`);
  await assertRecovers(disk);
});

test('a step that fills the disk fails with its own words, and its layer goes', { skip }, async () => {
  await using disk = await smallDisk();
  const before = await holdingsOf(disk.daemon);
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN dd if=/dev/zero of=/big bs=1M count=100\n` });
  const { status, stderr } = await buildDir(disk.daemon, context.dir);
  assert.equal(status, 1);
  assert.match(stderr, /No space left on device/);
  assert.match(stderr, /exit code: 1/);
  await assertNothingLeaked(disk.daemon, before);
  assert.ok(disk.freeBytes() > 40 * MB, `${disk.freeBytes()} bytes free`);
  await assertRecovers(disk);
});

test('an export that does not fit', { skip }, async () => {
  await using disk = await smallDisk();
  await using context = await contextOf({
    Dockerfile: `FROM ${base}\nRUN head -c 33554432 /dev/urandom > /random\n`,
  });
  assert.equal((await buildDir(disk.daemon, context.dir)).status, 0);
  const before = await holdingsOf(disk.daemon);
  const blobs = readdirSync(join(disk.daemon.root, 'content/blobs/sha256')).length;
  await assertToldFull(disk.daemon, await buildDir(disk.daemon, context.dir, ['--output', 'type=image,name=example.org/full:1']));
  await assertNothingLeaked(disk.daemon, before);
  assert.ok(readdirSync(join(disk.daemon.root, 'content/blobs/sha256')).length <= blobs + 3, 'only what describes the build');
  await assertRecovers(disk);
});

test('a disk without a single byte left: every command is answered, and what was known before is still known', {
  skip,
}, async () => {
  // The guard would make room at the cost of what is known, as it should; here it must not.
  await using disk = await smallDisk('[cooper.gc.guard]\nmin-free-space = 0\nmin-free-inodes = 0\n');
  const { daemon } = disk;
  assert.equal((await buildSmall(daemon, 'known')).status, 0);
  const before = await holdingsOf(daemon);
  const free = disk.fill(0);
  try {
    for (const word of ['one', 'two', 'three']) {
      const { status, stderr } = await buildSmall(daemon, word);
      assert.equal(status, 1, stderr);
      assert.match(stderr, /no space left on (the )?device|ENOSPC|disk is full/i, stderr);
    }
    for (const command of [['du'], ['debug', 'info'], ['debug', 'workers'], ['debug', 'histories']]) {
      const { status, stderr } = await buildctl(daemon, command);
      assert.equal(status, 0, `${command}: ${stderr}`);
    }
    assert.equal((await daemon.ops('/metrics')).status, 200);
    assert.equal((await daemon.ops('/slo')).status, 200);
  } finally {
    free();
  }
  await assertNothingLeaked(daemon, before);
  const again = await buildSmall(daemon, 'known');
  assert.equal(again.status, 0, again.stderr);
  assert.match(again.stderr, /^#\d+ CACHED$/m, 'what was built before is still known');
  const stop = await daemon.kill('SIGTERM');
  assert.equal(stop.code, 0);
  await using next = await TestDaemon.start({ root: daemon.root });
  const after = await buildSmall(next, 'known');
  assert.equal(after.status, 0, after.stderr);
  assert.match(after.stderr, /^#\d+ CACHED$/m, 'also after a restart');
  await assertRecovers({ ...disk, daemon: next });
});

test('a full disk at the start is a clear error, and the next start with room works', { skip }, async () => {
  await using disk = await smallDisk();
  assert.equal((await buildSmall(disk.daemon, 'known')).status, 0);
  assert.equal((await disk.daemon.kill('SIGTERM')).code, 0);
  const free = disk.fill(0);
  const outcome = await TestDaemon.start({ root: disk.daemon.root }).then(
    async (daemon) => {
      await daemon[Symbol.asyncDispose]();
      return 'started';
    },
    (error: Error) => error.message,
  );
  free();
  assert.match(outcome, /^started$|no space left|ENOSPC|full/i);
  await using next = await TestDaemon.start({ root: disk.daemon.root });
  const { status, stderr } = await buildSmall(next, 'known');
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^#\d+ CACHED$/m);
});

test('a cached result that does not fit on the disk is a miss: the step runs in the room that is left, and the cache is not blamed', {
  skip,
}, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN head -c ${33 * MB} /dev/urandom > /big\n` });
  const ref = `type=registry,ref=${registry.host}/big:cache`;
  {
    await using seeder = await TestDaemon.start();
    const { status, stderr } = await buildDir(seeder, context.dir, [
      '--export-cache',
      `${ref},mode=max,compression=uncompressed`,
    ]);
    assert.equal(status, 0, stderr);
  }
  await using disk = await smallDisk();
  const { status, stderr } = await buildDir(disk.daemon, context.dir, ['--import-cache', ref]); // blob and files are 66 MB
  assert.equal(status, 0, stderr);
  assert.match(stderr, /could not be fetched from registry/);
  const { body } = await disk.daemon.ops('/metrics');
  assert.match(body, /^cooper_backend_breaker_state\{backend="registry"\} 0$/m);
});
