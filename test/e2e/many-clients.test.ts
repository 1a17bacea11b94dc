/** A hundred clients at once, the control loop meanwhile, and the memory of the daemon when they have gone. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { assertNothingLeaked, type Holdings, holdingsOf } from '../fixtures/leaks.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
const CLIENTS = 100;
/** The budget (docs/performance.md). Met in one of a few bursts it is kept: other work on the machine only ever adds to the delay. */
const BUDGET_S = 0.05;
const BURSTS = 3;
/** What no load of other tests on the machine explains. */
const BLOCKED_S = 0.5;
const MAX_IDLE_BYTES = 150 * 1024 * 1024;
const INTERVAL_MS = 10_000; // over which the delay of the control loop is summed up
const IDLE_MS = 60_000;
let registry: TestRegistry;
let daemon: TestDaemon;
let context: TestContext;
let idle: Holdings;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  daemon = await TestDaemon.start();
  idle = await holdingsOf(daemon);
  context = await contextOf({
    Dockerfile: `FROM ${registry.host}/base:latest\nCOPY word /word\nRUN tr a-z A-Z < /word > /upper\nRUN wc -c < /upper > /count\n`,
    word: 'cooper\n',
  });
});
after(async () => {
  await context?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

/** p99 of the last complete interval. */
async function delaySeconds(): Promise<number> {
  const { body } = await daemon.ops('/metrics');
  return Number(/^cooper_event_loop_delay_seconds\{[^}]*stat="p99"[^}]*\} (\S+)/m.exec(body)?.[1] ?? 'NaN');
}
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The highest p99 of the intervals that end while `work` runs and of the one in which it ends. */
async function highestDelay(work: Promise<unknown>): Promise<number> {
  let over = false;
  const ended = work.finally(() => {
    over = true;
  });
  let highest = 0;
  let untilMs = Number.POSITIVE_INFINITY;
  while (performance.now() < untilMs) {
    highest = Math.max(highest, await delaySeconds());
    if (over && untilMs === Number.POSITIVE_INFINITY) untilMs = performance.now() + INTERVAL_MS + 1000;
    await sleep(250);
  }
  await ended;
  return highest;
}

/** All at once, to the end. None may fail, and each must have found everything in the cache. */
async function burst(): Promise<{ readonly tookMs: number; readonly delay: number }> {
  const startedMs = performance.now();
  let tookMs = 0;
  const all = Promise.all(Array.from({ length: CLIENTS }, () => buildDir(daemon, context.dir))).finally(() => {
    tookMs = performance.now() - startedMs;
  });
  const delay = await highestDelay(all);
  for (const { status, stderr } of await all) {
    assert.equal(status, 0, stderr);
    assert.equal([...stderr.matchAll(/^#\d+ CACHED$/gm)].length, 3, stderr);
  }
  return { tookMs, delay };
}

test(`${CLIENTS} clients at once build what is cached: none fails, and the control loop is not late`, {
  skip,
  timeout: 180_000,
}, async (t) => {
  assert.equal((await buildDir(daemon, context.dir)).status, 0);
  await sleep(INTERVAL_MS); // the interval in which the first build loaded its code is not what is measured
  const delays: number[] = [];
  while (delays.length < BURSTS && Math.min(...delays) >= BUDGET_S) {
    const { tookMs, delay } = await burst();
    delays.push(delay);
    t.diagnostic(`${CLIENTS} clients in ${(tookMs / 1000).toFixed(1)} s; control loop p99 ${(delay * 1000).toFixed(1)} ms late`);
  }
  assert.ok(Math.min(...delays) < BLOCKED_S, `seconds the control loop was late (p99 of 10 s): ${delays}`);
  await assertNothingLeaked(daemon, idle);
});

test('a daemon that has built and is idle holds less than 150 MB', { skip, timeout: 180_000 }, async (t) => {
  for (let round = 0; round < 5; round++) {
    context.write('word', `round ${round}\n`);
    const { status, stderr } = await buildDir(daemon, context.dir, [
      '--output',
      `type=image,name=${registry.host}/out:1,push=true`,
    ]);
    assert.equal(status, 0, stderr);
  }
  const resident = (): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) * 1024;
  const busy = resident();
  const untilMs = performance.now() + IDLE_MS;
  while (resident() >= MAX_IDLE_BYTES && performance.now() < untilMs) await sleep(500);
  t.diagnostic(`resident after the builds ${(busy / 2 ** 20).toFixed(0)} MB, idle ${(resident() / 2 ** 20).toFixed(0)} MB`);
  assert.ok(resident() < MAX_IDLE_BYTES, `${resident()} bytes resident after ${IDLE_MS / 1000} s without work`);
  await assertNothingLeaked(daemon, idle, { idle: true });
});
