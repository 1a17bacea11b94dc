/**
 * Tar headers as the real daemon writes them, byte for byte, since layers are named by the digest of these bytes: a long name is split
 * into prefix and name where that is enough, PAX records hold what the ustar fields cannot, sorted; times in whole seconds; no owners'
 * names.
 */
import { BLOCK, FIELD, headerChecksum, type TarEntry, TYPE, XATTR_RECORD } from './header.ts';

/** All header blocks of an entry: an extended header with its records where needed, then the entry's own. */
export function tarHeader(entry: TarEntry): Buffer {
  const records = paxRecords(entry);
  if (records.size === 0) return header(entry, false);
  const splits = records.size === 1 && records.has('path') && isAscii(entry.name) && splitName(entry.name) !== undefined;
  if (splits) return header(entry, true);
  const lines = [...records].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => paxRecord(key, value));
  return Buffer.concat([extendedHeader(entry.name, lines), header(entry, false)]);
}

/** Two empty blocks end an archive. */
export const END = Buffer.alloc(2 * BLOCK);

/** What the ustar fields cannot hold. */
function paxRecords(entry: TarEntry): ReadonlyMap<string, Buffer> {
  const records = new Map<string, Buffer>();
  const text = (key: string, value: string): unknown => records.set(key, Buffer.from(value, 'latin1'));
  if (!isAscii(entry.name) || entry.name.length > FIELD.name[1]) text('path', entry.name);
  if (!isAscii(entry.linkname) || entry.linkname.length > FIELD.linkname[1]) text('linkpath', entry.linkname);
  const seconds = entry.mtimeNs / 1_000_000_000n;
  if (!fitsOctal(seconds, FIELD.mtime[1])) text('mtime', String(seconds));
  for (const key of ['uid', 'gid', 'size'] as const)
    if (!fitsOctal(BigInt(entry[key]), FIELD[key][1])) text(key, String(entry[key]));
  for (const [name, value] of entry.xattrs) records.set(XATTR_RECORD + name, value);
  return records;
}

/** `<length> <key>=<value>\n`, where the length counts itself. */
function paxRecord(key: string, value: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function extendedHeader(name: string, records: readonly Buffer[]): Buffer {
  const data = Buffer.concat(records);
  const slash = name.lastIndexOf('/');
  const file = name.slice(slash + 1);
  // As Go's path.Join(dir, "PaxHeaders.0", file): a directory's name ends with a slash, so its file part is empty.
  const headerName = ascii(`${name.slice(0, slash + 1)}PaxHeaders.0${file === '' ? '' : `/${file}`}`.replace(/\/+/g, '/'))
    .slice(0, FIELD.name[1])
    .replace(/\/+$/, '');
  const block = Buffer.alloc(BLOCK);
  putText(block, FIELD.name, headerName);
  for (const field of [FIELD.mode, FIELD.uid, FIELD.gid, FIELD.mtime]) putOctal(block, field, 0n);
  putOctal(block, FIELD.size, BigInt(data.length));
  putText(block, FIELD.typeflag, TYPE.pax);
  seal(block);
  return Buffer.concat([block, data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK)]);
}

function header(entry: TarEntry, split: boolean): Buffer {
  const block = Buffer.alloc(BLOCK);
  const parts = split && entry.name.length > FIELD.name[1] ? splitName(entry.name) : undefined;
  if (parts === undefined) putText(block, FIELD.name, ascii(entry.name));
  else {
    putText(block, FIELD.name, parts.name);
    putText(block, FIELD.prefix, parts.prefix);
  }
  putText(block, FIELD.linkname, ascii(entry.linkname));
  putText(block, FIELD.typeflag, entry.type);
  putOctal(block, FIELD.mode, BigInt(entry.mode));
  putOctal(block, FIELD.uid, BigInt(entry.uid));
  putOctal(block, FIELD.gid, BigInt(entry.gid));
  putOctal(block, FIELD.size, BigInt(entry.size));
  putOctal(block, FIELD.mtime, entry.mtimeNs / 1_000_000_000n);
  putOctal(block, FIELD.devmajor, BigInt(entry.devMajor));
  putOctal(block, FIELD.devminor, BigInt(entry.devMinor));
  seal(block);
  return block;
}

/** Magic, version and the checksum, which is six digits, a NUL and a space. */
function seal(block: Buffer): void {
  putText(block, FIELD.magic, 'ustar\0');
  putText(block, FIELD.version, '00');
  const [at] = FIELD.checksum;
  block.write(`${headerChecksum(block).toString(8).padStart(6, '0')}\0 `, at, 'latin1');
}

/** A name that was cut must not end in a slash: some readers take such an entry for a directory, whatever its PAX record says. */
function putText(block: Buffer, [at, length]: readonly [number, number], text: string): void {
  block.write(text.slice(0, length), at, 'latin1');
  if (text.length <= length || text[length - 1] !== '/') return;
  const kept = text.slice(0, length - 1).replace(/\/+$/, '').length;
  block[at + kept] = 0;
}

/** Digits padded with zeros and a NUL; a number that does not fit is 0, its true value being in a PAX record. */
function putOctal(block: Buffer, [at, length]: readonly [number, number], value: bigint): void {
  const fitting = fitsOctal(value, length) ? value : 0n;
  block.write(fitting.toString(8).padStart(length - 1, '0'), at, 'latin1');
}

const fitsOctal = (value: bigint, length: number): boolean => value >= 0n && value < 1n << BigInt((length - 1) * 3);
const isAscii = (text: string): boolean => !/[^\x01-\x7f]/.test(text);
const ascii = (text: string): string => text.replace(/[^\x01-\x7f]/g, '');

/** Prefix and name around the last slash that leaves both short enough; undefined when none does. */
function splitName(name: string): { readonly prefix: string; readonly name: string } | undefined {
  const [, nameLength] = FIELD.name;
  const [, prefixLength] = FIELD.prefix;
  let end = name.length;
  if (end > prefixLength + 1) end = prefixLength + 1;
  else if (name[end - 1] === '/') end -= 1;
  const at = name.slice(0, end).lastIndexOf('/');
  const tail = name.length - at - 1;
  if (at <= 0 || tail > nameLength || tail === 0 || at > prefixLength) return undefined;
  return { prefix: name.slice(0, at), name: name.slice(at + 1) };
}
