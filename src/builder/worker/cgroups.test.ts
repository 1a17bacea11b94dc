import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Cgroups } from './cgroups.ts';

const EXIT = { status: 0, signal: undefined, userUs: 2_000, systemUs: 1_000, maxRssKb: 99 };

/** Files as the kernel would show them. */
function hierarchy(t: TestContext, files: Readonly<Record<string, string>>): string {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-cgroup-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, '..'), { recursive: true });
    writeFileSync(join(dir, path), text);
  }
  return dir;
}

test('unified groups: CPU, peak memory and OOM kills are those of the slot', (t) => {
  const dir = hierarchy(t, {
    'cgroup.controllers': 'cpu memory\n',
    'parent/tag/0/cpu.stat': 'usage_usec 123\nuser_usec 100\n',
    'parent/tag/0/memory.peak': '4096\n',
    'parent/tag/0/memory.events': 'low 0\noom 1\noom_kill 1\n',
  });
  const groups = new Cgroups({ tag: 'tag', mountPoint: dir });
  const slot = groups.acquire('parent');
  assert.equal(slot.path, '/parent/tag/0');
  assert.equal(slot.containerDir('id'), join(dir, 'parent/tag/0/id'));
  assert.deepEqual(slot.usage({ ...EXIT, status: 137 }, 'id', 0), {
    cpuNs: 123_000n,
    peakMemoryBytes: 4096,
    oomKilled: true,
    oom: { scope: 'daemon', peakBytes: 4096 },
  });
});

test('hybrid groups: a reused slot counts from where the last step ended', (t) => {
  const dir = hierarchy(t, {
    'pids/cgroup.procs': '',
    'memory/tag/0/memory.max_usage_in_bytes': '77\n',
    'cpuacct/tag/0/cpuacct.usage': '1000\n',
  });
  const slot = new Cgroups({ tag: 'tag', mountPoint: dir }).acquire('');
  assert.equal(slot.containerDir('id'), join(dir, 'pids/tag/0/id'));
  writeFileSync(join(dir, 'memory/tag/0/memory.max_usage_in_bytes'), '33554432\n');
  writeFileSync(join(dir, 'cpuacct/tag/0/cpuacct.usage'), '1500\n');
  assert.deepEqual(slot.usage(EXIT, 'id', 0), { cpuNs: 500n, peakMemoryBytes: 33_554_432, oomKilled: false });
});

test('without groups CPU time is that of the process', (t) => {
  const slot = new Cgroups({ tag: 'tag', mountPoint: hierarchy(t, {}) }).acquire('');
  assert.equal(slot.containerDir('id'), undefined);
  assert.deepEqual(slot.usage(EXIT, 'id', 0), { cpuNs: 3_000_000n, peakMemoryBytes: 0, oomKilled: false });
});

test('steps that run at once have slots of their own; a free one is used again', (t) => {
  const bases: string[] = [];
  const groups = new Cgroups({
    tag: 'tag',
    mountPoint: hierarchy(t, { 'cgroup.controllers': '' }),
    onBase: (dir) => bases.push(dir),
  });
  const [first, second] = [groups.acquire(''), groups.acquire('')];
  assert.deepEqual([first.path, second.path], ['/tag/0', '/tag/1']);
  first.release();
  assert.equal(groups.acquire('').path, '/tag/0');
  assert.equal(groups.acquire('../../other').path, '/other/tag/0', 'a parent cannot leave the hierarchy');
  assert.deepEqual(
    bases.map((dir) =>
      dir
        .split('/')
        .slice(-2)
        .join('/')
        .replace(/^cooper-cgroup-\w+/, ''),
    ),
    ['/tag', 'other/tag'],
  );
});
