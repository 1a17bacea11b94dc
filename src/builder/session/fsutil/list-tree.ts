/** The listing of a tree that we send: below a prefix if asked for, at one fixed time if asked for, with extended attributes. */
import type { Sys, SysPath } from '../../worker/sys/ports.ts';
import { GO_MODE } from './mode.ts';
import { byteStringOf, type Stat } from './packet.ts';
import type { SendOptions } from './sender.ts';
import { walk } from './walk.ts';

export interface ListTreeOptions {
  /** Directory the tree is put into at the receiver; empty for none. */
  readonly prefix: string;
  /** Modification time of every entry, in place of its own. */
  readonly modTimeNs?: bigint | undefined;
  readonly sys: Sys;
}

export function listTree(dir: string, options: ListTreeOptions): Pick<SendOptions, 'root' | 'listing' | 'locate'> {
  const root = byteStringOf(dir);
  const prefix = byteStringOf(options.prefix);
  const tree = walk(root, { xattrsOf: (path) => xattrsOf(options.sys, path) });
  const listing = moved(tree, prefix, options.modTimeNs);
  if (prefix === '') return { root: dir, listing };
  return { root: dir, listing, locate: (path) => `${root}/${path.slice(prefix.length + 1)}` };
}

function* moved(tree: Iterable<Stat>, prefix: string, modTimeNs: bigint | undefined): Generator<Stat, void, undefined> {
  const time = modTimeNs === undefined ? {} : { modTime: modTimeNs };
  for (let at = prefix.indexOf('/'); prefix !== ''; at = prefix.indexOf('/', at + 1)) {
    yield { ...DIRECTORY, path: at === -1 ? prefix : prefix.slice(0, at), ...time };
    if (at === -1) break;
  }
  const below = (path: string): string => (prefix === '' ? path : `${prefix}/${path}`);
  for (const stat of tree) {
    const isHardLink = stat.linkname !== '' && (stat.mode & GO_MODE.SYMLINK) === 0;
    yield { ...stat, path: below(stat.path), linkname: isHardLink ? below(stat.linkname) : stat.linkname, ...time };
  }
}

const DIRECTORY: Omit<Stat, 'path'> = {
  mode: (GO_MODE.DIR | 0o755) >>> 0,
  uid: 0,
  gid: 0,
  size: 0,
  modTime: 0n,
  linkname: '',
  devMajor: 0,
  devMinor: 0,
  xattrs: [],
};

/** Without those that belong to where the tree lies now: overlay's own, and what only macOS reads. */
export function xattrsOf(sys: Sys, path: SysPath): Stat['xattrs'] {
  const found: [string, Uint8Array][] = [];
  for (const name of sys.listXattr(path)) {
    if (/^(?:(?:trusted|user)\.overlay\.|com\.apple\.)/.test(name)) continue;
    const value = sys.getXattr(path, name);
    if (value !== undefined) found.push([byteStringOf(name), value]);
  }
  return found;
}
