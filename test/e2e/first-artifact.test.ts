/** Time to the first artifact, counted from what CI says triggered the build, for clients that know nothing of it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { contextOf } from '../fixtures/context.ts';
import { buildDir, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('buildctl');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const minutesAgo = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString();

async function counted(
  daemon: TestDaemon,
  from: 'trigger' | 'acceptance',
): Promise<{ readonly count: number; readonly sum: number }> {
  const { body } = await daemon.ops('/metrics');
  const value = (suffix: string): number =>
    Number(new RegExp(`^cooper_first_artifact_seconds_${suffix}\\{from="${from}"\\} (\\S+)`, 'm').exec(body)?.[1]);
  return { count: value('count'), sum: value('sum') };
}

test('a build counts from its trigger, from acceptance without one, and not at all without an output', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  // Declared, so that it would be part of the key if it reached the frontend.
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nARG COOPER_TRIGGERED_AT\nCOPY f /f\n', f: 'x' });
  const output = ['--output', 'type=oci,dest=/dev/null'];
  await buildDir(daemon, context.dir);
  assert.deepEqual(await counted(daemon, 'acceptance'), { count: 0, sum: 0 }, 'a build without an exporter has no artifact');

  const plain = await buildDir(daemon, context.dir, output);
  assert.equal(plain.status, 0, plain.stderr);
  const accepted = await counted(daemon, 'acceptance');
  assert.ok(accepted.count === 1 && accepted.sum < 60, JSON.stringify(accepted));

  for (const [index, option] of ['cooper.triggered-at', 'build-arg:COOPER_TRIGGERED_AT'].entries()) {
    const done = await buildDir(daemon, context.dir, ['--opt', `${option}=${minutesAgo(20 + index)}`, ...output]);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stderr, /CACHED/, 'the trigger is part of no key');
  }
  const header = await run(process.execPath, [
    MAIN,
    'build',
    '--addr',
    daemon.address,
    '--triggered-at',
    minutesAgo(30),
    '-o',
    'type=oci,dest=/dev/null',
    context.dir,
  ]);
  assert.equal(header.status, 0, header.stderr);
  const triggered = await counted(daemon, 'trigger');
  assert.equal(triggered.count, 3);
  assert.ok(triggered.sum >= 71 * 60 && triggered.sum < 75 * 60, `${triggered.sum}`);
  const { builds } = JSON.parse((await daemon.ops('/api/v1/builds')).body) as { builds: { ref: string }[] };
  const newest = JSON.parse((await daemon.ops(`/api/v1/builds/${builds[0]?.ref}`)).body) as { trigger?: { at?: string } };
  assert.match(newest.trigger?.at ?? '', /^\d{4}-.*Z$/);
});

test('a wrong trigger time fails no build and is told in its record', { skip }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY f /f\n', f: 'x' });
  const done = await buildDir(daemon, context.dir, ['--opt', 'cooper.triggered-at=soon', '--output', 'type=oci,dest=/dev/null']);
  assert.equal(done.status, 0, done.stderr);
  assert.equal((await counted(daemon, 'acceptance')).count, 1);
  const { builds } = JSON.parse((await daemon.ops('/api/v1/builds')).body) as { builds: { ref: string }[] };
  assert.match((await daemon.ops(`/api/v1/builds/${builds[0]?.ref}`)).body, /"ignored":"trigger time \\"soon\\" is neither/);
  const { status, stderr } = await run(process.execPath, [
    MAIN,
    'build',
    '--addr',
    daemon.address,
    '--triggered-at',
    'soon',
    context.dir,
  ]);
  assert.equal(status, 2, stderr);
});

test('the build argument of an unmodified buildx is enough', { skip: unableTo('buildx') }, async () => {
  await using daemon = await TestDaemon.start();
  await using context = await contextOf({ Dockerfile: 'FROM scratch\nCOPY f /f\n', f: 'x' });
  const env = { BUILDX_CONFIG: join(daemon.dir, 'buildx') };
  await run('buildx', ['create', '--name', 'cooper', '--driver', 'remote', daemon.address], { env });
  const args = ['--build-arg', `COOPER_TRIGGERED_AT=${Math.floor(Date.now() / 1000) - 600}`, '-o', 'type=oci,dest=/dev/null'];
  const { status, stderr } = await run('buildx', ['build', '--builder', 'cooper', ...args, context.dir], { env });
  assert.equal(status, 0, stderr);
  const { count, sum } = await counted(daemon, 'trigger');
  assert.ok(count === 1 && sum >= 600 && sum < 700, `${count} ${sum}`);
});
