/**
 * Copies a tree in a thread, keeping owners, modes, times to the nanosecond, extended attributes, devices and hard links. Files are
 * copied (reflinks where the file system has them) or hard-linked to the originals.
 */
import {
  type BigIntStats,
  chmodSync,
  constants,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import type { Sys, SysPath } from '../../worker/sys/ports.ts';
import { openSys } from '../../worker/sys/sys.ts';
import { codeOf } from '../../worker/sys/sys-error.ts';
import { bytesOf, fsPath } from './names.ts';

export interface CopyTreeArgs {
  readonly from: string;
  /** An existing empty directory. */
  readonly to: string;
  /** `link`: both trees share the files, so neither may write into one. */
  readonly files: 'copy' | 'link';
}

export function copyTree(args: CopyTreeArgs, context: TaskContext): null {
  new TreeCopier(args.files, context).directory(bytesOf(args.from), bytesOf(args.to));
  return null;
}

/** Called with every entry before it is copied, directories before what is in them; path relative to the tree, a byte string. */
export type OnEntry = (path: string, stat: BigIntStats) => void;

export class TreeCopier {
  readonly #files: 'copy' | 'link';
  readonly #context: TaskContext;
  readonly #onEntry: OnEntry | undefined;
  readonly #sys: Sys = openSys();
  /** First copy of each inode that has several names. */
  readonly #seen = new Map<string, string>();

  constructor(files: 'copy' | 'link', context: TaskContext, onEntry?: OnEntry) {
    this.#files = files;
    this.#context = context;
    this.#onEntry = onEntry;
  }

  /** Copies the content of directory `from` into the existing directory `to`, and its attributes. */
  directory(from: string, to: string, relative = ''): void {
    if (this.#context.aborted()) throw cancelled();
    for (const name of readdirSync(fsPath(from), { encoding: 'latin1' })) {
      this.#entry(`${from}/${name}`, `${to}/${name}`, relative === '' ? name : `${relative}/${name}`);
    }
    this.#attributes(from, to, lstatSync(fsPath(from), { bigint: true }));
  }

  #entry(from: string, to: string, relative: string): void {
    const stat = lstatSync(fsPath(from), { bigint: true });
    this.#onEntry?.(relative, stat);
    if (stat.isDirectory()) {
      mkdirSync(fsPath(to));
      this.directory(from, to, relative);
      return;
    }
    if (stat.isFile() && this.#files === 'link' && tryLink(from, to)) return;
    if (stat.nlink > 1n) {
      const first = this.#seen.get(`${stat.dev}:${stat.ino}`);
      if (first !== undefined) return linkSync(fsPath(first), fsPath(to));
      this.#seen.set(`${stat.dev}:${stat.ino}`, to);
    }
    if (stat.isFile()) copyFileSync(fsPath(from), fsPath(to), constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    else if (stat.isSymbolicLink()) symlinkSync(readlinkSync(fsPath(from), { encoding: 'buffer' }), fsPath(to));
    else if (stat.isSocket()) return;
    else this.#sys.makeNode(fsPath(to), Number(stat.mode), major(stat.rdev), minor(stat.rdev));
    this.#attributes(from, to, stat);
  }

  /** The mode after the owner, since chown clears setuid; times last. */
  #attributes(from: string, to: string, stat: BigIntStats): void {
    const target: SysPath = fsPath(to);
    this.#sys.changeOwner(target, Number(stat.uid), Number(stat.gid));
    for (const name of this.#sys.listXattr(fsPath(from))) {
      const value = this.#sys.getXattr(fsPath(from), name);
      if (value !== undefined) this.#sys.setXattr(target, name, value);
    }
    if (!stat.isSymbolicLink()) chmodSync(target, Number(stat.mode) & 0o7777);
    this.#sys.setTimes(target, stat.atimeNs, stat.mtimeNs);
  }
}

/** False when the inode has as many names as the file system allows (65 000 on ext4): then it is copied. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(fsPath(from), fsPath(to));
    return true;
  } catch (error) {
    if (codeOf(error) !== 'EMLINK') throw error;
    return false;
  }
}

/** gnu_dev_major and gnu_dev_minor. */
export const major = (rdev: bigint): number => Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n));
export const minor = (rdev: bigint): number => Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n));
