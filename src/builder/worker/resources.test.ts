/** What steps use, from the kernel's files and from real containers: samples, OOM kills, and hosts without control groups. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ResourceSample } from '../events.ts';
import { Cgroups } from './cgroups.ts';
import { parsePressure } from './group-readings.ts';
import { oomKillOf, parseKernelKill } from './oom.ts';
import { openRig, cannotRun as skip } from './sandbox.test-rig.ts';

const MIB = 1024 * 1024;
const EXIT = { status: 137, signal: undefined, userUs: 2_000, systemUs: 1_000, maxRssKb: 99 };
const PSI = 'some avg10=12.50 avg60=1.00 avg300=0.00 total=2500\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=1000\n';

function hierarchy(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-cgroup-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, '..'), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return dir;
}

test('version 2: CPU, throttling, memory, IO of all devices, processes and pressure are read', (t) => {
  const mountPoint = hierarchy(t, {
    'cgroup.controllers': 'cpu memory io\n',
    'tag/0/cpu.stat': 'usage_usec 7\nnr_throttled 1\nthrottled_usec 3\n',
    'tag/0/memory.current': '11\n',
    'tag/0/memory.peak': '22\n',
    'tag/0/pids.current': '5\n',
    'tag/0/io.stat': '8:0 rbytes=1 wbytes=2 rios=9 wios=9 dbytes=9 dios=9\n8:16 rbytes=10 wbytes=20 rios=9 wios=9\n',
    'tag/0/io.pressure': PSI,
  });
  assert.deepEqual(new Cgroups({ tag: 'tag', mountPoint }).acquire('').reading(), {
    cpuNs: 7_000n,
    throttledNs: 3_000n,
    memoryBytes: 11,
    peakMemoryBytes: 22,
    readBytes: 11n,
    writeBytes: 22n,
    processes: 5,
    pressure: { io: { some: { avg10: 0.125, totalNs: 2_500_000n }, full: { avg10: 0.05, totalNs: 1_000_000n } } },
  });
});

test('version 1: a slot used before counts from where the last step ended', (t) => {
  const files = {
    'pids/cgroup.procs': '',
    'memory/tag/0/memory.max_usage_in_bytes': '77\n',
    'cpuacct/tag/0/cpuacct.usage': '1000\n',
    'blkio/tag/0/blkio.throttle.io_service_bytes_recursive': '253:0 Read 4\n253:0 Write 8\n253:0 Total 12\nTotal 12\n',
    'unified/tag/0/cpu.pressure': PSI,
  };
  const mountPoint = hierarchy(t, files);
  const slot = new Cgroups({ tag: 'tag', mountPoint }).acquire('');
  writeFileSync(join(mountPoint, 'cpuacct/tag/0/cpuacct.usage'), '1500\n');
  writeFileSync(join(mountPoint, 'memory/tag/0/memory.usage_in_bytes'), '33\n');
  writeFileSync(
    join(mountPoint, 'blkio/tag/0/blkio.throttle.io_service_bytes_recursive'),
    '253:0 Read 5\n253:0 Write 10\nTotal 15\n',
  );
  writeFileSync(join(mountPoint, 'unified/tag/0/cpu.pressure'), PSI.replace('total=2500', 'total=4000'));
  const { cpuNs, memoryBytes, readBytes, writeBytes, pressure } = slot.reading() ?? {};
  assert.deepEqual([cpuNs, memoryBytes, readBytes, writeBytes], [500n, 33, 1n, 2n]);
  assert.deepEqual(pressure?.cpu, { some: { avg10: 0.125, totalNs: 1_500_000n }, full: { avg10: 0.05, totalNs: 0n } });
});

test('without control groups nothing is sampled', (t) => {
  assert.equal(new Cgroups({ tag: 'tag', mountPoint: hierarchy(t, {}) }).acquire('').reading(), undefined);
});

test('pressure that the kernel does not show is absent, not zero', () => {
  assert.equal(parsePressure(undefined), undefined);
  assert.equal(parsePressure(''), undefined);
});

const KILL =
  'oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a/tag/0/id,task_memcg=/a/tag/0/id,task=cc1, plus,pid=9,uid=0';
const GIVEN = {
  exit: EXIT,
  group: '/tag/0/id',
  peakBytes: 64 * MIB,
  limitBytes: 64 * MIB,
  events: undefined,
  limitOf: () => 512 * MIB,
  killsBefore: -1n,
};

test("the kernel's log tells the process and whose limit it was", () => {
  const kill = parseKernelKill(`6,337,181691323,-;${KILL}`);
  assert.deepEqual(kill, { process: 'cc1, plus', limited: '/a/tag/0/id', victim: '/a/tag/0/id' });
  assert.ok(kill);
  const own = { scope: 'step', process: 'cc1, plus', peakBytes: 64 * MIB, limitBytes: 64 * MIB };
  assert.deepEqual(
    oomKillOf(GIVEN, () => [kill]),
    own,
  );
  const above = { scope: 'daemon', process: 'cc1, plus', peakBytes: 64 * MIB, limitBytes: 512 * MIB };
  assert.deepEqual(
    oomKillOf(GIVEN, () => [{ ...kill, limited: '/a' }]),
    above,
  );
  assert.equal(oomKillOf({ ...GIVEN, limitBytes: 0 }, () => [{ ...kill, limited: undefined }])?.scope, 'daemon');
});

test("a kill in another step's group is not this step's", () => {
  const other = { process: 'x', limited: '/tag/0/other', victim: '/tag/0/other' };
  assert.equal(
    oomKillOf(GIVEN, () => [other]),
    undefined,
  );
});

test('without the log: the counts of version 2 decide, else a killed step at its limit', () => {
  const silent = () => [];
  assert.deepEqual(oomKillOf({ ...GIVEN, events: 'oom 1\noom_kill 1\n' }, silent)?.scope, 'step');
  assert.deepEqual(oomKillOf({ ...GIVEN, events: 'oom 0\noom_kill 1\n' }, silent)?.scope, 'daemon');
  assert.equal(oomKillOf({ ...GIVEN, events: 'oom 0\noom_kill 0\n' }, silent), undefined);
  assert.equal(oomKillOf(GIVEN, silent)?.scope, 'step');
  assert.equal(oomKillOf({ ...GIVEN, peakBytes: MIB }, silent)?.scope, 'daemon');
  assert.equal(oomKillOf({ ...GIVEN, exit: { ...EXIT, status: 1 } }, silent), undefined, 'an ordinary failure');
  const none = BigInt(Number.MAX_SAFE_INTEGER);
  assert.equal(oomKillOf({ ...GIVEN, killsBefore: none }, silent), undefined, 'killed, but no kill was counted on the machine');
});

test('a step that runs on is sampled, a short one is not', { skip }, async (t) => {
  await using rig = await openRig(t);
  const samples: ResourceSample[] = [];
  const gate = Promise.withResolvers<void>();
  const stop = new AbortController();
  const onSample = (sample: ResourceSample): void => {
    samples.push(sample);
    if (samples.length === 2) gate.resolve();
  };
  const running = rig.sh('x=$(yes | head -c 20000000); while :; do :; done', { onSample, signal: stop.signal });
  running.catch(() => {});
  await gate.promise;
  stop.abort();
  await assert.rejects(running);
  const [first, second] = samples;
  assert.ok(first !== undefined && second !== undefined && second.atNs > first.atNs);
  assert.ok((second.cpuNs ?? 0n) > (first.cpuNs ?? 0n), 'CPU time grows');
  assert.ok((second.peakMemoryBytes ?? 0) > 20_000_000 && (second.memoryBytes ?? 0) > 0);
  samples.length = 0;
  await rig.sh('true', { onSample });
  assert.equal(samples.length, 0);
});

test('a child of the step killed at the limit is named, though the step itself ended otherwise', { skip }, async (t) => {
  await using rig = await openRig(t);
  const limit = 32 * MIB;
  const { status, usage } = await rig.sh('tail -c 300000000 /dev/zero; exit 3', {
    resources: { memoryBytes: BigInt(limit), memorySwapBytes: BigInt(limit) },
  });
  assert.equal(status, 3);
  assert.equal(usage.oom?.scope, 'step');
  assert.equal(usage.oom?.limitBytes, limit);
  assert.ok((usage.oom?.peakBytes ?? 0) > 24 * MIB);
  if (usage.oom?.process !== undefined) assert.equal(usage.oom.process, 'tail');
});
