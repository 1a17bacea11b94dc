/** A stream of BytesMessages as a byte stream, both ways: what HTTP/2 inside Control.Session, or an ssh agent, runs on. */
import { Duplex } from 'node:stream';
import { decodeBytesMessage } from './bytes-message.ts';

/** RawStream of a served call, or RpcStream of a call made; `end` half-closes where the stream can. */
export interface BytesStream extends AsyncIterable<Uint8Array> {
  sendData(data: Uint8Array): Promise<void>;
  end?(): void;
}

const HIGH_BYTES = 256 * 1024;

/**
 * `stream` as a Duplex. The peer's half-close ends the readable side, a failed call destroys the duplex with its BuildError. Ending the
 * writable side half-closes a call made by us; a served call ends when its handler returns, so there it only stops writing.
 */
export function bytesDuplex(stream: BytesStream): Duplex {
  const messages = stream[Symbol.asyncIterator]();
  let reading = false;
  const duplex = new Duplex({
    readableHighWaterMark: HIGH_BYTES,
    writableHighWaterMark: HIGH_BYTES,
    read() {
      if (!reading) void pump();
    },
    write(chunk: Buffer, _encoding, done) {
      stream.sendData(chunk).then(() => done(), done);
    },
    final(done) {
      stream.end?.();
      done();
    },
    destroy(error, done) {
      void messages.return?.();
      done(error);
    },
  });
  async function pump(): Promise<void> {
    reading = true;
    try {
      while (true) {
        const { done, value } = await messages.next();
        if (duplex.destroyed) return;
        if (done === true) {
          duplex.push(null);
          return;
        }
        const data = decodeBytesMessage(value);
        if (data.byteLength > 0 && !duplex.push(data)) break;
      }
      reading = false;
    } catch (error) {
      duplex.destroy(error as Error);
    }
  }
  return duplex;
}
