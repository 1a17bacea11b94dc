/** The 512-byte tar header: where its fields are, and what they may hold (POSIX.1-2017 pax, ustar interchange format). */
export const BLOCK = 512;

/** Offset and length of each field. */
export const FIELD = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  typeflag: [156, 1],
  linkname: [157, 100],
  magic: [257, 6],
  version: [263, 2],
  uname: [265, 32],
  gname: [297, 32],
  devmajor: [329, 8],
  devminor: [337, 8],
  prefix: [345, 155],
} as const satisfies Record<string, readonly [number, number]>;

export const TYPE = {
  file: '0',
  oldFile: '\0',
  link: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
  contiguous: '7',
  pax: 'x',
  paxGlobal: 'g',
  gnuLongName: 'L',
  gnuLongLink: 'K',
  gnuSparse: 'S',
} as const;

export const XATTR_RECORD = 'SCHILY.xattr.';

/** One entry of an archive. Names are byte strings (tree/names.ts). */
export interface TarEntry {
  readonly name: string;
  /** A value of TYPE. */
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of content that follow; 0 for all but regular files. */
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly linkname: string;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes by full name. */
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

/** Sum of all bytes of the block, its own checksum field counted as spaces. */
export function headerChecksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK; at += 1) if (at < 148 || at >= 156) sum += block[at] ?? 0;
  return sum;
}

export const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;
