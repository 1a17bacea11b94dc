/** Git sources from a real git daemon. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { missingTool } from '../../../test/fixtures/registry.ts';
import { BuildError } from '../../core/errors.ts';
import { needsRoot } from '../snapshot/snapshots.test-rig.ts';
import { redactUrls } from './git-cli.ts';
import { contextOf, openSourceRig } from './source.test-rig.ts';

const options = { ...needsRoot, ...(missingTool('git') === false ? {} : { skip: 'git is not installed' }) };

interface Repository {
  /** `git://127.0.0.1:<port>/repo` */
  readonly url: string;
  git(...args: string[]): string;
  /** Writes files, commits, and returns the commit. */
  commit(files: Readonly<Record<string, string>>): string;
}

async function serveRepository(t: TestContext): Promise<Repository> {
  const base = mkdtempSync(join(tmpdir(), 'cooper-git-'));
  const work = join(base, 'repo');
  mkdirSync(work);
  const env = {
    PATH: process.env.PATH,
    HOME: base,
    GIT_AUTHOR_NAME: 'a',
    GIT_AUTHOR_EMAIL: 'a@example.com',
    GIT_COMMITTER_NAME: 'a',
    GIT_COMMITTER_EMAIL: 'a@example.com',
    GIT_AUTHOR_DATE: '1700000000 +0000',
    GIT_COMMITTER_DATE: '1700000000 +0000',
  };
  const git = (...args: string[]): string => execFileSync('git', args, { cwd: work, env }).toString().trim();
  git('-c', 'init.defaultBranch=main', 'init', '-q');
  const port = await freePort();
  const args = ['daemon', '--reuseaddr', '--export-all', '--listen=127.0.0.1', `--port=${port}`, `--base-path=${base}`, base];
  const daemon = spawn('git', args, { env, stdio: 'ignore', detached: true });
  t.after(async () => {
    process.kill(-(daemon.pid ?? 0), 'SIGKILL'); // git starts the daemon as a child of its own
    if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit');
    rmSync(base, { recursive: true });
  });
  await listening(port);
  return {
    url: `git://127.0.0.1:${port}/repo`,
    git,
    commit(files) {
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(join(work, name, '..'), { recursive: true });
        if (text.startsWith('->')) symlinkSync(text.slice(2), join(work, name));
        else writeFileSync(join(work, name), text);
      }
      git('add', '-A');
      git('commit', '-q', '-m', 'c');
      return git('rev-parse', 'HEAD');
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
async function listening(port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const socket = createConnection(port, '127.0.0.1');
    const open = await new Promise<boolean>((resolve) => {
      socket.on('connect', () => resolve(true));
      socket.on('error', () => resolve(false));
    });
    socket.destroy();
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error('git daemon does not listen');
}

test('the default branch, a branch, a tag and a commit are found, and the key is the commit', options, async (t) => {
  const repository = await serveRepository(t);
  const first = repository.commit({ a: '1' });
  repository.git('tag', '-a', 'v1', '-m', 'tag');
  const second = repository.commit({ a: '2' });
  const rig = await openSourceRig(t);
  for (const [fragment, commit, a] of [
    ['', second, '2'],
    ['#main', second, '2'],
    ['#refs/heads/main', second, '2'],
    ['#v1', first, '1'],
    [`#${first}`, first, '1'],
  ] as const) {
    const { key, tree } = await rig.load(`git://host/repo${fragment}`, { 'git.fullurl': repository.url });
    assert.equal(key, commit, fragment);
    assert.deepEqual(tree, { a }, fragment);
  }
});

test('a branch that moved is fetched again from the kept repository', options, async (t) => {
  const repository = await serveRepository(t);
  repository.commit({ a: '1' });
  const rig = await openSourceRig(t);
  const attrs = { 'git.fullurl': repository.url };
  await rig.load('git://host/repo#main', attrs);
  repository.git('checkout', '-q', '--orphan', 'fresh');
  repository.commit({ b: '2' });
  repository.git('branch', '-f', 'main', 'fresh'); // not a descendant
  assert.deepEqual((await rig.load('git://host/repo#main', attrs)).tree, { a: '1', b: '2' });
});

test('a sub-directory becomes the root; one that is a link or missing is refused', options, async (t) => {
  const repository = await serveRepository(t);
  const commit = repository.commit({ 'x/y/file': 'deep', top: '1', evil: '->/etc' });
  const rig = await openSourceRig(t);
  const attrs = { 'git.fullurl': repository.url };
  const { key, tree } = await rig.load('git://host/repo#main:x/y', attrs);
  assert.equal(key, `${commit}:x/y`);
  assert.deepEqual(tree, { file: 'deep' });
  for (const subdir of ['evil', 'nothing', '../..'])
    await assert.rejects(
      rig.load(`git://host/repo#main:${subdir}`, attrs),
      (error: unknown) =>
        error instanceof BuildError && error.kind === 'not-found' && error.message.includes(`failed to open subdir ${subdir}`),
    );
});

test('the git directory is kept when asked, without where it was fetched from', options, async (t) => {
  const repository = await serveRepository(t);
  const commit = repository.commit({ a: '1' });
  const rig = await openSourceRig(t);
  const instance = rig.open('git://host/repo#main', { 'git.fullurl': repository.url, 'git.keepgitdir': 'true' });
  const { context } = contextOf([]);
  assert.equal((await instance.cacheKey(context, 0)).key, `${commit}.git#refs/heads/main`);
  await using snapshot = await instance.fetch(context);
  await using view = await snapshot?.view();
  const dir = view?.dir ?? '';
  const git = (...args: string[]): string =>
    execFileSync('git', ['-c', 'safe.directory=*', '-C', dir, ...args])
      .toString()
      .trim();
  assert.equal(git('rev-parse', 'HEAD'), commit);
  assert.equal(git('status', '--porcelain'), '');
  assert.equal(git('remote', 'get-url', 'origin'), repository.url);
  assert.equal(existsSync(join(dir, '.git/FETCH_HEAD')), false);
});

test('files get the time of the commit when asked', options, async (t) => {
  const repository = await serveRepository(t);
  const commit = repository.commit({ 'd/a': '1' });
  const rig = await openSourceRig(t);
  const instance = rig.open('git://host/repo', { 'git.fullurl': repository.url, 'git.mtime': 'commit' });
  const { context } = contextOf([]);
  assert.equal((await instance.cacheKey(context, 0)).key, `${commit}(mtime=commit)`);
  await using snapshot = await instance.fetch(context);
  await using view = await snapshot?.view();
  for (const name of ['d', 'd/a']) assert.equal(lstatSync(join(view?.dir ?? '', name)).mtimeMs, 1_700_000_000_000);
});

test('a checksum must be a prefix of the commit', options, async (t) => {
  const repository = await serveRepository(t);
  const commit = repository.commit({ a: '1' });
  const rig = await openSourceRig(t);
  const attrs = { 'git.fullurl': repository.url };
  await rig.load('git://host/repo#main', { ...attrs, 'git.checksum': commit.slice(0, 10) });
  await assert.rejects(
    rig.load('git://host/repo#main', { ...attrs, 'git.checksum': 'abcdef' }),
    /expected checksum to match abcdef, got/,
  );
  await assert.rejects(
    rig.load(`git://host/repo#${commit}`, { ...attrs, 'git.checksum': 'abcdef' }),
    /expected checksum to match abcdef/,
  );
});

test('a ref, repository or server that is not there is told apart', options, async (t) => {
  const repository = await serveRepository(t);
  repository.commit({ a: '1' });
  const rig = await openSourceRig(t);
  const kindOf = async (fragment: string, url: string): Promise<string> =>
    await rig.load(`git://host/repo${fragment}`, { 'git.fullurl': url }).then(
      () => 'fine',
      (error: unknown) => BuildError.from(error).kind,
    );
  assert.equal(await kindOf('#nothing', repository.url), 'not-found');
  assert.equal(await kindOf('', 'git://127.0.0.1:1/repo'), 'unavailable');
});

for (const [identifier, attrs, kind] of [
  ['git://host/r#--upload-pack=x', {}, 'invalid-input'],
  ['git://host/r', { 'git.checksum': 'zz' }, 'invalid-input'],
  ['git://host/r', { 'git.fullurl': 'ssh://git@host/r' }, 'unsupported'],
  ['git://host/r', { 'git.fullurl': 'git@host:r' }, 'unsupported'],
  ['git://host/r', { 'git.bundle': 'x' }, 'unsupported'],
] as const)
  test(`${identifier} with ${JSON.stringify(attrs)} is ${kind} when the op is made`, needsRoot, async (t) => {
    const rig = await openSourceRig(t);
    assert.throws(
      () => rig.open(identifier, attrs),
      (error: unknown) => error instanceof BuildError && error.kind === kind,
    );
  });

test('what no program can be given as an argument is the client\u2019s error', options, async (t) => {
  const rig = await openSourceRig(t);
  for (const [locator, said] of [
    ['127.0.0.1:1/a\0b', /contains a NUL byte/],
    [`127.0.0.1:1/a#${'r'.repeat(200_000)}`, /too long/],
  ] as const) {
    const { context } = contextOf([]);
    await assert.rejects(
      async () => rig.open(`git://${locator}`, {}).cacheKey(context, 0),
      (error) => error instanceof BuildError && error.kind === 'invalid-input' && said.test(error.message),
    );
  }
});

test('credentials in addresses are not shown', () => {
  assert.equal(redactUrls('from https://user:pw@host/x and git://t@h'), 'from https://xxxxx@host/x and git://xxxxx@h');
});
