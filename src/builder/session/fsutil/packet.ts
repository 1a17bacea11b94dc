/**
 * Packets of the fsutil transfer protocol (proto/fsutil/types/wire.proto), encoded and decoded by hand: a context of 20 000 files is
 * 80 000 packets, and the generated code costs ten times as much per packet.
 *
 * Paths and link names are *byte strings*: one char per byte (latin1). Names of files are bytes, not text; this way they keep their
 * exact bytes, compare in byte order, and never turn into U+FFFD. `textOf` and `byteStringOf` convert at the edges.
 */
import { BuildError } from '../../../core/errors.ts';

export const PACKET = { STAT: 0, REQ: 1, DATA: 2, FIN: 3, ERR: 4 } as const;

/** A file's metadata as it travels; wire field numbers in stat.proto. */
export interface Stat {
  /** Byte string, relative, clean. */
  readonly path: string;
  /** Go's os.FileMode bits (mode.ts). */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Nanoseconds since the epoch. */
  readonly modTime: bigint;
  /** Byte string. Symlink: its text. Hard link: path of the first occurrence. Otherwise empty. */
  readonly linkname: string;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly xattrs: readonly (readonly [name: string, value: Uint8Array])[];
}

export interface Packet {
  /** A value of PACKET, or a number this version does not know. */
  readonly type: number;
  /** Undefined in a STAT packet ends the listing. */
  readonly stat: Stat | undefined;
  readonly id: number;
  /** Views of the decoded message, not copies; none when the packet has no data. */
  readonly data: readonly Buffer[];
}

const EMPTY: Buffer = Buffer.alloc(0);
const NO_DATA: Packet['data'] = [];
const NO_XATTRS: Stat['xattrs'] = [];
const MAX_XATTRS = 1000; // per file; the kernel's own list is bounded at 64 KiB of names

/** What an ERR packet says. */
export const messageOf = (packet: Packet): string => Buffer.concat(packet.data).toString();

export const textOf = (bytes: string): string => (isAscii(bytes) ? bytes : Buffer.from(bytes, 'latin1').toString());
export const byteStringOf = (text: string): string => (isAscii(text) ? text : Buffer.from(text).toString('latin1'));
/** The path as Node's file calls and `Sys` want it. */
export const fsPathOf = (bytes: string): string | Buffer => (isAscii(bytes) ? bytes : Buffer.from(bytes, 'latin1'));
const isAscii = (text: string): boolean => !/[^\x00-\x7f]/.test(text);

/** A packet that came in pieces. The data of a file stays in them, uncopied. @throws BuildError `invalid-input` when it is no packet. */
export function decodePacketPieces(pieces: readonly Uint8Array[]): Packet {
  const [first, ...rest] = pieces;
  if (first === undefined || rest.length === 0) return decodePacket(first ?? EMPTY);
  return decodeDataHead(viewOf(first), rest) ?? decodePacket(Buffer.concat(pieces));
}

/** A DATA packet whose head is in the first piece and whose last field is its data, which is how all senders write them. */
function decodeDataHead(first: Buffer, rest: readonly Uint8Array[]): Packet | undefined {
  const reader = new Reader(first, 0, first.length);
  let type = 0;
  let id = 0;
  for (let fields = 0; fields < 3 && reader.at + LONGEST_FIELD <= reader.end; fields += 1) {
    const tag = reader.uint32();
    const value = reader.uint32();
    if (tag === 0x08) type = value;
    else if (tag === 0x18) id = value;
    else if (tag !== 0x22) return undefined;
    else {
      const data = [first.subarray(reader.at), ...rest.map(viewOf)];
      const whole = data.reduce((sum, piece) => sum + piece.length, 0) === value;
      return whole && value > 0 && type === PACKET.DATA ? { type, stat: undefined, id, data } : undefined;
    }
  }
  return undefined;
}
const LONGEST_FIELD = 20; // tag and varint, ten bytes each at most

const viewOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** @throws BuildError `invalid-input` when the bytes are no packet. */
export function decodePacket(message: Uint8Array): Packet {
  const bytes = viewOf(message);
  const reader = new Reader(bytes, 0, bytes.length);
  let type = 0;
  let stat: Stat | undefined;
  let id = 0;
  let data = NO_DATA;
  while (reader.at < reader.end) {
    const tag = reader.uint32();
    if (tag === 0x08) type = reader.uint32();
    else if (tag === 0x12) stat = decodeStat(bytes, reader.at, reader.skipBytes());
    else if (tag === 0x18) id = reader.uint32();
    else if (tag === 0x22) {
      const field = reader.bytesField();
      data = field.length === 0 ? NO_DATA : [field];
    } else reader.skip(tag & 7);
  }
  return { type, stat, id, data };
}

/** `start` is where the length prefix begins; `end` is the end of the field. */
function decodeStat(bytes: Buffer, start: number, end: number): Stat {
  const reader = new Reader(bytes, start, end);
  reader.uint32(); // the length, known from `end`
  let path = '';
  let mode = 0;
  let uid = 0;
  let gid = 0;
  let size = 0;
  let modTime = 0n;
  let linkname = '';
  let devMajor = 0;
  let devMinor = 0;
  let xattrs: (readonly [string, Uint8Array])[] | undefined;
  while (reader.at < end) {
    const tag = reader.uint32();
    if (tag === 0x0a) path = reader.byteString();
    else if (tag === 0x10) mode = reader.uint32();
    else if (tag === 0x18) uid = reader.uint32();
    else if (tag === 0x20) gid = reader.uint32();
    else if (tag === 0x28) size = reader.safeInt64();
    else if (tag === 0x30) modTime = reader.int64();
    else if (tag === 0x3a) linkname = reader.byteString();
    else if (tag === 0x40) devMajor = reader.safeInt64();
    else if (tag === 0x48) devMinor = reader.safeInt64();
    else if (tag === 0x52) {
      xattrs ??= [];
      if (xattrs.length >= MAX_XATTRS) throw malformed(`more than ${MAX_XATTRS} extended attributes`);
      xattrs.push(decodeXattr(bytes, reader.at, reader.skipBytes()));
    } else reader.skip(tag & 7);
  }
  return { path, mode, uid, gid, size, modTime, linkname, devMajor, devMinor, xattrs: xattrs ?? NO_XATTRS };
}

function decodeXattr(bytes: Buffer, start: number, end: number): readonly [string, Uint8Array] {
  const reader = new Reader(bytes, start, end);
  reader.uint32();
  let name = '';
  let value: Buffer = EMPTY;
  while (reader.at < end) {
    const tag = reader.uint32();
    if (tag === 0x0a) name = reader.byteString();
    else if (tag === 0x12) value = reader.bytesField();
    else reader.skip(tag & 7);
  }
  return [name, value.length === 0 ? EMPTY : Buffer.from(value)]; // a copy: it outlives the message
}

export function encodeStatPacket(stat: Stat): Buffer {
  const inner = new Writer(64 + stat.path.length + stat.linkname.length + xattrBytes(stat));
  inner.byteString(0x0a, stat.path);
  inner.uint32(0x10, stat.mode);
  inner.uint32(0x18, stat.uid);
  inner.uint32(0x20, stat.gid);
  inner.int64(0x28, BigInt(stat.size));
  inner.int64(0x30, stat.modTime);
  inner.byteString(0x3a, stat.linkname);
  inner.int64(0x40, BigInt(stat.devMajor));
  inner.int64(0x48, BigInt(stat.devMinor));
  for (const [name, value] of stat.xattrs) {
    const entry = new Writer(20 + name.length + value.byteLength);
    entry.byteString(0x0a, name);
    entry.bytes(0x12, value);
    inner.bytes(0x52, entry.done());
  }
  const outer = new Writer(inner.length + 8);
  outer.bytes(0x12, inner.done());
  return outer.done();
}

/** A STAT without stat: the listing is complete. */
export const END_OF_STATS = EMPTY;
export const FIN_PACKET = Buffer.from([0x08, PACKET.FIN]);

export function encodeRequestPacket(id: number): Buffer {
  const out = new Writer(16);
  out.uint32(0x08, PACKET.REQ);
  out.uint32(0x18, id);
  return out.done();
}

/** Empty data ends the file. */
export function encodeDataPacket(id: number, data: Uint8Array): Buffer {
  const buffer = Buffer.allocUnsafe(DATA_HEAD_BYTES + data.byteLength);
  buffer.set(data, DATA_HEAD_BYTES);
  return encodeDataInPlace(id, buffer, data.byteLength);
}

/** What a DATA packet needs in front of its data. */
export const DATA_HEAD_BYTES = 24;

/** The packet of the `count` bytes that lie in `buffer` behind DATA_HEAD_BYTES; a view of `buffer`, whose first bytes become its head. */
export function encodeDataInPlace(id: number, buffer: Buffer, count: number): Buffer {
  const head = new Writer(DATA_HEAD_BYTES);
  head.uint32(0x08, PACKET.DATA);
  head.uint32(0x18, id);
  head.uint32(0x22, count); // the length of the field, whose bytes follow; left out when there are none
  const start = DATA_HEAD_BYTES - head.length;
  head.done().copy(buffer, start);
  return buffer.subarray(start, DATA_HEAD_BYTES + count);
}

export function encodeErrorPacket(message: string): Buffer {
  const text = Buffer.from(message);
  const out = new Writer(16 + text.length);
  out.uint32(0x08, PACKET.ERR);
  out.bytes(0x22, text);
  return out.done();
}

const xattrBytes = (stat: Stat): number =>
  stat.xattrs.reduce((sum, [name, value]) => sum + 24 + name.length + value.byteLength, 0);

const malformed = (what: string): BuildError => new BuildError('invalid-input', `malformed file transfer packet: ${what}`);

/** A cursor over one protobuf message. */
class Reader {
  readonly #bytes: Buffer;
  readonly end: number;
  at: number;

  constructor(bytes: Buffer, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.end = end;
  }

  /** A varint's low 32 bits. */
  uint32(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte();
      if (shift < 28) value |= (byte & 0x7f) << shift;
      else if (shift === 28) value |= (byte & 0x0f) << 28;
      if (byte < 0x80) return value >>> 0;
    }
    throw malformed('varint longer than ten bytes');
  }

  int64(): bigint {
    // Ten bytes of seven bits, kept in three numbers so that a BigInt is made once.
    let low = 0;
    let middle = 0;
    let high = 0;
    for (let index = 0; index < 10; index += 1) {
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (index < 4) low |= bits << (7 * index);
      else if (index < 8) middle |= bits << (7 * (index - 4));
      else high |= bits << (7 * (index - 8));
      if (byte < 0x80) return BigInt.asIntN(64, BigInt(low) + (BigInt(middle) << 28n) + (BigInt(high) << 56n));
    }
    throw malformed('varint longer than ten bytes');
  }

  /** @throws when beyond 2^53 or negative: a size or device number cannot be that. */
  safeInt64(): number {
    const value = Number(this.int64());
    if (!Number.isSafeInteger(value) || value < 0) throw malformed(`number out of range: ${value}`);
    return value;
  }

  byteString(): string {
    const end = this.skipBytes();
    return this.#bytes.toString('latin1', end - this.#length, end);
  }

  bytesField(): Buffer {
    const end = this.skipBytes();
    return this.#bytes.subarray(end - this.#length, end);
  }

  #length = 0;
  /** Passes over a length-delimited field; returns where it ends. */
  skipBytes(): number {
    this.#length = this.uint32();
    const end = this.at + this.#length;
    if (end > this.end) throw malformed('field longer than the message');
    this.at = end;
    return end;
  }

  skip(wireType: number): void {
    if (wireType === 0) this.uint32();
    else if (wireType === 1) this.at += 8;
    else if (wireType === 2) this.skipBytes();
    else if (wireType === 5) this.at += 4;
    else throw malformed(`wire type ${wireType}`);
    if (this.at > this.end) throw malformed('field longer than the message');
  }

  #byte(): number {
    if (this.at >= this.end) throw malformed('cut short');
    return this.#bytes[this.at++] as number;
  }
}

/** Writes fields into a buffer that the caller sized generously enough; zero values are left out, as proto3 does. */
class Writer {
  readonly #bytes: Buffer;
  length = 0;

  constructor(capacity: number) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  uint32(tag: number, value: number): void {
    if (value === 0) return;
    this.#bytes[this.length++] = tag;
    this.#varint(value);
  }

  int64(tag: number, value: bigint): void {
    if (value === 0n) return;
    this.#bytes[this.length++] = tag;
    let rest = BigInt.asUintN(64, value);
    while (rest > 0x7fffffffn) {
      this.#bytes[this.length++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#varint(Number(rest));
  }

  byteString(tag: number, value: string): void {
    if (value === '') return;
    this.#bytes[this.length++] = tag;
    this.#varint(value.length);
    this.length += this.#bytes.write(value, this.length, 'latin1');
  }

  bytes(tag: number, value: Uint8Array): void {
    this.#bytes[this.length++] = tag;
    this.#varint(value.byteLength);
    this.#bytes.set(value, this.length);
    this.length += value.byteLength;
  }

  done(): Buffer {
    return this.#bytes.subarray(0, this.length);
  }

  #varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.#bytes[this.length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.length++] = rest;
  }
}
