/**
 * Every way in which a remote cache can fail, against a real backend behind a proxy that breaks what passes: whatever happens, the
 * build succeeds and says what was missing. The cases are a table (test/fixtures/cache-faults.ts); a backend joins with one entry.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CACHE_BACKENDS, type RunningBackend } from '../fixtures/cache-backends.ts';
import { FAULT_CASES, type FaultCase } from '../fixtures/cache-faults.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const needs = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'mount');
let images: TestRegistry;

before(async () => {
  if (needs !== false) return;
  images = await startRegistry();
  await pushImage(images.host, 'base', 'latest', [await busyboxRootfs()]);
});
after(() => images?.[Symbol.asyncDispose]());

const project = (): Promise<TestContext> =>
  contextOf({
    Dockerfile: `FROM ${images.host}/base:latest
COPY hello.txt /hello.txt
RUN cat /hello.txt > /greeting && head -c 200000 /dev/urandom > /noise
RUN cat /greeting > /copy
`,
    'hello.txt': 'hello\n',
  });

/** A limit that makes slow cases end soon; the rules are the same. */
const TOML = '[cooper.cache]\nanswer-timeout = "1s"\ntransfer-timeout = "1s"\nexport-retry = "30s"\n';

async function sample(daemon: TestDaemon, name: string): Promise<number> {
  const { body } = await daemon.ops('/metrics');
  return body
    .split('\n')
    .filter((line) => line.startsWith(name))
    .reduce(
      (sum, line) =>
        sum +
        Number(
          line
            .slice(line.lastIndexOf('}') + 1)
            .trim()
            .split(' ')[0],
        ),
      0,
    );
}

for (const backend of CACHE_BACKENDS) {
  const skip = needs === false ? backend.skip : needs;
  test(`${backend.name}: no fault of the cache fails a build`, { skip }, async (t) => {
    await using running = await backend.start();
    await using context = await project();
    await using daemon = await TestDaemon.start({ toml: TOML });
    const seeded = await buildDir(daemon, context.dir, ['--export-cache', running.flags(running.address, 'seed', 'export')]);
    assert.equal(seeded.status, 0, seeded.stderr);
    const cases = FAULT_CASES.filter(({ phase, name }) => running.cannot?.includes(`${phase}: ${name}`) !== true);
    for (const each of cases) await t.test(`${each.phase}: ${each.name}`, () => check(daemon, running, context, each));
    await t.test('afterwards the cache is found again, and nothing else was needed', async () => {
      await prune(daemon);
      await using proxy = await FaultProxy.start(running.address);
      const { status, stderr } = await buildDir(daemon, context.dir, [
        '--import-cache',
        running.flags(proxy.address, 'seed', 'import'),
      ]);
      assert.equal(status, 0, stderr);
      assert.equal(cachedSteps(stderr), 3, stderr);
    });
    assert.ok((await sample(daemon, 'cooper_cache_quarantined_total{origin="remote-cache"}')) >= 1);
    assert.ok((await sample(daemon, 'cooper_cache_remote_operations_total{')) > 0);
  });
}

const cachedSteps = (shown: string): number => [...shown.matchAll(/^#\d+ CACHED/gm)].length;

/** Nothing of earlier cases may be found locally. */
async function prune(daemon: TestDaemon): Promise<void> {
  const { status, stderr } = await buildctl(daemon, ['prune', '--all']);
  assert.equal(status, 0, stderr);
}

async function check(daemon: TestDaemon, running: RunningBackend, context: TestContext, each: FaultCase): Promise<void> {
  await prune(daemon);
  await using proxy = await FaultProxy.start(running.address); // a place of its own, so that no breaker knows it
  const { isManifest, isBlob } = running;
  const concerned = { import: isManifest, fetch: isBlob, export: () => true }[each.phase];
  let left = each.after ?? 0;
  const applies = (request: Parameters<typeof isBlob>[0]): boolean => {
    if (!concerned(request)) return false;
    left -= 1;
    return left < 0;
  };
  if (each.phase === 'fetch' && each.fault.kind === 'refuse') void proxy.request(isBlob).then(() => proxy.set(each.fault));
  else await proxy.set(each.fault, applies);
  const direction = each.phase === 'export' ? 'export' : 'import';
  const flag = running.flags(
    proxy.address,
    each.phase === 'export' ? `out-${each.name.replaceAll(/\W+/g, '-')}` : 'seed',
    direction,
  );
  const { status, stderr } = await buildDir(daemon, context.dir, [`--${direction}-cache`, flag]);
  assert.equal(status, 0, `the build failed:\n${stderr}`);
  assert.equal(cachedSteps(stderr) === 3, each.cached, stderr);
  if (each.warning !== undefined) assert.match(stderr, each.warning);
}
