import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import {
  ExecOpSchema,
  type FileActionSchema,
  FileOpSchema,
  MountContentCache,
  type MountSchema,
  MountType,
  PlatformSchema,
  UserOptSchema,
} from '../proto/gen/pb/ops_pb.ts';
import type { Snapshots } from '../snapshot/ports.ts';
import { execCacheMap } from './exec-key.ts';
import { fileCacheMap } from './file-key.ts';
import { goBytes, goJson, goString } from './go-json.ts';
import { goQuote } from './go-quote.ts';

// Digests and records of buildkit-wire.md section 7.3: read from caches that the real daemon exported.
const AMD64 = create(PlatformSchema, { OS: 'linux', Architecture: 'amd64' });
const DEPS = { snapshots: {} as Snapshots, workerId: 'w' };
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const record = (digest: string, output: number): string => cacheDigestOf(`${digest}@${output}`);

type ExecInit = MessageInitShape<typeof ExecOpSchema>;
const execMap = (init: ExecInit, inputs = 1): ReturnType<typeof execCacheMap> =>
  execCacheMap(create(ExecOpSchema, init), AMD64, inputs, DEPS);
const fileMap = (actions: MessageInitShape<typeof FileActionSchema>[], inputs: number): ReturnType<typeof fileCacheMap> =>
  fileCacheMap(create(FileOpSchema, { actions }), inputs, DEPS);

test('a plain RUN has the record of a real daemon', () => {
  const { digest, inputs } = execMap({
    meta: {
      args: ['/bin/busybox', 'sh', '-c', '/bin/busybox --install -s /bin && echo installed && echo err >&2'],
      env: [PATH],
      cwd: '/',
      removeMountStubsRecursive: true,
    },
    mounts: [{ dest: '/' }],
  });
  assert.equal(record(digest, 0), 'sha256:3e4e424b3e09dcde528e5e292b99296cf2f1f67a7076c2eada839532b63a0857');
  assert.equal(inputs[0]?.selector, 'sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1');
  assert.equal(inputs[0]?.contentKey, undefined);
});

test('a RUN with cache, tmpfs, secret and ssh mounts has the record of a real daemon', () => {
  const { digest } = execMap({
    meta: {
      args: ['/bin/busybox', 'sh', '-c', 'cat /run/secrets/s1; ls -la /run; echo x > /c/x; echo $SSH_AUTH_SOCK'],
      env: [PATH, 'SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0'],
      cwd: '/',
      removeMountStubsRecursive: true,
    },
    mounts: [
      { dest: '/' },
      { input: -1n, dest: '/c', output: -1n, mountType: MountType.CACHE, cacheOpt: { ID: '//c' } },
      { input: -1n, dest: '/t', output: -1n, mountType: MountType.TMPFS, TmpfsOpt: {} },
      { input: -1n, dest: '/run/secrets/s1', mountType: MountType.SECRET, secretOpt: { ID: 's1', mode: 256, optional: true } },
      { input: -1n, dest: '/run/buildkit/ssh_agent.0', mountType: MountType.SSH, SSHOpt: { mode: 384, optional: true } },
    ],
  });
  assert.equal(record(digest, 0), 'sha256:82b3187575e5e2aabe111a29cc3039b28ab2fadbe9c5e87cfbeba42c2400fa88');
});

test('COPY onto scratch has the digest and record of a real daemon', () => {
  const { digest, inputs } = fileMap(
    [
      {
        input: -1n,
        secondaryInput: 0n,
        output: 0n,
        action: {
          case: 'copy',
          value: {
            src: '/busybox',
            dest: '/bin/busybox',
            mode: -1,
            followSymlink: true,
            dirCopyContents: true,
            createDestPath: true,
            allowWildcard: true,
            allowEmptyWildcard: true,
            timestamp: -1n,
          },
        },
      },
    ],
    1,
  );
  assert.equal(digest, 'sha256:851bb57f0ae8804535fa8847cc41f17e49b7eb796889fdb55cf229ca8f53276e');
  assert.equal(record(digest, 0), 'sha256:1616bd1ac1dfad8027ee4877ba75520a6e05433e5ba19e7b8bbbbb094a8c3412');
  assert.equal(inputs[0]?.selector, cacheDigestOf('/busybox'));
  assert.ok(inputs[0]?.contentKey);
});

const base: ExecInit = { meta: { args: ['a'], cwd: '/' }, mounts: [{ dest: '/' }, { input: 1n, dest: '/m', output: -1n }] };
for (const [what, change, same] of [
  ['a proxy', { meta: { args: ['a'], cwd: '/', proxyEnv: { httpProxy: 'http://p' } } }, true],
  ['an argument', { meta: { args: ['b'], cwd: '/' } }, false],
  ['the user', { meta: { args: ['a'], cwd: '/', user: 'x' } }, false],
  ['the network', { network: 2 }, false],
  ['a mount selector', { mounts: [{ dest: '/' }, { input: 1n, dest: '/m', output: -1n, selector: '/sub' }] }, true],
] as const satisfies readonly (readonly [string, ExecInit, boolean])[]) {
  test(`exec key: ${what} ${same ? 'does not count' : 'counts'}`, () => {
    assert.equal(execMap({ ...base, ...change }, 2).digest === execMap(base, 2).digest, same);
  });
}

test('exec key: the address of an extra host does not count, its name does', () => {
  const withHost = (Host: string, IP: string): string =>
    execMap({ ...base, meta: { args: ['a'], cwd: '/', extraHosts: [{ Host, IP }] } }, 2).digest;
  assert.equal(withHost('h', '1.1.1.1'), withHost('h', '2.2.2.2'));
  assert.notEqual(withHost('h', '1.1.1.1'), withHost('g', '1.1.1.1'));
});

for (const [what, mount, byContent] of [
  ['whose output is dropped', { output: -1n, selector: '/sub' }, true],
  ['that is read-only', { output: 1n, readonly: true, selector: '/sub' }, true],
  ['that is whole', { output: 1n }, true],
  ['that is writable with an output and a sub-path', { output: 1n, selector: '/sub' }, false],
  ['with content keys off', { output: -1n, contentCache: MountContentCache.OFF }, false],
] as const satisfies readonly (readonly [string, MessageInitShape<typeof MountSchema>, boolean])[]) {
  test(`a bind mount ${what} is keyed by ${byContent ? 'content' : 'definition'}`, () => {
    const { inputs } = execMap({ ...base, mounts: [{ dest: '/' }, { input: 1n, dest: '/m', ...mount }] }, 2);
    assert.equal(inputs[1]?.contentKey !== undefined, byContent);
  });
}

test('a content key that would not be safe is refused', () => {
  const mounts = [{ dest: '/' }, { input: 1n, dest: '/m', output: 1n, selector: '/sub', contentCache: MountContentCache.ON }];
  assert.throws(
    () => execMap({ ...base, mounts }, 2),
    (error) => error instanceof BuildError && error.kind === 'invalid-input',
  );
});

test('an input that is written to and read is keyed by definition only', () => {
  const copy = { case: 'copy', value: { src: '/a', dest: '/b' } } as const;
  assert.deepEqual(fileMap([{ input: 0n, secondaryInput: 0n, output: 0n, action: copy }], 1).inputs, [{}]);
});

test('indexes are left out of the key of the default shape only', () => {
  const action = { case: 'mkdir', value: { path: '/d', mode: 0o755, timestamp: -1n } } as const;
  const actions = [goBytes('{"path":"/d","mode":493,"timestamp":-1}')];
  const plain = fileMap([{ input: 0n, secondaryInput: -1n, output: 0n, action }], 1);
  assert.equal(plain.digest, cacheDigestOf(`{"Type":"buildkit.file.v0","Actions":[${actions}]}`));
  const scratch = fileMap([{ input: -1n, secondaryInput: -1n, output: 0n, action }], 0);
  assert.equal(scratch.digest, cacheDigestOf(`{"Type":"buildkit.file.v0","Actions":[${actions}],"indexes":[[-1,-1,0]]}`));
});

test('Go JSON: what HTML could misread is escaped, zero values are left out', () => {
  assert.equal(goString('<a>&\u2028\u2029"\\\u0001\x7f\n'), '"\\u003ca\\u003e\\u0026\\u2028\\u2029\\"\\\\\\u0001\x7f\\n"');
  assert.equal(
    goJson(ExecOpSchema, create(ExecOpSchema, { meta: {}, mounts: [{ input: -1n }] })),
    '{"meta":{},"mounts":[{"input":-1}]}',
  );
});

for (const [user, text] of [
  [{ case: 'byID', value: 1000 }, '{"User":{"byId":1000}}'],
  [{ case: 'byID', value: 0 }, '{"User":{}}'],
  [{ case: 'byName', value: { name: 'app', input: 2n } }, '{"User":{"byName":{"name":"app","input":2}}}'],
] as const) {
  test(`Go JSON: an owner ${user.case} is written ${text}`, () => {
    assert.equal(goJson(UserOptSchema, create(UserOptSchema, { user })), text);
  });
}

for (const [text, quoted] of [
  ['/bin/sh -c echo "hi"', '"/bin/sh -c echo \\"hi\\""'],
  ['a\tb\nc\\', '"a\\tb\\nc\\\\"'],
  ['ä € 😀', '"ä € 😀"'],
  ['\u0000\x1b\x7f\u200b\u{e0001}', '"\\x00\\x1b\\x7f\\u200b\\U000e0001"'],
] as const) {
  test(`Go quoting: ${quoted}`, () => assert.equal(goQuote(text), quoted));
}
