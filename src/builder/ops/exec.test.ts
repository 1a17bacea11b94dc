import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { BuildError, cancelled, GRPC } from '../../core/errors.ts';
import { CacheSharingOpt, ExecOpSchema, MountType, type Op } from '../proto/gen/pb/ops_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { readView } from '../snapshot/snapshots.test-rig.ts';
import { cannotRun, mountsBelow } from '../worker/sandbox.test-rig.ts';
import { type MountInit, openOpsRig, sh } from './ops.test-rig.ts';

const skip = cannotRun;
const contentOf = async (snapshot: Snapshot | undefined, path: string): Promise<string | undefined> =>
  snapshot === undefined ? undefined : (await readView(snapshot))[path];
const failed = (kind: string, message: string) => (error: unknown) => {
  assert.ok(error instanceof BuildError);
  assert.deepEqual([error.kind, error.message], [kind, message]);
  return true;
};

test('a RUN leaves what it wrote in a new snapshot, and its input as it was', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const ran = await rig.run(sh('echo hi > /made; echo out; echo err >&2'), [rig.base]);
  assert.deepEqual([ran.out, ran.err, ran.phases], ['out\n', 'err\n', ['mounts', 'run', 'commit']]);
  assert.equal(await contentOf(ran.results[0], 'made'), 'hi\n');
  assert.equal(await contentOf(rig.base, 'made'), undefined);
  assert.deepEqual(
    Object.keys(await readView(ran.results[0] as Snapshot)).filter((path) => /resolv|hosts$/.test(path)),
    [],
  );
  assert.ok((ran.usage?.cpuNs ?? 0n) > 0n);
});

test('a failing command is the user\u2019s fault, in the words of BuildKit', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  await assert.rejects(rig.run(sh('exit 7'), [rig.base]), (error) => {
    assert.ok(error instanceof BuildError);
    assert.deepEqual([error.detail.exitCode, error.detail.grpcCode, error.fault], [7, GRPC.UNKNOWN, 'user']);
    return failed('step-failed', 'process "/bin/sh -c exit 7" did not complete successfully: exit code: 7')(error);
  });
  const args = ['/nosuch'];
  await assert.rejects(
    rig.run(sh('', [], { args }), [rig.base]),
    failed('step-failed', 'process "/nosuch" did not complete successfully: exit code: 1'),
  );
  await assert.rejects(
    rig.run(sh('id', [], { user: 'none' }), [rig.base]),
    failed(
      'invalid-input',
      'process "/bin/sh -c id" did not complete successfully: unable to find user none: no matching entries in passwd file',
    ),
  );
  assert.deepEqual((await rig.run(sh('exit 7', [], { validExitCodes: [7] }), [rig.base])).results.length, 1);
});

test('an aborted step says so as clients know it, and leaves nothing mounted', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const controller = new AbortController();
  const running = rig.run(sh('echo x; sleep 100'), [rig.base], {
    signal: controller.signal,
    onLog: () => controller.abort(cancelled()),
  });
  await assert.rejects(
    running,
    failed(
      'cancelled',
      'process "/bin/sh -c echo x; sleep 100" did not complete successfully: exit code: 137: context canceled: context canceled',
    ),
  );
  assert.deepEqual(
    mountsBelow(rig.dir).filter((line) => !line.includes('/sandbox/')),
    [],
  );
});

test('binds: read-only, a selected path, a writable one with and without an output', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const other = await rig.snapshot(undefined, (dir) => {
    mkdirSync(join(dir, 'sub'));
    writeFileSync(join(dir, 'sub/f'), 'selected');
  });
  const ran = await rig.run(
    sh('cat /ro/sub/f /sel/f; touch /ro/x; echo new > /rw/n; echo new > /drop/n', [
      { input: 1n, dest: '/ro', output: -1n, readonly: true },
      { input: 1n, dest: '/sel', output: -1n, selector: '/sub', readonly: true },
      { input: 1n, dest: '/rw', output: 1n },
      { input: 1n, dest: '/drop', output: -1n },
    ]),
    [rig.base, other],
  );
  assert.equal(ran.out, 'selectedselected');
  assert.match(ran.err, /Read-only file system/);
  assert.equal(ran.results.length, 2);
  assert.deepEqual(await readView(ran.results[1] as Snapshot), { n: 'new\n', sub: 'dir', 'sub/f': 'selected' });
  assert.deepEqual(Object.keys(await readView(other)), ['sub', 'sub/f']);
  assert.deepEqual(
    Object.keys(await readView(ran.results[0] as Snapshot)).filter((path) => ['ro', 'sel', 'rw', 'drop'].includes(path)),
    [],
  );
});

test('a selected path that is a hostile symlink stays inside its input', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const hostile = await rig.snapshot(undefined, (dir) => {
    symlinkSync('../../../../../../../../etc', join(dir, 'way'));
    mkdirSync(join(dir, 'etc'));
    writeFileSync(join(dir, 'etc/inside'), 'inside');
  });
  const mount = { input: 1n, dest: '/m', output: -1n, selector: '/way', readonly: true };
  assert.equal((await rig.run(sh('ls /m', [mount]), [rig.base, hostile])).out, 'inside\n');
  await assert.rejects(
    rig.run(sh('ls /m', [{ ...mount, selector: '/nosuch' }]), [rig.base, hostile]),
    (error) => error instanceof BuildError && error.kind === 'not-found' && /\/nosuch: no such file/.test(error.message),
  );
});

test('a cache mount keeps its content from one step to the next, a no-cache step begins with an empty one', {
  skip,
}, async (t) => {
  const rig = await openOpsRig(t);
  const cache = { input: -1n, dest: '/c', output: -1n, mountType: MountType.CACHE, cacheOpt: { ID: '//c' } };
  assert.equal((await rig.run(sh('ls /c; touch /c/one', [cache]), [rig.base])).out, '');
  assert.equal((await rig.run(sh('ls /c; touch /c/two', [cache]), [rig.base])).out, 'one\n');
  assert.equal((await rig.run(sh('ls /c', [cache]), [rig.base])).out, 'one\ntwo\n');
  assert.equal((await rig.run(sh('ls /c; touch /c/three', [cache]), [rig.base], { ignoreCache: true })).out, '');
  const after = await rig.run(sh('ls /c', [cache]), [rig.base]);
  assert.equal(after.out, 'three\n');
  assert.equal(await contentOf(after.results[0], 'c'), undefined, 'the mount point does not stay');
});

test('a locked cache is held by one step at a time, a shared one by both', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const cache = (sharing: CacheSharingOpt): MountInit => ({
    input: -1n,
    dest: '/c',
    output: -1n,
    mountType: MountType.CACHE,
    cacheOpt: { ID: `id${sharing}`, sharing },
  });
  // Each waits for the other's mark for a while; with a lock it cannot come.
  const meet = (mine: string, theirs: string): string =>
    `touch /c/${mine}; i=0; while [ ! -e /c/${theirs} ] && [ $i -lt 20 ]; do sleep 0.02; i=$((i+1)); done; [ -e /c/${theirs} ] && echo met; rm -f /c/${mine}`;
  for (const [sharing, met] of [
    [CacheSharingOpt.SHARED, true],
    [CacheSharingOpt.LOCKED, false],
    [CacheSharingOpt.PRIVATE, false],
  ] as const) {
    const both = await Promise.all([
      rig.run(sh(meet('a', 'b'), [cache(sharing)], { validExitCodes: [0, 1] }), [rig.base]),
      rig.run(sh(meet('b', 'a'), [cache(sharing)], { validExitCodes: [0, 1] }), [rig.base]),
    ]);
    assert.equal(
      both.some(({ out }) => out === 'met\n'),
      met,
      `sharing ${sharing}`,
    );
  }
});

test('two mounts of one step share a locked cache, and a selected path of a cache is bound', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const cache = (dest: string, selector: string): MountInit => ({
    input: -1n,
    dest,
    selector,
    output: -1n,
    mountType: MountType.CACHE,
    cacheOpt: { ID: 'both', sharing: CacheSharingOpt.LOCKED },
  });
  const { out } = await rig.run(sh('mkdir -p /a/sub; echo x > /a/sub/f; cat /b/sub/f', [cache('/a', ''), cache('/b', '')]), [
    rig.base,
  ]);
  assert.equal(out, 'x\n');
  const selected = await rig.run(sh('cat /s/f', [cache('/s', '/sub')]), [rig.base]);
  assert.equal(selected.out, 'x\n');
  assert.deepEqual(readdirSync(rig.deps.tempDir), []);
});

test('secrets: a file, a variable, a missing one; never in a layer and never in the output', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  rig.secrets.set('token', 'hunter2-s3cret');
  const file = { input: -1n, dest: '/run/secrets/token', mountType: MountType.SECRET, secretOpt: { ID: 'token', mode: 0o400 } };
  const env = { secretenv: [{ ID: 'token', name: 'TOKEN' }] };
  const ran = await rig.run(
    sh('cat /run/secrets/token; echo "<$TOKEN>" >&2; [ $TOKEN = hunter2-s3cret ] && echo same', [file], {}, env),
    [rig.base],
  );
  assert.equal(ran.out, '[secret]same\n');
  assert.doesNotMatch(ran.err, /hunter2/);
  const tree = await readView(ran.results[0] as Snapshot);
  assert.equal(tree.run, undefined);
  assert.ok(Object.values(tree).every((content) => !content.includes('hunter2')));
  const missing = { ...file, secretOpt: { ID: 'none' } };
  await assert.rejects(rig.run(sh('true', [missing]), [rig.base]), failed('not-found', 'secret none: not found'));
  await rig.run(sh('[ ! -e /run/secrets/token ]', [{ ...file, secretOpt: { ID: 'none', optional: true } }]), [rig.base]);
});

test('ssh: the agent is a socket with owner and mode while the step runs; a missing one fails unless it is optional', {
  skip,
}, async (t) => {
  const rig = await openOpsRig(t);
  rig.agents.add('key');
  const agent = {
    input: -1n,
    dest: '/run/agent.0',
    mountType: MountType.SSH,
    SSHOpt: { ID: 'key', uid: 5, gid: 6, mode: 0o600 },
  };
  const { out, results } = await rig.run(sh('[ -S /run/agent.0 ] && stat -c "%a %u %g" /run/agent.0', [agent]), [rig.base]);
  assert.equal(out, '600 5 6\n');
  assert.equal((await readView(results[0] as Snapshot)).run, undefined);
  assert.deepEqual(readdirSync(rig.deps.tempDir), []);
  const missing = { ...agent, SSHOpt: { ID: 'other' } };
  const refusal = failed('not-found', 'no SSH key "other" forwarded from the client');
  await assert.rejects(rig.run(sh('true', [missing]), [rig.base]), refusal);
  await rig.run(sh('[ ! -e /run/agent.0 ]', [{ ...agent, SSHOpt: { ID: 'other', optional: true } }]), [rig.base]);
});

test('tmpfs, trace and proxies reach the process and no layer', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const tmpfs = { input: -1n, dest: '/t', output: -1n, mountType: MountType.TMPFS, TmpfsOpt: { size: 1_048_576n } };
  const ran = await rig.run(
    sh('echo x > /t/f; mount | grep " /t "; env', [tmpfs], { proxyEnv: { httpProxy: 'http://proxy:1' }, env: [] }),
    [rig.base],
    { traceparent: '00-11111111111111111111111111111111-2222222222222222-01' },
  );
  assert.match(ran.out, /tmpfs on \/t type tmpfs .*size=1024k/);
  assert.match(ran.out, /^TRACEPARENT=00-1+-2+-01$/m);
  assert.match(ran.out, /^HTTP_PROXY=http:\/\/proxy:1$/m);
  assert.match(ran.out, /^PATH=\/usr\/local\/sbin:/m);
  assert.equal(await contentOf(ran.results[0], 't'), undefined);
});

test('a scratch input is an empty root', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const scratch = { id: undefined, clone: () => scratch, [Symbol.asyncDispose]: async () => {} };
  const ran = await rig.run(sh('echo made > /out/f', [{ input: 1n, dest: '/out', output: 1n }]), [rig.base, scratch]);
  assert.deepEqual(await readView(ran.results[1] as Snapshot), { f: 'made\n' });
});

test('what a read-only root must not have is refused, its mount points are made all the same', { skip }, async (t) => {
  const rig = await openOpsRig(t);
  const op: Op['op'] = {
    case: 'exec',
    value: create(ExecOpSchema, {
      meta: { args: ['/bin/sh', '-c', 'touch /x; echo y > /t/y; cat /t/y'], env: ['PATH=/bin'], cwd: '/' },
      mounts: [
        { input: 0n, dest: '/', output: -1n, readonly: true },
        { input: -1n, dest: '/t', output: 0n },
      ],
    }),
  };
  const ran = await rig.run(op, [rig.base]);
  assert.match(ran.err, /Read-only file system/);
  assert.deepEqual(await readView(ran.results[0] as Snapshot), { y: 'y\n' });
  assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes(rig.deps.tempDir), false);
});

test('a secret that a step copies into its result is named with its path, whole or cut by the end of a chunk', {
  skip,
}, async (t) => {
  const rig = await openOpsRig(t);
  rig.secrets.set('token', 'hunter2-s3cret');
  rig.secrets.set('pin', '1234567');
  const mount = (id: string) => ({
    input: -1n,
    dest: `/run/secrets/${id}`,
    mountType: MountType.SECRET,
    secretOpt: { ID: id, mode: 0o400 },
  });
  const leave = [
    'mkdir /d; cat /run/secrets/token > /d/npmrc; cat /run/secrets/pin > /pin; ln -s /run/secrets/token /link',
    'head -c 1048570 /dev/zero > /cut; cat /run/secrets/token >> /cut; mkfifo /pipe',
  ].join('; ');
  const ran = await rig.run(sh(leave, [mount('token'), mount('pin')]), [rig.base]);
  const leaks = ran.used.filter((line) => line.startsWith('leak'));
  assert.deepEqual(leaks.sort(), ['leak of token in /cut', 'leak of token in /d/npmrc']); // seven digits stand anywhere by chance
  assert.deepEqual((await rig.run(sh('cat /run/secrets/token > /dev/null', [mount('token')]), [rig.base])).used, [
    'secret token true',
  ]);
});

test('a step that leaves a secret fails when that is what the operator wants, and nothing is searched when it is switched off', {
  skip,
}, async (t) => {
  const rig = await openOpsRig(t);
  rig.secrets.set('token', 'hunter2-s3cret');
  const secret = { input: -1n, dest: '/t', mountType: MountType.SECRET, secretOpt: { ID: 'token', mode: 0o400 } };
  const leave = sh('cat /t > /kept', [secret]);
  Object.assign(rig.deps, { secretLeaks: 'fail' });
  await assert.rejects(rig.run(leave, [rig.base]), failed('denied', 'the step leaves the value of secret token in /kept'));
  Object.assign(rig.deps, { secretLeaks: 'off' });
  assert.deepEqual((await rig.run(leave, [rig.base])).used, ['secret token true']);
});
