/** S3, Azure Blob, GitHub Actions and Redis as remote caches, by unmodified clients, between daemons that share nothing else. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import { startActionsCache } from '../fixtures/actions-cache.ts';
import { BuildxRig } from '../fixtures/buildx.ts';
import { startAzure, startRedis, startS3 } from '../fixtures/cache-servers.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, run, TestDaemon, UNHURRIED, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const NEEDED = ['buildctl', 'runc', 'docker-registry', 'busybox', 'mount'] as const;
const skip = unableTo(...NEEDED);
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

const project = (name: string, from = base) =>
  contextOf({
    Dockerfile: `FROM ${from} AS tools
RUN echo ${name} > /tool && head -c 300000 /dev/urandom > /noise
FROM ${from}
COPY hello.txt /hello.txt
RUN cat /hello.txt > /greeting && date +%N > /moment
COPY --from=tools /tool /tool
RUN cat /tool >> /greeting
`,
    'hello.txt': `hello ${name}\n`,
  });
const STEPS = 5;

/** Steps of the Dockerfile that the client shows as cached, and those that ran. */
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

const sample = async (daemon: TestDaemon, backend: string, op: string): Promise<number> => {
  const { body } = await daemon.ops('/metrics');
  const name = `cooper_cache_remote_bytes_total{backend="${backend}",op="${op}"}`;
  const line = body.split('\n').find((each) => each.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1).split(' ')[0] ?? 0);
};

const flagOf = (type: string, attributes: Readonly<Record<string, string>>): string =>
  [`type=${type}`, ...Object.entries(attributes).map(([name, value]) => `${name}=${value}`)].join(',');

/** What an export of a first daemon leaves is all that a second one, with an empty root, needs. */
async function roundTrip(type: string, attributes: Readonly<Record<string, string>>, exportTitle: RegExp): Promise<void> {
  await using context = await project(type);
  const flag = flagOf(type, attributes);
  {
    await using first = await TestDaemon.start({ toml: UNHURRIED });
    const shown = await build(first, context.dir, ['--export-cache', `${flag},mode=max`]);
    assert.match(shown, exportTitle);
    assert.doesNotMatch(shown, /cache not exported/);
    assert.ok((await sample(first, type, 'upload')) > 300_000);
  }
  await using second = await TestDaemon.start({ toml: UNHURRIED });
  const out = mkdtempSync(join(tmpdir(), 'cooper-out-'));
  try {
    const shown = await build(second, context.dir, ['--import-cache', flag, '--output', `type=local,dest=${out}`]);
    assert.match(shown, new RegExp(`importing cache manifest from ${type}`));
    assert.deepEqual(steps(shown), { cached: STEPS, total: STEPS }, shown);
    assert.equal(readFileSync(join(out, 'greeting'), 'utf8'), `hello ${type}\n${type}\n`);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
  assert.ok((await sample(second, type, 'load')) > 500);
}

test('s3: a daemon with an empty root finds every step of another one’s export', {
  skip: unableTo(...NEEDED, 'versitygw'),
}, async () => {
  await using server = await startS3();
  await roundTrip('s3', { ...server.attributes, prefix: 'team/', name: 'main;release' }, /exporting cache to Amazon S3/);
});

test('azblob: a daemon with an empty root finds every step of another one’s export', {
  skip: unableTo(...NEEDED, 'azurite-blob'),
}, async () => {
  await using server = await startAzure();
  await roundTrip('azblob', { ...server.attributes, prefix: 'team' }, /exporting cache to Azure Blob Storage/);
});

for (const version of [1, 2])
  test(`gha v${version}: a daemon with an empty root finds every step of another one’s export`, { skip }, async () => {
    await using service = await startActionsCache();
    const token = service.token([{ Scope: 'refs/heads/main', Permission: 3 }]);
    const attributes = { [version === 1 ? 'url' : 'url_v2']: service.url, token, version: String(version), scope: 'app' };
    await roundTrip('gha', attributes, /exporting to GitHub Actions Cache/);
  });

test('redis: a daemon with an empty root finds every step of another one’s export', {
  skip: unableTo(...NEEDED, 'redis-server'),
}, async () => {
  await using server = await startRedis();
  await roundTrip('redis', server.attributes, /exporting cache to Redis/);
});

test('buildx sends caches of type s3 and gha, and they come back', {
  skip: unableTo(...NEEDED, 'versitygw', 'buildx'),
}, async () => {
  await using s3 = await startS3();
  await using service = await startActionsCache();
  const token = service.token([{ Scope: 'refs/heads/main', Permission: 3 }]);
  const flags = [flagOf('s3', s3.attributes), flagOf('gha', { url_v2: service.url, token, version: '2' })];
  await using rig = await BuildxRig.start();
  await using context = await project('buildx', rig.base);
  const written = await rig.build([...flags.flatMap((flag) => ['--cache-to', `${flag},mode=max`]), context.dir]);
  assert.equal(written.status, 0, written.stderr);
  for (const flag of flags) {
    await using daemon = await TestDaemon.start({ toml: UNHURRIED });
    const shown = await build(daemon, context.dir, ['--import-cache', flag]);
    assert.deepEqual(steps(shown), { cached: STEPS, total: STEPS }, shown);
  }
});

test('two daemons that share one redis by configuration, under load, lose nothing of each other', {
  skip: unableTo(...NEEDED, 'redis-server'),
}, async () => {
  await using server = await startRedis();
  const address = `redis://:${server.attributes.password}@${server.host}`;
  const toml = `${UNHURRIED}[[cache.registry]]\ntype = "redis"\nredis-addr = "${address}"\n`;
  await using stack = new AsyncDisposableStack();
  const contexts = await Promise.all(['one', 'two', 'three', 'four'].map(async (name) => stack.use(await project(name))));
  {
    await using left = await TestDaemon.start({ toml });
    await using right = await TestDaemon.start({ toml });
    // Every project on both daemons at once: same names, same keys, other bytes.
    await Promise.all(contexts.flatMap(({ dir }) => [left, right].map((daemon) => build(daemon, dir, []))));
    for (const daemon of [left, right]) assert.ok((await sample(daemon, 'redis', 'upload')) > 0);
    assert.ok(!`${left.log()}${right.log()}`.includes(server.attributes.password ?? '-'));
  }
  await using third = await TestDaemon.start({ toml });
  for (const { dir } of contexts) {
    const shown = await build(third, dir, []);
    assert.deepEqual(steps(shown), { cached: STEPS, total: STEPS }, shown);
  }
});

/** Redis speaks no HTTP, so the proxy of the fault matrix cannot break it; the server itself can be told to. */
test('no fault of a redis cache fails a build', { skip: unableTo(...NEEDED, 'redis-server') }, async (t) => {
  await using server = await startRedis();
  await using context = await project('faults');
  await using daemon = await TestDaemon.start({
    toml: '[cooper.cache]\npatience = "30s"\nanswer-timeout = "1s"\ntransfer-timeout = "1s"\n',
  });
  const redis = new Redis(Number(server.host.split(':')[1]), { password: server.attributes.password ?? '' });
  const flag = flagOf('redis', server.attributes);
  const wrong = flagOf('redis', { ...server.attributes, password: 'not-the-right-secret' });
  // By another name it is another place, whose breaker opens alone.
  const addr = server.url.replace('127.0.0.1', 'localhost');
  const full = flagOf('redis', { ...server.attributes, addr, prefix: 'full' });
  await build(daemon, context.dir, ['--export-cache', `${flag},mode=max`]);
  const all = async (pattern: string): Promise<string[]> => await redis.keys(pattern);
  const fault = async (name: string, flags: readonly string[], warning: RegExp, prepare = async () => {}): Promise<void> => {
    await t.test(name, async () => {
      await prepare();
      assert.equal((await run('buildctl', ['--addr', daemon.address, 'prune', '--all'])).status, 0);
      const shown = await build(daemon, context.dir, flags);
      assert.match(shown, warning);
      assert.doesNotMatch(shown, /not-the-right-secret/);
    });
  };
  try {
    await fault('import: wrong password', ['--import-cache', wrong], /built without cache .*credentials were not accepted/);
    await fault('export: wrong password', ['--export-cache', wrong], /cache not exported .*credentials were not accepted/);
    await fault(
      'export: no memory left',
      ['--export-cache', `${full},mode=max`],
      /cache not exported .*no memory left/,
      async () => {
        await redis.config('SET', 'maxmemory', '1mb');
      },
    );
    await redis.config('SET', 'maxmemory', '0');
    await fault('fetch: evicted', ['--import-cache', flag], /could not be fetched/, async () => {
      await redis.del(...(await all('cooper:blob:*')));
    });
    await build(daemon, context.dir, ['--export-cache', `${flag},mode=max`]);
    await fault('fetch: wrong bytes', ['--import-cache', flag], /could not be fetched/, async () => {
      for (const key of await all('cooper:blob:*')) await redis.setrange(key, 20, 'wrong');
    });
    await fault('import: another document', ['--import-cache', flag], /built without cache/, async () => {
      for (const key of await all('cooper:config:*')) await redis.set(key, '{"hello":"world"}');
    });
    await fault('import: accepts and says nothing', ['--import-cache', flag], /built without cache .*took longer/, async () =>
      server.pause(),
    );
  } finally {
    server.resume();
    redis.disconnect();
  }
  await using gone = await startRedis();
  const down = flagOf('redis', gone.attributes);
  await gone.stop();
  await fault('import: refuses connections', ['--import-cache', down], /built without cache .*breaker open since/);
  await fault('export: refuses connections', ['--export-cache', down], /cache not exported/);
});
