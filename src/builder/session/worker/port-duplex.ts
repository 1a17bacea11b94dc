/** The worker's end of a session's tunnel: a byte stream over a port and a ring, which the nested HTTP/2 connection takes for a socket. */
import { Duplex } from 'node:stream';
import type { MessagePort } from 'node:worker_threads';
import { RING_BYTES, RingReader, type SharedRing } from './byte-ring.ts';
import { type FromTunnel, ownBytes, type ToTunnel, TUNNEL_WINDOW_BYTES } from './protocol.ts';

type Done = (error?: Error | null) => void;

export class PortDuplex extends Duplex {
  readonly #port: MessagePort;
  readonly #ring: RingReader;
  /** Bytes of the ring not given back, because the reader asked for a pause. */
  #heldBack = 0;
  #unconfirmedBytes = 0;
  #waiting: Done | undefined;

  constructor(port: MessagePort, ring: SharedRing) {
    super({ readableHighWaterMark: RING_BYTES, writableHighWaterMark: TUNNEL_WINDOW_BYTES });
    this.#port = port;
    this.#ring = new RingReader(ring);
  }

  /** A message of the tunnel from the main thread. */
  receive(message: ToTunnel): void {
    if (this.destroyed) return;
    if (message.type === 'sent') this.#sent(message.count);
    else for (const piece of this.#ring.read(message.count)) this.#arrived(piece);
  }

  override _read(): void {
    this.#release();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#post([chunk], done);
  }
  override _writev(chunks: { chunk: Buffer }[], done: Done): void {
    this.#post(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }
  override _final(done: Done): void {
    done(); // the whole connection ends with it
  }
  override _destroy(error: Error | null, done: Done): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(error);
    this.#port.postMessage({ type: 'end' } satisfies FromTunnel);
    done(error);
  }

  #post(chunks: readonly Uint8Array[], done: Done): void {
    const bytes = ownBytes(chunks);
    this.#unconfirmedBytes += bytes.byteLength;
    this.#port.postMessage({ type: 'bytes', bytes } satisfies FromTunnel, [bytes.buffer]);
    if (this.#unconfirmedBytes < TUNNEL_WINDOW_BYTES) done();
    else this.#waiting = done;
  }

  #sent(count: number): void {
    this.#unconfirmedBytes -= count;
    if (this.#waiting === undefined || this.#unconfirmedBytes >= TUNNEL_WINDOW_BYTES) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting();
  }

  /** A reader that is flowing has taken the bytes when `push` returns; one that is not gets a copy, since the ring goes round. */
  #arrived(piece: Buffer): void {
    const atOnce = this.readableFlowing === true && this.readableLength === 0;
    this.#heldBack += piece.length;
    if (this.push(atOnce ? piece : Buffer.from(piece))) this.#release();
  }

  #release(): void {
    if (this.#heldBack === 0) return;
    const starved = this.#ring.take(this.#heldBack);
    this.#heldBack = 0;
    if (starved) this.#port.postMessage({ type: 'drained' } satisfies FromTunnel);
  }
}
