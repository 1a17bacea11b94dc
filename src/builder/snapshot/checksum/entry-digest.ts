/**
 * Digest of one directory entry: a header of its metadata, then its bytes (buildkit-wire.md 7.4). Times, names and owners' names stay
 * out, so that they never break a cache key. Device numbers are 0 for every type, as the real daemon writes them.
 */
import { createHash, hash } from 'node:crypto';
import { closeSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { BuildError } from '../../../core/errors.ts';
import type { Sys } from '../../worker/sys/ports.ts';
import { fsPath, textOf } from '../tree/names.ts';

const INLINE_BYTES = 256 * 1024;
const buffer = Buffer.allocUnsafeSlow(1024 * 1024);

/** Lowercase hex of the entry at `path` (a byte string). Directories: of their header only. */
export function entryDigest(path: string, stat: Stats, sys: Sys): string {
  const link = stat.isSymbolicLink() ? readlinkSync(fsPath(path), { encoding: 'latin1' }) : '';
  const header = headerOf(path, stat, link, sys);
  if (!stat.isFile() || stat.size === 0) return hash('sha256', header, 'hex');
  return fileDigest(path, header, stat.size);
}

function headerOf(path: string, stat: Stats, link: string, sys: Sys): Buffer {
  const mode = stat.isSymbolicLink() ? 0o777 : stat.mode & 0o7777;
  const size = stat.isFile() || stat.isSocket() ? stat.size : 0;
  const fixed = Buffer.from(
    `namemode${mode}uid${stat.uid}gid${stat.gid}size${size}typeflag${typeflagOf(stat)}linkname${link}unamegnamedevmajor0devminor0`,
    'latin1',
  );
  const names = sys.listXattr(fsPath(path)).filter(isHashed);
  if (names.length === 0) return fixed;
  const xattrs = names.sort().flatMap((name) => [Buffer.from(name), sys.getXattr(fsPath(path), name) ?? Buffer.alloc(0)]);
  return Buffer.concat([fixed, ...xattrs]);
}

/** overlayfs's own marks are no content: they are invisible through a mount. */
const isHashed = (name: string): boolean =>
  name === 'security.capability' ||
  !(name.startsWith('security.') || name.startsWith('system.') || name.startsWith('trusted.overlay.'));

function typeflagOf(stat: Stats): string {
  if (stat.isDirectory()) return '5';
  if (stat.isSymbolicLink()) return '2';
  if (stat.isCharacterDevice()) return '3';
  if (stat.isBlockDevice()) return '4';
  return stat.isFIFO() ? '6' : '0';
}

function fileDigest(path: string, header: Buffer, size: number): string {
  const fd = openSync(fsPath(path), 'r');
  try {
    if (header.length + size <= INLINE_BYTES) {
      header.copy(buffer);
      const read = readSync(fd, buffer, header.length, size + 1, 0);
      if (read !== size) throw changed(path);
      return hash('sha256', buffer.subarray(0, header.length + size), 'hex');
    }
    const incremental = createHash('sha256').update(header);
    let total = 0;
    for (let read = readSync(fd, buffer); read > 0; read = readSync(fd, buffer)) {
      incremental.update(buffer.subarray(0, read));
      total += read;
    }
    if (total !== size) throw changed(path);
    return incremental.digest('hex');
  } finally {
    closeSync(fd);
  }
}

const changed = (path: string): BuildError => new BuildError('internal', `${textOf(path)} changed while it was hashed`);
