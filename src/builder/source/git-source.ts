/** `git://<host/path>[#ref[:subdir]]`: the tree of a commit, by the git command (buildkit-wire.md sections 2.5 and 7.2). */
import { existsSync } from 'node:fs';
import { lstat, lutimes, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import type { Snapshot, Snapshots } from '../snapshot/ports.ts';
import type { OpContext } from '../solver/ports.ts';
import { type GitOptions, git, redactUrls } from './git-cli.ts';
import type { SourceInstance, SourceKey, SourceKind, SourceRequest } from './source.ts';

export interface GitSourceDeps {
  readonly snapshots: Snapshots;
  /** A secret of the build's clients; undefined when none has it. */
  readonly readSecret: (sessions: readonly string[], id: string, signal: AbortSignal) => Promise<Uint8Array | undefined>;
}

interface GitRequest {
  readonly remote: string;
  readonly ref: string;
  readonly subdir: string;
  readonly keepGitDir: boolean;
  readonly checksum: string;
  readonly skipSubmodules: boolean;
  readonly commitTimes: boolean;
  readonly tokenSecret: string;
  readonly headerSecret: string;
}
interface Commit {
  /** Of the commit, or of an annotated tag when the git directory is kept. */
  readonly sha: string;
  /** `refs/heads/main`, or the commit itself. */
  readonly ref: string;
  /** What the key is made of: the commit behind an annotated tag gives more hits. */
  readonly keySha: string;
}

const SHA = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const TRANSPORT = /^(?:https?|git|ssh):\/\/|^[^/@:\s]+@[^/:\s]+:/;
const UNSUPPORTED = ['git.bundle', 'git.checkoutbundle', 'git.sig.pubkey'];

export function gitSource(deps: GitSourceDeps): SourceKind {
  return { schemes: ['git'], open: (request) => new GitInstance(deps, parseRequest(request)) };
}

class GitInstance implements SourceInstance {
  readonly #deps: GitSourceDeps;
  readonly #request: GitRequest;
  #commit: Commit | undefined;

  constructor(deps: GitSourceDeps, request: GitRequest) {
    this.#deps = deps;
    this.#request = request;
  }

  async cacheKey(context: OpContext): Promise<SourceKey> {
    const { keySha, ref } = await this.#resolve(context);
    const { keepGitDir, subdir, skipSubmodules, commitTimes } = this.#request;
    const gitDir = keepGitDir ? `.git#${ref}` : '';
    const options = `${skipSubmodules ? '(skip-submodules)' : ''}${commitTimes ? '(mtime=commit)' : ''}`;
    return { key: `${keySha}${gitDir}${subdir === '' ? '' : `:${subdir}`}${options}`, done: true, pin: keySha };
  }

  async fetch(context: OpContext): Promise<Snapshot> {
    const commit = await this.#resolve(context);
    const { remote, ref } = this.#request;
    const { snapshots } = this.#deps;
    // One fetch per remote at a time; later ones find what earlier ones fetched.
    await using repository = await snapshots.openNamed(`git:${remote}`, 'locked', {
      description: `shared git repo for ${redactUrls(remote)}`,
      signal: context.signal,
    });
    const base = await this.#options(context, { gitDir: repository.dir });
    await this.#fetchCommit(commit, base);
    await using mutable = await snapshots.prepare(undefined, {
      description: `git snapshot for ${redactUrls(remote)}#${ref}`,
      recordType: 'source.git.checkout',
    });
    await this.#checkout(commit, await mutable.mount(), base);
    return await mutable.commit();
  }

  async #resolve(context: OpContext): Promise<Commit> {
    this.#commit ??= SHA.test(this.#request.ref) ? this.#pinned(this.#request.ref) : await this.#askRemote(context);
    return this.#commit;
  }

  #pinned(sha: string): Commit {
    const { checksum } = this.#request;
    if (!sha.startsWith(checksum)) throw wrongChecksum(checksum, sha);
    return { sha, ref: sha, keySha: sha };
  }

  async #askRemote(context: OpContext): Promise<Commit> {
    const { remote, checksum, keepGitDir } = this.#request;
    const options = await this.#options(context, {});
    const ref = this.#request.ref === '' ? await defaultBranch(remote, options) : this.#request.ref;
    const output = await git(['ls-remote', '--', remote, ref, `${ref}^{}`], options).catch((error: BuildError) => {
      throw error.wrap(`failed to fetch remote ${redactUrls(remote)}`);
    });
    const shas = new Map(output.split('\n').map((line) => [line.split('\t')[1] ?? '', line.split('\t')[0] ?? '']));
    const bare = ref.replace(/^refs\//, '');
    const tag = `refs/tags/${ref.replace(/^refs\/tags\//, '')}`;
    // A full ref first, then branches, then tags: the order of git checkout.
    const used = [`refs/${bare}`, `refs/heads/${ref.replace(/^refs\/heads\//, '')}`, tag].find((name) => shas.has(name));
    const sha = shas.get(used ?? '') ?? '';
    if (used === undefined || !SHA.test(sha))
      throw new BuildError('not-found', `repository does not contain ref ${ref}, output: ${JSON.stringify(output)}`);
    const behindTag = used === tag ? shas.get(`${tag}^{}`) : undefined;
    if (!sha.startsWith(checksum) && behindTag?.startsWith(checksum) !== true)
      throw wrongChecksum(checksum, [sha, behindTag].filter(Boolean).join(' or '));
    return { sha, ref: used, keySha: keepGitDir ? sha : (behindTag ?? sha) };
  }

  async #fetchCommit({ sha, ref }: Commit, options: GitOptions): Promise<void> {
    const { remote } = this.#request;
    if (!existsSync(join(options.gitDir ?? '', 'HEAD'))) {
      const format = sha.length === 64 ? ['--object-format=sha256'] : [];
      await git(['-c', 'init.defaultBranch=master', 'init', '--bare', ...format], options);
    }
    const here = await git(['cat-file', '-t', sha], { ...options, onOutput: () => undefined }).catch(() => '');
    if (here !== '') return;
    const fetch = ['fetch', '-u', '--no-tags', '--force'];
    const target = ref === sha ? sha : `${ref}:${ref}`;
    try {
      await git([...fetch, '--depth=1', '--', remote, target], options);
    } catch (error) {
      if (ref !== sha || options.signal.aborted) throw error;
      // A server may refuse single commits: then everything, as any clone would.
      await git([...fetch, '--', remote, '+refs/heads/*:refs/remotes/origin/*', '+refs/tags/*:refs/tags/*'], options);
    }
    await git(['cat-file', '-t', sha], options); // the ref may have moved since it was resolved
  }

  async #checkout(commit: Commit, destination: string, base: GitOptions): Promise<void> {
    const { remote, subdir, keepGitDir, skipSubmodules, commitTimes } = this.#request;
    const inSubdir = subdir.replaceAll('/', '') !== '';
    const work = inSubdir ? await mkdtemp(join(destination, 'checkout-')) : destination;
    let options: GitOptions = { ...base, workTree: work };
    try {
      if (keepGitDir && !inSubdir) options = await this.#cloneInto(commit, work, base);
      else await git(['checkout', '--no-overlay', commit.sha, '--', '.'], options);
      if (!skipSubmodules) await git(['submodule', 'update', '--init', '--recursive', '--depth=1'], options);
      if (commitTimes) await setTimes(work, await git(['log', '-1', '--format=%ct', commit.sha], options), options);
    } catch (error) {
      throw BuildError.from(error).wrap(`failed to checkout remote ${redactUrls(remote)}`);
    }
    if (inSubdir) await moveUp(work, subdir, destination);
  }

  /** A repository of its own in the tree, with this one commit and the address it came from. */
  async #cloneInto({ sha, ref }: Commit, work: string, base: GitOptions): Promise<GitOptions> {
    const options: GitOptions = { ...base, gitDir: join(work, '.git'), workTree: work };
    const format = sha.length === 64 ? ['--object-format=sha256'] : [];
    await git(['-c', 'init.defaultBranch=master', 'init', ...format], options);
    await git(['remote', 'add', 'origin', `file://${base.gitDir ?? ''}`], options);
    const source = ref === sha ? 'refs/cooper/checkout' : ref;
    if (ref === sha) await git(['update-ref', source, sha], base);
    await git(['fetch', '-u', '--depth=1', '--', 'origin', `${source}:${source}`], options);
    await git(['checkout', 'FETCH_HEAD'], options);
    await git(['remote', 'set-url', 'origin', redactUrls(this.#request.remote)], options);
    await git(['reflog', 'expire', '--all', '--expire=now'], options);
    await rm(join(work, '.git', 'FETCH_HEAD'), { force: true });
    return options;
  }

  async #options(context: OpContext, dirs: Pick<GitOptions, 'gitDir'>): Promise<GitOptions> {
    return {
      ...dirs,
      config: [['safe.directory', '*'], ...(await this.#authorization(context))],
      signal: context.signal,
      onOutput: (text) => context.progress.log(2, new TextEncoder().encode(text)),
    };
  }

  /** The secrets clients keep for git hosts: a whole header or a token, for this host or for any. */
  async #authorization(context: OpContext): Promise<readonly (readonly [string, string])[]> {
    const { remote, tokenSecret, headerSecret } = this.#request;
    if (!/^https?:/.test(remote)) return [];
    const { host } = new URL(remote);
    const candidates = [`.${host}`, ''].flatMap((suffix) => [
      ...(headerSecret === '' ? [] : [{ id: headerSecret + suffix, token: false }]),
      ...(tokenSecret === '' ? [] : [{ id: tokenSecret + suffix, token: true }]),
    ]);
    for (const { id, token } of candidates) {
      const bytes = await this.#deps.readSecret(context.sessions(), id, context.signal);
      if (bytes === undefined) continue;
      context.progress.used('secret', id, true);
      const text = Buffer.from(bytes).toString();
      const header = token ? `basic ${Buffer.from(`x-access-token:${text}`).toString('base64')}` : text;
      const scope = /^https:\/\/(?:www\.)?github\.com\//.exec(remote)?.[0] ?? remote; // submodules on GitHub share the token
      return [[`http.${scope}.extraheader`, `Authorization: ${header}`]];
    }
    return [];
  }
}

function parseRequest({ op: { attrs }, locator }: SourceRequest): GitRequest {
  for (const name of UNSUPPORTED)
    if ((attrs[name] ?? '') !== '') throw new BuildError('unsupported', `${name} of git sources is not supported`);
  const hash = locator.indexOf('#');
  const address = hash === -1 ? locator : locator.slice(0, hash);
  const fragment = hash === -1 ? '' : locator.slice(hash + 1);
  const colon = fragment.indexOf(':');
  const full = attrs['git.fullurl'] ?? address;
  const remote = TRANSPORT.test(full) ? full : `https://${full}`;
  const ref = colon === -1 ? fragment : fragment.slice(0, colon);
  const checksum = attrs['git.checksum'] ?? '';
  if (ref.startsWith('-') || remote.startsWith('-')) throw new BuildError('invalid-input', `invalid git ref "${ref}"`);
  if (!/^[0-9a-f]*$/i.test(checksum))
    throw new BuildError('invalid-input', `invalid checksum ${checksum} for Git URL, expected hex commit hash`);
  if (/^ssh:|^[^/:]+@/.test(remote)) throw new BuildError('unsupported', 'git sources over ssh are not supported; use https');
  return {
    remote,
    ref,
    subdir: colon === -1 ? '' : fragment.slice(colon + 1),
    keepGitDir: attrs['git.keepgitdir'] === 'true',
    checksum: checksum.toLowerCase(),
    skipSubmodules: attrs['git.skipsubmodules'] === 'true',
    commitTimes: attrs['git.mtime'] === 'commit',
    tokenSecret: attrs['git.authtokensecret'] ?? '',
    headerSecret: attrs['git.authheadersecret'] ?? '',
  };
}

async function defaultBranch(remote: string, options: GitOptions): Promise<string> {
  const output = await git(['ls-remote', '--symref', '--', remote, 'HEAD'], options).catch((error: BuildError) => {
    throw error.wrap(`error fetching default branch for repository ${redactUrls(remote)}`);
  });
  const branch = /^ref: (\S+)\tHEAD$/m.exec(output)?.[1];
  if (branch === undefined || branch.startsWith('-'))
    throw new BuildError('not-found', `could not find default branch for repository: ${redactUrls(remote)}`);
  return branch;
}

/** The entries of a directory of the checkout to the root of the snapshot. Every part of the path must be a real directory. */
async function moveUp(work: string, subdir: string, destination: string): Promise<void> {
  let dir = work;
  for (const part of subdir.split('/').filter((name) => name !== '' && name !== '.')) {
    dir = join(dir, part);
    const stat = part === '..' ? undefined : await lstat(dir).catch(() => undefined);
    if (stat?.isDirectory() !== true)
      throw new BuildError('not-found', `failed to open subdir ${subdir}: no such directory in the repository`);
  }
  for (const name of await readdir(dir)) await rename(join(dir, name), join(destination, name));
  await rm(work, { recursive: true, force: true });
}

/** Every file and directory, links included, gets the commit's time. */
async function setTimes(work: string, seconds: string, { signal }: GitOptions): Promise<void> {
  const time = Number(seconds.trim());
  for (const entry of await readdir(work, { recursive: true, withFileTypes: true })) {
    if (signal.aborted) throw BuildError.from(signal.reason);
    await lutimes(join(entry.parentPath, entry.name), time, time);
  }
  await lutimes(work, time, time);
}

const wrongChecksum = (wanted: string, got: string): BuildError =>
  new BuildError('invalid-input', `expected checksum to match ${wanted}, got ${got}`);
