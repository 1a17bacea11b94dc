/**
 * A layer's tar before any of it is written: every header, and which file's bytes follow it, with its place in the stream. So any part
 * of the stream can be made by any thread. It lives in shared memory; handing it to a thread copies nothing.
 */
import { type BigIntStats, readlinkSync, statSync } from 'node:fs';
import type { Sys } from '../../worker/sys/ports.ts';
import { padding, type TarEntry, TYPE } from '../tar/header.ts';
import { END, tarHeader } from '../tar/write.ts';
import { major, minor } from '../tree/copy-task.ts';
import { fsPath } from '../tree/names.ts';
import { type ChangeKind, type ChangeSource, findChanges, isLinked } from './changes.ts';

/** Rows of COLUMNS numbers: offset in the stream, header offset and length, content bytes, path offset and length. */
export interface StreamPlan {
  readonly rows: SharedArrayBuffer;
  readonly headers: SharedArrayBuffer;
  readonly paths: SharedArrayBuffer;
  /** Bytes of the whole stream. */
  readonly sizeBytes: number;
  /** Entries that are not the end mark. */
  readonly entries: number;
}
export const COLUMNS = 6;

const WHITEOUT = '.wh.';
const NO_XATTRS: ReadonlyMap<string, Buffer> = new Map();

/** The layer that turns `source.base` into `source.upper`. */
export function planLayer(source: ChangeSource, sys: Sys, aborted: () => boolean): StreamPlan {
  const planner = new LayerPlanner(source, sys);
  findChanges(source, sys, aborted, (kind, path, stat) => planner.change(kind, path, stat));
  return planner.finish();
}

/** A stream that is one file. */
export function planFile(path: string, sizeBytes: number): StreamPlan {
  const builder = new PlanBuilder();
  builder.add(Buffer.alloc(0), sizeBytes, path);
  return builder.finish();
}

/** Turns changes into entries as the real daemon does: parents first, later names of an inode as hard links. */
class LayerPlanner {
  readonly #source: ChangeSource;
  readonly #sys: Sys;
  readonly #builder = new PlanBuilder();
  /** The name under which an inode is in the layer. */
  readonly #written = new Map<bigint, string>();
  /** Unchanged names of inodes that are not in the layer so far; they follow when another name of theirs changed. */
  readonly #waiting = new Map<bigint, string[]>();
  readonly #directories = new Set<string>();

  constructor(source: ChangeSource, sys: Sys) {
    this.#source = source;
    this.#sys = sys;
  }

  finish(): StreamPlan {
    const { entries } = this.#builder;
    this.#builder.add(END, 0, '');
    return { ...this.#builder.finish(), entries };
  }

  change(kind: ChangeKind, path: string, stat: BigIntStats): void {
    if (kind === 'delete') return this.#whiteout(path);
    if (stat.isSocket()) return;
    let entry = this.#entryOf(path, stat);
    let followers: readonly string[] = [];
    if (isLinked(stat)) {
      const first = this.#written.get(stat.ino);
      if (first !== undefined) entry = { ...entry, type: TYPE.link, linkname: first, size: 0 };
      else if (kind === 'unmodified') {
        this.#waiting.set(stat.ino, [...(this.#waiting.get(stat.ino) ?? []), path]);
        return;
      } else {
        this.#written.set(stat.ino, entry.name);
        followers = this.#waiting.get(stat.ino) ?? [];
        this.#waiting.delete(stat.ino);
      }
    } else if (kind === 'unmodified') return;
    this.#parents(path);
    if (stat.isDirectory()) this.#directories.add(path);
    this.#builder.add(tarHeader(entry), entry.size, entry.size > 0 ? `${this.#source.upper}/${path}` : '');
    for (const follower of followers) {
      this.#parents(follower);
      this.#builder.add(tarHeader({ ...entry, name: follower, type: TYPE.link, linkname: entry.name, size: 0 }), 0, '');
    }
  }

  #whiteout(path: string): void {
    const slash = path.lastIndexOf('/') + 1;
    const name = `${path.slice(0, slash)}${WHITEOUT}${path.slice(slash)}`;
    this.#parents(name);
    const none = { mode: 0, uid: 0, gid: 0, size: 0, mtimeNs: 0n, linkname: '', devMajor: 0, devMinor: 0, xattrs: NO_XATTRS };
    this.#builder.add(tarHeader({ name, type: TYPE.file, ...none }), 0, '');
  }

  /** Every directory above an entry is in the layer once, however little it changed. */
  #parents(path: string): void {
    const slash = path.lastIndexOf('/');
    if (slash === -1) return;
    const parent = path.slice(0, slash);
    if (this.#directories.has(parent)) return;
    this.#directories.add(parent);
    this.change('modify', parent, statSync(fsPath(`${this.#source.upper}/${parent}`), { bigint: true }));
  }

  #entryOf(path: string, stat: BigIntStats): TarEntry {
    const source = fsPath(`${this.#source.upper}/${path}`);
    const device = stat.isCharacterDevice() || stat.isBlockDevice();
    const capability = this.#sys.getXattr(source, 'security.capability');
    return {
      name: stat.isDirectory() ? `${path}/` : path,
      type: typeOf(stat),
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: stat.isFile() ? Number(stat.size) : 0,
      mtimeNs: floorToSecond(stat.mtimeNs),
      linkname: stat.isSymbolicLink() ? readlinkSync(source, { encoding: 'latin1' }) : '',
      devMajor: device ? major(stat.rdev) : 0,
      devMinor: device ? minor(stat.rdev) : 0,
      xattrs: capability === undefined || capability.length === 0 ? NO_XATTRS : new Map([['security.capability', capability]]),
    };
  }
}

function typeOf(stat: BigIntStats): string {
  if (stat.isDirectory()) return TYPE.directory;
  if (stat.isSymbolicLink()) return TYPE.symlink;
  if (stat.isCharacterDevice()) return TYPE.char;
  if (stat.isBlockDevice()) return TYPE.block;
  return stat.isFIFO() ? TYPE.fifo : TYPE.file;
}

function floorToSecond(ns: bigint): bigint {
  const fraction = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return ns - fraction;
}

class PlanBuilder {
  #rows = new Float64Array(64 * COLUMNS);
  readonly #headers = new Bytes();
  readonly #paths = new Bytes();
  #offset = 0;
  entries = 0;

  /** `path`: the file whose first `size` bytes follow the header, a byte string. */
  add(header: Buffer, size: number, path: string): void {
    const at = this.entries * COLUMNS;
    if (at === this.#rows.length) {
      const larger = new Float64Array(this.#rows.length * 2);
      larger.set(this.#rows);
      this.#rows = larger;
    }
    const pathBytes = Buffer.from(path, 'latin1');
    this.#rows.set(
      [this.#offset, this.#headers.add(header), header.length, size, this.#paths.add(pathBytes), pathBytes.length],
      at,
    );
    this.#offset += header.length + size + (header.length === 0 ? 0 : padding(size));
    this.entries += 1;
  }

  finish(): StreamPlan {
    const rows = new SharedArrayBuffer(this.entries * COLUMNS * 8);
    new Float64Array(rows).set(this.#rows.subarray(0, this.entries * COLUMNS));
    return { rows, headers: this.#headers.shared(), paths: this.#paths.shared(), sizeBytes: this.#offset, entries: this.entries };
  }
}

/** Bytes put one after the other. */
class Bytes {
  #buffer = Buffer.allocUnsafe(1 << 16);
  #size = 0;

  /** Where they begin. */
  add(bytes: Buffer): number {
    const at = this.#size;
    if (at + bytes.length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, at + bytes.length));
      this.#buffer.copy(larger, 0, 0, at);
      this.#buffer = larger;
    }
    bytes.copy(this.#buffer, at);
    this.#size += bytes.length;
    return at;
  }

  shared(): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(this.#size);
    new Uint8Array(shared).set(this.#buffer.subarray(0, this.#size));
    return shared;
  }
}
