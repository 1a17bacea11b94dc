/**
 * Bytes from one thread to another through shared memory: what a context transfer brings in would otherwise be allocated, handed over
 * and collected once more per byte. One writer, one reader. The writer announces bytes with a message of its own (`count` for `taken`);
 * the reader confirms in shared memory and says so with a message only when the writer has run out of room.
 */
export const RING_BYTES = 1024 * 1024;

/** Positions in `state`. Totals are modulo 2^32. */
const TAKEN = 0;
const STARVED = 1;
/** Value of TAKEN at which a starved writer is told. */
const WAKE_AT = 2;
/** A writer that was woken for every byte would write in driblets. */
const WAKE_ROOM_BYTES = RING_BYTES / 2;

export interface SharedRing {
  readonly bytes: SharedArrayBuffer;
  readonly state: SharedArrayBuffer;
}

export function createRing(): SharedRing {
  return { bytes: new SharedArrayBuffer(RING_BYTES), state: new SharedArrayBuffer(12) };
}

export class RingWriter {
  readonly #bytes: Uint8Array;
  readonly #state: Int32Array;
  #written = 0;

  constructor(ring: SharedRing) {
    this.#bytes = new Uint8Array(ring.bytes);
    this.#state = new Int32Array(ring.state);
  }

  /** Copies as much of `data` as there is room for; returns how much that was. */
  write(data: Uint8Array): number {
    const count = Math.min(data.byteLength, this.#room());
    const at = this.#written % RING_BYTES;
    const first = Math.min(count, RING_BYTES - at);
    this.#bytes.set(data.subarray(0, first), at);
    this.#bytes.set(data.subarray(first, count), 0);
    this.#written = (this.#written + count) >>> 0;
    return count;
  }

  /** Asks the reader for a message once half of the ring is free. False when it is already. */
  starve(): boolean {
    Atomics.store(this.#state, WAKE_AT, this.#written - RING_BYTES + WAKE_ROOM_BYTES);
    Atomics.store(this.#state, STARVED, 1);
    if (this.#room() < WAKE_ROOM_BYTES) return true;
    Atomics.store(this.#state, STARVED, 0);
    return false;
  }

  #room(): number {
    return RING_BYTES - ((this.#written - Atomics.load(this.#state, TAKEN)) >>> 0);
  }
}

export class RingReader {
  readonly #bytes: Buffer;
  readonly #state: Int32Array;
  #at = 0;

  constructor(ring: SharedRing) {
    this.#bytes = Buffer.from(ring.bytes);
    this.#state = new Int32Array(ring.state);
  }

  /** The next `count` bytes, announced and not read before, in one or two pieces. Valid until they are confirmed with `take`. */
  *read(count: number): Generator<Buffer, void, undefined> {
    let rest = count;
    while (rest > 0) {
      const piece = this.#bytes.subarray(this.#at, Math.min(this.#at + rest, RING_BYTES));
      this.#at = (this.#at + piece.length) % RING_BYTES;
      rest -= piece.length;
      yield piece;
    }
  }

  /** Gives the room of `count` bytes back. True when the writer waits for a message about it. */
  take(count: number): boolean {
    const taken = (Atomics.add(this.#state, TAKEN, count) + count) | 0;
    if (Atomics.load(this.#state, STARVED) === 0 || ((taken - Atomics.load(this.#state, WAKE_AT)) | 0) < 0) return false;
    return Atomics.exchange(this.#state, STARVED, 0) === 1;
  }
}
