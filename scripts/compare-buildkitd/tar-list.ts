/**
 * What a tar archive holds, entry by entry, in its order. A reader of its own, so that an error shared by the daemon's writer and
 * reader cannot hide here. POSIX.1-2001 (pax) and the GNU long-name records are understood.
 */
import { createHash } from 'node:crypto';

export interface TarEntry {
  readonly name: string;
  /** The type flag as it is written: `0` file, `1` hard link, `2` symbolic link, `3`/`4` devices, `5` directory, `6` named pipe. */
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly userName: string;
  readonly groupName: string;
  readonly size: number;
  readonly linkName: string;
  readonly device: string;
  /** Extended attributes, values in hex. */
  readonly xattrs: Readonly<Record<string, string>>;
  /** Seconds, with the fraction that a pax record gives. */
  readonly modifiedAt: string;
  /** Names of the pax records that go with the entry, in their order. */
  readonly pax: readonly string[];
  readonly sha256: string;
}

const BLOCK = 512;
const XATTR = 'SCHILY.xattr.';

export function* readTar(bytes: Buffer): Generator<TarEntry & { readonly body: Buffer }> {
  let records: ReadonlyMap<string, Buffer> = new Map();
  for (let at = 0; at + BLOCK <= bytes.length; ) {
    const header = bytes.subarray(at, at + BLOCK);
    at += BLOCK;
    if (header.every((byte) => byte === 0)) return;
    const type = header.toString('latin1', 156, 157);
    const pax = (name: string): string | undefined => records.get(name)?.toString();
    const size = type === 'x' ? number(header, 124, 12) : Number(pax('size') ?? number(header, 124, 12));
    const body = bytes.subarray(at, at + size);
    at += Math.ceil(size / BLOCK) * BLOCK;
    if (type === 'x' || type === 'L' || type === 'K') {
      records = new Map([...records, ...(type === 'x' ? paxRecords(body) : gnuRecord(type, body))]);
      continue;
    }
    const prefix = text(header, 257, 6) === 'ustar' ? text(header, 345, 155) : '';
    const name = text(header, 0, 100);
    yield {
      name: pax('path') ?? (prefix === '' ? name : `${prefix}/${name}`),
      type: type === '\0' ? '0' : type,
      mode: number(header, 100, 8),
      uid: Number(pax('uid') ?? number(header, 108, 8)),
      gid: Number(pax('gid') ?? number(header, 116, 8)),
      userName: text(header, 265, 32),
      groupName: text(header, 297, 32),
      size,
      linkName: pax('linkpath') ?? text(header, 157, 100),
      device: `${number(header, 329, 8)}:${number(header, 337, 8)}`,
      xattrs: Object.fromEntries(
        [...records]
          .filter(([key]) => key.startsWith(XATTR))
          .map(([key, value]) => [key.slice(XATTR.length), value.toString('hex')]),
      ),
      modifiedAt: pax('mtime') ?? String(number(header, 136, 12)),
      pax: [...records.keys()],
      sha256: createHash('sha256').update(body).digest('hex'),
      body,
    };
    records = new Map();
  }
}

function text(header: Buffer, at: number, length: number): string {
  const field = header.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? length : end);
}

/** Octal text, or GNU's binary form when the first bit is set. */
function number(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  if (((field[0] ?? 0) & 0x80) !== 0) return Number(field.readBigUInt64BE(length - 8));
  return Number.parseInt(text(header, at, length).trim() || '0', 8);
}

function paxRecords(body: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const length = Number(body.toString('latin1', at, space));
    const equals = body.indexOf(0x3d, space);
    records.set(body.toString('utf8', space + 1, equals), body.subarray(equals + 1, at + length - 1));
    at += length;
  }
  return records;
}

function gnuRecord(type: string, body: Buffer): Map<string, Buffer> {
  return new Map([[type === 'L' ? 'path' : 'linkpath', body.subarray(0, body.indexOf(0))]]);
}
