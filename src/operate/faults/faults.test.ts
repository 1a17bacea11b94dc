import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { unableTo } from '../../../test/fixtures/daemon.ts';
import { FAULTS, orderOf } from './catalog.ts';
import { holdFault } from './held-fault.ts';
import { callProxy } from './inject.ts';
import { startProxyService } from './proxy-api.ts';

const BODY = 'x'.repeat(10_000);

/** A server that always answers the same, our proxy in front of it, and a client that says what came of a request. */
async function rig(): Promise<
  AsyncDisposable & {
    readonly api: string;
    readonly listen: string;
    get(): Promise<{ status: number; body: string; ms: number } | 'broken'>;
  }
> {
  const server = http.createServer((_request, response) => response.end(BODY));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const service = await startProxyService({ host: '127.0.0.1', port: 0 });
  const upstream = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { listen } = (await callProxy(service.url, 'POST', '/proxies', { name: 'cache', upstream })) as { listen: string };
  return {
    api: service.url,
    listen,
    async get() {
      const startMs = performance.now();
      try {
        const response = await fetch(`http://${listen}/v2/blobs/a`, {
          signal: AbortSignal.timeout(1500),
          headers: { connection: 'close' },
        });
        const body = await response.text();
        return { status: response.status, body, ms: performance.now() - startMs };
      } catch {
        return 'broken';
      }
    },
    async [Symbol.asyncDispose]() {
      await service[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
    },
  };
}
type Got = Awaited<ReturnType<Awaited<ReturnType<typeof rig>>['get']>>;
const fine = (got: Got): boolean => got !== 'broken' && got.status === 200 && got.body === BODY;

const EXPECTED: readonly (readonly [fault: string, set: Record<string, number | string>, holds: (got: Got) => boolean])[] = [
  ['down', {}, (got) => got === 'broken'],
  ['latency', { latency: 300 }, (got) => fine(got) && got !== 'broken' && got.ms >= 290],
  ['bandwidth', { rate: 25 }, (got) => fine(got) && got !== 'broken' && got.ms >= 300],
  ['timeout', {}, (got) => got === 'broken'],
  ['reset_peer', {}, (got) => got === 'broken'],
  ['slicer', { average_size: 500, size_variation: 10, delay: 1 }, fine],
  ['limit_data', { bytes: 500 }, (got) => got === 'broken'],
  ['slow_close', { delay: 50 }, fine],
  ['http-401', {}, (got) => got !== 'broken' && got.status === 401],
  ['http-403', { match: '/blobs/' }, (got) => got !== 'broken' && got.status === 403],
  ['http-403', { match: '/manifests/' }, fine],
  ['http-429', {}, (got) => got !== 'broken' && got.status === 429],
  ['http-500', {}, (got) => got !== 'broken' && got.status === 500],
  ['http-503', {}, (got) => got !== 'broken' && got.status === 503],
  ['http-truncate', {}, (got) => got === 'broken'],
  ['http-wrong-digest', {}, (got) => got !== 'broken' && got.body.length === BODY.length && got.body !== BODY],
];

test('every fault on the wire does what it says, and nothing after it is healed', async () => {
  await using wire = await rig();
  for (const [fault, set, holds] of EXPECTED) {
    const { inject } = await import('./inject.ts');
    const made = await inject({ fault, parameters: { api: wire.api, proxy: 'cache', ...set } });
    assert.ok(holds(await wire.get()), `${fault} ${JSON.stringify(set)}`);
    await made.heal();
    assert.ok(fine(await wire.get()), `after ${fault}`);
  }
  const covered = new Set(EXPECTED.map(([fault]) => fault));
  const wires = FAULTS.filter(({ kind }) => kind === 'wire' || kind === 'http').map(({ name }) => name);
  assert.deepEqual(
    wires.filter((name) => !covered.has(name)),
    [],
  );
});

test('a fault is gone when its runner is killed, when its runner hangs, and when its keeper is killed too', async () => {
  await using wire = await rig();
  const order = { fault: 'down', parameters: { api: wire.api, proxy: 'cache' } };
  const script = `import { holdFault } from ${JSON.stringify(join(import.meta.dirname, 'held-fault.ts'))};
    const held = await holdFault(${JSON.stringify(order)}, { ttlMs: 1500 });
    console.log(held.keeperPid); setInterval(() => {}, 1000);`;
  for (const how of ['SIGKILL', 'SIGSTOP', 'keeper'] as const) {
    const runner = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = (await once(createInterface({ input: runner.stdout }), 'line')) as [string];
    assert.equal(await wire.get(), 'broken');
    if (how === 'keeper') process.kill(Number(line), 'SIGKILL');
    runner.kill(how === 'SIGSTOP' ? 'SIGSTOP' : 'SIGKILL');
    const untilMs = Date.now() + 20_000;
    while (!fine(await wire.get())) {
      assert.ok(Date.now() < untilMs, `still there after ${how}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    runner.kill('SIGKILL');
  }
});

test('a fault that cannot be made changes nothing and says why; an unknown one names what there is', async () => {
  assert.throws(() => orderOf('dwon', {}), /there is no fault "dwon"/);
  assert.throws(() => orderOf('latency', { proxy: 'p', late: 1 }), /no parameter "late"/);
  assert.throws(() => orderOf('latency', {}), /needs "proxy"/);
  await assert.rejects(
    holdFault({ fault: 'down', parameters: { api: 'http://127.0.0.1:1', proxy: 'cache' } }),
    /no proxy answers/,
  );
});

test('faults of this machine: a runtime that is gone or hangs, a full disk, no inodes, a process that stands still', {
  skip: unableTo('mount', 'fallocate'),
}, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-faults-'));
  const disk = join(dir, 'disk');
  mkdirSync(disk);
  const { run } = await import('../../../test/fixtures/daemon.ts');
  const { inject } = await import('./inject.ts');
  assert.equal((await run('mount', ['-t', 'tmpfs', '-o', 'size=4m,nr_inodes=200', 'tmpfs', disk])).status, 0);
  try {
    const binary = join(dir, 'runc');
    writeFileSync(binary, 'the real one');
    const gone = await inject({ fault: 'runtime-missing', parameters: { path: binary } });
    assert.equal(existsSync(binary), false);
    await gone.heal();
    const hangs = await inject({ fault: 'runtime-hangs', parameters: { path: binary } });
    assert.match(readFileSync(binary, 'utf8'), /sleep/);
    await hangs.heal();
    assert.equal(readFileSync(binary, 'utf8'), 'the real one');

    const full = await inject({ fault: 'disk-full', parameters: { dir: disk } });
    assert.equal(statfsSync(disk).bavail, 0);
    await full.heal();
    assert.ok(statfsSync(disk).bavail > 0);
    const inodes = await inject({ fault: 'inodes-gone', parameters: { dir: disk } });
    assert.throws(() => writeFileSync(join(disk, 'one-more'), ''), /ENOSPC/);
    await inodes.heal();
    writeFileSync(join(disk, 'one-more'), '');

    const child = spawn('sleep', ['100']);
    const frozen = await inject({ fault: 'freeze', parameters: { pid: child.pid ?? -1 } });
    const state = (): string => readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ')[2] ?? '';
    while (state() !== 'T') await new Promise((resolve) => setTimeout(resolve, 5));
    await frozen.heal();
    while (state() === 'T') await new Promise((resolve) => setTimeout(resolve, 5));
    const exit = once(child, 'exit');
    await inject({ fault: 'kill', parameters: { pid: child.pid ?? -1 } });
    assert.equal((await exit)[1], 'SIGKILL');
  } finally {
    await run('umount', ['-l', disk]);
    await rm(dir, { recursive: true, force: true });
  }
});
