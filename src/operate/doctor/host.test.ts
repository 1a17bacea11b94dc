import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { checkDaemon } from './daemon.ts';
import type { DoctorFacts } from './facts.ts';
import { checkHost } from './host.ts';

const GOOD: Readonly<Record<string, string>> = {
  'proc/meminfo': 'MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\n',
  'proc/loadavg': '0.10 0.20 0.30 1/100 1\n',
  'proc/pressure/memory': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n',
  'proc/self/limits':
    'Max processes             63000                63000                processes\nMax open files            1048576              1048576              files\n',
  'proc/sys/user/max_user_namespaces': '15000\n',
  'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  'etc/passwd': 'builder:x:1000:1000::/home/builder:/bin/sh\n',
  'etc/subuid': 'builder:100000:65536\n',
  'etc/subgid': 'builder:100000:65536\n',
};

/** A machine of files. */
function machine(
  t: { after(then: () => void): void },
  changes: Readonly<Record<string, string | undefined>>,
  uid = 0,
): DoctorFacts {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-host-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [path, content] of Object.entries({ ...GOOD, ...changes })) {
    if (content === undefined) continue;
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  }
  return {
    version: '0',
    root: dir,
    uid,
    env: {},
    home: dir,
    configuration: { file: undefined, warnings: [] },
    settings: {
      addresses: [],
      ops: { host: 'h', port: 1 },
      tls: undefined,
      registries: [],
      caches: [],
      collector: undefined,
      runtime: 'auto',
      snapshotter: 'native',
      auditDir: undefined,
    },
    daemonPid: undefined,
    expectRunning: false,
    askNetwork: false,
    host: { proc: join(dir, 'proc'), sys: join(dir, 'sys'), etc: join(dir, 'etc') },
    ask: () => Promise.reject(new Error('nobody')),
    callBuildApi: () => Promise.reject(new Error('nobody')),
  };
}

const CASES: readonly (readonly [string, Readonly<Record<string, string | undefined>>, string, string, RegExp, number?])[] = [
  ['memory to spare', {}, 'host.memory', 'ok', /7813 of 15625 MiB/],
  [
    'two per cent of memory left',
    { 'proc/meminfo': 'MemTotal: 16000000 kB\nMemAvailable: 320000 kB\n' },
    'host.memory',
    'error',
    /313 of 15625 MiB available/,
  ],
  [
    'a twentieth of memory left',
    { 'proc/meminfo': 'MemTotal: 16000000 kB\nMemAvailable: 800000 kB\n' },
    'host.memory',
    'warning',
    /781 of/,
  ],
  [
    'everything waits for memory',
    {
      'proc/pressure/memory':
        'some avg10=90.00 avg60=80.00 avg300=1.00 total=1\nfull avg10=70.00 avg60=60.00 avg300=1.00 total=1\n',
    },
    'host.memory',
    'error',
    /60 % of the last minute/,
  ],
  ['a load of a thousand', { 'proc/loadavg': '1.0 1000.0 900.0 1/1 1' }, 'host.processor', 'warning', /load 1000/],
  [
    'a thousand and a half open files',
    { 'proc/self/limits': 'Max open files            1500  4096 files\n' },
    'host.open-files',
    'warning',
    /this shell may have 1500/,
  ],
  ['256 open files', { 'proc/self/limits': 'Max open files            256  4096 files\n' }, 'host.open-files', 'error', /256/],
  [
    'a hundred processes',
    { 'proc/self/limits': 'Max processes             100  100 processes\n' },
    'host.processes',
    'warning',
    /100/,
  ],
  ['no control groups', { 'sys/fs/cgroup/cgroup.controllers': undefined }, 'host.cgroups', 'warning', /holds none/],
  [
    'version 1 of control groups',
    { 'sys/fs/cgroup/cgroup.controllers': undefined, 'sys/fs/cgroup/memory/cgroup.procs': '' },
    'host.cgroups',
    'ok',
    /version 1/,
  ],
  ['no memory controller', { 'sys/fs/cgroup/cgroup.controllers': 'cpu pids\n' }, 'host.cgroups', 'warning', /without memory/],
  [
    'no user name spaces, without root',
    { 'proc/sys/user/max_user_namespaces': '0\n' },
    'host.user-namespaces',
    'error',
    /max_user_namespaces is 0/,
    1000,
  ],
  ['no user name spaces, as root', { 'proc/sys/user/max_user_namespaces': '0\n' }, 'host.user-namespaces', 'info', /is 0/],
  [
    'AppArmor forbids user name spaces',
    { 'proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1\n' },
    'host.user-namespaces',
    'error',
    /apparmor/,
    1000,
  ],
  [
    'Debian’s switch forbids them',
    { 'proc/sys/kernel/unprivileged_userns_clone': '0\n' },
    'host.user-namespaces',
    'error',
    /clone is 0/,
    1000,
  ],
  ['no subordinate ids', { 'etc/subuid': 'other:1:1\n' }, 'host.subordinate-ids', 'warning', /subuid|newuidmap/, 1000],
];
for (const [what, changes, id, severity, seen, uid] of CASES) {
  test(`${what}: ${id} is ${severity}`, (t) => {
    const found = checkHost(machine(t, changes, uid)).find((finding) => finding.id === id);
    assert.equal(found?.severity, severity, JSON.stringify(found));
    assert.match(found?.evidence ?? '', seen);
    assert.ok(severity === 'ok' || severity === 'info' || found?.fix !== undefined);
  });
}

test('what the daemon counted becomes findings: steps out of memory, faults, registries, breakers, lost audit records', async (t) => {
  const metrics = [
    'process_start_time_seconds 1000',
    'cooper_worker_oom_kills_total{scope="step"} 2',
    'cooper_worker_oom_kills_total{scope="daemon"} 1',
    'cooper_builds_total{result="error",error_class="internal"} 3',
    'cooper_builds_total{result="success",error_class="none"} 7',
    'cooper_registry_requests_total{op="ping",code_class="network"} 5',
    'cooper_registry_requests_total{op="ping",code_class="2xx"} 5',
    'cooper_telemetry_dropped_total{signal="audit",reason="disk_error"} 4',
    'cooper_event_loop_delay_seconds{stat="p99"} 0.5',
  ].join('\n');
  const answers: Readonly<Record<string, string>> = {
    '/metrics': metrics,
    '/readyz': 'canary build: error, 3 in a row',
    '/api/v1/status': '{"breakers": [{"name": "s3 bucket", "state": "open", "since": "2026-01-01T00:00:00Z"}]}',
  };
  const facts: DoctorFacts = {
    ...machine(t, {}),
    daemonPid: 1,
    ask: (path) => Promise.resolve({ status: 200, body: answers[path] ?? '' }),
  };
  const found = new Map((await checkDaemon(facts)).map(({ id, severity, evidence }) => [id, `${severity} ${evidence}`]));
  assert.match(found.get('steps.out-of-memory') ?? '', /^warning 3 since the start, 1 of them/);
  assert.match(found.get('builds.failed') ?? '', /^warning 3 of 10/);
  assert.match(found.get('registry.requests') ?? '', /^warning 5 of 10/);
  assert.match(found.get('audit.dropped') ?? '', /^warning 4/);
  assert.match(found.get('daemon.event-loop') ?? '', /^warning p99 delay 500 ms/);
  assert.match(found.get('daemon.ready') ?? '', /^error canary/);
  assert.match(found.get('cache.breakers') ?? '', /^warning s3 bucket is open/);
});

test('every finding is in the documentation', () => {
  const page = readFileSync('docs/doctor.md', 'utf8');
  const areas = 'state|disk|cache|config|daemon|steps|builds|registry|audit|host|network|telemetry|tls|client';
  const ids = readdirSync(import.meta.dirname)
    .filter((name) => !name.endsWith('.test.ts'))
    .flatMap((name) => [
      ...readFileSync(join(import.meta.dirname, name), 'utf8').matchAll(new RegExp(`'((?:${areas})\\.[a-z-]+)'`, 'g')),
    ])
    .map(([, id]) => id ?? '');
  assert.ok(new Set(ids).size > 30);
  assert.deepEqual(
    [...new Set(ids)].filter((id) => !page.includes(`\`${id}\``)),
    [],
  );
});
