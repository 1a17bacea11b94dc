import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BuildError, cancelled } from '../../core/errors.ts';
import { cannotRun, makeRootfs, mountsBelow, openRig, plainSpec, processesWith, until } from './sandbox.test-rig.ts';
import { openSandbox } from './sandbox.ts';
import { openSys } from './sys/sys.ts';

const skip = cannotRun;
const failsWith = (kind: string, message: RegExp) => (error: unknown) =>
  error instanceof BuildError && error.kind === kind && message.test(error.message);

test('a step runs, both streams arrive, its status is its own', { skip }, async (t) => {
  await using rig = await openRig(t);
  const done = await rig.sh('echo out; echo err >&2; exit 7');
  assert.deepEqual([done.status, done.out, done.err], [7, 'out\n', 'err\n']);
});

test('every status from 0 to 255 comes out, and signals as 128 and their number', { skip }, async (t) => {
  await using rig = await openRig(t);
  for (const [script, status] of [
    ['exit 0', 0],
    ['exit 1', 1],
    ['exit 255', 255],
    // Not the first process itself: the kernel lets a pid namespace's init ignore its own signals.
    ["sh -c 'kill -9 $$'; exit $?", 137],
    ["sh -c 'kill -15 $$'; exit $?", 143],
  ] as const) {
    assert.equal((await rig.sh(script)).status, status, script);
  }
});

test('users and groups are those of the root file system', { skip }, async (t) => {
  await using rig = await openRig(t);
  for (const [user, ids] of [
    ['', '0 0 0'],
    ['app', '1000 1001 1001 2000'],
    ['1000', '1000 1001 1001 2000'],
    ['app:extra', '1000 2000 2000'],
    ['4711', '4711 0 0'],
    ['4711:4712', '4711 4712 4712'],
    [':extra', '0 2000 2000'],
  ] as const) {
    assert.equal((await rig.sh('echo $(id -u) $(id -g) $(id -G)', { user })).out.trim(), ids, JSON.stringify(user));
  }
  await assert.rejects(
    rig.sh('id', { user: 'nobody' }),
    failsWith('invalid-input', /^unable to find user nobody: no matching entries in passwd file$/),
  );
  await assert.rejects(rig.sh('id', { user: 'app:none' }), failsWith('invalid-input', /^unable to find group none/));
  await assert.rejects(rig.sh('id', { user: '99999999999' }), failsWith('invalid-input', /must be in range/));
});

for (const [what, make] of [
  ['an absolute symlink', (path: string, secret: string) => symlinkSync(secret, path)],
  ['a symlink with many parents', (path: string, secret: string) => symlinkSync(`${'../'.repeat(40)}${secret}`, path)],
] as const) {
  test(`/etc/passwd as ${what} does not reach the host's files`, { skip }, async (t) => {
    await using rig = await openRig(t);
    const host = join(rig.root, 'host-passwd');
    writeFileSync(host, 'intruder:x:1:1::/:/bin/sh\n');
    rmSync(join(rig.rootfs, 'etc/passwd'));
    make(join(rig.rootfs, 'etc/passwd'), host);
    await assert.rejects(rig.sh('id', { user: 'intruder' }), failsWith('invalid-input', /unable to find user intruder/));
  });
}

test('a FIFO as /etc/passwd does not hold the daemon', { skip }, async (t) => {
  await using rig = await openRig(t);
  await rig.sh('rm /etc/passwd; mkfifo /etc/passwd');
  await assert.rejects(rig.sh('id', { user: 'app' }), failsWith('invalid-input', /unable to find user app/));
});

test('without a network there is a loopback only', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { out } = await rig.sh('ls /sys/class/net; cat /proc/net/dev', { network: 'none' });
  assert.match(out, /^lo\n/);
  assert.doesNotMatch(out, /eth|veth|ens/);
});

test('a read-only root cannot be written to', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { status, err } = await rig.sh('touch /x', { readonlyRoot: true });
  assert.equal(status, 1);
  assert.match(err, /Read-only file system/);
});

test('the process sees its hosts, its resolver and its host name, and no layer does', { skip }, async (t) => {
  await using rig = await openRig(t, { dns: { nameservers: ['10.1.2.3'], options: [], searchDomains: ['example.com'] } });
  const { out } = await rig.sh('cat /etc/hosts /etc/resolv.conf; hostname', {
    hostname: 'builder',
    extraHosts: [{ host: 'db', ip: '10.0.0.7' }],
  });
  assert.match(out, /127\.0\.0\.1\tlocalhost builder\n/);
  assert.match(out, /10\.0\.0\.7\tdb\n/);
  assert.match(out, /nameserver 10\.1\.2\.3\nsearch example\.com\n/);
  assert.match(out, /\nbuilder\n$/);
  assert.deepEqual(readdirSync(join(rig.rootfs, 'etc')), ['group', 'passwd']);
});

test('mount points made for a run are removed after it, what the process left in them is not', { skip }, async (t) => {
  await using rig = await openRig(t);
  const source = join(rig.root, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), 'bound');
  const mounts = [{ destination: '/a/b/c', kind: 'bind', source, readonly: true } as const];
  const etc = statSync(join(rig.rootfs, 'etc')).mtimeMs;
  const first = await rig.sh('cat /a/b/c/file; touch /a/b/c/x', { mounts });
  assert.equal(first.out, 'bound');
  assert.match(first.err, /Read-only/);
  assert.equal(existsSync(join(rig.rootfs, 'a')), false);
  await rig.sh('touch /a/kept', { mounts });
  assert.deepEqual(readdirSync(join(rig.rootfs, 'a')), ['kept']);
  assert.ok(statSync(join(rig.rootfs, 'etc')).mtimeMs >= etc);
});

test('a mount point below a symlink stays inside the root', { skip }, async (t) => {
  await using rig = await openRig(t);
  const outside = join(rig.root, 'outside');
  mkdirSync(outside);
  symlinkSync(outside, join(rig.rootfs, 'way'));
  await rig.sh('echo hi > /way/m/f', { mounts: [{ destination: '/way/m', kind: 'tmpfs', readonly: false }] });
  assert.deepEqual(readdirSync(outside), []);
});

test('the working directory is made and belongs to the user', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { out } = await rig.sh('pwd; stat -c %u:%g:%a /srv/app', { cwd: '/srv/app', user: 'app' });
  assert.equal(out, '/srv/app\n1000:1001:755\n');
});

test('a secret file has its owner and mode, is read-only, and is gone with the step', { skip }, async (t) => {
  await using rig = await openRig(t);
  const files = [{ destination: '/run/secrets/token', data: Buffer.from('s3cret'), uid: 1000, gid: 1001, mode: 0o400 }];
  const { out, err } = await rig.sh(
    'cat /run/secrets/token; stat -c " %u:%g:%a" /run/secrets/token; echo x > /run/secrets/token',
    { files },
  );
  assert.equal(out, 's3cret 1000:1001:400\n');
  assert.match(err, /Read-only/);
  assert.equal(existsSync(join(rig.rootfs, 'run')), false);
  const [tmpfs] = mountsBelow(join(rig.root, 'sandbox')).map((line) => line.split(' ')[1] ?? '');
  assert.deepEqual(readdirSync(join(tmpfs ?? '', 'files')), []);
});

test('limits of the step hold: open files and memory', { skip }, async (t) => {
  await using rig = await openRig(t);
  const limited = await rig.sh('ulimit -n; ulimit -Hn', { ulimits: [{ name: 'nofile', soft: 77n, hard: 88n }] });
  assert.equal(limited.out, '77\n88\n');
  const hungry = 'x=$(dd if=/dev/zero bs=1M count=200 2>/dev/null | yes | head -c 200000000)';
  const killed = await rig.sh(`exec sh -c '${hungry}'`, {
    resources: { memoryBytes: 32n * 1024n * 1024n, memorySwapBytes: 32n * 1024n * 1024n },
  });
  assert.equal(killed.status, 137);
  assert.equal(killed.usage.oomKilled, true);
});

test('what a step used is told', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { usage } = await rig.sh('x=$(yes | head -c 20000000); i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done');
  assert.ok(usage.peakMemoryBytes > 20_000_000, `${usage.peakMemoryBytes}`);
  assert.ok(usage.cpuNs > 50_000_000n, `${usage.cpuNs}`);
  assert.equal(usage.oomKilled, false);
  const { usage: small } = await rig.sh('true');
  assert.ok(small.peakMemoryBytes < usage.peakMemoryBytes / 2, 'the peak of one step is not that of the one before');
});

test('a command that is not there is the user\u2019s fault, in the words of the runtime', { skip }, async (t) => {
  await using rig = await openRig(t);
  await assert.rejects(
    rig.sh('', { args: ['nosuch'] }),
    (error) =>
      failsWith('invalid-input', /executable file not found in \$PATH/)(error) && (error as BuildError).detail.exitCode === 1,
  );
  await assert.rejects(rig.sh('', { args: ['/etc/passwd'] }), failsWith('invalid-input', /permission denied/));
});

test('system calls that step out of the sandbox are refused', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { out, err } = await rig.sh(
    'unshare -U true; mount -t tmpfs x /mnt; mknod /dev/sda b 8 0 && cat /dev/sda; cat /proc/kcore | head -c 1; echo end',
  );
  assert.match(err, /unshare.*not permitted/i);
  assert.match(err, /mount.*(denied|permitted|failed)/i);
  assert.match(err, /\/dev\/sda.*not permitted/i);
  assert.equal(out, 'end\n');
});

test('an insecure step may mount', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { status, err } = await rig.sh('mkdir /mnt; mount -t tmpfs x /mnt', { insecure: true });
  assert.deepEqual([status, err], [0, '']);
});

test('output keeps its order within a stream and comes in pieces of at most 64 KiB', { skip }, async (t) => {
  await using rig = await openRig(t);
  const { out, pieces } = await rig.sh('seq 1 200000');
  assert.equal(out, Array.from({ length: 200_000 }, (_, n) => `${n + 1}\n`).join(''));
  assert.ok(pieces.every(({ data }) => data.byteLength <= 64 * 1024));
});

test('200 MB of output do not gather in memory', { skip }, async (t) => {
  await using rig = await openRig(t);
  let bytes = 0;
  let peak = 0;
  const before = process.memoryUsage().rss;
  await rig.sh('yes 0123456789012345678901234567890123456789 | head -c 200000000', {
    onOutput: (_, data) => {
      bytes += data.byteLength;
      peak = Math.max(peak, process.memoryUsage.rss());
    },
  });
  assert.equal(bytes, 200_000_000);
  assert.ok(peak - before < 100_000_000, `${peak - before} bytes more`);
});

test('abort kills the whole tree of processes and leaves nothing behind', { skip }, async (t) => {
  await using rig = await openRig(t);
  const marker = `4711${process.pid}`;
  const controller = new AbortController();
  const running = rig.sh(`sleep ${marker} & (trap '' TERM; sleep ${marker}) & echo started; wait`, {
    signal: controller.signal,
    onOutput: () => controller.abort(cancelled()),
  });
  await assert.rejects(running, failsWith('cancelled', /context canceled/));
  assert.deepEqual(processesWith(`sleep ${marker}`), []);
  assert.deepEqual(leftIn(rig.root), []);
});

test('abort at any moment of the start leaves nothing behind', { skip }, async (t) => {
  await using rig = await openRig(t);
  const marker = `4712${process.pid}`;
  for (const afterMs of [0, 2, 5, 8, 11, 14, 18, 25]) {
    const controller = new AbortController();
    const running = rig.sh(`sleep ${marker}`, { signal: controller.signal });
    setTimeout(() => controller.abort(cancelled()), afterMs);
    await assert.rejects(running, failsWith('cancelled', /context canceled/), `after ${afterMs} ms`);
  }
  assert.deepEqual(processesWith(`sleep ${marker}`), []);
  assert.deepEqual(leftIn(rig.root), []);
});

/** Bundles and runtime state that should be gone, and mounts other than the sandbox's own tmpfs. */
function leftIn(root: string): string[] {
  const base = join(root, 'sandbox');
  const runs = readdirSync(base).filter((name) => !name.endsWith('.groups'));
  const entries = runs.flatMap((run) =>
    readdirSync(join(base, run)).filter((name) => !['state', 'files', 'shared'].includes(name)),
  );
  const state = runs.flatMap((run) => readdirSync(join(base, run, 'state')));
  return [...entries, ...state, ...mountsBelow(root).filter((line) => !/\/sandbox\/[0-9a-f]+ tmpfs /.test(line))];
}

/** A daemon in a process of its own, running one step that never ends. */
const DAEMON = `
const [root, marker] = process.argv.slice(1);
const { openSandbox } = await import(${JSON.stringify(new URL('./sandbox.ts', import.meta.url).href)});
const { openSys } = await import(${JSON.stringify(new URL('./sys/sys.ts', import.meta.url).href)});
const { plainSpec } = await import(${JSON.stringify(new URL('./sandbox.test-rig.ts', import.meta.url).href)});
const sandbox = await openSandbox({ root, runtime: 'auto', sys: openSys() });
await sandbox.run({ ...plainSpec(root + '/rootfs'), args: ['/bin/sh', '-c', 'echo started; sleep ' + marker],
  onOutput: () => console.log('started') });
`;

for (const watched of [true, false]) {
  const name = watched
    ? 'when the daemon is killed its steps die'
    : 'when daemon and watcher are killed, the next start ends their steps';
  test(name, { skip }, async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'cooper-sandbox-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    makeRootfs(join(root, 'rootfs'));
    const marker = `4713${process.pid}${watched ? 1 : 0}`;
    const daemon = spawn(process.execPath, ['--input-type=module', '-e', DAEMON, root, marker], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(daemon.stdout, 'data');
    assert.equal(processesWith(`sleep ${marker}`).length > 0, true);
    const lists = listsIn(root);
    assert.equal(lists.length, 1);
    if (!watched) killWatcher(root);
    daemon.kill('SIGKILL');
    await once(daemon, 'exit');
    if (watched) await until(() => processesWith(`sleep ${marker}`).length === 0);
    else assert.equal(processesWith(`sleep ${marker}`).length > 0, true);
    await using sandbox = await openSandbox({ root, runtime: 'auto', sys: openSys() });
    assert.deepEqual(processesWith(`sleep ${marker}`), []);
    assert.deepEqual(leftIn(root), []);
    assert.deepEqual(groupsOf(lists), []);
    assert.equal((await sandbox.run(plainSpec(join(root, 'rootfs')))).status, 0);
  });
}

/** Control groups of earlier runs of a sandbox on `root`: their lists, and what is left of the groups. */
function groupsOf(lists: readonly string[]): string[] {
  const tags = lists.flatMap((list) => list.split('\n').filter(Boolean)).map((dir) => dir.slice(dir.lastIndexOf('/') + 1));
  const mounts = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))];
  return mounts.flatMap((dir) => tags.map((tag) => join(dir, tag))).filter((dir) => existsSync(dir));
}
const listsIn = (root: string): string[] =>
  readdirSync(join(root, 'sandbox'))
    .filter((name) => name.endsWith('.groups'))
    .map((name) => readFileSync(join(root, 'sandbox', name), 'utf8'));

function killWatcher(root: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const line = existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'latin1') : '';
    if (line.startsWith('cooper-watch') && line.includes(root)) process.kill(Number(pid), 'SIGKILL');
  }
}

test('a runtime that is not there is an error that says what to install', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'cooper-sandbox-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const real = openSys();
  const sys = { ...real, spawn: () => real.spawn({ file: '/bin/false', args: ['false'], env: [] }) };
  await assert.rejects(
    openSandbox({ root, runtime: 'runc', sys }),
    (error) => failsWith('unavailable', /runc/)(error) && (error as BuildError).detail.hint === 'apt-get install runc',
  );
});
