/**
 * A daemon that is killed at any moment: the next one on the same root serves correct results, what was half done is collected, and
 * nothing of the killed one runs on. And a daemon that is asked to stop: it lets builds finish, or cancels them when its time is up.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext as NodeTestContext, test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, buildDir, type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { cgroupsOf, holdingsOf, mountsOf, processesWith } from '../fixtures/leaks.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
const ROUNDS = 10;
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

/** Numbers that look random and come again for the same seed (mulberry32). */
function randomsOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Two stages that run next to each other, a third on top of one of them, and a result of both. `mark` is in the command line of each step. */
const dockerfileOf = (mark: string): string => `FROM ${base} AS upper
COPY words.txt /words
RUN : ${mark}; sleep 0.3; tr a-z A-Z < /words > /upper
FROM ${base} AS many
COPY words.txt data.bin /
RUN --mount=type=cache,target=/cache : ${mark}; cat /words >> /cache/log; for i in $(seq 1 50); do mkdir -p /many/$i; cp /data.bin /many/$i/data; done; sleep 0.2
FROM upper AS both
RUN : ${mark}; sleep 0.1; cat /upper /words > /both && rm /upper
FROM scratch
COPY --from=both /both /result/both
COPY --from=many /many /result/many
`;

async function fill(context: TestContext, words: string): Promise<void> {
  context.write('words.txt', words);
  context.write('data.bin', words.repeat(2000));
}

/** What the build above has to produce. */
function checkResult(dir: string, words: string): void {
  assert.equal(readFileSync(join(dir, 'result/both'), 'utf8'), words.toUpperCase() + words);
  const names = readdirSync(join(dir, 'result/many'));
  assert.equal(names.length, 50);
  for (const name of names) assert.equal(readFileSync(join(dir, 'result/many', name, 'data'), 'utf8'), words.repeat(2000), name);
}

async function buildAndCheck(daemon: TestDaemon, context: TestContext, words: string): Promise<Run> {
  await using out = await contextOf({});
  const done = await buildDir(daemon, context.dir, ['--output', `type=local,dest=${out.dir}`]);
  assert.equal(done.status, 0, done.stderr);
  checkResult(out.dir, words);
  return done;
}

/** Names of steps that were run, by plain progress. */
const executed = (stderr: string): string[] => {
  const names = new Map([...stderr.matchAll(/^#(\d+) (\[(?!internal).*)$/gm)].map(([, id = '', name = '']) => [id, name]));
  const cached = new Set([...stderr.matchAll(/^#(\d+) CACHED$/gm)].map(([, id]) => id));
  return [...names].filter(([id, name]) => !cached.has(id) && !name.includes('FROM')).map(([, name]) => name);
};

/** Polls until the condition holds, or fails with what it said last. */
async function eventually(what: string, seconds: number, look: () => unknown[]): Promise<void> {
  const untilMs = performance.now() + seconds * 1000;
  let left = look();
  while (left.length > 0 && performance.now() < untilMs) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    left = look();
  }
  assert.deepEqual(left, [], `${what}, still after ${seconds} s`);
}

const newRoot = async (t: NodeTestContext): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-crash-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return join(dir, 'root');
};

test('killed ten times at random moments of a build, the daemon starts again, has collected what was half done, and builds right', {
  skip,
  timeout: 300_000,
}, async (t) => {
  const seed = Number(process.env.CRASH_SEED ?? randomInt(2 ** 31));
  const random = randomsOf(seed);
  const moments: string[] = [];
  t.diagnostic(`seed ${seed}: CRASH_SEED=${seed} runs the same moments again`);
  const root = await newRoot(t);
  const mark = `crash-${seed}`;
  await using context = await contextOf({ Dockerfile: dockerfileOf(mark) });
  const wholeMs = await timeOfBuild(root, context);
  let interrupted = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const words = `round ${round} of ${seed}\n`;
    await fill(context, words);
    if (await killDuringBuild(t, root, context, Math.floor(random() * wholeMs))) interrupted += 1;
    await eventually('processes of steps after the daemon was killed', 10, () => processesWith(mark));
    await using daemon = await TestDaemon.start({ root });
    const held = await holdingsOf(daemon);
    assert.deepEqual(held.orphans, [], 'directories without a record');
    assert.deepEqual(held.inUse, [], 'records in use');
    assert.deepEqual(held.mounts, [join(root, 'sandbox', onlyRun(daemon))], 'mounts');
    assert.deepEqual(readdirSync(join(root, 'content/tmp')), []);
    assert.deepEqual(readdirSync(join(root, 'tmp')), []);
    assert.deepEqual(mountsOf(process.pid, root), [], 'mounts on the host');
    assert.deepEqual(cgroupsOf(root), [], 'control groups');
    const { stderr } = await buildAndCheck(daemon, context, words);
    moments.push(`${executed(stderr).length} steps to do again`);
    const again = await buildAndCheck(daemon, context, words);
    assert.deepEqual(executed(again.stderr), [], 'the second build after the kill is all cached');
    await assertUsageAddsUp(daemon);
  }
  t.diagnostic(`after each kill: ${moments.join(', ')}`);
  assert.ok(interrupted >= ROUNDS / 2, `only ${interrupted} of ${ROUNDS} kills hit a build`);
});

/** How long the build takes on this machine, with the base image already there. */
async function timeOfBuild(root: string, context: TestContext): Promise<number> {
  await using daemon = await TestDaemon.start({ root });
  await fill(context, 'first\n');
  await buildAndCheck(daemon, context, 'first\n');
  await fill(context, 'second\n');
  const startedMs = performance.now();
  await buildAndCheck(daemon, context, 'second\n');
  return performance.now() - startedMs;
}

/** Whether the build was still running. */
async function killDuringBuild(t: NodeTestContext, root: string, context: TestContext, afterMs: number): Promise<boolean> {
  const daemon = await TestDaemon.start({ root });
  try {
    const building = buildDir(daemon, context.dir, ['--output', 'type=image,name=example.org/crash:1']);
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await daemon.kill('SIGKILL');
    const { status } = await building;
    t.diagnostic(`killed after ${afterMs} ms; the client ended with ${status}`);
    return status !== 0;
  } finally {
    await daemon[Symbol.asyncDispose]();
  }
}

/** The directory of the only run that is left: the present one's. */
function onlyRun(daemon: TestDaemon): string {
  const runs = readdirSync(join(daemon.root, 'sandbox'));
  assert.equal(runs.length, 1, `runs of killed daemons left: ${runs}`);
  return runs[0] ?? '';
}

/** What du tells is what is there: every directory has a record, every record its directory, and their sum is the total. */
async function assertUsageAddsUp(daemon: TestDaemon): Promise<void> {
  const { stdout, status, stderr } = await buildctl(daemon, ['du', '--format', '{{json .}}']);
  assert.equal(status, 0, stderr);
  const records = JSON.parse(`[${stdout.trim().replaceAll('\n', ',')}]`).flat() as { id?: string; ID?: string }[];
  const ids = records.map(({ id, ID }) => id ?? ID ?? '').sort();
  const dirs = readdirSync(join(daemon.root, 'snapshots')).filter((name) => name !== 'trash');
  assert.deepEqual(dirs.sort(), ids);
}

test('after many kills nothing is kept that prune cannot remove', { skip, timeout: 120_000 }, async (t) => {
  const root = await newRoot(t);
  await using context = await contextOf({ Dockerfile: dockerfileOf('crash-prune') });
  for (const afterMs of [150, 600, 1200]) {
    await fill(context, `killed after ${afterMs}\n`);
    await killDuringBuild(t, root, context, afterMs);
  }
  await using daemon = await TestDaemon.start({ root });
  const prune = await buildctl(daemon, ['prune', '--all']);
  assert.equal(prune.status, 0, prune.stderr);
  await eventually('snapshots after prune', 10, () => [
    ...readdirSync(join(root, 'snapshots')).filter((name) => name !== 'trash'),
    ...readdirSync(join(root, 'snapshots/trash')),
  ]);
  await buildAndCheck(daemon, context, 'killed after 1200\n');
});

test('a daemon that is asked to stop lets the running build finish, takes no new one, exits with 0 and removes its socket', {
  skip,
}, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({
    Dockerfile: `FROM ${base}\nRUN echo started && sleep 2 && echo finished > /done\nFROM scratch\nCOPY --from=0 /done /done\n`,
  });
  await using out = await contextOf({});
  const building = buildDir(daemon, context.dir, ['--output', `type=local,dest=${out.dir}`]);
  await eventually('no step', 15, () => (processesWith('echo started').length > 0 ? [] : ['waiting']));
  const stopped = daemon.kill('SIGTERM');
  const built = await building;
  assert.equal(built.status, 0, built.stderr);
  assert.equal(readFileSync(join(out.dir, 'done'), 'utf8'), 'finished\n');
  assert.deepEqual(await stopped, { code: 0, signal: null });
  assert.ok(!existsSync(daemon.address.slice('unix://'.length)), 'the socket is gone');
});

test('a build that outlasts the drain timeout is cancelled, its processes end, and the daemon exits with 0', {
  skip,
}, async () => {
  await using daemon = await TestDaemon.start({ toml: '[cooper]\ndrain-timeout = "1s"\n' });
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN : outlasting; sleep 600; true\n` });
  const building = buildDir(daemon, context.dir);
  await eventually('no step', 15, () => (processesWith('outlasting').length > 0 ? [] : ['waiting']));
  const startedMs = performance.now();
  assert.deepEqual(await daemon.kill('SIGTERM'), { code: 0, signal: null });
  assert.ok(performance.now() - startedMs < 15_000, `stopping took ${performance.now() - startedMs} ms`);
  const { status, stderr } = await building;
  assert.equal(status, 1);
  assert.match(stderr, /the daemon is stopping/);
  assert.deepEqual(processesWith('outlasting'), []);
});

test('a second daemon on the same root, socket or port says who holds it', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using dir = await contextOf({});
  const main = join(import.meta.dirname, '../../src/cmd/main.ts');
  const opsAddr = daemon.opsUrl.slice('http://'.length);
  const start = (root: string, addr: string, ops: string): Promise<Run> =>
    run(process.execPath, [main, 'daemon', '--root', root, '--addr', addr, '--ops-addr', ops]);
  const sameRoot = await start(daemon.root, `unix://${join(dir.dir, 'd.sock')}`, '127.0.0.1:0');
  assert.equal(sameRoot.status, 8, sameRoot.stderr);
  assert.match(sameRoot.stderr, new RegExp(`held by the daemon with process id ${daemon.pid}`));
  const sameSocket = await start(join(dir.dir, 'root'), daemon.address, '127.0.0.1:0');
  assert.notEqual(sameSocket.status, 0);
  const socket = daemon.address.slice('unix://'.length);
  assert.match(sameSocket.stderr, new RegExp(`cannot listen on ${socket}: process ${daemon.pid} `), sameSocket.stderr);
  const samePort = await start(join(dir.dir, 'root'), `unix://${join(dir.dir, 'd.sock')}`, opsAddr);
  assert.notEqual(samePort.status, 0);
  assert.match(samePort.stderr, new RegExp(`${opsAddr}`), samePort.stderr);
  assert.match(samePort.stderr, new RegExp(`process ${daemon.pid} `), samePort.stderr);
  assert.ok(daemon.running);
  const { status } = await buildctl(daemon, ['debug', 'info']);
  assert.equal(status, 0);
});
