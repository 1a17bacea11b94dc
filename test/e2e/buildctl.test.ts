/** The real buildctl against a real daemon: every command of the first issue, on a busybox base from a real registry. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { toBinary } from '@bufbuild/protobuf';
import { run } from '../../src/builder/llb/exec.ts';
import { file } from '../../src/builder/llb/file.ts';
import { imageSource, localSource } from '../../src/builder/llb/source.ts';
import { marshal } from '../../src/builder/llb/state.ts';
import { DefinitionSchema } from '../../src/builder/proto/gen/pb/ops_pb.ts';
import { executedSteps } from '../fixtures/buildx.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, run as runClient, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
let registry: TestRegistry;
let daemon: TestDaemon;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
  daemon = await TestDaemon.start();
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

test('a multi-stage build writes its files to a local directory, and the second time everything is cached', {
  skip,
}, async () => {
  await using context = await contextOf({
    Dockerfile: `FROM ${base} AS build
WORKDIR /src
COPY in.txt .
RUN tr a-z A-Z < in.txt > out.txt && echo "made $(wc -c < out.txt)" && echo oops >&2
FROM scratch
COPY --from=build --chown=5:6 --chmod=0640 /src/out.txt /result/out.txt
`,
    'in.txt': 'hello\n',
  });
  await using out = await contextOf({});
  const first = await buildDir(daemon, context.dir, ['--output', `type=local,dest=${out.dir}`]);
  assert.equal(first.status, 0, first.stderr);
  assert.equal(readFileSync(join(out.dir, 'result/out.txt'), 'utf8'), 'HELLO\n');
  assert.equal(statSync(join(out.dir, 'result/out.txt')).mode & 0o777, 0o640);
  assert.match(first.stderr, /^#\d+ \d+\.\d+ made 6$/m);
  assert.match(first.stderr, /^#\d+ \d+\.\d+ oops$/m);
  const second = await buildDir(daemon, context.dir, ['--output', `type=local,dest=${out.dir}`]);
  assert.equal(second.status, 0, second.stderr);
  assert.deepEqual(executedSteps(second.stderr), []);
});

test('changing one file runs the steps that read it and no other', { skip }, async () => {
  await using context = await contextOf({
    Dockerfile: `FROM ${base}
COPY a.txt /a
RUN cat /a > /a2
COPY b.txt /b
RUN cat /b > /b2
`,
    'a.txt': 'a',
    'b.txt': 'b',
  });
  assert.equal((await buildDir(daemon, context.dir)).status, 0);
  context.write('b.txt', 'changed');
  const again = await buildDir(daemon, context.dir);
  assert.deepEqual(executedSteps(again.stderr), ['[4/5] COPY b.txt /b', '[5/5] RUN cat /b > /b2']);
});

test('a failing step shows its output, its line and its exit code', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN echo before && exit 7\n` });
  const { status, stderr } = await buildDir(daemon, context.dir);
  assert.equal(status, 1);
  assert.match(stderr, /process "\/bin\/sh -c echo before && exit 7" did not complete successfully: exit code: 7/);
  assert.match(stderr, /Dockerfile:2/);
  assert.match(stderr, /2 \| >>> RUN echo before && exit 7/);
});

test('mounts: cache survives between builds, secrets never reach the image or the log, tmpfs and bind work', {
  skip,
}, async () => {
  await using context = await contextOf({
    Dockerfile: `FROM ${base}
ARG N
RUN --mount=type=cache,target=/c echo $N >> /c/log && cat /c/log
RUN --mount=type=secret,id=pw --mount=type=tmpfs,target=/t --mount=type=bind,source=data,target=/d \\
  test "$(wc -c < /run/secrets/pw)" = 12 && cat /run/secrets/pw && cp /d/x /t/y && test ! -e /d/y && cat /t/y
RUN test ! -e /run/secrets/pw && test ! -e /t/y
`,
    'data/x': 'bound\n',
    pw: 's3cr3t-value',
  });
  const build = (n: string) =>
    buildDir(daemon, context.dir, ['--opt', `build-arg:N=${n}`, '--secret', `id=pw,src=${join(context.dir, 'pw')}`]);
  const first = await build('one');
  assert.equal(first.status, 0, first.stderr);
  assert.match(first.stderr, /bound/);
  assert.ok(!first.stderr.includes('s3cr3t-value'), 'the secret is redacted');
  const second = await build('two');
  assert.match(second.stderr, /\d one\n/);
  assert.match(second.stderr, /\d two\n/);
});

test('oci, docker and tar outputs arrive at the client', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN echo hi > /hi\n` });
  await using out = await contextOf({});
  for (const type of ['oci', 'docker', 'tar']) {
    const dest = join(out.dir, `${type}.tar`);
    const { status, stderr } = await buildDir(daemon, context.dir, [
      '--output',
      `type=${type},dest=${dest}${type === 'tar' ? '' : ',name=example.org/x:1'}`,
    ]);
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(dest) && statSync(dest).size > 1000, type);
  }
});

test('du, prune, workers, info, histories and logs answer', { skip }, async () => {
  const du = await buildctl(daemon, ['du', '--verbose']);
  assert.equal(du.status, 0, du.stderr);
  assert.match(du.stdout, /Total:/);
  const workers = await buildctl(daemon, ['debug', 'workers', '--verbose']);
  assert.match(workers.stdout, /linux\//);
  const info = await buildctl(daemon, ['debug', 'info']);
  assert.match(info.stdout, /cooper/);
  const histories = await buildctl(daemon, ['debug', 'histories', '--format', '{{json .}}']);
  assert.equal(histories.status, 0, histories.stderr);
  const refs = [...histories.stdout.matchAll(/"Ref":"([a-z0-9]{25})"/g)].map(([, ref = '']) => ref);
  assert.ok(refs.length > 0, histories.stdout.slice(0, 500));
  const logs = await buildctl(daemon, ['debug', 'logs', '--progress', 'plain', refs[0] ?? '']);
  assert.equal(logs.status, 0, logs.stderr);
  const prune = await buildctl(daemon, ['prune', '--all']);
  assert.equal(prune.status, 0, prune.stderr);
  const after = await buildctl(daemon, ['du']);
  assert.match(after.stdout, /Total:\s+0B/);
});

test('a push to a registry can be pulled by its digest', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN echo pushed > /p\nCMD ["cat", "/p"]\n` });
  const { status, stderr } = await buildDir(daemon, context.dir, [
    '--output',
    `type=image,name=${registry.host}/out:1,push=true`,
  ]);
  assert.equal(status, 0, stderr);
  const manifest = await fetch(`${registry.url}/v2/out/manifests/1`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  assert.equal(manifest.status, 200);
  const { config, layers } = (await manifest.json()) as { config: { digest: string }; layers: unknown[] };
  assert.equal(layers.length, 2);
  const image = (await (await fetch(`${registry.url}/v2/out/blobs/${config.digest}`)).json()) as {
    config: { Cmd: string[] };
    rootfs: { diff_ids: string[] };
  };
  assert.deepEqual(image.config.Cmd, ['cat', '/p']);
  assert.equal(image.rootfs.diff_ids.length, 2);
});

test('what a finished build left can be read by its ref and its digests, and be forgotten', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN echo remembered\n` });
  await using out = await contextOf({});
  const [metadataFile, refFile] = [join(out.dir, 'meta.json'), join(out.dir, 'ref')];
  const files = ['--metadata-file', metadataFile, '--ref-file', refFile];
  const built = await buildDir(daemon, context.dir, [
    '--no-cache',
    ...files,
    '--output',
    `type=image,name=${registry.host}/left:1`,
  ]);
  assert.equal(built.status, 0, built.stderr);
  const ref = readFileSync(refFile, 'utf8');
  const metadata = JSON.parse(readFileSync(metadataFile, 'utf8')) as Record<string, string>;
  const logs = await buildctl(daemon, ['debug', 'logs', '--progress', 'plain', ref]);
  assert.match(logs.stdout + logs.stderr, /^#\d+ \d+\.\d+ remembered$/m);
  const manifest = await buildctl(daemon, ['debug', 'get', metadata['containerimage.digest'] ?? '']);
  assert.equal(JSON.parse(manifest.stdout).config.digest, metadata['containerimage.config.digest']);
  const missing = await buildctl(daemon, ['debug', 'get', `sha256:${'a'.repeat(64)}`]);
  assert.match(missing.stderr, /^error: NotFound: content sha256:a{64}: not found$/m);
  assert.equal((await buildctl(daemon, ['prune-histories'])).status, 0);
  const left = await buildctl(daemon, ['debug', 'histories']);
  assert.doesNotMatch(left.stdout, new RegExp(ref));
});

test('a graph on stdin is built as it is, and its definition is one that the client can read', { skip }, async () => {
  await using context = await contextOf({ 'in.txt': 'from the client\n' });
  await using out = await contextOf({});
  const platform = {
    os: 'linux',
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    variant: '',
    osVersion: '',
    osFeatures: [],
  };
  const nothing = { mounts: [], secrets: [], ssh: [], extraHosts: [], ulimits: [] };
  const copied = file(imageSource(base, { platform }), [
    { kind: 'copy', from: localSource('files'), src: '/in.txt', dest: '/in.txt' },
  ]);
  const made = run(copied, { ...nothing, args: ['/bin/sh', '-c', 'tr a-z A-Z < /in.txt > /out.txt'] });
  const definition = toBinary(DefinitionSchema, marshal(made, { platform }));
  const dumped = await runClient('buildctl', ['debug', 'dump-llb'], { input: definition });
  assert.equal(dumped.status, 0, dumped.stderr);
  assert.match(dumped.stdout, /"tr a-z A-Z/);
  const args = ['--addr', daemon.address, 'build', '--progress', 'plain', '--local', `files=${context.dir}`];
  const built = await runClient('buildctl', [...args, '--output', `type=local,dest=${out.dir}`], { input: definition });
  assert.equal(built.status, 0, built.stderr);
  assert.equal(readFileSync(join(out.dir, 'out.txt'), 'utf8'), 'FROM THE CLIENT\n');
});

test('whose fault it was that a build failed is told by the API and by cooper builds', { skip }, async () => {
  const dockerfiles = {
    success: `FROM ${base}\nLABEL how=well\n`,
    failure: `FROM ${base}\nRUN exit 3\n`,
    error: 'FROM 127.0.0.1:1/no/registry\n',
  };
  const refs = new Map<string, string>();
  for (const [state, Dockerfile] of Object.entries(dockerfiles)) {
    await using context = await contextOf({ Dockerfile });
    assert.equal((await buildDir(daemon, context.dir)).status === 0, state === 'success');
    const { builds } = JSON.parse((await daemon.ops('/api/v1/builds?limit=1')).body);
    assert.equal(builds[0].state, state, builds[0].error);
    refs.set(state, builds[0].ref);
    const found = JSON.parse((await daemon.ops(`/api/v1/builds?state=${state}&limit=1`)).body);
    assert.equal(found.builds[0].ref, builds[0].ref);
  }
  const main = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
  const ops = daemon.opsUrl.replace('http://', '');
  const { stdout } = await runClient(process.execPath, [main, 'builds', '--addr', daemon.address, '--ops-addr', ops]);
  for (const [state, ref] of refs) assert.match(stdout, new RegExp(`^${ref} +${state} `, 'm'));
});
