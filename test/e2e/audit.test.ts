/** The audit log of a real daemon, by unmodified clients: every use and act is in it, no value ever is, and a full disk costs records only. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildctl, buildDir, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';
import { busyboxRootfs, pushImage } from '../fixtures/images.ts';
import { startRegistry, type TestRegistry } from '../fixtures/registry.ts';

const skip = unableTo('buildctl', 'runc', 'docker-registry', 'busybox', 'mount');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
/** Nothing outside the client may ever hold this. */
const VALUE = 'tr0ub4dor-and-three-cats';
let registry: TestRegistry;
let base: string;

before(async () => {
  if (skip !== false) return;
  registry = await startRegistry();
  await pushImage(registry.host, 'base', 'latest', [await busyboxRootfs()]);
  base = `${registry.host}/base:latest`;
});
after(() => registry?.[Symbol.asyncDispose]());

interface Line {
  readonly type: string;
  readonly outcome: string;
  readonly what: string;
  readonly who: { readonly peer: string; readonly session?: string };
  readonly build?: string;
  readonly trace_id?: string;
}

/** What `cooper audit` prints with these flags. The daemon has stopped, so everything it had to say is there. */
async function audit(root: string, ...flags: readonly string[]): Promise<Line[]> {
  const { status, stdout, stderr } = await run(process.execPath, [MAIN, 'audit', '--root', root, '--json', ...flags]);
  assert.equal(status, 0, stderr);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);
}

test('secrets, acts and refusals are in the audit log by name, and the value is in nothing the daemon wrote', {
  skip,
}, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'cooper-root-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  await using context = await contextOf({
    Dockerfile: `FROM ${base}
RUN --mount=type=secret,id=npm-token cat /run/secrets/npm-token && cp /run/secrets/npm-token /dev/null
RUN --mount=type=secret,id=as-env,env=TOKEN echo "it is $TOKEN"
RUN --mount=type=secret,id=nobody-has-it echo optional
RUN --mount=type=ssh echo no agent is needed
RUN exit 3
`,
  });
  const secret = join(context.dir, '..', `${context.dir.split('/').at(-1)}.secret`);
  writeFileSync(secret, VALUE);
  t.after(() => rmSync(secret));
  {
    await using daemon = await TestDaemon.start({ root });
    const flags = ['--secret', `id=npm-token,src=${secret}`, '--secret', `id=as-env,src=${secret}`];
    const built = await buildDir(daemon, context.dir, flags);
    assert.equal(built.status, 1);
    assert.match(built.stderr, /exit code: 3/);
    assert.match(built.stderr, /it is \*+/, 'the step saw it');
    const refused = await buildDir(daemon, context.dir, ['--allow', 'security.insecure']);
    assert.match(refused.stderr, /security.insecure is not allowed/);
    const pruned = await buildctl(daemon, ['prune']);
    assert.equal(pruned.status, 0, pruned.stderr);
    const [ref = ''] = (await buildctl(daemon, ['debug', 'histories', '--format', '{{.Record.Ref}}'])).stdout.trim().split('\n');
    const surfaces = await Promise.all(
      ['/metrics', '/api/v1/builds', `/api/v1/builds/${ref}`, `/api/v1/builds/${ref}/trace`].map((path) => daemon.ops(path)),
    );
    for (const { body } of surfaces) assert.ok(!body.includes(VALUE));
    assert.match(surfaces[0]?.body ?? '', /cooper_audit_events_total\{type="secret"\} 3/);
    assert.match(surfaces[0]?.body ?? '', /cooper_audit_events_total\{type="denied"\} 1/);
    assert.equal((await buildctl(daemon, ['debug', 'logs', ref])).stdout.includes(VALUE), false);
    assert.equal(daemon.log().includes(VALUE), false);
    await daemon.kill('SIGTERM');
  }
  const found = await run('grep', ['-rla', VALUE, root]);
  assert.deepEqual([found.stdout, found.status], ['', 1], 'no file of the state folder holds the value');

  const records = await audit(root);
  const short = records.map(({ type, outcome, what }) => `${type} ${outcome} ${what}`);
  for (const line of [
    'secret ok npm-token',
    'secret ok as-env',
    'secret absent nobody-has-it',
    'denied refused security.insecure',
  ])
    assert.equal(short.filter((one) => one === line).length, 1, `${line} in\n${short.join('\n')}`);
  for (const line of ['ssh absent default', 'prune ok everything unused', 'drain ok 0 builds running'])
    assert.equal(short.filter((one) => one === line).length, 1, `${line} in\n${short.join('\n')}`);
  const use = records.find(({ what }) => what === 'npm-token');
  assert.match(use?.trace_id ?? '', /^[0-9a-f]{32}$/);
  assert.equal(use?.who.peer, 'unix');
  assert.ok((use?.who.session ?? '') !== '');
  const ofBuild = await audit(root, '--build', use?.build ?? 'none');
  assert.ok(ofBuild.length >= 4 && ofBuild.every(({ build }) => build === use?.build));
  assert.deepEqual(
    (await audit(root, '--type', 'prune', '--since', '1h')).map(({ type }) => type),
    ['prune'],
  );
  const table = await run(process.execPath, [MAIN, 'audit', '--root', root, '--type', 'secret']);
  assert.match(table.stdout, /^TIME +TYPE +OUTCOME +WHAT +WHO +BUILD +DETAIL\n/);
  const wrong = await run(process.execPath, [MAIN, 'audit', '--root', root, '--type', 'sceret']);
  assert.deepEqual([wrong.status, wrong.stdout], [2, '']);
  assert.match(wrong.stderr, /no such type of record/);
});

test('a full disk under the audit log costs records, which are counted, and the log says so once; builds go on', {
  skip,
}, async (t) => {
  const disk = mkdtempSync(join(tmpdir(), 'cooper-audit-disk-'));
  const mounted = await run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
  assert.equal(mounted.status, 0, mounted.stderr);
  t.after(async () => {
    assert.equal((await run('umount', [disk])).status, 0);
    rmSync(disk, { recursive: true });
  });
  await using context = await contextOf({
    Dockerfile: `FROM ${base}\nARG N\n${'RUN --mount=type=secret,id=absent echo $N\n'.repeat(4)}`,
  });
  const filler = join(disk, 'filler');
  await using daemon = await TestDaemon.start({ toml: `[cooper.audit]\ndir = "${disk}/audit"\n` });
  writeFileSync(filler, Buffer.alloc(64 * 1024 - 4096));
  const build = async (n: number): Promise<void> => {
    const { status, stderr } = await buildDir(daemon, context.dir, ['--opt', `build-arg:N=${n}`]);
    assert.equal(status, 0, stderr);
  };
  for (let n = 0; n < 4; n++) await build(n);
  const lost = async (): Promise<number> => {
    const { body } = await daemon.ops('/metrics');
    return Number(/cooper_telemetry_dropped_total\{signal="audit",reason="disk_error"\} (\d+)/.exec(body)?.[1]);
  };
  while ((await lost()) === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  const told = (what: string): number =>
    daemon
      .log()
      .split('\n')
      .filter((line) => line.includes(what)).length;
  assert.equal(told('audit log cannot be written'), 1);
  rmSync(filler);
  await build(99);
  while (told('audit log is written again') === 0) await new Promise((resolve) => setTimeout(resolve, 50));
  await daemon.kill('SIGTERM');
  const { stdout } = await run(process.execPath, [MAIN, 'audit', '--dir', join(disk, 'audit'), '--json']);
  assert.match(stdout, /"type":"gap".*"lost":\d+/);
  assert.equal(told('audit log cannot be written'), 1, 'once');
});
