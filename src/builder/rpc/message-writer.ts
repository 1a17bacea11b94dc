/** Messages going out on an HTTP/2 stream, held back while the peer is slow. */
import type { Http2Stream } from 'node:http2';
import { BuildError, cancelled } from '../../core/errors.ts';
import { bytesMessageHead } from './bytes-message.ts';
import { framePrefix } from './framing.ts';

/**
 * Unsent bytes up to which a stream counts as writable. Node's own mark (16 KiB) stalls on every 32 KiB message; 256 KiB doubled the
 * throughput of such streams and 1 MiB added nothing.
 */
const WRITABLE_BYTES = 256 * 1024;
/** Messages up to here are copied behind their prefix: one small write is cheaper than two. */
const COPY_BYTES = 4 * 1024;
const READY = Promise.resolve();

export class MessageWriter {
  readonly #stream: Http2Stream;
  readonly #maxMessageBytes: number;
  /** The wait for room, shared by everybody who sends meanwhile. */
  #room: Promise<void> | undefined;

  constructor(stream: Http2Stream, maxMessageBytes: number) {
    this.#stream = stream;
    this.#maxMessageBytes = maxMessageBytes;
  }

  /**
   * Queues a message at once, in call order, and resolves when there is room for the next. `message` must not change afterwards.
   * Rejects with `cancelled` when the stream is gone and with `exhausted` for a message above the limit.
   */
  send(message: Uint8Array): Promise<void> {
    return this.#write(undefined, message);
  }

  /** Sends a BytesMessage that holds `data`, without copying it. */
  sendData(data: Uint8Array): Promise<void> {
    return this.#write(bytesMessageHead(data.byteLength), data);
  }

  #write(head: Uint8Array | undefined, body: Uint8Array): Promise<void> {
    const stream = this.#stream;
    if (stream.destroyed || stream.closed || stream.writableEnded) return refused(cancelled('the stream is closed'));
    const length = (head?.byteLength ?? 0) + body.byteLength;
    if (length > this.#maxMessageBytes) {
      return refused(
        new BuildError('exhausted', `grpc: trying to send message larger than max (${length} vs. ${this.#maxMessageBytes})`),
      );
    }
    const prefix = framePrefix(length);
    const start = head === undefined || head.byteLength === 0 ? prefix : Buffer.concat([prefix, head]);
    if (body.byteLength <= COPY_BYTES) stream.write(Buffer.concat([start, body]));
    else {
      stream.cork();
      stream.write(start);
      stream.write(body);
      stream.uncork();
    }
    return stream.writableLength < WRITABLE_BYTES ? READY : this.#waitForRoom();
  }

  #waitForRoom(): Promise<void> {
    if (this.#room !== undefined) return this.#room;
    this.#room = new Promise<void>((resolve, reject) => {
      const stream = this.#stream;
      const settle = (): void => {
        stream.off('drain', onDrain);
        stream.off('close', onClose);
        this.#room = undefined;
      };
      const onDrain = (): void => {
        settle();
        resolve();
      };
      const onClose = (): void => {
        settle();
        reject(cancelled('the stream is closed'));
      };
      stream.on('drain', onDrain);
      stream.on('close', onClose);
    });
    this.#room.catch(() => {}); // whoever sends without waiting learns of the loss from the next call
    return this.#room;
  }
}

function refused(error: BuildError): Promise<never> {
  const rejection = Promise.reject(error);
  rejection.catch(() => {});
  return rejection;
}
