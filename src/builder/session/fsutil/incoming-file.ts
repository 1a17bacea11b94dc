/** One regular file on its way to disk: its bytes are held back, written in large pieces and hashed on the way. Synchronous. */
import type { Hash } from 'node:crypto';
import { closeSync, constants, fchmodSync, fchownSync, openSync, renameSync, unlinkSync, writeSync, writevSync } from 'node:fs';
import type { Digest } from '../../../core/digest.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { fileDigest, finishFileDigest, startFileDigest } from './entry-hash.ts';
import { permissionsOf } from './mode.ts';
import { fsPathOf, type Stat } from './packet.ts';

/** How this process makes files. */
export interface FileMaker {
  readonly sys: Sys;
  /** Bits that open(2) takes away; `0o777` when unknown, so that modes are then always set explicitly. */
  readonly umask: number;
  /** False without root rights: files stay ours, whoever should own them. */
  readonly mayChangeOwner: boolean;
  readonly uid: number;
  readonly gid: number;
  /** Whether digests are wanted. */
  readonly hash: boolean;
}

const FLAGS = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;
/** Bytes held before they are written; four files arrive at a time. */
const HELD_BYTES = 512 * 1024;

export class IncomingFile {
  readonly stat: Stat;
  readonly #maker: FileMaker;
  readonly #path: string | Buffer;
  /** Where the bytes go first when something stands at the path: it is replaced by rename. */
  readonly #writePath: string | Buffer;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #writtenBytes = 0;
  #fd = -1;
  #hash: Hash | undefined;

  /** Paths are byte strings, absolute; `temporary` undefined writes in place, where nothing may stand. */
  constructor(maker: FileMaker, stat: Stat, path: string, temporary: string | undefined) {
    this.#maker = maker;
    this.stat = stat;
    this.#path = fsPathOf(path);
    this.#writePath = temporary === undefined ? this.#path : fsPathOf(temporary);
  }

  /** Whether it holds a descriptor. */
  get isOpen(): boolean {
    return this.#fd !== -1;
  }

  /** Keeps `bytes` until they are written: they must not change. */
  write(bytes: Buffer): void {
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes >= HELD_BYTES) this.#flush();
  }

  /** Completes the file. The digest is undefined when it is not wanted, or the size is not the announced one: it changed on the way. */
  finish(): Digest | undefined {
    const small = this.#fd === -1;
    let digest: Digest | undefined;
    if (small) {
      const content = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held, this.#heldBytes);
      if (this.#maker.hash && content.length === this.stat.size) digest = fileDigest(this.stat, content);
      this.#open();
      for (let at = 0; at < content.length; ) at += writeSync(this.#fd, content, at);
    } else {
      this.#flush();
      if (this.#hash !== undefined && this.#writtenBytes === this.stat.size) digest = finishFileDigest(this.#hash);
    }
    this.#held = [];
    this.#close();
    return digest;
  }

  /** Leaves nothing of it behind. */
  abandon(): void {
    this.#held = [];
    if (this.#fd === -1) return;
    closeSync(this.#fd);
    this.#fd = -1;
    unlinkSync(this.#writePath);
  }

  #open(): void {
    this.#fd = openSync(this.#writePath, FLAGS, permissionsOf(this.stat.mode) & 0o777);
  }

  #flush(): void {
    if (this.#fd === -1) this.#open();
    if (this.#maker.hash) this.#hash ??= startFileDigest(this.stat);
    for (const piece of this.#held) this.#hash?.update(piece);
    let pieces = this.#held;
    let rest = this.#heldBytes;
    while (rest > 0) {
      const written = writevSync(this.#fd, pieces);
      rest -= written;
      if (rest > 0) pieces = [Buffer.concat(pieces).subarray(written)]; // a short write: nearly full disk, or a signal
    }
    this.#writtenBytes += this.#heldBytes;
    this.#held = [];
    this.#heldBytes = 0;
  }

  #close(): void {
    const { sys, umask, mayChangeOwner, uid, gid } = this.#maker;
    const { stat } = this;
    const permissions = permissionsOf(stat.mode);
    const owned = !mayChangeOwner || (stat.uid === uid && stat.gid === gid);
    if (!owned) fchownSync(this.#fd, stat.uid, stat.gid);
    // After the owner, which clears the set-id bits.
    if ((permissions & (umask | 0o7000)) !== 0) fchmodSync(this.#fd, permissions);
    for (const [name, value] of stat.xattrs) setXattr(sys, this.#writePath, name, value);
    closeSync(this.#fd);
    this.#fd = -1;
    sys.setTimes(this.#writePath, stat.modTime, stat.modTime);
    if (this.#writePath !== this.#path) renameSync(this.#writePath, this.#path);
  }
}

/** Attributes are a courtesy: file systems refuse some, and clients on other systems send names that mean nothing here. */
export function setXattr(sys: Sys, path: string | Buffer, name: string, value: Uint8Array): void {
  try {
    sys.setXattr(path, name, value);
  } catch {}
}
