/**
 * Unpacks layer entries into a directory: an overlayfs upper directory, where whiteouts become the kernel's own marks, or a whole tree,
 * where they remove. Rules: https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md#applying-changesets
 */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { codeOf } from '../../worker/sys/sys-error.ts';
import { inUserNamespace, OPAQUE_XATTR } from '../overlay-marks.ts';
import { type TarEntry, TYPE } from '../tar/header.ts';
import type { TarHandler } from '../tar/read.ts';
import { fsPath, textOf } from '../tree/names.ts';
import { componentsOf, Rooted } from './rooted.ts';

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
const MAX_TIME_NS = 2n ** 63n - 1n;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
/** Errors that a name or a value in the layer brought about. */
const ENTRY_FAULTS = ['ENAMETOOLONG', 'EILSEQ', 'EINVAL', 'ELOOP', 'ENOTDIR', 'EISDIR', 'EPERM', 'EMLINK'];
const S_IFMT: Readonly<Record<string, number>> = { [TYPE.char]: 0o020000, [TYPE.block]: 0o060000, [TYPE.fifo]: 0o010000 };

export interface TreeWriterOptions {
  /** Byte string. */
  readonly root: string;
  readonly form: 'overlay' | 'whole';
  /** False for the lowest layer, whose whiteouts have nothing to hide. */
  readonly hasLower: boolean;
  /** False for an archive that is no layer: names that begin with `.wh.` are then names like others. */
  readonly whiteouts?: false;
}
/** What can only be settled once the layers below are there. */
export interface Unsettled {
  /** Directories that entries lie in but the layer does not describe: they look like those below. Byte strings. */
  readonly implicit: readonly string[];
  /** Hard links to files of layers below. */
  readonly links: readonly { readonly path: string; readonly target: string }[];
  /** Everything below the root directory is hidden. */
  readonly opaqueRoot: boolean;
  /** Whiteouts that were made; those in directories that hide or replace what is below would show up as entries. */
  readonly whiteouts: readonly string[];
}
export const needsSettling = ({ implicit, links, opaqueRoot, whiteouts }: Unsettled): boolean =>
  implicit.length > 0 || links.length > 0 || opaqueRoot || whiteouts.length > 0;

interface OpenFile {
  readonly fd: number;
  readonly entry: TarEntry;
  readonly path: string;
  readonly inSetgid: boolean;
}

export class TreeWriter implements TarHandler, Disposable {
  readonly #options: TreeWriterOptions;
  readonly #sys: Sys;
  readonly #rooted: Rooted;
  readonly #umask = process.umask();
  readonly #implicit = new Set<string>();
  readonly #links: { path: string; target: string }[] = [];
  readonly #directoryTimes = new Map<string, bigint>();
  /** Whole trees only: what this layer wrote, which its own whiteouts must not remove. */
  readonly #written = new Set<string>();
  readonly #whiteouts = new Set<string>();
  #opaqueRoot = false;
  #file: OpenFile | undefined;
  entries = 0;

  constructor(options: TreeWriterOptions, sys: Sys) {
    this.#options = options;
    this.#sys = sys;
    this.#rooted = new Rooted(options.root);
  }

  entry(entry: TarEntry): void {
    this.entries += 1;
    this.#guard(entry, () => this.#apply(entry));
  }

  data(chunk: Buffer): void {
    if (this.#file === undefined) return;
    const { fd } = this.#file;
    for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
  }

  end(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    this.#guard(file.entry, () => {
      try {
        const { uid, gid, mode, xattrs } = file.entry;
        if (this.#needsOwner(file.entry, file.inSetgid)) fchownSync(file.fd, uid, gid);
        this.#setXattrs(file.path, xattrs, file.entry.type);
        if ((mode & (this.#umask | 0o7000)) !== 0) fchmodSync(file.fd, mode);
      } finally {
        closeSync(file.fd);
      }
      this.#setTime(file.path, file.entry.mtimeNs);
    });
  }

  /** Times of directories last, since every entry made in one changes them. */
  finish(): Unsettled {
    for (const [path, mtimeNs] of this.#directoryTimes) {
      if (this.#rooted.exact(path)?.isDirectory() === true) this.#setTime(path, mtimeNs); // it may have been replaced since
    }
    return { implicit: [...this.#implicit], links: this.#links, opaqueRoot: this.#opaqueRoot, whiteouts: [...this.#whiteouts] };
  }

  [Symbol.dispose](): void {
    if (this.#file !== undefined) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  #guard(entry: TarEntry, work: () => void): void {
    try {
      work();
    } catch (error) {
      const code = codeOf(error);
      if (error instanceof BuildError && error.kind !== 'internal') throw error;
      if (code === undefined || !ENTRY_FAULTS.includes(code)) throw BuildError.from(error);
      const { message } = BuildError.from(error);
      throw new BuildError(
        'invalid-input',
        `layer entry ${JSON.stringify(textOf(entry.name))}: ${message}`,
        {},
        { cause: error },
      );
    }
  }

  #apply(entry: TarEntry): void {
    const components = componentsOf(entry.name);
    const base = components.pop();
    if (base === undefined) return; // the root itself, which is not a layer's to change
    if (base.startsWith(WHITEOUT) && this.#options.whiteouts !== false) return this.#whiteout(components, base);
    const parent = this.#parent(components);
    const path = parent === '' ? base : `${parent}/${base}`;
    this.#implicit.delete(path);
    if (this.#options.form === 'whole') this.#written.add(path);
    this.#create(entry, path, this.#rooted.isSetgid(parent));
  }

  #parent(components: readonly string[]): string {
    return this.#rooted.directory(components, (relative) => this.#makeImplicit(relative)) as string;
  }

  #makeImplicit(relative: string): void {
    mkdirSync(this.#rooted.host(relative), 0o755);
    if ((0o755 & this.#umask) !== 0) chmodSync(this.#rooted.host(relative), 0o755);
    this.#rooted.remember(relative, 0o755);
    this.#implicit.add(relative);
    if (this.#options.form === 'whole') this.#written.add(relative);
  }

  #create(entry: TarEntry, path: string, inSetgid: boolean): void {
    switch (entry.type) {
      case TYPE.directory:
        return this.#directory(entry, path, inSetgid);
      case TYPE.file: {
        const fd = this.#replacing(path, () => openSync(this.#rooted.host(path), CREATE, entry.mode));
        this.#file = { fd, entry, path, inSetgid };
        return;
      }
      case TYPE.symlink:
        this.#replacing(path, () => symlinkSync(fsPath(entry.linkname), this.#rooted.host(path)));
        break;
      case TYPE.link:
        return this.#link(entry, path);
      case TYPE.char:
      case TYPE.block:
        if (inUserNamespace) return; // the kernel refuses, and a step's /dev is not the image's
        this.#node(entry, path);
        break;
      case TYPE.fifo:
        this.#node(entry, path);
        break;
      default:
        throw new BuildError(
          'invalid-input',
          `layer entry ${JSON.stringify(textOf(entry.name))} has the unknown type ${JSON.stringify(entry.type)}`,
        );
    }
    this.#attributes(entry, path, true);
  }

  #node(entry: TarEntry, path: string): void {
    const mode = (S_IFMT[entry.type] ?? 0) | entry.mode;
    this.#replacing(path, () => this.#sys.makeNode(this.#rooted.host(path), mode, entry.devMajor, entry.devMinor));
  }

  #directory(entry: TarEntry, path: string, inSetgid: boolean): void {
    const host = this.#rooted.host(path);
    try {
      mkdirSync(host, entry.mode);
      if ((entry.mode & (this.#umask | 0o7000)) !== 0 || inSetgid) this.#attributes(entry, path, true);
      else this.#attributes(entry, path, this.#needsOwner(entry, inSetgid), false);
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      const stat = this.#rooted.stat(path);
      if (stat?.isDirectory() !== true) {
        // A whiteout of the same name came first: the new directory must not show what it hides.
        const hides = this.#options.form === 'overlay' && stat?.isCharacterDevice() === true && stat.rdev === 0;
        this.#remove(path);
        mkdirSync(host, entry.mode);
        if (hides) this.#makeOpaque(path);
      }
      this.#attributes(entry, path, true);
    }
    this.#rooted.remember(path, entry.mode);
    this.#directoryTimes.set(path, entry.mtimeNs);
  }

  #link(entry: TarEntry, path: string): void {
    const components = componentsOf(entry.linkname);
    const base = components.pop();
    if (base === undefined)
      throw new BuildError('invalid-input', `layer entry ${JSON.stringify(textOf(entry.name))} is a hard link to the root`);
    const parent = this.#rooted.directory(components);
    const target = parent === undefined ? undefined : parent === '' ? base : `${parent}/${base}`;
    const stat = target === undefined ? undefined : this.#rooted.stat(target);
    if (target === undefined || stat === undefined) {
      if (!this.#options.hasLower || this.#options.form === 'whole')
        throw new BuildError(
          'invalid-input',
          `layer entry ${JSON.stringify(textOf(entry.name))} is a hard link to ${JSON.stringify(textOf(entry.linkname))}, which does not exist`,
        );
      this.#links.push({ path, target: [...components, base].join('/') });
      return;
    }
    if (target === path) return;
    this.#replacing(path, () => linkSync(this.#rooted.host(target), this.#rooted.host(path)));
    if (!stat.isSymbolicLink()) this.#attributes(entry, path, true);
  }

  /** Runs `make`; when something is there already, it is removed first. */
  #replacing<T>(path: string, make: () => T): T {
    try {
      return make();
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      this.#remove(path);
      return make();
    }
  }

  #remove(path: string): void {
    rmSync(this.#rooted.host(path), { recursive: true, force: true });
    this.#rooted.forget();
  }

  /** Owner, attributes, mode (chown clears setuid), then the time; directories get theirs at the end. */
  #attributes(entry: TarEntry, path: string, owner: boolean, mode = true): void {
    const host = this.#rooted.host(path);
    if (owner) lchownSync(host, entry.uid, entry.gid);
    this.#setXattrs(path, entry.xattrs, entry.type);
    if (mode && entry.type !== TYPE.symlink) chmodSync(host, entry.mode);
    if (entry.type !== TYPE.directory) this.#setTime(path, entry.mtimeNs);
  }

  #needsOwner({ uid, gid }: TarEntry, inSetgid: boolean): boolean {
    return uid !== 0 || gid !== 0 || inSetgid || process.getuid?.() !== 0;
  }

  /** `trusted.*` belongs to the machine, not to layers. What the file system cannot hold is left out. */
  #setXattrs(path: string, xattrs: ReadonlyMap<string, Buffer>, type: string): void {
    for (const [name, value] of xattrs) {
      if (name.startsWith('trusted.')) continue;
      try {
        this.#sys.setXattr(this.#rooted.host(path), name, value);
      } catch (error) {
        const code = codeOf(error);
        const impossible = code === 'EPERM' && name.startsWith('user.') && type !== TYPE.file && type !== TYPE.directory;
        if (code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && !impossible) throw error;
      }
    }
  }

  #setTime(path: string, mtimeNs: bigint): void {
    const bounded = mtimeNs < 0n || mtimeNs > MAX_TIME_NS ? 0n : mtimeNs;
    this.#sys.setTimes(this.#rooted.host(path), bounded, bounded);
  }

  #whiteout(components: readonly string[], base: string): void {
    const hidden = base.slice(WHITEOUT.length);
    if (base === OPAQUE) return this.#opaque(components);
    if (base.startsWith(WHITEOUT_META)) return; // bookkeeping of aufs
    if (hidden === '' || hidden === '.' || hidden === '..')
      throw new BuildError('invalid-input', `layer entry ${JSON.stringify(textOf(base))} is not a valid whiteout`);
    if (this.#options.form === 'whole') {
      const parent = this.#rooted.directory(components);
      const path = parent === '' ? hidden : `${parent}/${hidden}`;
      if (parent !== undefined && !this.#written.has(path)) this.#remove(path);
      return;
    }
    if (!this.#options.hasLower) return;
    const parent = this.#parent(components);
    const path = parent === '' ? hidden : `${parent}/${hidden}`;
    // A whiteout hides lower layers only, so what this layer has written already stays.
    const stat = this.#rooted.stat(path);
    if (stat === undefined) {
      this.#sys.makeNode(this.#rooted.host(path), 0o020000, 0, 0);
      if (parent !== '') this.#whiteouts.add(path);
    } else if (stat.isDirectory()) this.#makeOpaque(path);
  }

  #opaque(components: readonly string[]): void {
    if (this.#options.form === 'whole') {
      const dir = this.#rooted.directory(components);
      if (dir !== undefined) this.#removeUnwritten(dir);
    } else if (this.#options.hasLower) {
      const dir = this.#parent(components);
      if (dir === '') this.#opaqueRoot = true;
      else this.#makeOpaque(dir);
    }
  }

  #makeOpaque(path: string): void {
    if (this.#options.hasLower) this.#sys.setXattr(this.#rooted.host(path), OPAQUE_XATTR, Buffer.from('y'));
  }

  #removeUnwritten(dir: string): void {
    for (const name of readdirSync(this.#rooted.host(dir), { encoding: 'latin1' })) {
      const path = dir === '' ? name : `${dir}/${name}`;
      if (!this.#written.has(path)) this.#remove(path);
      else if (this.#rooted.stat(path)?.isDirectory() === true) this.#removeUnwritten(path);
    }
  }
}
