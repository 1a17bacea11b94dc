/** One contract for both implementations: system calls through koffi, and spawned tools. Needs root (mounts, device nodes). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { MOUNT, type Sys } from './ports.ts';
import { openSys } from './sys.ts';
import { codeOf } from './sys-error.ts';

const root = process.getuid?.() === 0;
const withAttr = spawnSync('getfattr', ['--version']).status === 0;

function scratch(t: TestContext, sys: Sys): string {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-sys-'));
  t.after(() => {
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n').reverse()) {
      const target = line.split(' ')[4] ?? '';
      if (target.startsWith(`${dir}/`)) sys.unmount(target);
    }
    rmSync(dir, { recursive: true });
  });
  return dir;
}

const mountsBelow = (dir: string): number =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(` ${dir}`)).length;

/** A directory with `count` one-file layers, highest first. */
function layersIn(dir: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const layer = join(dir, `a-layer-with-a-long-directory-name-${index}`);
    mkdirSync(layer);
    writeFileSync(join(layer, `file-${index}`), '');
    return layer;
  });
}

for (const sys of [openSys(), openSys({ prefer: 'commands' })]) {
  const attr = sys.kind === 'native' || withAttr ? {} : { skip: 'needs getfattr' };
  const needsRoot = root ? {} : { skip: 'needs root' };

  test(`${sys.kind}: freed memory can be handed back at any time`, async () => {
    await Promise.all([sys.trimMemory(), sys.trimMemory()]);
  });

  test(`${sys.kind}: a tmpfs is mounted, bound read-only and unmounted once`, needsRoot, (t) => {
    const dir = scratch(t, sys);
    mkdirSync(join(dir, 'a'));
    mkdirSync(join(dir, 'b'));
    sys.mount({ type: 'tmpfs', source: 'tmpfs', target: join(dir, 'a'), data: 'size=1m', flags: MOUNT.NOSUID | MOUNT.NODEV });
    writeFileSync(join(dir, 'a/x'), 'hello');
    sys.mount({ type: '', source: join(dir, 'a'), target: join(dir, 'b'), flags: MOUNT.BIND });
    sys.mount({ type: '', source: 'none', target: join(dir, 'b'), flags: MOUNT.BIND | MOUNT.REMOUNT | MOUNT.RDONLY });
    assert.equal(readFileSync(join(dir, 'b/x'), 'utf8'), 'hello');
    assert.throws(() => writeFileSync(join(dir, 'b/x'), ''), { code: 'EROFS' });
    assert.throws(
      () => writeFileSync(join(dir, 'a/big'), Buffer.alloc(2 << 20)),
      (error) => codeOf(error) === 'ENOSPC',
    );
    assert.equal(sys.unmount(join(dir, 'b')), true);
    assert.equal(sys.unmount(join(dir, 'b')), false);
    assert.equal(sys.unmount(join(dir, 'a')), true);
    assert.equal(mountsBelow(dir), 0);
  });

  test(`${sys.kind}: an overlay of 200 lower directories mounts, whatever the length of their paths`, needsRoot, (t) => {
    const dir = scratch(t, sys);
    for (const name of ['upper', 'work', 'merged']) mkdirSync(join(dir, name));
    // Commands are bound by one page of options: names of 37 characters, 200 times, do not fit, those cut by the prefix do at 80.
    const lowers = layersIn(dir, sys.kind === 'native' ? 200 : 80);
    sys.mountOverlay({
      lowers,
      upper: join(dir, 'upper'),
      work: join(dir, 'work'),
      target: join(dir, 'merged'),
      options: ['index=off', 'volatile'],
    });
    assert.equal(readdirSync(join(dir, 'merged')).length, lowers.length);
    rmSync(join(dir, 'merged/file-3'));
    const whiteout = lstatSync(join(dir, 'upper/file-3'));
    assert.ok(whiteout.isCharacterDevice() && whiteout.rdev === 0);
    assert.equal(sys.unmount(join(dir, 'merged')), true);
  });

  test(`${sys.kind}: a failed mount names call, target and errno`, needsRoot, (t) => {
    const dir = scratch(t, sys);
    assert.throws(
      () => sys.mount({ type: 'tmpfs', source: 'tmpfs', target: join(dir, 'missing') }),
      (error) =>
        error instanceof Error && error.message.includes(join(dir, 'missing')) && /ENOENT|does not exist/.test(error.message),
    );
  });

  test(`${sys.kind}: attributes are set on the link itself, listed, read and removed`, { ...needsRoot, ...attr }, (t) => {
    const dir = scratch(t, sys);
    const file = join(dir, 'f');
    writeFileSync(file, '');
    symlinkSync('f', join(dir, 'l'));
    const value = Buffer.from([0, 1, 2, 255, 10]);
    assert.equal(sys.getXattr(file, 'trusted.x'), undefined);
    sys.setXattr(file, 'trusted.x', value);
    sys.setXattr(join(dir, 'l'), 'trusted.link', Buffer.from('y'));
    assert.deepEqual(sys.getXattr(file, 'trusted.x'), value);
    assert.deepEqual(sys.listXattr(file), ['trusted.x']);
    assert.deepEqual(sys.listXattr(join(dir, 'l')), ['trusted.link']);
    sys.removeXattr(file, 'trusted.x');
    assert.deepEqual(sys.listXattr(file), []);
  });

  test(`${sys.kind}: times keep their nanoseconds, before 1970 too, and do not follow links`, (t) => {
    const dir = scratch(t, sys);
    symlinkSync('nowhere', join(dir, 'l'));
    for (const ns of [1_700_000_000_123_456_789n, -1n]) {
      sys.setTimes(join(dir, 'l'), 7n, ns);
      assert.equal(lstatSync(join(dir, 'l'), { bigint: true }).mtimeNs, ns);
    }
  });

  test(`${sys.kind}: device nodes and fifos are made with numbers above 255`, needsRoot, (t) => {
    const dir = scratch(t, sys);
    sys.makeNode(join(dir, 'c'), 0o020600, 300, 70_000);
    sys.makeNode(join(dir, 'p'), 0o010644, 0, 0);
    const { rdev } = lstatSync(join(dir, 'c'));
    assert.equal(
      spawnSync('stat', ['-c', '%Hr %Lr', join(dir, 'c')], { encoding: 'utf8' }).stdout,
      '300 70000\n',
      `rdev ${rdev}`,
    );
    assert.ok(lstatSync(join(dir, 'p')).isFIFO());
  });

  test(`${sys.kind}: a child gets stdin, environment and directory, and its output and status come back`, async (t) => {
    const dir = scratch(t, sys);
    const child = sys.spawn({
      file: 'sh',
      args: ['sh', '-c', 'cat; echo "$GREETING"; pwd >&2; exit 7'],
      env: ['GREETING=hi=there', `PATH=${process.env.PATH}`],
      cwd: dir,
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    assert.ok(child.stdin && child.stdout && child.stderr);
    child.stdin.end('from stdin\n');
    const [out, err, exit] = await Promise.all([text(child.stdout), text(child.stderr), child.exited]);
    assert.equal(out, 'from stdin\nhi=there\n');
    assert.equal(err, `${dir}\n`);
    assert.equal(exit.status, 7);
    assert.equal(child.kill('SIGKILL'), false);
  });

  test(`${sys.kind}: a process group is killed whole, and the signal is reported`, async () => {
    const child = sys.spawn({
      file: 'sh',
      args: ['sh', '-c', 'sleep 1000 & echo ready; wait'],
      env: [`PATH=${process.env.PATH}`],
      stdout: 'pipe',
      newGroup: true,
    });
    assert.ok(child.stdout);
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    assert.equal(sys.killGroup(child.pid, 'SIGKILL'), true);
    assert.deepEqual(await child.exited.then(({ status, signal }) => ({ status, signal })), { status: undefined, signal: 9 });
    await text(child.stdout); // ends only when the sleeper, which holds the other end, is gone too
  });

  test(`${sys.kind}: a program that does not exist is refused at once`, () => {
    assert.throws(
      () => sys.spawn({ file: '/nonexistent/program', args: ['x'], env: [] }),
      (error) => codeOf(error) === 'ENOENT',
    );
  });

  test(`${sys.kind}: a child does not inherit our ignored SIGPIPE or our descriptors`, async (t) => {
    const dir = scratch(t, sys);
    const fd = openSync(join(dir, 'secret'), 'w');
    t.after(() => closeSync(fd));
    const child = sys.spawn({
      file: 'sh',
      args: ['sh', '-c', 'ls -l /proc/self/fd; grep SigIgn /proc/self/status'],
      env: [`PATH=${process.env.PATH}`],
      stdout: 'pipe',
    });
    assert.ok(child.stdout);
    const [fds = '', ignored = ''] = (await text(child.stdout)).split('SigIgn:');
    assert.match(fds, /\/dev\/null/);
    assert.doesNotMatch(fds, /secret/);
    // glibc leaves its internal signals 32 and 33 ignored in a child; nobody can send them.
    assert.equal(BigInt(`0x${ignored.trim()}`) & ~0x1_8000_0000n, 0n);
  });

  test(`${sys.kind}: a second taker of a lock learns who holds it, and gets it once it is free`, async (t) => {
    const dir = scratch(t, sys);
    const path = join(dir, 'lock');
    const script = `import { openSys } from ${JSON.stringify(new URL('./sys.ts', import.meta.url).href)};
      const taken = openSys(${sys.kind === 'commands' ? "{ prefer: 'commands' }" : ''}).lockFile(${JSON.stringify(path)});
      console.log(JSON.stringify(taken)); setInterval(() => {}, 1000);`;
    const child = sys.spawn({
      file: process.execPath,
      args: ['node', '--input-type=module', '-e', script],
      env: [],
      stdout: 'pipe',
    });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    assert.deepEqual(sys.lockFile(path), { held: false, pid: child.pid });
    child.kill('SIGKILL');
    await child.exited;
    const taken = sys.lockFile(path);
    assert.ok(taken.held);
    taken.lock[Symbol.dispose]();
  });

  test(`${sys.kind}: disk figures are those of df`, () => {
    const { totalBytes, freeBytes, totalInodes, freeInodes } = sys.diskStats('/');
    assert.ok(totalBytes > 0 && freeBytes > 0 && freeBytes < totalBytes && freeInodes <= totalInodes);
  });
}

test('names that are not UTF-8 pass through native calls as bytes', { skip: openSys().kind !== 'native' }, (t) => {
  const sys = openSys();
  const dir = scratch(t, sys);
  const path = Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe])]);
  writeFileSync(path, '');
  chmodSync(path, 0o600);
  sys.setTimes(path, 1n, 2n);
  assert.equal(lstatSync(path, { bigint: true }).mtimeNs, 2n);
});
