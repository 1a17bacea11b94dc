/** Images made again from their records: the same, different by file, or not repeatable for a reason that is told. */
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { buildctl, buildDir, type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('runc', 'busybox', 'buildctl');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const EPOCH = ['--opt', 'build-arg:SOURCE_DATE_EPOCH=1700000000'];
const IMAGE = ['--output', 'type=image,name=localhost/app,rewrite-timestamp=true'];

async function context(...lines: readonly string[]): Promise<TestContext> {
  const made = await contextOf({
    Dockerfile: ['FROM scratch', 'COPY busybox /bin/busybox', ...lines, ''].join('\n'),
    f: 'text\n',
  });
  copyFileSync('/usr/bin/busybox', join(made.dir, 'busybox'));
  return made;
}
const sh = (script: string): string => `RUN ["/bin/busybox", "sh", "-c", ${JSON.stringify(script)}]`;
const reproduce = (daemon: TestDaemon, ref: string, ...flags: readonly string[]): Promise<Run> =>
  run(process.execPath, [MAIN, 'reproduce', '--addr', daemon.address, ...flags, ref]);

/** The ref of a build that has just succeeded. */
async function built(daemon: TestDaemon, dir: string, ...args: readonly string[]): Promise<string> {
  const done = await buildDir(daemon, dir, [...EPOCH, ...IMAGE, ...args]);
  assert.equal(done.status, 0, done.stderr);
  const { builds } = JSON.parse((await daemon.ops('/api/v1/builds')).body) as { builds: { ref: string }[] };
  return builds[0]?.ref ?? '';
}

test('an image that comes out the same is told so; one with a time in it differs in that file only', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using steady = await context('COPY f /f', sh('/bin/busybox tr a-z A-Z < /f > /g'));
  const same = await built(daemon, steady.dir);
  const first = await reproduce(daemon, same);
  assert.equal(first.status, 0, first.stdout + first.stderr + daemon.log());
  assert.match(first.stdout, /^same: sha256:/);

  await using moody = await context('COPY f /f', sh('/bin/busybox cat /proc/sys/kernel/random/uuid > /stamp; echo x > /steady'));
  const different = await built(daemon, moody.dir);
  const again = await reproduce(daemon, different, '--json');
  assert.equal(again.status, 1, again.stdout + again.stderr);
  const verdict = JSON.parse(again.stdout) as { differences: { where: string; path: string; what: string[]; was: string }[] };
  const files = verdict.differences.filter(({ where }) => where === 'layer');
  assert.deepEqual(
    files.map(({ path, what }) => [path, what]),
    [['/stamp', ['content']]],
  );
  assert.match(files[0]?.was ?? '', /^content 37 bytes, sha256:/);
  const kept = JSON.parse((await daemon.ops(`/api/v1/builds/${different}`)).body) as {
    reproducibility?: { result: string };
    recipe?: unknown;
  };
  assert.equal(kept.reproducibility?.result, 'different');
  assert.equal(kept.recipe, undefined);
  const { body } = await daemon.ops('/metrics');
  assert.match(body, /^cooper_reproducibility_checks_total\{result="same"\} 1$/m);
  assert.match(body, /^cooper_reproducibility_checks_total\{result="different"\} 1$/m);
  assert.match(body, /^cooper_builds_total\{result="success",error_class="none"\} 2$/m, 'checks are no builds of users');
});

test('a build that cannot be repeated says exactly why', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using secret = await context(`RUN --mount=type=secret,id=token ${sh('/bin/busybox true').slice(4)}`);
  secret.write('token', 'x');
  const withSecret = await built(daemon, secret.dir, '--secret', `id=token,src=${secret.dir}/token`);
  const refused = await reproduce(daemon, withSecret);
  assert.equal(refused.status, 3, refused.stdout + refused.stderr);
  assert.match(refused.stdout, /cannot be repeated: .*RUN.* uses a secret, which only the client has/);

  await using plain = await context('COPY f /f');
  const ref = await built(daemon, plain.dir);
  const pruned = await buildctl(daemon, ['prune', '--all']);
  assert.equal(pruned.status, 0, pruned.stderr);
  const gone = await reproduce(daemon, ref);
  assert.equal(gone.status, 3, gone.stdout + gone.stderr);
  assert.match(gone.stdout, /cannot be repeated: \[internal\] load build context: these files were removed from the cache since/);

  const unknown = await reproduce(daemon, 'nosuch');
  assert.equal(unknown.status, 3, unknown.stdout);
  assert.match(unknown.stderr, /there is no build nosuch/);
  const stranger = await buildctl(daemon, ['build', '--frontend', 'cooper.reproduce.v0', '--opt', 'token=x']);
  assert.match(stranger.stderr, /invalid frontend: cooper\.reproduce\.v0/);
});

test('builds are sampled when the builder is idle', { skip }, async () => {
  await using daemon = await TestDaemon.start({ toml: '[cooper.reproducibility]\nsample-percent = 100\n' });
  await using steady = await context('COPY f /f');
  await built(daemon, steady.dir);
  for (const giveUp = Date.now() + 30_000; Date.now() < giveUp; ) {
    if (/^cooper_reproducibility_checks_total\{result="same"\} 1$/m.test((await daemon.ops('/metrics')).body)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`no check in 30 s: ${daemon.log()}`);
});
