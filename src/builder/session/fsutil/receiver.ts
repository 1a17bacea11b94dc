/**
 * The receiving end of a transfer: packets in, a directory made equal to the listing. Everything here is synchronous, so each packet is
 * dealt with before the next one is looked at and the peer's flow control bounds what is in memory; for worker threads.
 *
 * The listing and the destination are merged as two sorted sequences. What the destination has and the listing does not is removed
 * (unless merging), what differs is replaced, and only the bytes of regular files that differ are requested (buildkit-wire.md 4.5).
 * Hard links are made last, when the files they name are complete; then the times of directories are set.
 *
 * Nothing is ever written through a symlink: an entry's parents have been listed as directories, and whatever else stood in their place
 * has been replaced by a real directory before the entry is looked at; files are created with O_EXCL and renamed over what was there.
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';
import type { Digest } from '../../../core/digest.ts';
import { BuildError, GRPC } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { codeOf } from '../../worker/sys/sys-error.ts';
import { type FileMaker, IncomingFile, setXattr } from './incoming-file.ts';
import { isDevice, isDirectory, isPipe, isRegular, isSymlink, nodeModeOf, permissionsOf } from './mode.ts';
import { comparePaths, ListingValidator } from './order.ts';
import {
  byteStringOf,
  encodeRequestPacket,
  FIN_PACKET,
  fsPathOf,
  messageOf,
  PACKET,
  type Packet,
  type Stat,
  textOf,
} from './packet.ts';
import { statOf, walk } from './walk.ts';

export interface ReceiverOptions {
  /** An existing directory. */
  readonly destination: string;
  /** `none` requests every regular file; `metadata` only those whose stat differs. */
  readonly differ: 'none' | 'metadata';
  /** True keeps what the sender does not have, and requests everything it has. */
  readonly merge: boolean;
  /** Whose files these become: root's, this process's own, or whoever the sender says. Without root rights they are our own in any case. */
  readonly owner: 'root' | 'self' | 'sender';
  readonly sys: Sys;
  /** The digest of a regular file that has arrived whole (buildkit-wire.md 7.4). Without it nothing is hashed. */
  readonly onDigest?: (path: string, digest: Digest) => void;
  /** A hard link was made: `path` has the digest of `target`, if that has one. Comes after all digests. */
  readonly onLink?: (path: string, target: string) => void;
}

/** Files open at once. Senders serve four at a time; a hostile one must not eat our descriptors. */
const MAX_OPEN_FILES = 128;

/** listing ─end of STATs─► listed ─last byte here─► finished (FIN sent) ─FIN─► complete */
type State = 'listing' | 'listed' | 'finished' | 'complete';

export class Receiver implements Disposable {
  readonly #options: ReceiverOptions;
  readonly #send: (packet: Buffer) => void;
  readonly #root: string;
  readonly #maker: FileMaker;
  readonly #owner: { readonly uid: number; readonly gid: number } | undefined;
  readonly #validator = new ListingValidator();
  readonly #existing: Existing;
  /** Requested files that have not arrived, by position in the listing. */
  readonly #wanted = new Map<number, IncomingFile>();
  #openFiles = 0;
  readonly #links: Stat[] = [];
  readonly #directories: { readonly path: string; readonly modTime: bigint; readonly exact: boolean }[] = [];
  /** Directories whose times our own work has changed. */
  readonly #touched = new Set<string>();
  /** Regular files that become new inodes, so that links to them have to be made again. */
  readonly #replaced = new Set<string>();
  readonly #random = randomBytes(6).toString('hex');
  #state: State = 'listing';
  #nextId = 0;
  #changed = 0;

  /** `send` queues a packet for the sender. */
  constructor(options: ReceiverOptions, send: (packet: Buffer) => void) {
    this.#options = options;
    this.#send = send;
    this.#root = byteStringOf(options.destination);
    this.#existing = options.merge ? new Untouched(this.#root) : new Replaced(this.#root, (stat) => this.#removed(stat));
    this.#maker = {
      sys: options.sys,
      umask: currentUmask(),
      mayChangeOwner: process.geteuid?.() === 0,
      uid: process.geteuid?.() ?? 0,
      gid: process.getegid?.() ?? 0,
      hash: options.onDigest !== undefined,
    };
    const { uid, gid } = this.#maker;
    this.#owner = options.owner === 'sender' ? undefined : options.owner === 'root' ? { uid: 0, gid: 0 } : { uid, gid };
  }

  /** Entries in the listing so far, and paths written or removed. */
  get counts(): { readonly files: number; readonly changed: number } {
    return { files: this.#nextId, changed: this.#changed };
  }
  /** True once the sender has confirmed the end; what still arrives means nothing. */
  get complete(): boolean {
    return this.#state === 'complete';
  }

  /** @throws BuildError: `invalid-input` for a broken or hostile sender and for its ERR, `exhausted` when the disk is full. */
  receive(packet: Packet): void {
    switch (packet.type) {
      case PACKET.STAT:
        if (packet.stat === undefined) this.#endListing();
        else this.#list(packet.stat);
        return;
      case PACKET.DATA:
        this.#take(packet.id, packet.data);
        return;
      case PACKET.FIN:
        if (this.#state !== 'finished') throw violation('it ended the transfer before the receiver did');
        this.#state = 'complete';
        return;
      case PACKET.ERR:
        throw new BuildError('invalid-input', `error from sender: ${messageOf(packet)}`, { grpcCode: GRPC.UNKNOWN });
      case PACKET.REQ:
        throw violation('it requested a file from the receiver');
      // Packets that a later version may add are none of our business.
    }
  }

  /** Closes and removes what is half written; without effect after a complete transfer. */
  [Symbol.dispose](): void {
    for (const file of this.#wanted.values()) {
      try {
        file.abandon();
      } catch {} // the transfer has failed already; the next one removes what is left
    }
    this.#wanted.clear();
  }

  #list(sent: Stat): void {
    if (this.#state !== 'listing') throw violation('it listed a file after the end of its listing');
    const id = this.#nextId++;
    this.#validator.check(sent);
    let stat = this.#owner === undefined ? sent : { ...sent, ...this.#owner };
    if (stat.xattrs.length > 0) stat = { ...stat, xattrs: stat.xattrs.filter(([name]) => isSafeXattr(name)) };
    onDisk(stat.path, () => {
      const before = this.#existing.at(stat.path);
      if (isDirectory(stat.mode)) this.#makeDirectory(stat, before);
      else if (before === undefined || !this.#isSame(before, stat)) this.#replace(id, stat, before);
    });
  }

  #endListing(): void {
    if (this.#state !== 'listing') throw violation('it ended its listing twice');
    this.#state = 'listed';
    onDisk('', () => this.#existing.end());
    this.#finishIfDone();
  }

  #makeDirectory(stat: Stat, before: Stat | undefined): void {
    const path = this.#absolute(stat.path);
    const present = before !== undefined && isDirectory(before.mode);
    const same = present && this.#sameMetadata(before, stat);
    this.#directories.push({ path: stat.path, modTime: stat.modTime, exact: same && before.modTime === stat.modTime });
    if (same) return;
    this.#changed += 1;
    if (!present) {
      if (before !== undefined) this.#removeTree(before);
      this.#touched.add(parentOf(stat.path));
      mkdirSync(path, permissionsOf(stat.mode) & 0o777);
    }
    this.#setMetadata(path, stat, present);
  }

  /** Everything but directories. */
  #replace(id: number, stat: Stat, before: Stat | undefined): void {
    this.#changed += 1;
    this.#touched.add(parentOf(stat.path));
    if (isRegular(stat.mode) && stat.linkname === '') {
      if (before !== undefined && isDirectory(before.mode)) this.#removeTree(before);
      const inTheWay = before !== undefined && !isDirectory(before.mode);
      const temporary = inTheWay ? `${this.#root}/${this.#temporaryIn(parentOf(stat.path))}` : undefined;
      this.#replaced.add(stat.path);
      this.#wanted.set(id, new IncomingFile(this.#maker, stat, `${this.#root}/${stat.path}`, temporary));
      this.#send(encodeRequestPacket(id));
      return;
    }
    if (before !== undefined) this.#removeTree(before);
    if (isRegular(stat.mode)) this.#links.push(stat);
    else this.#makeSpecial(stat);
  }

  #makeSpecial(stat: Stat): void {
    const path = this.#absolute(stat.path);
    if (isSymlink(stat.mode)) symlinkSync(fsPathOf(stat.linkname), path);
    else if (isDevice(stat.mode) || isPipe(stat.mode)) {
      this.#options.sys.makeNode(path, nodeModeOf(stat.mode), stat.devMajor, stat.devMinor);
    } else
      throw new BuildError(
        'invalid-input',
        `refused file transfer: ${quoted(stat.path)} has mode ${stat.mode}, no kind of file we know`,
      );
    this.#setMetadata(path, stat, false);
    this.#options.sys.setTimes(path, stat.modTime, stat.modTime);
  }

  /** `kept`: the path was there before, with a mode of its own. */
  #setMetadata(path: string | Buffer, stat: Stat, kept: boolean): void {
    const { mayChangeOwner, uid, gid, umask } = this.#maker;
    const { sys } = this.#options;
    const permissions = permissionsOf(stat.mode);
    if (mayChangeOwner && (kept || stat.uid !== uid || stat.gid !== gid)) sys.changeOwner(path, stat.uid, stat.gid);
    if (!isSymlink(stat.mode) && (kept || (permissions & (umask | 0o7000)) !== 0)) chmodSync(path, permissions);
    for (const [name, value] of stat.xattrs) setXattr(sys, path, name, value);
  }

  #take(id: number, data: readonly Buffer[]): void {
    const file = this.#wanted.get(id);
    if (file === undefined) throw violation(`it sent data of file ${id}, which was not requested`);
    onDisk(file.stat.path, () => {
      const wasOpen = file.isOpen;
      if (data.length > 0) {
        for (const piece of data) file.write(piece);
        if (file.isOpen && !wasOpen && ++this.#openFiles > MAX_OPEN_FILES)
          throw violation(`it sends more than ${MAX_OPEN_FILES} files at once`);
        return;
      }
      const digest = file.finish();
      if (wasOpen) this.#openFiles -= 1;
      this.#wanted.delete(id);
      if (digest !== undefined) this.#options.onDigest?.(textOf(file.stat.path), digest);
    });
    if (data.length === 0) this.#finishIfDone();
  }

  #finishIfDone(): void {
    if (this.#state !== 'listed' || this.#wanted.size > 0) return;
    for (const link of this.#links) {
      onDisk(link.path, () => linkSync(this.#absolute(link.linkname), this.#absolute(link.path)));
      this.#options.onLink?.(textOf(link.path), textOf(link.linkname));
    }
    for (const { path, modTime, exact } of this.#directories) {
      if (exact && !this.#touched.has(path)) continue;
      onDisk(path, () => this.#options.sys.setTimes(this.#absolute(path), modTime, modTime));
    }
    this.#state = 'finished';
    this.#send(FIN_PACKET);
  }

  #isSame(before: Stat, stat: Stat): boolean {
    if (this.#options.merge || (this.#options.differ === 'none' && isRegular(stat.mode))) return false;
    if (before.modTime !== stat.modTime || !this.#sameMetadata(before, stat) || before.linkname !== stat.linkname) return false;
    // Every name of a file shares its size, and a sender may leave it out at all but the first.
    if (isRegular(stat.mode) && stat.linkname !== '') return !this.#replaced.has(stat.linkname);
    return before.size === stat.size;
  }

  #sameMetadata(before: Stat, stat: Stat): boolean {
    const mode = isSymlink(stat.mode) && isSymlink(before.mode) ? before.mode : stat.mode; // symlinks have no mode on Linux
    if (before.mode !== mode || before.devMajor !== stat.devMajor || before.devMinor !== stat.devMinor) return false;
    return !this.#maker.mayChangeOwner || (before.uid === stat.uid && before.gid === stat.gid);
  }

  /** Something the listing does not have. */
  #removed(stat: Stat): void {
    this.#changed += 1;
    this.#touched.add(parentOf(stat.path));
    onDisk(stat.path, () => this.#removeTree(stat));
  }

  #removeTree(stat: Stat): void {
    rmSync(this.#absolute(stat.path), { recursive: true, force: true });
    if (isDirectory(stat.mode)) this.#existing.gone = stat.path;
  }

  /** A name that no listing holds, but by malice; then the file is not made. */
  #temporaryIn(dir: string): string {
    return `${dir === '' ? '' : `${dir}/`}.cooper-${this.#random}-${this.#nextId}.tmp`;
  }

  #absolute(path: string): string | Buffer {
    return fsPathOf(`${this.#root}/${path}`);
  }
}

/** What the destination holds; asked in listing order. */
interface Existing {
  at(path: string): Stat | undefined;
  /** The listing is complete. */
  end(): void;
  /** A directory that has just been removed, so that it is not looked into. */
  gone: string;
}

/** Whatever is not asked for is handed to `remove`. */
class Replaced implements Existing {
  gone = '';
  readonly #entries: Generator<Stat, void, undefined>;
  readonly #remove: (stat: Stat) => void;
  #next: Stat | undefined;
  /** The entry has been handed out. The walk goes on only when the receiver is done with it: it may be a directory that goes. */
  #taken = true;

  constructor(root: string, remove: (stat: Stat) => void) {
    this.#entries = walk(root, { enter: (stat) => stat.path !== this.gone });
    this.#remove = remove;
  }

  at(path: string): Stat | undefined {
    for (let entry = this.#peek(); entry !== undefined; entry = this.#peek()) {
      const order = comparePaths(entry.path, path);
      if (order > 0) return undefined;
      this.#taken = true;
      if (order === 0) return entry;
      this.#remove(entry);
    }
    return undefined;
  }

  end(): void {
    for (let entry = this.#peek(); entry !== undefined; entry = this.#peek()) {
      this.#taken = true;
      this.#remove(entry);
    }
  }

  #peek(): Stat | undefined {
    if (this.#taken) {
      const step = this.#entries.next();
      this.#next = step.done === true ? undefined : step.value;
      this.#taken = false;
    }
    return this.#next;
  }
}

/** Merging: what is not asked for stays. */
class Untouched implements Existing {
  gone = '';
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }
  at(path: string): Stat | undefined {
    return statOf(this.#root, path);
  }
  end(): void {}
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const quoted = (path: string): string => JSON.stringify(textOf(path));

/** Attributes of overlay mounts would change what a directory below shows. */
const isSafeXattr = (name: string): boolean => !/^(?:trusted|user)\.overlay\./.test(name);

const violation = (what: string): BuildError =>
  new BuildError('invalid-input', `broken file transfer: the sender is at fault, ${what}`);

/** Runs file calls for an entry; their failures name the entry, not where the daemon keeps it. */
function onDisk(path: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (error instanceof BuildError && codeOf(error) === undefined) throw error;
    const code = codeOf(error) ?? '';
    const kind =
      code === 'ENAMETOOLONG' || code === 'EINVAL' || code === 'EILSEQ' ? 'invalid-input' : BuildError.from(error).kind;
    throw new BuildError(kind, `cannot receive ${path === '' ? 'files' : quoted(path)}: ${wordsOf(code)}`, {}, { cause: error });
  }
}

/** `no space left on device` for ENOSPC. */
function wordsOf(code: string): string {
  const number = (constants.errno as Readonly<Record<string, number>>)[code];
  return number === undefined ? code || 'unknown error' : getSystemErrorMessage(-number);
}

/** Reading it through process.umask() would set it for a moment, for every thread. */
function currentUmask(): number {
  try {
    const line = /^Umask:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'));
    return line === null ? 0o777 : Number.parseInt(line[1] as string, 8);
  } catch {
    return 0o777;
  }
}
