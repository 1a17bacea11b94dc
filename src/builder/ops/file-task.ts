/** The actions of a file op on one tree, in a thread: mkdir, mkfile, symlink, rm and copy with Docker's rules. */
import { chmodSync, mkdtempSync, rmdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path/posix';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import type {
  ChownOpt,
  FileAction,
  FileActionCopy,
  FileActionMkDir,
  FileActionMkFile,
  FileActionRm,
  FileActionSymlink,
  UserOpt,
} from '../proto/gen/pb/ops_pb.ts';
import { bytesOf, fsPath, textOf } from '../snapshot/tree/names.ts';
import { SharedFiles } from '../snapshot/tree/shared-files.ts';
import { resolveInRoot } from '../worker/root-path.ts';
import { openSys } from '../worker/sys/sys.ts';
import { findGroupEntry, findUserEntry } from '../worker/users.ts';
import { parseMode } from './chmod-mode.ts';
import { goCall, goCallAsync, pathError } from './go-error.ts';
import { type Owner, parentOf, TargetTree } from './target-tree.ts';
import { type CopyRules, copyInto } from './tree-copy.ts';
import { unpackArchive } from './unpack.ts';
import { expandWildcards } from './wildcards.ts';

export interface FileActionsArgs {
  /** Directory written to. */
  readonly layer: string;
  /** What the layer lies on; undefined when `layer` is the whole tree. */
  readonly base: string | undefined;
  /** Directories of the layers below, from which nothing may be linked into this one. */
  readonly below: readonly string[];
  readonly steps: readonly FileStep[];
}
export interface FileStep {
  readonly action: FileAction['action'];
  /** Root a copy reads from; undefined is an empty one. */
  readonly source: string | undefined;
  /** Root whose /etc/passwd names the owner; undefined is the tree itself, or not needed. */
  readonly userRoot: string | undefined;
  readonly groupRoot: string | undefined;
}

/** Runs the steps in order on one tree. Errors are worded as BuildKit words them, with paths as seen from inside the root. */
export async function runFileActions({ layer, base, below, steps }: FileActionsArgs, context: TaskContext): Promise<null> {
  const target = new TargetTree(layer, base, openSys());
  const shared = new SharedFiles(layer, below);
  for (const step of steps) {
    if (context.aborted()) throw cancelled();
    await goCallAsync(step.action.case ?? '', pathOf(step.action), () => runStep(target, step, base ?? layer, shared, context));
  }
  shared.save();
  return null;
}

/** What an action is about, for errors that nothing further down has worded. */
function pathOf(action: FileAction['action']): string {
  switch (action.case) {
    case 'copy':
      return action.value.dest;
    case 'symlink':
      return action.value.newpath;
    default:
      return action.value?.path ?? '';
  }
}

async function runStep(
  target: TargetTree,
  step: FileStep,
  ownRoot: string,
  shared: SharedFiles,
  context: TaskContext,
): Promise<void> {
  const { action } = step;
  const owner = (option: ChownOpt | undefined): Owner | undefined =>
    ownerOf(option, step.userRoot ?? ownRoot, step.groupRoot ?? ownRoot);
  switch (action.case) {
    case 'mkdir':
      return makeDirectory(target, action.value, owner(action.value.owner));
    case 'mkfile':
      return makeFile(target, action.value, owner(action.value.owner));
    case 'symlink':
      return makeSymlink(target, action.value, owner(action.value.owner));
    case 'rm':
      return remove(target, action.value);
    case 'copy':
      return await withSource(step.source, (source) =>
        copy(target, action.value, source, owner(action.value.owner), shared, context),
      );
    default:
      throw new BuildError('invalid-input', 'invalid file action without a kind');
  }
}

/** Scratch is an empty directory while it is read. */
async function withSource(source: string | undefined, read: (source: string) => Promise<void>): Promise<void> {
  if (source !== undefined) return await read(source);
  const empty = mkdtempSync(join(tmpdir(), 'cooper-scratch-'));
  try {
    chmodSync(empty, 0o755);
    await read(empty);
  } finally {
    rmdirSync(empty);
  }
}

function makeDirectory(target: TargetTree, action: FileActionMkDir, owner: Owner | undefined): void {
  const path = target.resolve(bytesOf(action.path));
  const mode = action.mode & 0o777;
  const attributes = { owner, timeNs: timeOf(action.timestamp) };
  if (action.makeParents) {
    target.makeDirectories(path, mode, attributes);
    return;
  }
  if (target.stat(path) !== undefined) return;
  if (target.stat(parentOf(path)) === undefined) throw pathError('mkdir', `/${textOf(path)}`, 'ENOENT');
  target.makeDirectory(path, mode);
  finish(target, path, owner, action.timestamp);
}

/** An existing file is replaced, never written into: its inode may belong to another snapshot too. Its mode and owner stay. */
function makeFile(target: TargetTree, action: FileActionMkFile, owner: Owner | undefined): void {
  const path = target.resolve(bytesOf(action.path));
  const name = `/${textOf(path)}`;
  if (target.stat(parentOf(path)) === undefined) throw pathError('open', name, 'ENOENT');
  const existing = target.stat(path);
  if (existing?.isDirectory()) throw pathError('open', name, 'EISDIR');
  target.makeWay(path, existing);
  const host = fsPath(target.host(path));
  goCall('open', name, () => writeFileSync(host, action.data, { flag: 'wx' }));
  if (existing !== undefined) target.sys.changeOwner(host, Number(existing.uid), Number(existing.gid));
  chmodSync(host, existing === undefined ? action.mode & 0o777 : Number(existing.mode) & 0o7777);
  finish(target, path, owner, action.timestamp);
}

function makeSymlink(target: TargetTree, action: FileActionSymlink, owner: Owner | undefined): void {
  const path = target.resolve(bytesOf(action.newpath));
  const call = `symlink ${action.oldpath}`;
  const name = `/${textOf(path)}`;
  if (target.stat(path) !== undefined) throw pathError(call, name, 'EEXIST');
  if (target.stat(parentOf(path)) === undefined) throw pathError(call, name, 'ENOENT');
  target.enter(parentOf(path));
  goCall(call, name, () => symlinkSync(action.oldpath, fsPath(target.host(path))));
  finish(target, path, owner, action.timestamp);
}

function remove(target: TargetTree, action: FileActionRm): void {
  const root = textOf(target.host(''));
  const paths = action.allowWildcard ? expandWildcards(root, action.path, false) : [action.path];
  for (const each of paths) {
    const path = join('/', each);
    if (basename(path) === '') throw new BuildError('invalid-input', 'rmPath: invalid empty path');
    const parent = target.resolve(bytesOf(dirname(path)));
    const inner = parent === '' ? bytesOf(basename(path)) : `${parent}/${bytesOf(basename(path))}`;
    if (target.stat(inner) === undefined) {
      if (action.allowNotFound) continue;
      throw pathError('stat', path, 'ENOENT');
    }
    target.remove(inner);
  }
}

async function copy(
  target: TargetTree,
  action: FileActionCopy,
  source: string,
  owner: Owner | undefined,
  shared: SharedFiles,
  context: TaskContext,
): Promise<void> {
  const src = keepTrailingSlash(action.src);
  const destination = keepTrailingSlash(action.dest);
  if (!action.createDestPath) {
    const parent = parentOf(target.resolve(bytesOf(action.dest)));
    if (target.stat(parent) === undefined) {
      throw pathError('lstat', `/${textOf(parent)}`, 'ENOENT').wrap(`failed to stat ${action.dest}`);
    }
  }
  const sources = action.allowWildcard ? expandWildcards(source, src, action.followSymlink) : [src];
  if (sources.length === 0 && !action.allowEmptyWildcard) throw new BuildError('not-found', `${src} not found`);
  const rules = rulesOf(action, owner);
  for (const each of sources) {
    const resolved = resolveInRoot(source, each, { followLast: action.followSymlink });
    const path = bytesOf(resolved.slice(source.length).replace(/^\//, ''));
    if (action.attemptUnpackDockerCompatibility && (await unpackArchive(resolved, destination, target, rules, context))) continue;
    copyInto({ root: source, path, name: bytesOf(basename(each)) }, destination, target, rules, shared, context);
  }
}

function rulesOf(action: FileActionCopy, owner: Owner | undefined): CopyRules {
  const { mode } = action;
  const numeric = mode === -1 ? undefined : () => mode & 0o7777;
  return {
    owner,
    timeNs: timeOf(action.timestamp),
    mode: action.modeStr === '' ? numeric : parseMode(action.modeStr),
    parentMode: action.modeStr === '' && mode !== -1 ? mode & 0o7777 : 0o755,
    dirCopyContents: action.dirCopyContents,
    alwaysReplace: action.alwaysReplaceExistingDestPaths,
    includePatterns: action.includePatterns,
    excludePatterns: action.excludePatterns,
  };
}

function finish(target: TargetTree, path: string, owner: Owner | undefined, timestamp: bigint): void {
  if (owner !== undefined) target.sys.changeOwner(fsPath(target.host(path)), owner.uid, owner.gid);
  const timeNs = timeOf(timestamp);
  if (timeNs !== undefined) target.setTime(path, timeNs);
}

/** -1 leaves times as they come. */
const timeOf = (timestamp: bigint): bigint | undefined => (timestamp === -1n ? undefined : timestamp);

/** Clean and absolute; a slash or a dot at the end says "this directory" and stays. */
function keepTrailingSlash(path: string): string {
  const clean = join('/', path);
  const trimmed = clean.length > 1 && clean.endsWith('/') ? clean.slice(0, -1) : clean;
  if (path.endsWith('/.')) return trimmed === '/' ? '/.' : `${trimmed}/.`;
  return path.endsWith('/') && trimmed !== '/' ? `${trimmed}/` : trimmed;
}

/** A user's group comes with it; a name without an entry counts as root, as BuildKit has it. Undefined: nothing is to change. */
function ownerOf(option: ChownOpt | undefined, userRoot: string, groupRoot: string): Owner | undefined {
  if (option === undefined) return undefined;
  const user = userOf(option.user, userRoot);
  const gid = groupOf(option.group, groupRoot);
  return { uid: user?.uid ?? 0, gid: gid ?? user?.gid ?? 0 };
}

function userOf(option: UserOpt | undefined, root: string): Owner | undefined {
  const user = option?.user;
  if (user?.case === 'byID') return { uid: user.value, gid: user.value };
  return user?.case === 'byName' ? findUserEntry(root, user.value.name) : undefined;
}

function groupOf(option: UserOpt | undefined, root: string): number | undefined {
  const group = option?.user;
  if (group?.case === 'byID') return group.value;
  return group?.case === 'byName' ? findGroupEntry(root, group.value.name) : undefined;
}
