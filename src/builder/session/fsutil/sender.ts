/**
 * The sending end of a transfer: lists a tree, then sends the files the receiver asks for, up to four at a time (buildkit-wire.md 4.3).
 * File calls are synchronous and in pieces of 256 KiB, and the receiver's flow control sets the pace.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { BuildError, GRPC } from '../../../core/errors.ts';
import { isRegular } from './mode.ts';
import {
  byteStringOf,
  DATA_HEAD_BYTES,
  decodePacket,
  END_OF_STATS,
  encodeDataInPlace,
  encodeDataPacket,
  encodeErrorPacket,
  encodeStatPacket,
  FIN_PACKET,
  fsPathOf,
  messageOf,
  PACKET,
  type Stat,
} from './packet.ts';

/** RpcStream and RawStream are such. */
export interface PacketStream extends AsyncIterable<Uint8Array> {
  /** In place of iterating: packets in the pieces they came in. */
  pieces(): AsyncIterator<readonly Uint8Array[]>;
  /** Resolves when there is room for the next. */
  send(message: Uint8Array): Promise<void>;
}

export interface SendOptions {
  /** The directory that paths of `listing` are relative to. */
  readonly root: string;
  /** Entries in walk order; pulled as the receiver's window allows. */
  readonly listing: Iterable<Stat>;
  /** Where an entry's bytes are, when not at its path. */
  readonly locate?: (path: string) => string;
  /** Called with the bytes of each packet sent. */
  readonly onProgress: (bytes: number) => void;
}

const PARALLEL_FILES = 4;
const PIECE_BYTES = 256 * 1024;

/** Resolves after both sides have sent FIN. @throws BuildError `invalid-input` with the receiver's message when that fails. */
export async function sendTree(stream: PacketStream, options: SendOptions): Promise<void> {
  const sender = new Sender(stream, options);
  await sender.run();
}

type RequestableFile = Pick<Stat, 'path' | 'size'>;
interface RequestedFile extends RequestableFile {
  readonly id: number;
}

class Sender {
  readonly #stream: PacketStream;
  readonly #options: SendOptions;
  readonly #root: string;
  /** Regular files that may be requested, by position; taken out when they are. */
  readonly #files = new Map<number, RequestableFile>();
  #queue: RequestedFile[] = [];
  #served = 0;
  #sending = 0;
  readonly #failed = Promise.withResolvers<never>();

  constructor(stream: PacketStream, options: SendOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#root = byteStringOf(options.root);
    this.#failed.promise.catch(() => {});
  }

  async run(): Promise<void> {
    const listing = this.#list().catch(async (error: unknown) => {
      const failure = BuildError.from(error);
      await this.#stream.send(encodeErrorPacket(failure.message)).catch(() => {});
      this.#failed.reject(failure);
      throw failure;
    });
    listing.catch(() => {}); // told through #failed; the stream may fail first
    await Promise.race([this.#answer(), this.#failed.promise]);
    await listing;
  }

  async #list(): Promise<void> {
    let id = 0;
    for (const stat of this.#options.listing) {
      if (isRegular(stat.mode) && stat.linkname === '') this.#files.set(id, stat);
      id += 1;
      await this.#send(encodeStatPacket(stat));
    }
    await this.#send(END_OF_STATS);
  }

  /** Reads the receiver's packets up to its FIN and answers that. What follows on the stream, its end and status, is the caller's. */
  async #answer(): Promise<void> {
    const packets = this.#stream[Symbol.asyncIterator](); // not for-await: leaving that would cancel the call
    while (true) {
      const next = await packets.next();
      if (next.done === true) throw new BuildError('cancelled', 'the receiver ended the file transfer before it was complete');
      const packet = decodePacket(next.value);
      if (packet.type === PACKET.REQ) this.#request(packet.id);
      else if (packet.type === PACKET.FIN) return await this.#send(FIN_PACKET);
      else if (packet.type === PACKET.ERR) {
        throw new BuildError('invalid-input', `error from receiver: ${messageOf(packet)}`, { grpcCode: GRPC.UNKNOWN });
      }
    }
  }

  #request(id: number): void {
    const file = this.#files.get(id);
    if (file === undefined)
      throw new BuildError('invalid-input', `broken file transfer: the receiver requested file ${id}, which is not there`);
    this.#files.delete(id);
    this.#queue.push({ id, path: file.path, size: file.size });
    if (this.#sending < PARALLEL_FILES) void this.#work();
  }

  async #work(): Promise<void> {
    this.#sending += 1;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) await this.#sendFile(next);
    } catch (error) {
      this.#failed.reject(BuildError.from(error));
    } finally {
      this.#sending -= 1;
    }
  }

  /** First come, first served; the array is cut now and then, since shifting a long one costs its length. */
  #next(): RequestedFile | undefined {
    if (this.#served === this.#queue.length) {
      this.#queue = [];
      this.#served = 0;
      return undefined;
    }
    return this.#queue[this.#served++];
  }

  /** A file no larger than announced is read in one call: room for one byte more shows that it has ended. */
  async #sendFile({ id, path, size }: RequestedFile): Promise<void> {
    const fd = this.#open(path);
    if (fd !== undefined) {
      try {
        let ended = false;
        while (!ended) {
          const room = Math.min(PIECE_BYTES, size + 1);
          const buffer = Buffer.allocUnsafe(DATA_HEAD_BYTES + room);
          const count = readSync(fd, buffer, DATA_HEAD_BYTES, room, null);
          if (count > 0) await this.#send(encodeDataInPlace(id, buffer, count));
          ended = count < room;
        }
      } finally {
        closeSync(fd);
      }
    }
    await this.#send(encodeDataPacket(id, END_OF_STATS));
  }

  /** Undefined for a file that has gone or may not be read: the receiver gets it empty, as from any fsutil sender. */
  #open(path: string): number | undefined {
    const absolute = this.#options.locate?.(path) ?? `${this.#root}/${path}`;
    try {
      return openSync(fsPathOf(absolute), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      return undefined;
    }
  }

  #send(packet: Buffer): Promise<void> {
    this.#options.onProgress(packet.length);
    return this.#stream.send(packet);
  }
}
