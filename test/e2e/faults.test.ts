/**
 * Clients that vanish in the middle of something: what ran for them ends within seconds, what was held for them is let go, and whoever
 * shares a step with them does not notice.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import type http from 'node:http';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { assertNothingLeaked, type Holdings, holdingsOf, processesWith } from '../fixtures/leaks.ts';
import { startRegistry, startScriptedServer, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox');
const GONE_S = 5;
let registry: TestRegistry;
let daemon: TestDaemon;
let base: string;
let idle: Holdings;
/** Before the first test. */
let atStart: Holdings;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
  daemon = await TestDaemon.start();
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN true\n` });
  assert.equal((await buildDir(daemon, context.dir)).status, 0); // from here on the base is there
  atStart = await holdingsOf(daemon);
});
beforeEach(async () => {
  if (skip === false) idle = await holdingsOf(daemon);
});
after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

interface Client {
  readonly child: ChildProcess;
  /** Everything it has written to stderr so far. */
  readonly progress: () => string;
  readonly ended: Promise<unknown>;
}

/** A build whose client is in our hands. */
function startBuild(dir: string, args: readonly string[] = []): Client {
  const local = ['--local', `context=${dir}`, '--local', `dockerfile=${dir}`];
  const child = spawn(
    'buildctl',
    ['--addr', daemon.address, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0', ...local, ...args],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return { child, progress: () => text, ended: once(child, 'close') };
}

async function until(what: string, seconds: number, holds: () => boolean | Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + seconds * 1000;
  while (!(await holds())) {
    assert.ok(performance.now() < untilMs, `${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Accepted and not ended, in whichever state. */
const buildsRunning = async (): Promise<number> => {
  const { body } = await daemon.ops('/metrics');
  const values = [...body.matchAll(/^cooper_builds_in_flight\{[^}]*\} (\d+)/gm)].map(([, value]) => Number(value));
  assert.ok(values.length > 0, body);
  return values.reduce((sum, value) => sum + value, 0);
};

/** The daemon has nothing to do any more, holds nothing, and builds. */
async function assertIdle(): Promise<void> {
  await until('no build in flight', GONE_S, async () => (await buildsRunning()) === 0);
  await assertNothingLeaked(daemon, idle);
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN true\n` });
  const { status, stderr } = await buildDir(daemon, context.dir);
  assert.equal(status, 0, stderr);
}

test('a client killed while its step runs: the processes of the step end, and mounts and references go', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN : vanish-run; (sleep 700; true) & sleep 701; true\n` });
  const client = startBuild(context.dir);
  await until('the step runs', 15, () => processesWith('sleep 700').length > 0 && processesWith('sleep 701').length > 0);
  client.child.kill('SIGKILL');
  await until('the processes of the step are gone', GONE_S, () => processesWith('sleep 70').length === 0);
  await client.ended;
  await assertIdle();
});

test('a client killed while it sends its context: nothing half received stays', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nCOPY big /big\n` });
  const file = openSync(join(context.dir, 'big'), 'w');
  ftruncateSync(file, 2 * 1024 ** 3); // no disk here, but that many bytes on the wire
  closeSync(file);
  const client = startBuild(context.dir);
  await until('the transfer runs', 30, () => /transferring context: \d+(\.\d+)?MB/.test(client.progress()));
  client.child.kill('SIGKILL');
  await client.ended;
  await assertIdle();
});

test('a client killed while it receives its result: nothing of the export stays', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN dd if=/dev/zero of=/big bs=1M count=64\n` });
  assert.equal((await buildDir(daemon, context.dir)).status, 0);
  idle = await holdingsOf(daemon);
  // Nobody reads the other end of the pipe, so the export stands still until the client is gone.
  const child = spawn(
    'sh',
    [
      '-c',
      `exec buildctl --addr "$1" build --progress plain --frontend dockerfile.v0 --local context="$2" --local dockerfile="$2" --output type=tar`,
      'sh',
      daemon.address,
      context.dir,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let progress = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    progress += text;
  });
  await until('the export runs', 30, () => /exporting|sending tarball/.test(progress));
  child.kill('SIGKILL');
  child.stdout.destroy();
  await once(child, 'exit');
  await assertIdle();
});

test('a client killed while an image is pushed: the push ends', { skip }, async () => {
  // A registry that takes the beginning of a push and then stands still.
  const held: http.ServerResponse[] = [];
  await using slow = await startScriptedServer((request, response) => {
    if (request.method === 'HEAD') {
      response.writeHead(404).end();
    } else if (request.method === 'GET') response.writeHead(200).end();
    else held.push(response);
  });
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN echo pushed > /p\n` });
  const client = startBuild(context.dir, ['--output', `type=image,name=${slow.host}/out:1,push=true`]);
  await until('the push runs', 30, () => held.length > 0);
  client.child.kill('SIGKILL');
  await client.ended;
  await assertIdle();
});

test('Ctrl-C at the client cancels the build, and the client says so', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${base}\nRUN : vanish-int; sleep 702; true\n` });
  const client = startBuild(context.dir);
  await until('the step runs', 15, () => processesWith('sleep 702').length > 0);
  client.child.kill('SIGINT');
  await client.ended;
  assert.equal(client.child.exitCode, 1);
  assert.match(client.progress(), /cancel/i);
  await until('the processes of the step are gone', GONE_S, () => processesWith('sleep 702').length === 0);
  await assertIdle();
});

test('of two clients that wait for the same step one is killed: the other gets the result of the one run', { skip }, async () => {
  await using gate = await startScriptedServer((_request, response) => response.end());
  const port = gate.host.split(':')[1];
  // The step tells us that it began and then waits a while; a second run of it would tell us again.
  await using context = await contextOf({
    Dockerfile: `FROM ${base}\nRUN --network=host wget -q -O - http://127.0.0.1:${port}/began; sleep 3; echo shared > /s\nFROM scratch\nCOPY --from=0 /s /s\n`,
  });
  await using own = await TestDaemon.start({ toml: 'insecure-entitlements = ["network.host"]\n' });
  const before = await holdingsOf(own);
  const start = (): Client => {
    const local = ['--local', `context=${context.dir}`, '--local', `dockerfile=${context.dir}`];
    const child = spawn(
      'buildctl',
      ['--addr', own.address, 'build', '--progress', 'plain', '--allow', 'network.host', '--frontend', 'dockerfile.v0', ...local],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    return { child, progress: () => text, ended: once(child, 'close') };
  };
  const first = start();
  await until('the step runs', 30, () => gate.requests.length === 1);
  const second = start();
  await until('the second build waits for it', 10, () => /RUN --network=host/.test(second.progress()));
  first.child.kill('SIGKILL');
  await first.ended;
  await second.ended;
  assert.equal(second.child.exitCode, 0, second.progress());
  assert.equal(gate.requests.length, 1, 'the step ran once');
  await assertNothingLeaked(own, before);
});

test('a client that opens a session and says nothing more, and one that sends half a frame, hold nothing once they are gone', {
  skip,
}, async () => {
  const { connect } = await import('node:net');
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
  const halfFrame = Buffer.from([0, 0x40, 0, 0, 0, 0, 0, 0, 1, 7]);
  for (const bytes of [
    Buffer.alloc(0),
    preface,
    Buffer.concat([preface, settings, halfFrame]),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  ]) {
    const socket = connect(daemon.address.slice('unix://'.length));
    await once(socket, 'connect');
    socket.on('error', () => {});
    socket.write(bytes);
    await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
  }
  await assertIdle();
});

test('after all of them, an idle daemon holds what it held before', { skip }, async () => {
  await assertNothingLeaked(daemon, atStart, { idle: true });
});
