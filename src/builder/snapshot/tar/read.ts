/**
 * Reads tar archives as a stream of chunks: ustar, PAX, GNU long names, old V7. Sparse files are refused. Everything a header claims is
 * checked against bounds before it is believed.
 */
import { BuildError } from '../../../core/errors.ts';
import { BLOCK, FIELD, headerChecksum, padding, type TarEntry, TYPE, XATTR_RECORD } from './header.ts';

export interface TarHandler {
  entry(entry: TarEntry): void;
  /** Content of the last entry, in order; valid during the call. */
  data(chunk: Buffer): void;
  /** The last entry's content is complete. */
  end(): void;
}

/** Extended headers and long names; a real one has a few hundred bytes, an xattr at most 64 KiB. */
const MAX_EXTENSION_BYTES = 4 * 1024 * 1024;
const MAX_SIZE = 2 ** 43;
const EXTENSIONS: readonly string[] = [TYPE.pax, TYPE.paxGlobal, TYPE.gnuLongName, TYPE.gnuLongLink];
const WITH_DATA: readonly string[] = [TYPE.file, TYPE.oldFile, TYPE.contiguous];

/** What extended headers said about the next entry. */
interface Pending {
  readonly records: Map<string, Buffer>;
  name: string | undefined;
  linkname: string | undefined;
}
const nothingPending = (): Pending => ({ records: new Map(), name: undefined, linkname: undefined });

/** headers ─entry─► data ─size bytes─► padding ─► headers;  headers ─two empty blocks─► ended (the rest is ignored) */
export class TarReader {
  readonly #handler: TarHandler;
  readonly #maxEntries: number;
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  #remaining = 0;
  #padding = 0;
  #inEntry = false;
  #extension: { readonly type: string; readonly chunks: Buffer[] } | undefined;
  #pending = nothingPending();
  #emptyBlocks = 0;
  #ended = false;
  #entries = 0;

  constructor(handler: TarHandler, maxEntries: number) {
    this.#handler = handler;
    this.#maxEntries = maxEntries;
  }

  /** @throws BuildError `corrupt` for what is no archive, `invalid-input` for what we do not take. */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && !this.#ended; ) {
      if (this.#remaining > 0) at += this.#content(chunk.subarray(at, at + this.#remaining));
      else if (this.#padding > 0) {
        const skipped = Math.min(this.#padding, chunk.length - at);
        this.#padding -= skipped;
        at += skipped;
      } else at += this.#collect(chunk, at);
    }
  }

  /** @throws BuildError `corrupt` when the archive stopped in the middle of something. */
  finish(): void {
    if (this.#ended) return;
    if (this.#remaining > 0 || this.#padding > 0 || this.#filled > 0 || this.#extension !== undefined)
      throw broken('it ends in the middle of an entry');
  }

  /** Collects a header block; returns how many bytes it took. */
  #collect(chunk: Buffer, at: number): number {
    if (this.#filled === 0 && chunk.length - at >= BLOCK) {
      this.#header(chunk.subarray(at, at + BLOCK));
      return BLOCK;
    }
    const taken = chunk.copy(this.#block, this.#filled, at, at + BLOCK - this.#filled);
    this.#filled += taken;
    if (this.#filled === BLOCK) {
      this.#filled = 0;
      this.#header(this.#block);
    }
    return taken;
  }

  #content(part: Buffer): number {
    this.#remaining -= part.length;
    if (this.#extension !== undefined) this.#extension.chunks.push(Buffer.from(part));
    else if (this.#inEntry) this.#handler.data(part);
    if (this.#remaining === 0) this.#contentComplete();
    return part.length;
  }

  #contentComplete(): void {
    if (this.#extension !== undefined) {
      const { type, chunks } = this.#extension;
      this.#extension = undefined;
      this.#extend(type, Buffer.concat(chunks));
    } else if (this.#inEntry) {
      this.#inEntry = false;
      this.#handler.end();
    }
  }

  #header(block: Buffer): void {
    if (isEmpty(block)) {
      this.#emptyBlocks += 1;
      this.#ended = this.#emptyBlocks === 2;
      return;
    }
    this.#emptyBlocks = 0;
    const sum = numberOf(block, FIELD.checksum);
    if (sum !== headerChecksum(block) && sum !== signedChecksum(block)) throw broken('a header has a wrong checksum');
    this.#entries += 1;
    if (this.#entries > this.#maxEntries) throw refused(`it has more than ${this.#maxEntries} entries`);
    const type = String.fromCharCode(block[FIELD.typeflag[0]] ?? 0);
    if (EXTENSIONS.includes(type)) this.#startExtension(type, numberOf(block, FIELD.size));
    else this.#startEntry(type, block);
  }

  #startExtension(type: string, size: number): void {
    if (size > MAX_EXTENSION_BYTES) throw refused(`an extended header has ${size} bytes`);
    this.#extension = { type, chunks: [] };
    this.#remaining = size;
    this.#padding = padding(size);
    if (size === 0) this.#contentComplete();
  }

  #extend(type: string, data: Buffer): void {
    // A global header would apply to all that follow; what writers put there (git: a commit id) means nothing for a layer.
    if (type === TYPE.pax) for (const [key, value] of paxRecords(data)) this.#pending.records.set(key, value);
    else if (type === TYPE.gnuLongName) this.#pending.name = cut(data);
    else if (type === TYPE.gnuLongLink) this.#pending.linkname = cut(data);
  }

  #startEntry(type: string, block: Buffer): void {
    const pending = this.#pending;
    this.#pending = nothingPending();
    const entry = entryOf(type, block, pending);
    this.#remaining = entry.size;
    this.#padding = padding(entry.size);
    this.#inEntry = true;
    this.#handler.entry(entry);
    if (entry.size === 0) this.#contentComplete();
  }
}

function entryOf(type: string, block: Buffer, { records, name, linkname }: Pending): TarEntry {
  if (type === TYPE.gnuSparse || [...records.keys()].some((key) => key.startsWith('GNU.sparse.')))
    throw refused('it has a sparse file, which layers may not have');
  const ustar = block.toString('latin1', FIELD.magic[0], FIELD.magic[0] + 5) === 'ustar';
  const posix = ustar && block[FIELD.magic[0] + 5] === 0;
  const prefix = posix ? textOf(block, FIELD.prefix) : '';
  const own = textOf(block, FIELD.name);
  const text = (key: string): string | undefined => records.get(key)?.toString('latin1');
  const path = text('path') ?? name ?? (prefix === '' ? own : `${prefix}/${own}`);
  const size = decimal(text('size')) ?? numberOf(block, FIELD.size);
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_SIZE) throw broken(`an entry claims to have ${size} bytes`);
  if (path.includes('\0')) throw broken('a name has a NUL in it');
  const file = WITH_DATA.includes(type);
  const directory = type === TYPE.directory || (type === TYPE.oldFile && path.endsWith('/'));
  const xattrs = new Map<string, Buffer>();
  for (const [key, value] of records) if (key.startsWith(XATTR_RECORD)) xattrs.set(key.slice(XATTR_RECORD.length), value);
  return {
    name: path,
    type: directory ? TYPE.directory : file ? TYPE.file : type,
    mode: numberOf(block, FIELD.mode) & 0o7777,
    uid: decimal(text('uid')) ?? numberOf(block, FIELD.uid),
    gid: decimal(text('gid')) ?? numberOf(block, FIELD.gid),
    size: file && !directory ? size : 0,
    mtimeNs: paxTime(text('mtime')) ?? BigInt(numberOf(block, FIELD.mtime)) * 1_000_000_000n,
    linkname: text('linkpath') ?? linkname ?? textOf(block, FIELD.linkname),
    devMajor: ustar ? numberOf(block, FIELD.devmajor) : 0,
    devMinor: ustar ? numberOf(block, FIELD.devminor) : 0,
    xattrs,
  };
}

const broken = (why: string): BuildError => new BuildError('corrupt', `not a valid layer archive: ${why}`);
const refused = (why: string): BuildError => new BuildError('invalid-input', `layer archive refused: ${why}`);

function isEmpty(block: Buffer): boolean {
  for (let at = 0; at < BLOCK; at += 4) if (block.readUInt32LE(at) !== 0) return false;
  return true;
}

/** Some old writers summed signed chars. */
function signedChecksum(block: Buffer): number {
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK; at += 1) if (at < 148 || at >= 156) sum += block.readInt8(at);
  return sum;
}

function textOf(block: Buffer, [at, length]: readonly [number, number]): string {
  return cut(block.subarray(at, at + length));
}
/** Up to the first NUL. */
function cut(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

/** Octal digits, or GNU's base 256 when the first bit is set. */
function numberOf(block: Buffer, [at, length]: readonly [number, number]): number {
  const first = block[at] ?? 0;
  if ((first & 0x80) === 0) {
    const digits = cut(block.subarray(at, at + length)).trim();
    if (digits === '') return 0;
    if (!/^[0-7]+$/.test(digits)) throw broken('a header has a number that is none');
    return Number.parseInt(digits, 8);
  }
  let value = (first & 0x40) === 0 ? 0n : -1n;
  for (let index = 0; index < length; index += 1) {
    const byte = BigInt(block[at + index] ?? 0);
    value = (value << 8n) | (index === 0 ? ((first & 0x40) === 0 ? byte & 0x3fn : byte) : byte);
  }
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw broken('a header has a number that is too large');
  return number;
}

/** Records of the form `<length> <key>=<value>\n`. */
function* paxRecords(data: Buffer): Generator<[string, Buffer]> {
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const length = space === -1 ? Number.NaN : Number(data.toString('latin1', at, space));
    const end = at + length;
    if (!Number.isInteger(length) || length <= space - at + 1 || end > data.length || data[end - 1] !== 0x0a)
      throw broken('an extended header is malformed');
    const equals = data.indexOf(0x3d, space);
    if (equals === -1 || equals >= end) throw broken('an extended header is malformed');
    yield [data.toString('latin1', space + 1, equals), data.subarray(equals + 1, end - 1)];
    at = end;
  }
}

function decimal(text: string | undefined): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (!/^\d{1,16}$/.test(text)) throw broken('an extended header has a number that is none');
  return Number(text);
}

/** Seconds with a fraction, to the nanosecond; what is finer is cut. */
function paxTime(text: string | undefined): bigint | undefined {
  if (text === undefined || text === '') return undefined;
  const match = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(text);
  if (match === null) throw broken('an extended header has a time that is none');
  const [, sign, seconds = '0', fraction = ''] = match;
  const ns = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9));
  return sign === '-' ? -ns : ns;
}
