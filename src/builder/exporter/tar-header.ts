/** Tar headers of what exporters send to clients: those of layers, with most fields left to their defaults. */
import { BLOCK, TYPE } from '../snapshot/tar/header.ts';
import { END, tarHeader as headerOf } from '../snapshot/tar/write.ts';

export const TAR_BLOCK = BLOCK;
/** What ends an archive. */
export const TAR_END: Uint8Array = END;

export interface TarEntry {
  /** Byte string (latin1: one char per byte), as is `linkname`. Directories end in a slash. */
  readonly name: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly sizeBytes?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeS?: number;
  readonly linkname?: string;
  readonly devMajor?: number;
  readonly devMinor?: number;
  /** Extended attributes; kept as `SCHILY.xattr.<name>`. */
  readonly xattrs?: readonly (readonly [name: string, value: Uint8Array])[];
}

/** The header blocks of an entry; its content, padded to whole blocks, follows. */
export function tarHeader(entry: TarEntry): Uint8Array {
  const { name, type, mode, sizeBytes = 0, uid = 0, gid = 0, mtimeS = 0, linkname = '', devMajor = 0, devMinor = 0 } = entry;
  return headerOf({
    name,
    type: type === 'hardlink' ? TYPE.link : TYPE[type],
    mode: mode & 0o7777,
    uid,
    gid,
    size: sizeBytes,
    mtimeNs: BigInt(mtimeS) * 1_000_000_000n,
    linkname,
    devMajor,
    devMinor,
    xattrs: new Map(entry.xattrs?.map(([key, value]) => [key, Buffer.from(value)])),
  });
}

/** Zero bytes after content of this size. */
export const paddingOf = (sizeBytes: number): number => (TAR_BLOCK - (sizeBytes % TAR_BLOCK)) % TAR_BLOCK;
