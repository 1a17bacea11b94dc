/**
 * What a dead remote cache costs: a build waits a moment for it and goes on cold, and the next build does not wait. The daemon's own
 * stamps are compared, with limits far above any load of the machine; without the patience the builds would wait for ten minutes.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, freePort, type Run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { FaultProxy } from '../fixtures/fault-proxy.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'docker-registry');
const needsRunc = unableTo('buildctl', 'docker-registry', 'runc', 'busybox');
const PATIENT = '[cooper.cache]\nanswer-timeout = "10m"\nlookup-budget = "10m"\n';
const DOCKERFILE = 'FROM scratch\nCOPY a /a\nCOPY b /b\n';

interface Seen {
  /** From the beginning of the import until steps went on without it; undefined when nobody had to. */
  readonly waitedMs: number | undefined;
  readonly importMs: number;
  readonly warning: string;
}

/** Builds with that cache, under the daemon's stamps. */
async function build(daemon: TestDaemon, dir: string, flags: readonly string[]): Promise<Seen> {
  const args = ['--progress', 'rawjson', '--no-cache', ...flags];
  const { status, stderr }: Run = await buildDir(daemon, dir, args);
  assert.equal(status, 0, stderr);
  const at = (text: unknown): number => Date.parse(String(text));
  let started = Number.NaN;
  let ended = Number.NaN;
  let wentOn: number | undefined;
  const told: string[] = [];
  for (const line of stderr.split('\n').filter((each) => each.startsWith('{'))) {
    const {
      vertexes = [],
      statuses = [],
      warnings = [],
    } = JSON.parse(line) as Record<string, readonly Record<string, unknown>[]>;
    for (const { name, started: from, completed: to } of vertexes) {
      if (!String(name).startsWith('importing cache')) continue;
      if (from !== undefined) started = at(from);
      if (to !== undefined) ended = at(to);
    }
    for (const { short } of warnings) told.push(Buffer.from(String(short), 'base64').toString());
    for (const { id, completed } of statuses) if (id === 'going on without it' && completed !== undefined) wentOn = at(completed);
  }
  return { waitedMs: wentOn === undefined ? undefined : wentOn - started, importMs: ended - started, warning: told.join('\n') };
}

/** Takes connections and never says a word. */
async function silentServer() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => undefined));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
const from = (port: number): readonly string[] => ['--import-cache', `type=registry,ref=127.0.0.1:${port}/cache:a`];

test('a cache that takes connections and says nothing: one build waits less than a second, the next not at all', {
  skip,
}, async () => {
  await using silent = await silentServer();
  await using context = await contextOf({ Dockerfile: DOCKERFILE, a: 'a', b: 'b' });
  await using daemon = await TestDaemon.start({ toml: PATIENT });
  const first = await build(daemon, context.dir, from(silent.port));
  assert.ok(first.waitedMs !== undefined && first.waitedMs >= 850, `waited ${first.waitedMs} ms`);
  assert.match(first.warning, /built without cache .*longer than 900 ms/);
  const next = await build(daemon, context.dir, from(silent.port));
  assert.equal(next.waitedMs, undefined, 'nobody had to be patient');
  assert.ok(next.importMs < 450, `the import took ${next.importMs} ms`);
  assert.match(next.warning, /built without cache .*breaker open since .*longer than 900 ms/);
});

test('a cache that refuses connections costs neither build a wait', { skip }, async () => {
  const port = await freePort();
  await using context = await contextOf({ Dockerfile: DOCKERFILE, a: 'a', b: 'b' });
  await using daemon = await TestDaemon.start({ toml: PATIENT });
  for (let n = 0; n < 2; n++) {
    const { waitedMs, warning } = await build(daemon, context.dir, from(port));
    assert.equal(waitedMs, undefined);
    assert.match(warning, /built without cache .*breaker open since .*ECONNREFUSED/);
  }
});

test('a cache that is late is used by the steps that did not run yet, and the next build waits for it', {
  skip: needsRunc,
}, async () => {
  await using registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  await using proxy = await FaultProxy.start(registry.host);
  await using gate = await gateServer();
  const script = `FROM ${registry.host}/base:latest\nRUN --network=host wget -qO /gate http://127.0.0.1:${gate.port}/\nRUN head -c 1000 /dev/urandom > /noise\n`;
  await using context = await contextOf({ Dockerfile: script });
  await using daemon = await TestDaemon.start({
    toml: `insecure-entitlements = ["network.host"]\n${PATIENT}patience = "50ms"\n`,
  });
  const allow = ['--allow', 'network.host'];
  const seeded = await buildDir(daemon, context.dir, [
    ...allow,
    '--export-cache',
    `type=registry,ref=${registry.host}/cache:a,mode=max`,
  ]);
  assert.equal(seeded.status, 0, seeded.stderr);
  assert.equal((await buildctl(daemon, ['prune', '--all'])).status, 0);

  const held = Promise.withResolvers<void>();
  await proxy.set({ kind: 'held', until: held.promise });
  const waiting = gate.close();
  const building = started(daemon, context.dir, [...allow, ...from(proxy.port)]);
  await Promise.race([waiting, building.ended]); // the first step runs, the cache having been given up for the moment
  held.resolve();
  await Promise.race([building.saw(/records/), building.ended]);
  gate.open();
  const { status, text } = await building.ended;
  assert.equal(status, 0, text);
  assert.match(text, /built without cache .*longer than 50 ms/);
  assert.deepEqual(cachedRuns(text), ['RUN head'], text);
  assert.equal(gate.served, 2);

  await proxy.set({ kind: 'none' });
  assert.equal((await buildctl(daemon, ['prune', '--all'])).status, 0);
  const next = await buildDir(daemon, context.dir, [...allow, ...from(proxy.port)]);
  assert.equal(next.status, 0, next.stderr);
  assert.doesNotMatch(next.stderr, /built without cache/);
  assert.deepEqual(cachedRuns(next.stderr).sort(), ['RUN --network=host', 'RUN head'], next.stderr);
});

/** The beginnings of RUN steps that plain progress calls cached. */
function cachedRuns(text: string): string[] {
  const names = new Map([...text.matchAll(/^(#\d+) \[\d+\/\d+\] (RUN \S+)/gm)].map(([, id, name]) => [id, name ?? '']));
  return [...names].filter(([id]) => new RegExp(`^${id} CACHED`, 'm').test(text)).map(([, name]) => name);
}

/** Serves an empty file; while it is closed, those who ask wait. */
async function gateServer() {
  let opened = Promise.withResolvers<void>();
  let asked = Promise.withResolvers<void>();
  opened.resolve();
  let served = 0;
  const server = http.createServer((_request, response) => {
    served += 1;
    asked.resolve();
    void opened.promise.then(() => response.end());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get served() {
      return served;
    },
    /** Resolves when somebody stands before it. */
    close(): Promise<void> {
      opened = Promise.withResolvers();
      asked = Promise.withResolvers();
      return asked.promise;
    },
    open: () => opened.resolve(),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A build whose output can be waited for. */
function started(daemon: TestDaemon, dir: string, flags: readonly string[]) {
  const args = ['--addr', daemon.address, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'];
  const child = spawn('buildctl', [...args, '--local', `context=${dir}`, '--local', `dockerfile=${dir}`, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  const told = new EventEmitter();
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    text += part;
    told.emit('data');
  });
  const ended = once(child, 'close').then(([status]) => ({ status: status as number | null, text }));
  const saw = async (what: RegExp): Promise<void> => {
    while (!what.test(text)) await once(told, 'data');
  };
  return { ended, saw };
}
