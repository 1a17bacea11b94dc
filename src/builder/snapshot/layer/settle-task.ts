/** Finishes an overlay layer once those below it are there: directories it only implied, hard links into them, an opaque root. */
import {
  chmodSync,
  constants,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { OPAQUE_XATTR } from '../overlay-marks.ts';
import { bytesOf, fsPath, textOf } from '../tree/names.ts';
import { Rooted } from './rooted.ts';
import type { Unsettled } from './tree-writer.ts';

export interface SettleArgs extends Unsettled {
  readonly root: string;
  /** Trees below, the highest first. */
  readonly lowers: readonly string[];
}

export function settleLayer(args: SettleArgs): null {
  const sys = openSys();
  const root = bytesOf(args.root);
  const lowers = args.lowers.map((lower) => ({ dir: bytesOf(lower), rooted: new Rooted(bytesOf(lower)) }));
  for (const { path, target } of args.links) linkFromBelow(root, path, target, lowers, sys);
  if (args.opaqueRoot) hideRoot(root, lowers, sys);
  dropIdleWhiteouts(root, args.whiteouts, lowers, sys);
  const upper = new Rooted(root);
  for (const path of [...args.implicit].sort().reverse()) {
    if (upper.exact(path)?.isDirectory() !== true) continue; // replaced by a later entry
    const below = findDirectory(path, lowers);
    if (below !== undefined) copyAttributes(below, `${root}/${path}`, sys);
  }
  return null;
}

interface Lower {
  readonly dir: string;
  readonly rooted: Rooted;
}

/** The directory that `path` is in the layers below; undefined when it is none there, or was replaced. */
function findDirectory(path: string, lowers: readonly Lower[]): string | undefined {
  for (const { dir, rooted } of lowers) {
    const parts = path.split('/');
    const resolved = rooted.directory(parts);
    if (resolved !== undefined) return `${dir}/${resolved}`;
    if (rooted.exact(path) !== undefined) return undefined;
  }
  return undefined;
}

function copyAttributes(from: string, to: string, sys: Sys): void {
  const stat = lstatSync(fsPath(from), { bigint: true });
  sys.changeOwner(fsPath(to), Number(stat.uid), Number(stat.gid));
  for (const name of sys.listXattr(fsPath(from))) {
    if (name.startsWith('trusted.')) continue;
    const value = sys.getXattr(fsPath(from), name);
    if (value !== undefined) sys.setXattr(fsPath(to), name, value);
  }
  if (!stat.isSymbolicLink()) chmodSync(fsPath(to), Number(stat.mode) & 0o7777);
  sys.setTimes(fsPath(to), stat.mtimeNs, stat.mtimeNs);
}

/** Overlayfs has no links between layers: the file comes up with all its attributes, as copy-up does it, then gets its other name. */
function linkFromBelow(root: string, path: string, target: string, lowers: readonly Lower[], sys: Sys): void {
  const upper = new Rooted(root);
  if (parentOf(path) !== '' && upper.exact(parentOf(path))?.isDirectory() !== true) return; // a later entry replaced it
  if (upper.exact(target) === undefined) {
    const source = lowers.find(({ rooted }) => rooted.exact(target) !== undefined);
    const stat = source?.rooted.exact(target);
    if (source === undefined || stat === undefined || !(stat.isFile() || stat.isSymbolicLink())) throw noFile(path, target);
    makeParents(target, upper, lowers, sys);
    if (upper.exact(parentOf(target))?.isDirectory() !== true && parentOf(target) !== '') throw noFile(path, target);
    const [from, to] = [`${source.dir}/${target}`, `${root}/${target}`];
    if (stat.isFile()) copyFileSync(fsPath(from), fsPath(to), constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    else symlinkSync(readlinkSync(fsPath(from), { encoding: 'buffer' }), fsPath(to));
    copyAttributes(from, to, sys);
  }
  linkSync(fsPath(`${root}/${target}`), fsPath(`${root}/${path}`));
}

const noFile = (path: string, target: string): BuildError =>
  new BuildError(
    'invalid-input',
    `layer entry ${JSON.stringify(textOf(path))} is a hard link to ${JSON.stringify(textOf(target))}, which is no file below`,
  );

function makeParents(path: string, upper: Rooted, lowers: readonly Lower[], sys: Sys): void {
  upper.directory(path.split('/').slice(0, -1), (relative) => {
    mkdirSync(upper.host(relative), 0o755);
    const below = findDirectory(relative, lowers);
    if (below !== undefined) copyAttributes(below, upper.host(relative).toString('latin1'), sys);
  });
}

/** Overlayfs shows a whiteout as an entry where its directory is not merged with one below, and there it has nothing to hide. */
function dropIdleWhiteouts(root: string, whiteouts: readonly string[], lowers: readonly Lower[], sys: Sys): void {
  const merged = new Map<string, boolean>([['', true]]);
  const isMerged = (path: string): boolean => {
    const known = merged.get(path);
    if (known !== undefined) return known;
    const opaque = sys.getXattr(fsPath(`${root}/${path}`), OPAQUE_XATTR) !== undefined;
    const below = lowers.map(({ rooted }) => rooted.exact(path)).find((stat) => stat !== undefined);
    const answer = !opaque && isMerged(parentOf(path)) && below?.isDirectory() === true;
    merged.set(path, answer);
    return answer;
  };
  const upper = new Rooted(root);
  for (const path of whiteouts) {
    if (upper.exact(parentOf(path))?.isDirectory() !== true) continue; // replaced by a later entry
    const stat = isMerged(parentOf(path)) ? undefined : upper.stat(path);
    if (stat?.isCharacterDevice() === true && stat.rdev === 0) unlinkSync(fsPath(`${root}/${path}`));
  }
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** The root directory cannot be marked opaque, so each thing below gets its own whiteout. */
function hideRoot(root: string, lowers: readonly Lower[], sys: Sys): void {
  const kept = new Set(readdirSync(fsPath(root), { encoding: 'latin1' }));
  for (const { dir } of lowers) {
    for (const name of readdirSync(fsPath(dir), { encoding: 'latin1' })) {
      if (kept.has(name)) {
        if (lstatSync(fsPath(`${root}/${name}`)).isDirectory())
          sys.setXattr(fsPath(`${root}/${name}`), OPAQUE_XATTR, Buffer.from('y'));
        continue;
      }
      kept.add(name);
      sys.makeNode(fsPath(`${root}/${name}`), 0o020000, 0, 0);
    }
  }
}
