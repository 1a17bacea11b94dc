/**
 * The 5-byte prefix of gRPC messages: one flag byte (1: compressed), four bytes of length, big endian (gRPC over HTTP/2,
 * "Length-Prefixed-Message"). Knows nothing of HTTP/2, so that it can be fuzzed by itself.
 */
import { BuildError } from '../../core/errors.ts';

export const PREFIX_BYTES = 5;
/** A message that trickles in is put together now and then: a view costs more than the few bytes it shows. */
const MAX_PIECES = 256;

export class Frame {
  readonly compressed: boolean;
  /** The message in order, as views into what was pushed; at least one. Bulk streams read these and copy nothing. */
  readonly pieces: readonly Uint8Array[];

  constructor(compressed: boolean, pieces: readonly Uint8Array[]) {
    this.compressed = compressed;
    this.pieces = pieces;
  }

  get byteLength(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  }
  /** The message in one piece: a view where it came in one, else a copy. */
  get bytes(): Uint8Array {
    return joined(this.pieces);
  }
}

/** One piece as it is, several as a copy. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
}

/** The prefix of an uncompressed message. */
export function framePrefix(messageBytes: number): Buffer {
  const prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  prefix[0] = 0;
  prefix.writeUInt32BE(messageBytes, 1);
  return prefix;
}

/** Cuts a byte stream into messages. After it has thrown it must not be used again: the stream has lost its place. */
export class FrameDecoder {
  readonly #maxMessageBytes: number;
  readonly #prefix = new Uint8Array(PREFIX_BYTES);
  #prefixBytes = 0;
  /** Of the unfinished frame, once its prefix is complete. */
  #lengthBytes = 0;
  #body: Uint8Array[] = [];
  #bodyBytes = 0;

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** True between frames: the stream may end here. */
  get idle(): boolean {
    return this.#prefixBytes === 0;
  }

  /** @throws BuildError `exhausted` for a message above the limit, `internal` for an unknown flag. */
  push(chunk: Uint8Array, onFrame: (frame: Frame) => void): void {
    let rest = this.idle ? chunk : this.#continue(chunk, onFrame);
    while (rest.byteLength >= PREFIX_BYTES) {
      const end = PREFIX_BYTES + this.#lengthOf(rest);
      if (rest.byteLength < end) break;
      onFrame(new Frame(rest[0] === 1, [rest.subarray(PREFIX_BYTES, end)]));
      rest = rest.subarray(end);
    }
    if (rest.byteLength > 0) this.#continue(rest, onFrame);
  }

  /** Feeds the unfinished frame; returns what follows it. */
  #continue(chunk: Uint8Array, onFrame: (frame: Frame) => void): Uint8Array {
    let rest = chunk;
    if (this.#prefixBytes < PREFIX_BYTES) {
      const piece = rest.subarray(0, PREFIX_BYTES - this.#prefixBytes);
      this.#prefix.set(piece, this.#prefixBytes);
      this.#prefixBytes += piece.byteLength;
      rest = rest.subarray(piece.byteLength);
      if (this.#prefixBytes < PREFIX_BYTES) return rest;
      this.#lengthBytes = this.#lengthOf(this.#prefix);
    }
    const piece = rest.subarray(0, this.#lengthBytes - this.#bodyBytes);
    this.#body.push(piece);
    this.#bodyBytes += piece.byteLength;
    rest = rest.subarray(piece.byteLength);
    if (this.#bodyBytes < this.#lengthBytes) {
      if (this.#body.length >= MAX_PIECES) this.#body = [Buffer.concat(this.#body)];
      return rest;
    }
    const frame = new Frame(this.#prefix[0] === 1, this.#body);
    this.#prefixBytes = 0;
    this.#lengthBytes = 0;
    this.#body = [];
    this.#bodyBytes = 0;
    onFrame(frame);
    return rest;
  }

  #lengthOf(prefix: Uint8Array): number {
    const flag = prefix[0] as number;
    if (flag > 1) throw new BuildError('internal', `malformed gRPC frame: unknown flag ${flag}`);
    const length = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES).getUint32(1);
    if (length > this.#maxMessageBytes) {
      throw new BuildError('exhausted', `grpc: received message larger than max (${length} vs. ${this.#maxMessageBytes})`);
    }
    return length;
  }
}
