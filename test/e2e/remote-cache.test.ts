/** Remote caches between daemons that share nothing else, by unmodified buildctl: what one builds, another with an empty root finds. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BuildxRig, executedSteps } from '../fixtures/buildx.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, run, TestDaemon, UNHURRIED, unableTo } from '../fixtures/daemon.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'mount');
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

/** Two stages, so that `max` keeps more than `min`; a copied file, so that content keys count. */
const project = () =>
  contextOf({
    Dockerfile: `FROM ${base} AS tools
RUN echo tool > /tool && head -c 20000 /dev/urandom > /noise
FROM ${base}
COPY hello.txt /hello.txt
RUN cat /hello.txt > /greeting && date +%N > /moment
COPY --from=tools /tool /tool
RUN cat /tool >> /greeting
`,
    'hello.txt': 'hello\n',
  });

/** Steps of the Dockerfile that buildctl shows as cached, and those that ran. */
function steps(progress: string): { readonly cached: number; readonly total: number } {
  const names = new Map([...progress.matchAll(/^#(\d+) \[(?!internal)[^\n]*\] (?:RUN|COPY)/gm)].map(([, id]) => [id, false]));
  for (const [, id] of progress.matchAll(/^#(\d+) CACHED/gm)) if (names.has(id)) names.set(id, true);
  return { cached: [...names.values()].filter(Boolean).length, total: names.size };
}

async function build(daemon: TestDaemon, dir: string, flags: readonly string[]): Promise<string> {
  const { status, stderr } = await buildDir(daemon, dir, flags);
  assert.equal(status, 0, stderr);
  return stderr;
}

const sample = async (daemon: TestDaemon, name: string): Promise<number> => {
  const { body } = await daemon.ops('/metrics');
  const line = body.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1).split(' ')[0] ?? 0);
};

for (const [what, flags] of [
  ['as an image manifest', ''],
  ['as an index', ',image-manifest=false'],
  ['compressed with zstd', ',compression=zstd,force-compression=true'],
] as const)
  test(`registry, mode=max, ${what}: a daemon with an empty root finds every step, and bytes are counted`, {
    skip,
    timeout: 120_000,
  }, async () => {
    await using context = await project();
    const ref = `${registry.host}/cache:${what.replaceAll(' ', '-')}`;
    const metadata = join(context.dir, '..', `${context.dir.split('/').at(-1)}.json`);
    {
      await using first = await TestDaemon.start({ toml: UNHURRIED });
      const shown = await build(first, context.dir, [
        '--export-cache',
        `type=registry,ref=${ref},mode=max${flags}`,
        '--metadata-file',
        metadata,
      ]);
      assert.match(shown, /exporting cache to registry/);
      assert.match(readFileSync(metadata, 'utf8'), /cache\.manifest/);
      rmSync(metadata);
      assert.ok((await sample(first, 'cooper_cache_remote_bytes_total{backend="registry",op="upload"}')) > 20_000);
    }
    await using second = await TestDaemon.start({ toml: UNHURRIED });
    const out = mkdtempSync(join(tmpdir(), 'cooper-out-'));
    try {
      const shown = await build(second, context.dir, [
        '--import-cache',
        `type=registry,ref=${ref}`,
        '--output',
        `type=local,dest=${out}`,
      ]);
      assert.match(shown, /importing cache manifest from /);
      assert.deepEqual(steps(shown), { cached: 5, total: 5 }, shown);
      assert.equal(readFileSync(join(out, 'greeting'), 'utf8'), 'hello\ntool\n');
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
    assert.ok((await sample(second, 'cooper_cache_remote_bytes_total{backend="registry",op="load"}')) > 500);
  });

const ALL = { cached: 5, total: 5 };
const tempDir = (): string => mkdtempSync(join(tmpdir(), 'cooper-cache-'));

test('a folder of the client and an image with inline cache each serve a daemon with an empty root', {
  skip,
  timeout: 120_000,
}, async () => {
  await using context = await project();
  const folder = tempDir();
  const image = `${registry.host}/app:inline`;
  try {
    {
      await using first = await TestDaemon.start({ toml: UNHURRIED });
      const folderFlags = ['--export-cache', `type=local,dest=${folder},mode=max`];
      const inlineFlags = ['--export-cache', 'type=inline', '--output', `type=image,name=${image},push=true`];
      const shown = await build(first, context.dir, [...folderFlags, ...inlineFlags]);
      assert.match(shown, /exporting cache to client directory/);
      assert.match(shown, /preparing layers for inline cache/);
    }
    await using second = await TestDaemon.start({ toml: UNHURRIED });
    assert.deepEqual(steps(await build(second, context.dir, ['--import-cache', `type=local,src=${folder}`])), ALL);
    await buildctl(second, ['prune', '--all']);
    assert.deepEqual(steps(await build(second, context.dir, ['--import-cache', `type=registry,ref=${image}`])), ALL);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('of several caches each gives what it has, and one that is not there is no failure', {
  skip,
  timeout: 120_000,
}, async () => {
  await using context = await project();
  await using daemon = await TestDaemon.start({ toml: UNHURRIED });
  const [first, second] = ['one', 'two'].map((name) => `type=registry,ref=${registry.host}/several:${name}`);
  await build(daemon, context.dir, ['--opt', 'target=tools', '--export-cache', `${first},mode=max`]);
  await buildctl(daemon, ['prune', '--all']);
  await build(daemon, context.dir, ['--export-cache', `${second},mode=min`]);
  await buildctl(daemon, ['prune', '--all']);
  const imports = [first ?? '', second ?? '', `type=registry,ref=${registry.host}/several:none`].flatMap((from) => [
    '--import-cache',
    from,
  ]);
  context.write('hello.txt', 'changed\n');
  const shown = await build(daemon, context.dir, imports);
  assert.deepEqual(steps(shown), { cached: 1, total: 5 }, shown); // the tool, from the first; all else stands on what changed
  context.write('hello.txt', 'hello\n');
  await buildctl(daemon, ['prune', '--all']);
  assert.deepEqual(steps(await build(daemon, context.dir, imports)), ALL);
});

test('a build that names no cache uses those of the configuration, and two daemons share them', {
  skip,
  timeout: 120_000,
}, async () => {
  await using context = await project();
  const folder = tempDir();
  const toml = `${UNHURRIED}[[cache.blob]]\ntype = "filesystem"\npath = "${folder}"\n`;
  try {
    {
      await using first = await TestDaemon.start({ toml });
      assert.match(await build(first, context.dir, []), /exporting cache to the daemon’s cache folder/);
    }
    await using second = await TestDaemon.start({ toml });
    assert.deepEqual(steps(await build(second, context.dir, [])), ALL);
    const refused = await buildDir(second, context.dir, ['--import-cache', `type=filesystem,path=${folder}`]);
    assert.equal(refused.status, 0, refused.stderr);
    assert.match(
      refused.stderr,
      /built without cache filesystem: unknown cache importer/,
      'clients cannot name folders of the host',
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('buildx and cooper write and read caches too', {
  skip: skip === false ? unableTo('buildx') : skip,
  timeout: 120_000,
}, async () => {
  await using rig = await BuildxRig.start();
  await using context = await contextOf({ Dockerfile: `FROM ${rig.base}\nRUN date > /now\nRUN cat /now > /then\n` });
  const ref = `${rig.registry.host}/buildx:cache`;
  const written = await rig.build([context.dir, '--cache-to', `type=registry,ref=${ref},mode=max`]);
  assert.equal(written.status, 0, written.stderr);
  await buildctl(rig.daemon, ['prune', '--all']);
  const read = await rig.build([context.dir, '--cache-from', ref]);
  assert.equal(read.status, 0, read.stderr);
  assert.deepEqual(executedSteps(read.stderr), [], read.stderr);
  await buildctl(rig.daemon, ['prune', '--all']);
  const cli = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
  const again = [
    '--addr',
    rig.daemon.address,
    '--progress',
    'plain',
    '--cache-from',
    ref,
    '--cache-to',
    `type=registry,ref=${ref}-2`,
  ];
  const own = await run(process.execPath, [cli, 'build', ...again, context.dir]);
  assert.equal(own.status, 0, own.stderr);
  assert.deepEqual(executedSteps(own.stderr), [], own.stderr);
  assert.match(own.stderr, /exporting cache to registry/);
});

test('a dead cache costs the first build little and the next nothing, and both say so', { skip, timeout: 120_000 }, async () => {
  await using context = await project();
  await using daemon = await TestDaemon.start({ toml: UNHURRIED });
  await using proxy = await FaultProxy.start(registry.host);
  await proxy.set({ kind: 'refuse' });
  const flag = `type=registry,ref=${proxy.address}/dead:cache`;
  for (const _ of [1, 2])
    assert.match(await build(daemon, context.dir, ['--import-cache', flag]), /built without cache .*breaker open since/);
  assert.equal(await sample(daemon, 'cooper_cache_remote_operations_total{backend="registry",op="import",result="skipped"}'), 1);
  assert.equal(await sample(daemon, 'cooper_backend_breaker_state{backend="registry"}'), 2);
  const { status, stderr } = await buildDir(daemon, context.dir, ['--export-cache', `${flag},ignore-error=false`]);
  assert.equal(status, 1, 'the user wrote that a failed export fails the build');
  assert.match(stderr, /failed to export cache to registry .*breaker open since/);
});

test('an export that failed is tried again after its build, until the cache is back', { skip, timeout: 120_000 }, async () => {
  await using context = await project();
  await using daemon = await TestDaemon.start({ toml: UNHURRIED });
  await using proxy = await FaultProxy.start(registry.host);
  await proxy.set({ kind: 'status', status: 503 });
  const shown = await build(daemon, context.dir, ['--export-cache', `type=registry,ref=${proxy.address}/late:cache,mode=max`]);
  assert.match(shown, /cache not exported to registry .*tried again in the background/);
  await buildctl(daemon, ['prune', '--all']);
  await proxy.set({ kind: 'none' });
  await proxy.request(({ method, path }) => method === 'PUT' && path.endsWith('/manifests/cache'));
  await using second = await TestDaemon.start({ toml: UNHURRIED });
  assert.deepEqual(
    steps(await build(second, context.dir, ['--import-cache', `type=registry,ref=${proxy.address}/late:cache`])),
    ALL,
  );
});

test('kill -9 during an export leaves a daemon that builds, and a cache that is whole or not there', {
  skip,
  timeout: 120_000,
}, async () => {
  await using context = await project();
  await using proxy = await FaultProxy.start(registry.host);
  const root = tempDir();
  const flag = `type=registry,ref=${proxy.address}/killed:cache,mode=max`;
  try {
    {
      await using daemon = await TestDaemon.start({ root, toml: UNHURRIED });
      await proxy.set({ kind: 'silent' }, ({ method, path }) => method === 'PUT' && path.includes('/manifests/'));
      const lastWrite = proxy.request(({ method, path }) => method === 'PUT' && path.includes('/manifests/'));
      const building = buildDir(daemon, context.dir, ['--export-cache', flag]);
      await lastWrite;
      await daemon.kill('SIGKILL');
      assert.notEqual((await building).status, 0);
    }
    await proxy.set({ kind: 'none' });
    await using daemon = await TestDaemon.start({ root, toml: UNHURRIED });
    const again = await build(daemon, context.dir, [
      '--import-cache',
      `type=registry,ref=${proxy.address}/killed:cache`,
      '--export-cache',
      flag,
    ]);
    assert.deepEqual(steps(again), ALL, 'what was built before the kill is found');
    await buildctl(daemon, ['prune', '--all']);
    assert.deepEqual(steps(await build(daemon, context.dir, ['--import-cache', flag])), ALL);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
