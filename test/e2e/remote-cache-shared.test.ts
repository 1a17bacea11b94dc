/** One registry cache written by two daemons at once, and a cache that refuses an export which is tried again after its build. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, buildDir, TestDaemon, UNHURRIED, unableTo } from '../fixtures/daemon.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { startRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'docker-registry');
const project = (name: string): Promise<TestContext> =>
  contextOf({ Dockerfile: 'FROM scratch\nCOPY a /a\nCOPY b /b\n', a: `${name} a`.repeat(500), b: `${name} b`.repeat(500) });
const cachedSteps = (shown: string): number => [...shown.matchAll(/^#\d+ CACHED/gm)].length;

test('two daemons that read and write one cache in a registry, under load, never break a build or leave half a cache', {
  skip,
}, async () => {
  await using registry = await startRegistry();
  const ref = `type=registry,ref=${registry.host}/cache:shared`;
  const flags = ['--import-cache', ref, '--export-cache', `${ref},mode=max`];
  await using stack = new AsyncDisposableStack();
  const contexts = await Promise.all(['one', 'two'].map(async (name) => stack.use(await project(name))));
  {
    await using left = await TestDaemon.start({ toml: UNHURRIED });
    await using right = await TestDaemon.start({ toml: UNHURRIED });
    for (let round = 0; round < 2; round += 1) {
      const builds = contexts.flatMap(({ dir }) => [left, right].map((daemon) => buildDir(daemon, dir, flags)));
      for (const { status, stderr } of await Promise.all(builds)) {
        assert.equal(status, 0, stderr);
        assert.doesNotMatch(stderr, /built without cache|cache not exported|could not be fetched/);
      }
      for (const daemon of [left, right]) assert.equal((await buildctl(daemon, ['prune', '--all'])).status, 0);
    }
  }
  await using third = await TestDaemon.start({ toml: UNHURRIED });
  let found = 0;
  for (const { dir } of contexts) {
    const { status, stderr } = await buildDir(third, dir, ['--import-cache', ref]);
    assert.equal(status, 0, stderr);
    assert.doesNotMatch(stderr, /built without cache|could not be fetched/);
    if (cachedSteps(stderr) >= 2) found += 1;
  }
  assert.ok(found >= 1, 'the configuration written last is whole');
});

test('a token that expires while an export is tried again ends the trying, and the log says why', { skip }, async () => {
  await using registry = await startRegistry();
  await using proxy = await FaultProxy.start(registry.host);
  await using context = await project('token');
  await using daemon = await TestDaemon.start({ toml: UNHURRIED });
  await proxy.set({ kind: 'status', status: 500 });
  const { status, stderr } = await buildDir(daemon, context.dir, [
    '--export-cache',
    `type=registry,ref=${proxy.address}/cache:token,mode=max`,
  ]);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /cache not exported .*in the background/);
  await proxy.set({ kind: 'status', status: 401, body: '{"errors":[{"code":"UNAUTHORIZED","message":"token expired"}]}' });
  const ended = /"outcome":"denied"[^\n]*cache export in the background failed/;
  const untilMs = performance.now() + 60_000;
  while (!ended.test(daemon.log()) && performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, 200));
  assert.match(daemon.log(), ended);
});
