/** Each cause is planted for real, in files or in a daemon, and `cooper doctor` has to name it with its evidence and its fix. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { issueCertificates } from '../../src/builder/rpc/certificates.test-rig.ts';
import type { Diagnosis, Finding } from '../../src/operate/doctor/finding.ts';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, freePort, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const skipRoot = unableTo();
const skip = unableTo('buildctl', 'runc');

interface Examined extends Diagnosis {
  readonly status: number | null;
  named(id: string): Finding;
}
async function doctor(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Examined> {
  const clean = { COOPER_HOST: '', BUILDKIT_HOST: '', DOCKER_BUILDKIT: '', BUILDX_BUILDER: '', COOPER_OPS_ADDR: '', ...env };
  const { status, stdout, stderr } = await run(process.execPath, [MAIN, 'doctor', '--json', ...args], { env: clean });
  assert.ok(stdout.startsWith('{'), stderr);
  const diagnosis = JSON.parse(stdout) as Diagnosis;
  return {
    ...diagnosis,
    status,
    named: (id) => {
      const [found] = diagnosis.findings.filter((finding) => finding.id === id);
      assert.ok(found, `no ${id} in ${diagnosis.findings.map((finding) => finding.id).join(', ')}`);
      return found;
    },
  };
}

/** A state folder of a daemon that is stopped, and a configuration for it. */
async function stopped(toml = '') {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-doctor-'));
  const root = join(dir, 'root');
  mkdirSync(root);
  const config = join(dir, 'cooperd.toml');
  writeFileSync(config, toml);
  const args = ['--root', root, '--config', config, '--addr', `unix://${join(dir, 'd.sock')}`, '--stopped'];
  return {
    dir,
    root,
    config,
    args: [...args, '--offline'],
    online: args,
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

test('on a machine that can run the daemon, with nothing planted, there is no error', { skip: unableTo('runc') }, async () => {
  await using state = await stopped();
  const { status, findings, healthy, daemon } = await doctor(state.args);
  assert.deepEqual(
    findings.filter(({ severity, id }) => severity === 'error' && !id.startsWith('host.') && !id.startsWith('disk.')),
    [],
  );
  assert.deepEqual([status === 0, daemon], [healthy, { running: false }]);
  for (const { id, evidence, summary, fix, severity } of findings) {
    assert.ok(evidence !== '' && /\.$/.test(summary), id);
    assert.ok(severity === 'ok' || severity === 'info' || fix !== undefined, `${id} has no fix`);
  }
  assert.deepEqual(readdirSync(state.root), [], 'it leaves nothing behind');
});

/** A user without rights, who must be able to read this program. */
const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
const skipNobody =
  skipRoot ||
  (spawnSync('setpriv', [...NOBODY, process.execPath, '--check', MAIN]).status === 0
    ? false
    : 'another user cannot read this folder');
test('without root it looks at what a daemon without root needs, and leaves nothing behind', { skip: skipNobody }, async () => {
  await using state = await stopped();
  for (const path of [state.dir, state.root]) chownSync(path, 65534, 65534);
  const { stdout, stderr } = await run('setpriv', [...NOBODY, process.execPath, MAIN, 'doctor', '--json', ...state.args], {
    env: { HOME: state.dir, DOCKER_BUILDKIT: '' },
  });
  const { findings } = JSON.parse(stdout || stderr) as Diagnosis;
  const ids = findings.map(({ id }) => id);
  for (const id of ['host.user-namespaces', 'host.subordinate-ids', 'host.overlay', 'host.runtime', 'state.rights'])
    assert.ok(ids.includes(id), `${id} is not in ${ids.join(', ')}`);
  assert.deepEqual([ids.filter((id) => id.startsWith('doctor.')), readdirSync(state.root)], [[], []]);
});

test('a daemon that should run and does not is an error; the text says what to do', async () => {
  await using state = await stopped();
  const args = state.args.filter((arg) => arg !== '--stopped');
  const { named, status } = await doctor(args);
  assert.deepEqual([named('daemon.running').severity, named('daemon.running').cause, status], ['error', 'daemon-trouble', 1]);
  const text = await run(process.execPath, [MAIN, 'doctor', ...args]);
  assert.equal(text.status, 1);
  assert.match(text.stdout, /ERROR +daemon\.running: .*\n +seen: nobody holds .*lock\n +fix: {2}cooper daemon/);
});

const PLANTED: readonly (readonly [
  string,
  Partial<Finding>,
  (state: Awaited<ReturnType<typeof stopped>>) => Readonly<Record<string, string>> | undefined,
])[] = [
  [
    'a value that stops the start',
    { id: 'config.file', severity: 'error', cause: 'configuration-not-applied' },
    plant((s) => writeFileSync(s.config, '[worker.oci]\nmax-parallelism = "many"\n')),
  ],
  [
    'a misspelt key',
    { id: 'config.file', severity: 'warning', cause: 'configuration-not-applied' },
    plant((s) => writeFileSync(s.config, '[worker.oci]\nmax-paralelism = 4\n')),
  ],
  [
    'a state folder of another version',
    { id: 'state.layout', severity: 'error' },
    plant((s) => writeFileSync(join(s.root, 'VERSION'), '99\n')),
  ],
  [
    'a blob that rotted',
    { id: 'cache.blobs', severity: 'error', cause: 'cache-corruption' },
    plant((s) => {
      mkdirSync(join(s.root, 'content/blobs/sha256'), { recursive: true });
      writeFileSync(join(s.root, 'content/blobs/sha256', 'a'.repeat(64)), 'not what the name says');
    }),
  ],
  [
    'data that was moved aside',
    { id: 'cache.quarantine', severity: 'warning', cause: 'cache-corruption' },
    plant((s) => {
      mkdirSync(join(s.root, 'quarantine'));
      writeFileSync(join(s.root, 'quarantine', 'blob-1'), 'x');
    }),
  ],
  [
    'a store that was replaced',
    { id: 'cache.database', severity: 'warning', cause: 'cache-corruption' },
    plant((s) => writeFileSync(join(s.root, 'cooper.sqlite.corrupt-1'), 'x')),
  ],
  [
    'a runtime that is not there',
    { id: 'host.runtime', severity: 'error' },
    plant((s) => writeFileSync(s.config, '[worker.oci]\nbinary = "/nonexistent/runc"\n')),
  ],
  [
    'a cache folder that is not there',
    { id: 'cache.remote', severity: 'warning' },
    plant((s) => writeFileSync(s.config, '[[cache.blob]]\ntype = "filesystem"\npath = "/nonexistent/cache"\n')),
  ],
  [
    'a collector that is down',
    { id: 'telemetry.collector', severity: 'warning' },
    plant((s) => writeFileSync(s.config, '[cooper.otlp]\nendpoint = "http://127.0.0.1:1"\n')),
  ],
  ['an expired certificate', { id: 'tls.certificate', severity: 'error' }, plant((s) => tls(s, -1))],
  ['a certificate with a week left', { id: 'tls.certificate', severity: 'warning' }, plant((s) => tls(s, 7))],
  [
    'a key of another certificate',
    { id: 'tls.key', severity: 'error' },
    plant((s) => {
      tls(s, 30);
      writeFileSync(join(s.dir, 'key.pem'), issueCertificates('other').server.key);
    }),
  ],
  [
    'DOCKER_BUILDKIT=0',
    { id: 'client.docker-buildkit', severity: 'error', cause: 'builder-variable' },
    () => ({ DOCKER_BUILDKIT: '0' }),
  ],
  [
    'DOCKER_BUILDKIT that is no boolean',
    { id: 'client.docker-buildkit', severity: 'error', cause: 'builder-variable' },
    () => ({ DOCKER_BUILDKIT: 'yes please' }),
  ],
  [
    'two addresses for two clients',
    { id: 'client.host', severity: 'warning', cause: 'builder-variable' },
    () => ({ COOPER_HOST: 'unix:///a.sock', BUILDKIT_HOST: 'unix:///b.sock' }),
  ],
  [
    'an address that is none',
    { id: 'client.host', severity: 'error', cause: 'builder-variable' },
    () => ({ BUILDKIT_HOST: '/run/b.sock' }),
  ],
  [
    'a builder that does not exist',
    { id: 'client.buildx', severity: 'error', cause: 'builder-variable' },
    (s) => ({ BUILDX_BUILDER: 'gone', BUILDX_CONFIG: s.dir }),
  ],
];
function plant(what: (state: Awaited<ReturnType<typeof stopped>>) => void) {
  return (state: Awaited<ReturnType<typeof stopped>>): undefined => void what(state);
}
function tls(state: { readonly dir: string; readonly config: string }, days: number): void {
  const { ca, server } = issueCertificates('client', days);
  for (const [name, pem] of [
    ['ca', ca],
    ['cert', server.cert],
    ['key', server.key],
  ] as const)
    writeFileSync(join(state.dir, `${name}.pem`), pem);
  writeFileSync(
    state.config,
    `[grpc.tls]\n${['ca', 'cert', 'key'].map((name) => `${name} = "${join(state.dir, `${name}.pem`)}"`).join('\n')}\n`,
  );
}

for (const [what, expected, planted] of PLANTED) {
  test(`${what} is named: ${expected.id}`, async () => {
    await using state = await stopped();
    const env = planted(state);
    const { findings, status } = await doctor(state.args, env ?? {});
    const found = findings.filter(({ id }) => id === expected.id).find(({ severity }) => severity === expected.severity);
    assert.ok(found, JSON.stringify(findings.filter(({ id }) => id === expected.id)));
    assert.equal(found.cause, expected.cause);
    assert.ok(found.fix !== undefined && found.evidence !== '');
    if (expected.severity === 'error') assert.equal(status, 1);
  });
}

for (const [what, options, id] of [
  ['a full disk', 'size=4m', 'disk.space'],
  ['a disk without inodes', 'size=64m,nr_inodes=20', 'disk.inodes'],
] as const) {
  test(`${what} is named: ${id}`, { skip: skipRoot || (mayMount() ? false : 'mounts are not allowed here') }, async (t) => {
    await using state = await stopped();
    t.after(() => spawnSync('umount', ['-l', state.root]));
    assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', state.root]).status, 0);
    try {
      for (let n = 0; n < 100; n++)
        writeFileSync(join(state.root, `fill-${n}`), id === 'disk.space' ? Buffer.alloc(1024 * 1024) : '');
      assert.fail('the disk was not filled');
    } catch (thrown) {
      assert.equal((thrown as NodeJS.ErrnoException).code, 'ENOSPC');
    }
    const { named, status } = await doctor(state.args);
    assert.deepEqual([named(id).severity, named(id).cause, status], ['error', 'disk-space', 1]);
    spawnSync('umount', ['-l', state.root]);
  });
}
function mayMount(): boolean {
  return spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
}

test('a registry of the configuration that cannot be reached is an error, one with another clock too', async (t) => {
  const server = createServer((_, response) =>
    response.writeHead(401, { date: new Date(Date.now() - 3_600_000).toUTCString() }).end(),
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port } = server.address() as AddressInfo;
  const closed = await freePort();
  await using state = await stopped(
    `[registry."127.0.0.1:${port}"]\nhttp = true\n[registry."docker.io"]\nmirrors = ["127.0.0.1:${closed}"]\nhttp = true\n`,
  );
  const { findings, named, status } = await doctor(state.online);
  const registries = findings.filter(({ id }) => id === 'registry.reachable');
  assert.match(
    registries.find(({ severity, evidence }) => severity === 'error' && evidence.includes(`127.0.0.1:${closed}`))?.evidence ?? '',
    /ECONNREFUSED/,
  );
  assert.match(
    registries.find(({ severity }) => severity === 'ok')?.evidence ?? '',
    new RegExp(`127.0.0.1:${port} answered 401`),
  );
  assert.match(named('host.clock').evidence, /this clock is 36\d\d s ahead of 127\.0\.0\.1/);
  assert.deepEqual([named('host.clock').severity, status], ['error', 1]);
});

test('credentials in addresses of caches and collectors are not shown', async () => {
  await using state = await stopped(
    '[[cache.registry]]\ntype = "redis"\nredis-addr = "redis://user:geheim@127.0.0.1:1"\n[cooper.otlp]\nendpoint = "http://user:geheim@127.0.0.1:1"\n',
  );
  const { findings, named } = await doctor(state.args);
  assert.doesNotMatch(JSON.stringify(findings), /geheim/);
  assert.match(named('cache.remote').evidence, /^redis:\/\/\*\*\*@127\.0\.0\.1:1: .*ECONNREFUSED/);
  assert.match(named('telemetry.collector').evidence, /^http:\/\/\*\*\*@127/);
});

test('a running daemon is found by its state folder alone, and asked as it was started', { skip: skipRoot }, async () => {
  await using daemon = await TestDaemon.start({ toml: '[cooper.canary]\nenabled = false\n' });
  const where = ['--root', daemon.root, '--offline'];
  const first = await doctor(where);
  assert.deepEqual(first.daemon, { running: true, pid: daemon.pid });
  for (const id of [
    'daemon.running',
    'daemon.build-api',
    'daemon.ops',
    'daemon.ready',
    'config.file',
    'config.applied',
    'client.socket',
    'cache.blobs',
    'steps.out-of-memory',
  ])
    assert.equal(first.named(id).severity, 'ok', JSON.stringify(first.named(id)));
  assert.match(first.named('config.file').evidence, new RegExp(daemon.dir));

  // Changed on disk, not applied.
  const later = new Date(Date.now() + 60_000);
  utimesSync(join(daemon.dir, 'cooperd.toml'), later, later);
  assert.deepEqual(
    [(await doctor(where)).named('config.applied').severity, (await doctor(where)).named('config.applied').cause],
    ['warning', 'configuration-not-applied'],
  );

  // Its socket removed by somebody.
  rmSync(join(daemon.dir, 'd.sock'));
  const gone = await doctor(where);
  assert.deepEqual(
    [gone.named('client.socket').severity, gone.named('daemon.build-api').severity, gone.status],
    ['error', 'error', 1],
  );

  // Killed: the lock goes with the process, whatever its file says.
  await daemon.kill('SIGKILL');
  assert.ok(existsSync(join(daemon.root, 'lock')));
  const dead = await doctor(where);
  assert.deepEqual([dead.daemon, dead.named('daemon.running').severity], [{ running: false }, 'error']);
});

test('a daemon that hangs is named, though it holds its lock and its sockets', { skip: skipRoot }, async () => {
  await using daemon = await TestDaemon.start();
  process.kill(daemon.pid, 'SIGSTOP');
  try {
    const { named, status } = await doctor(['--root', daemon.root, '--offline']);
    assert.equal(named('daemon.running').severity, 'ok');
    assert.deepEqual([named('daemon.build-api').severity, named('daemon.ops').severity, status], ['error', 'error', 1]);
    assert.deepEqual([named('daemon.build-api').cause, named('daemon.ops').cause], ['daemon-trouble', 'daemon-trouble']);
  } finally {
    process.kill(daemon.pid, 'SIGCONT');
  }
});

test('damage in the store of a running daemon is seen in the sample, and wholly with --deep, running or stopped', {
  skip,
}, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY file /file\n', file: 'some content' });
  const image = join(daemon.dir, 'image.tar');
  const args = ['--frontend', 'dockerfile.v0', '--local', `context=${context.dir}`, '--local', `dockerfile=${context.dir}`];
  const built = await buildctl(daemon, ['build', ...args, '--output', `type=oci,dest=${image}`]);
  assert.equal(built.status, 0, built.stderr);
  const where = ['--root', daemon.root, '--offline'];
  assert.equal((await doctor([...where, '--deep'])).named('cache.store').severity, 'ok');
  const blobs = join(daemon.root, 'content/blobs/sha256');
  const [victim = ''] = readdirSync(blobs);
  const bytes = readFileSync(join(blobs, victim));
  bytes[0] = (bytes[0] ?? 0) ^ 0xff;
  writeFileSync(join(blobs, victim), bytes);
  const { named } = await doctor(where);
  assert.match(named('cache.blobs').evidence, new RegExp(`sha256:${victim.slice(0, 12)}`));
  assert.deepEqual([named('cache.blobs').severity, named('cache.blobs').cause], ['error', 'cache-corruption']);
  const deep = await doctor([...where, '--deep']);
  assert.match(deep.named('cache.store').evidence, new RegExp(victim));
  await daemon.kill('SIGTERM');
  const still = await doctor([...where, '--deep', '--stopped']);
  assert.match(still.named('cache.store').evidence, new RegExp(victim));
  assert.match(still.named('cache.store').fix ?? '', /--repair --root/);
});
