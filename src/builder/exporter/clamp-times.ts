/**
 * Times in a tar stream that lie after an epoch become the epoch: in the headers, and in PAX records that override them
 * (POSIX.1-2001, pax). Everything else passes as it is, so a layer of ours stays a layer of ours.
 */
import { BuildError } from '../../core/errors.ts';
import { paddingOf, TAR_BLOCK } from './tar-header.ts';

const MAX_PAX_BYTES = 8 * 1024 * 1024;
const TIMES = ['mtime', 'atime', 'ctime', 'LIBARCHIVE.creationtime'];

/** @throws BuildError `corrupt` for a stream that is no tar. */
export async function* clampTimes(tar: AsyncIterable<Buffer>, epochSeconds: number): AsyncGenerator<Buffer> {
  const input = new BlockReader(tar);
  for (;;) {
    const header = await input.block();
    if (header === undefined) return;
    if (header[0] === 0) {
      yield header; // the end: zero blocks, and whatever padding follows
      yield* input.rest();
      return;
    }
    const sizeBytes = sizeOf(header);
    const type = header.toString('latin1', 156, 157);
    if (type === 'x') {
      if (sizeBytes > MAX_PAX_BYTES) throw corrupt(`a PAX header of ${sizeBytes} bytes`);
      yield* clampedPax(header, await input.bytes(sizeBytes), epochSeconds);
    } else {
      yield clampedHeader(header, epochSeconds);
      yield* input.content(sizeBytes + paddingOf(sizeBytes));
    }
  }
}

function clampedHeader(header: Buffer, epochSeconds: number): Buffer {
  const copy = Buffer.from(header);
  if (numberAt(copy, 136, 12) > epochSeconds) copy.write(`${epochSeconds.toString(8).padStart(11, '0')}\0`, 136, 'latin1');
  return withChecksum(copy);
}

/** A time record that goes beyond the epoch is dropped when it is the header's own, else set; a header without records goes too. */
function* clampedPax(header: Buffer, body: Buffer, epochSeconds: number): Generator<Buffer> {
  const records = recordsOf(body).flatMap((record) => {
    const at = record.indexOf('=');
    const key = record.toString('latin1', record.indexOf(' ') + 1, at);
    if (!TIMES.includes(key) || Number(record.toString('latin1', at + 1, record.length - 1)) <= epochSeconds) return [record];
    return key === 'mtime' ? [] : [paxRecord(key, String(epochSeconds))];
  });
  const clamped = Buffer.concat(records);
  if (clamped.byteLength === 0) return;
  const copy = Buffer.from(header);
  copy.write(`${clamped.byteLength.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  yield clampedHeader(copy, epochSeconds);
  yield clamped;
  yield Buffer.alloc(paddingOf(clamped.byteLength));
}

/** `<length> <key>=<value>\n` each; the length counts the whole record. */
function recordsOf(body: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at < body.byteLength; ) {
    const space = body.indexOf(' ', at);
    const length = Number(body.toString('latin1', at, space));
    if (
      space === -1 ||
      !Number.isSafeInteger(length) ||
      length < 5 ||
      at + length > body.byteLength ||
      body[at + length - 1] !== 10
    )
      throw corrupt('a PAX record of the wrong length');
    records.push(body.subarray(at, at + length));
    at += length;
  }
  return records;
}

function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + String(rest.length).length;
  length = rest.length + String(length).length;
  return Buffer.from(`${length}${rest}`, 'latin1');
}

function withChecksum(header: Buffer): Buffer {
  header.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

function sizeOf(header: Buffer): number {
  const size = numberAt(header, 124, 12);
  if (!Number.isSafeInteger(size) || size < 0) throw corrupt('a size that is no number');
  const linkOrDir = '123456'.includes(header.toString('latin1', 156, 157));
  return linkOrDir ? 0 : size;
}

/** Octal text, or big-endian binary when the first bit is set (GNU). */
function numberAt(header: Buffer, at: number, width: number): number {
  if (((header[at] ?? 0) & 0x80) !== 0) {
    let value = BigInt((header[at] ?? 0) & 0x7f);
    for (const byte of header.subarray(at + 1, at + width)) value = (value << 8n) | BigInt(byte);
    return Number(value);
  }
  const text = header
    .toString('latin1', at, at + width)
    .replace(/\0.*$/s, '')
    .trim();
  return text === '' ? 0 : /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
}

/** Cuts chunks of any size into what is asked for. */
class BlockReader {
  readonly #source: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Undefined at the end of the stream. */
  async block(): Promise<Buffer | undefined> {
    const bytes = await this.#upTo(TAR_BLOCK);
    if (bytes.byteLength === 0) return undefined;
    if (bytes.byteLength < TAR_BLOCK) throw corrupt('an end in the middle of a header');
    return bytes;
  }

  /** Content padded to whole blocks, in memory, without the padding. */
  async bytes(sizeBytes: number): Promise<Buffer> {
    const padded = sizeBytes + paddingOf(sizeBytes);
    const bytes = await this.#upTo(padded);
    if (bytes.byteLength < padded) throw corrupt('an end in the middle of a file');
    return bytes.subarray(0, sizeBytes);
  }

  async *content(sizeBytes: number): AsyncGenerator<Buffer> {
    for (let left = sizeBytes; left > 0; ) {
      const chunk = await this.#some();
      if (chunk === undefined) throw corrupt('an end in the middle of a file');
      const part = chunk.subarray(0, left);
      this.#held = chunk.subarray(part.byteLength);
      left -= part.byteLength;
      yield Buffer.from(part); // the source may use its buffer again
    }
  }

  async *rest(): AsyncGenerator<Buffer> {
    for (let chunk = await this.#some(); chunk !== undefined; chunk = await this.#some()) {
      this.#held = Buffer.alloc(0);
      yield Buffer.from(chunk);
    }
  }

  async #some(): Promise<Buffer | undefined> {
    if (this.#held.byteLength > 0) return this.#held;
    const { done, value } = await this.#source.next();
    return done === true ? undefined : value;
  }

  async #upTo(sizeBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = sizeBytes; left > 0; ) {
      const chunk = await this.#some();
      if (chunk === undefined) break;
      const part = chunk.subarray(0, left);
      this.#held = chunk.subarray(part.byteLength);
      left -= part.byteLength;
      parts.push(Buffer.from(part));
    }
    return Buffer.concat(parts);
  }
}

const corrupt = (what: string): BuildError => new BuildError('corrupt', `the layer is no valid tar: it has ${what}`);
