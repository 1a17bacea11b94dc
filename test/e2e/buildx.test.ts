/** The real buildx, remote driver, against a real daemon: building, with everything a build can be told. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BuildxRig, executedSteps } from '../fixtures/buildx.ts';
import { contextOf } from '../fixtures/context.ts';
import { unableTo } from '../fixtures/daemon.ts';
import { assertNothingLeaked, holdingsOf } from '../fixtures/leaks.ts';

const skip = unableTo('buildx', 'runc', 'docker-registry', 'busybox');
let rig: BuildxRig;

before(async () => {
  if (skip === false) rig = await BuildxRig.start();
});
after(() => rig?.[Symbol.asyncDispose]());

test('inspect --bootstrap shows a running node, its version, platforms, labels and collection policy', { skip }, async () => {
  const { status, stdout, stderr } = await rig.buildx(['inspect', '--bootstrap']);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /Driver: +remote/);
  assert.match(stdout, /Status: +running/);
  assert.match(stdout, /BuildKit version: +v\d+\.\d+\.\d+/);
  assert.match(stdout, /Platforms: +linux\/(amd64|arm64)/);
  assert.match(stdout, /org\.mobyproject\.buildkit\.worker\.snapshotter: +(overlayfs|native)/);
  assert.match(stdout, /GC Policy rule#0:/);
  const list = await rig.buildx(['ls', '--format', '{{.Builder.Name}} {{.Status}}'], { env: { BUILDX_BUILDER: '' } });
  assert.match(list.stdout, /cooper/);
});

test('directory, tarball and OCI outputs of one build arrive together, and the next time every step is cached', {
  skip,
}, async () => {
  await using context = await contextOf({
    Dockerfile: `FROM ${rig.base} AS build\nCOPY in.txt .\nRUN tr a-z A-Z < in.txt > out.txt\nFROM scratch\nCOPY --from=build out.txt /\n`,
    'in.txt': 'hello\n',
  });
  const out = await rig.folder();
  const outputs = ['-o', `type=local,dest=${out}/dir`, '-o', `type=tar,dest=${out}/t.tar`, '-o', `type=oci,dest=${out}/o.tar`];
  const first = await rig.build([...outputs, context.dir]);
  assert.equal(first.status, 0, first.stderr);
  assert.deepEqual(executedSteps(first.stderr), [
    '[build 2/3] COPY in.txt .',
    '[build 3/3] RUN tr a-z A-Z < in.txt > out.txt',
    '[stage-1 1/1] COPY --from=build out.txt /',
  ]);
  assert.equal(readFileSync(join(out, 'dir/out.txt'), 'utf8'), 'HELLO\n');
  for (const name of ['t.tar', 'o.tar']) assert.ok(existsSync(join(out, name)), name);
  const second = await rig.build([...outputs, context.dir]);
  assert.equal(second.status, 0, second.stderr);
  assert.deepEqual(executedSteps(second.stderr), []);
  const without = await rig.build(['--no-cache', context.dir]);
  assert.equal(executedSteps(without.stderr).length, 3, 'with --no-cache everything runs');
});

test('--push, --metadata-file and --iidfile name the image that the registry has', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${rig.base}\nRUN echo pushed > /p\n` });
  const out = await rig.folder();
  const tag = `${rig.registry.host}/pushed:1`;
  const files = ['--metadata-file', join(out, 'meta.json'), '--iidfile', join(out, 'id')];
  const { status, stderr } = await rig.build(['--push', '-t', tag, ...files, '--label', 'made.by=test', context.dir]);
  assert.equal(status, 0, stderr);
  const metadata = JSON.parse(readFileSync(join(out, 'meta.json'), 'utf8')) as Record<string, string>;
  const manifest = await fetch(`${rig.registry.url}/v2/pushed/manifests/1`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  assert.equal(manifest.headers.get('docker-content-digest'), metadata['containerimage.digest']);
  assert.equal(metadata['image.name'], tag);
  assert.match(metadata['buildx.build.ref'] ?? '', /^cooper\/cooper0\/[a-z0-9]{25}$/);
  assert.equal(readFileSync(join(out, 'id'), 'utf8'), metadata['containerimage.config.digest']);
  const inspected = await rig.buildx(['imagetools', 'inspect', tag, '--format', '{{json .Image.Config.Labels}}']);
  assert.deepEqual(JSON.parse(inspected.stdout), { 'made.by': 'test' });
});

test('arguments, targets, secrets and named contexts reach the steps', { skip }, async () => {
  await using other = await contextOf({ note: 'from the other\n' });
  await using context = await contextOf({
    Dockerfile: `FROM ${rig.base} AS a
ARG WHO=nobody
RUN --mount=type=secret,id=file --mount=type=secret,id=var,env=VAR \\
  echo "who=$WHO file=$(wc -c < /run/secrets/file) var=\${#VAR}" > /a
FROM a AS b
COPY --from=other note /note
COPY --from=image /etc/passwd /passwd
FROM b AS never
RUN exit 1
`,
    secret: '0123456789',
  });
  const out = await rig.folder();
  const named = ['--build-context', `other=${other.dir}`, '--build-context', `image=docker-image://${rig.base}`];
  const secrets = ['--secret', `id=file,src=${join(context.dir, 'secret')}`, '--secret', 'id=var,env=SOME_VAR'];
  const { status, stderr } = await rig.build(
    ['--target', 'b', '--build-arg', 'WHO=me', ...named, ...secrets, '-o', out, context.dir],
    { env: { SOME_VAR: 'abcd' } },
  );
  assert.equal(status, 0, stderr);
  assert.equal(readFileSync(join(out, 'a'), 'utf8'), 'who=me file=10 var=4\n');
  assert.equal(readFileSync(join(out, 'note'), 'utf8'), 'from the other\n');
  assert.match(readFileSync(join(out, 'passwd'), 'utf8'), /^root:/);
});

test('--call check, outline and targets answer without building', { skip }, async () => {
  await using context = await contextOf({
    Dockerfile: `# what comes first\nFROM ${rig.base} AS first\nARG COLOUR=red\nRUN --mount=type=secret,id=key exit 1\nFROM first as last\nMAINTAINER me\n`,
  });
  const check = await rig.buildx(['build', '--call', 'check', context.dir]);
  assert.equal(check.status, 1, 'warnings fail a check');
  assert.match(check.stdout, /WARNING: FromAsCasing/);
  assert.match(check.stdout, /WARNING: MaintainerDeprecated/);
  assert.match(check.stdout, /Dockerfile:5/);
  const outline = await rig.buildx(['build', '--call', 'outline', context.dir]);
  assert.match(outline.stdout, /COLOUR +red/);
  assert.match(outline.stdout, /key/);
  const targets = await rig.buildx(['build', '--call', 'targets,format=json', context.dir]);
  const { targets: list } = JSON.parse(targets.stdout) as { targets: { name: string; default?: boolean }[] };
  assert.deepEqual(
    list.map(({ name }) => name),
    ['first', 'last'],
  );
});

test('two platforms give one index, and a base without the platform is refused by name', { skip }, async () => {
  await using context = await contextOf({
    Dockerfile: 'FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY file /\n',
    file: 'x',
  });
  const tag = `${rig.registry.host}/two:1`;
  const both = ['--platform', 'linux/amd64,linux/arm64'];
  const pushed = await rig.build([...both, '--push', '-t', tag, context.dir]);
  assert.equal(pushed.status, 0, pushed.stderr);
  const { stdout } = await rig.buildx(['imagetools', 'inspect', tag, '--format', '{{json .}}']);
  const { image } = JSON.parse(stdout) as { image: Record<string, { config: { Env: string[] } }> };
  assert.deepEqual(image['linux/arm64']?.config.Env.at(-1), 'ARCH=arm64');
  assert.deepEqual(image['linux/amd64']?.config.Env.at(-1), 'ARCH=amd64');
  const out = await rig.folder();
  assert.equal((await rig.build([...both, '-o', out, context.dir])).status, 0);
  assert.deepEqual(readdirSync(out).sort(), ['linux_amd64', 'linux_arm64']);

  context.write('Dockerfile', `FROM ${tag}\nRUN true\n`);
  const refused = await rig.build(['--platform', 'linux/riscv64', context.dir]);
  assert.equal(refused.status, 1);
  assert.match(
    refused.stderr,
    /ERROR: failed to build: failed to solve: \S+\/two:1: .*no match for platform in manifest: not found/,
  );
  assert.match(refused.stderr, /Dockerfile:1/);
});

test('a failing step ends the build with its output and its line', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${rig.base}\nRUN echo before && exit 3\n` });
  const { status, stderr } = await rig.build([context.dir]);
  assert.equal(status, 1);
  assert.match(stderr, /^#\d+ \d+\.\d+ before$/m);
  assert.match(stderr, / {3}2 \| >>> RUN echo before && exit 3/);
  assert.match(
    stderr,
    /ERROR: failed to build: failed to solve: process "\/bin\/sh -c echo before && exit 3" did not complete successfully: exit code: 3$/m,
  );
});

test('Ctrl-C at the client stops the step in the daemon', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${rig.base}\nRUN echo running && sleep 1000\n` });
  const held = await holdingsOf(rig.daemon);
  const client = rig.spawn(['build', '--progress', 'plain', context.dir]);
  let text = '';
  client.stderr.setEncoding('utf8');
  for await (const chunk of client.stderr as AsyncIterable<string>) {
    text += chunk;
    if (/\d running$/m.test(text)) break;
  }
  const exit = once(client, 'exit');
  client.kill('SIGINT');
  const [status] = await exit;
  assert.notEqual(status, 0);
  await assertNothingLeaked(rig.daemon, held);
});
