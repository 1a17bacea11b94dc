/** The messages that arrive on an HTTP/2 stream, at the consumer's pace. */
import type { Http2Stream } from 'node:http2';
import { promisify } from 'node:util';
import { gunzip, gunzipSync } from 'node:zlib';
import { BuildError } from '../../core/errors.ts';
import { type Frame, FrameDecoder } from './framing.ts';

/** Decoded but unread bytes at which the stream is paused; the peer then fills the HTTP/2 window and stops. */
const HIGH_BYTES = 256 * 1024;
const LOW_BYTES = 64 * 1024;
/** Compressed messages above this are inflated off the event loop. */
const SYNC_GUNZIP_BYTES = 16 * 1024;
const gunzipAsync = promisify(gunzip);

/** Messages, each in the pieces it arrived in; joined they are the message. */
export type MessagePieces = AsyncIterator<readonly Uint8Array[], undefined>;

/** One consumer, one `next` at a time. Ends when the peer half-closes; throws the error given to `fail`, or the first malformation. */
export class MessageReader implements AsyncIterableIterator<Uint8Array> {
  readonly #stream: Http2Stream;
  readonly #maxMessageBytes: number;
  readonly #decoder: FrameDecoder;
  #frames: Frame[] = [];
  #at = 0;
  #queuedBytes = 0;
  #ended = false;
  #discarding = false;
  #error: BuildError | undefined;
  #wake: (() => void) | undefined;

  /** `grpc-encoding` of the peer, once known. Any message may still be uncompressed. */
  encoding: string | undefined;

  constructor(stream: Http2Stream, maxMessageBytes: number) {
    this.#stream = stream;
    this.#maxMessageBytes = maxMessageBytes;
    this.#decoder = new FrameDecoder(maxMessageBytes);
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.on('end', () => this.#onEnd());
  }

  /** Resolves or rejects whoever waits, now and from now on, once the queue is read. */
  fail(error: BuildError): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** Ends iteration once the queue is read, as if the peer had half-closed. */
  finish(): void {
    this.#ended = true;
    this.#wake?.();
  }

  /** Drops what is queued and what still comes, so that the stream can end. */
  discard(): void {
    this.#discarding = true;
    this.#ended = true;
    this.#frames = [];
    this.#at = 0;
    this.#stream.resume();
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const frame = await this.#take();
    if (frame === undefined) return { done: true, value: undefined };
    return { done: false, value: frame.compressed ? await this.#inflate(frame.bytes) : frame.bytes };
  }

  /** As `next`, but a message comes in the pieces it arrived in, so that none of it is copied. */
  async nextPieces(): Promise<IteratorResult<readonly Uint8Array[], undefined>> {
    const frame = await this.#take();
    if (frame === undefined) return { done: true, value: undefined };
    return { done: false, value: frame.compressed ? [await this.#inflate(frame.bytes)] : frame.pieces };
  }

  async #take(): Promise<Frame | undefined> {
    while (this.#at >= this.#frames.length) {
      if (this.#error !== undefined) throw this.#error;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    const frame = this.#frames[this.#at++] as Frame;
    if (this.#at === this.#frames.length) {
      this.#frames = [];
      this.#at = 0;
    }
    this.#queuedBytes -= frame.byteLength;
    if (this.#queuedBytes < LOW_BYTES && this.#stream.isPaused()) this.#stream.resume();
    return frame;
  }

  return(): Promise<IteratorResult<never, undefined>> {
    this.discard();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #onData(chunk: Buffer): void {
    if (this.#discarding || this.#error !== undefined) return;
    try {
      this.#decoder.push(chunk, (frame) => {
        this.#frames.push(frame);
        this.#queuedBytes += frame.byteLength;
      });
    } catch (error) {
      this.fail(BuildError.from(error));
      return;
    }
    if (this.#queuedBytes > HIGH_BYTES) this.#stream.pause();
    if (this.#frames.length > this.#at) this.#wake?.();
  }

  #onEnd(): void {
    if (!this.#decoder.idle && !this.#discarding) {
      this.fail(new BuildError('internal', 'the stream ended in the middle of a gRPC message'));
    }
    this.#ended = true;
    this.#wake?.();
  }

  async #inflate(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.encoding !== 'gzip') {
      throw new BuildError('internal', `compressed message with grpc-encoding "${this.encoding ?? 'identity'}"`);
    }
    const maxMessageBytes = this.#maxMessageBytes;
    const options = { maxOutputLength: maxMessageBytes };
    try {
      return bytes.byteLength <= SYNC_GUNZIP_BYTES ? gunzipSync(bytes, options) : await gunzipAsync(bytes, options);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        throw new BuildError('exhausted', `grpc: message after decompression larger than max (${maxMessageBytes})`);
      }
      throw new BuildError('internal', 'malformed gzip in a gRPC message', {}, { cause: error });
    }
  }
}
