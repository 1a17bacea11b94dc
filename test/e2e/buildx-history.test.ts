/** What the real buildx can ask a daemon afterwards: disk usage, pruning, and the history of builds. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { BuildxRig, executedSteps } from '../fixtures/buildx.ts';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { type Run, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('buildx', 'runc', 'docker-registry', 'busybox');
let rig: BuildxRig;
let context: TestContext;
/** Refs of one build that was pushed and of one that failed. */
let good = '';
let bad = '';

before(async () => {
  if (skip !== false) return;
  rig = await BuildxRig.start();
  context = await contextOf({
    Dockerfile: `FROM ${rig.base}\nCOPY note /\nRUN echo worked && cat /note > /copy\n`,
    'Bad.Dockerfile': `FROM ${rig.base}\nRUN echo trying && exit 5\n`,
    note: 'noted\n',
  });
  await rig.build(['--push', '-t', `${rig.registry.host}/kept:1`, context.dir]);
  await rig.build(['-f', join(context.dir, 'Bad.Dockerfile'), context.dir]);
  [bad = '', good = ''] = await refs();
});
after(async () => {
  await context?.[Symbol.asyncDispose]();
  await rig?.[Symbol.asyncDispose]();
});

/** Refs of all builds, the newest first. */
async function refs(): Promise<string[]> {
  const { stdout } = await history('ls', '--no-trunc', '--format', '{{.Ref}}');
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((ref) => ref.split('/').at(-1) ?? '');
}
const history = (...args: string[]): Promise<Run> => rig.buildx(['history', ...args]);

test('history ls shows both builds, the newest first, and can filter', { skip }, async () => {
  assert.equal((await refs()).length, 2);
  const { stdout } = await history('ls');
  assert.match(stdout, /Completed/);
  assert.match(stdout, /Error/);
  const failed = await history('ls', '--filter', 'status=error', '--format', '{{.Ref}}');
  assert.match(failed.stdout, new RegExp(bad));
  assert.doesNotMatch(failed.stdout, new RegExp(good));
});

test('history inspect tells steps, context and attachments of a good build', { skip }, async () => {
  const { status, stdout, stderr } = await history('inspect', '--format', 'json', good);
  assert.equal(status, 0, stderr);
  const record = JSON.parse(stdout) as Record<string, unknown> & { Attachments: { Digest: string; Type: string }[] };
  assert.equal(record.Status, 'completed');
  assert.equal(record.NumCompletedSteps, record.NumTotalSteps);
  const manifest = record.Attachments.find(({ Type }) => Type === 'application/vnd.oci.image.manifest.v1+json');
  assert.match(manifest?.Digest ?? '', /^sha256:/);
  const attachment = await history('inspect', 'attachment', good, manifest?.Digest ?? '');
  assert.equal(attachment.status, 0, attachment.stderr);
  assert.equal(JSON.parse(attachment.stdout).schemaVersion, 2);
});

test('history inspect tells error, line and log of a failed build', { skip }, async () => {
  const { stdout } = await history('inspect', bad);
  assert.match(
    stdout,
    /Error:\s+Unknown process "\/bin\/sh -c echo trying && exit 5" did not complete successfully: exit code: 5/,
  );
  assert.match(stdout, / {3}2 \| >>> RUN echo trying && exit 5/);
  assert.match(stdout, /^> trying$/m);
});

test('history logs replays the progress, of the last build and of one by name', { skip }, async () => {
  const last = await history('logs', '--progress', 'plain');
  assert.match(last.stdout + last.stderr, /^#\d+ \d+\.\d+ trying$/m);
  const named = await history('logs', '--progress', 'plain', good);
  assert.match(named.stdout + named.stderr, /^#\d+ \d+\.\d+ worked$/m);
});

test('history export writes an archive, history trace a document of spans', { skip }, async () => {
  const file = join(await rig.folder(), 'build.dockerbuild');
  const exported = await history('export', '-o', file, good);
  assert.equal(exported.status, 0, exported.stderr);
  assert.ok(existsSync(file) && statSync(file).size > 1000);
  const traced = await history('trace', good);
  assert.equal(traced.status, 0, traced.stderr);
  const { data } = JSON.parse(traced.stdout) as { data: { spans: { operationName: string }[] }[] };
  assert.ok(
    data[0]?.spans.some(({ operationName }) => operationName.includes('RUN echo worked')),
    'the step is a span',
  );
});

test('history rm removes one, and then all', { skip }, async () => {
  assert.equal((await history('rm', good)).status, 0);
  assert.deepEqual(await refs(), [bad]);
  assert.equal((await history('rm', '--all')).status, 0);
  assert.deepEqual(await refs(), []);
  const gone = await history('inspect', bad);
  assert.equal(gone.status, 1);
  assert.match(gone.stderr, /no record found for ref/);
});

test('du lists records by filter, prune removes what it says, and the next build runs again', { skip }, async () => {
  const all = await rig.buildx(['du', '--verbose']);
  assert.equal(all.status, 0, all.stderr);
  assert.match(all.stdout, /Description:\s+mount \/ from exec \/bin\/sh -c echo worked/);
  const local = await rig.buildx(['du', '--verbose', '--filter', 'type=source.local']);
  assert.match(local.stdout, /Type:\s+source\.local/);
  assert.doesNotMatch(local.stdout, /Type:\s+regular/);
  assert.deepEqual(executedSteps((await rig.build([context.dir])).stderr), []);
  const some = await rig.buildx(['prune', '--force', '--filter', 'type=source.local']);
  assert.match(some.stdout, /Total:\s+[\d.]+/);
  assert.deepEqual(executedSteps((await rig.build([context.dir])).stderr), [], 'steps are still cached');
  const pruned = await rig.buildx(['prune', '--force', '--all']);
  assert.equal(pruned.status, 0, pruned.stderr);
  assert.match((await rig.buildx(['du'])).stdout, /Total:\s+0B/);
  assert.equal(executedSteps((await rig.build([context.dir])).stderr).length, 2);
});
