/**
 * Output of one step on its way to the builds that watch it: pieces are joined until 64 KiB or 20 ms, so that a chatty compiler costs
 * a few events and not thousands.
 */
const MAX_BYTES = 64 * 1024;
const MAX_WAIT_MS = 20;

export class LogBuffer {
  readonly #emit: (stream: 1 | 2, data: Uint8Array) => void;
  #stream: 1 | 2 = 1;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(emit: (stream: 1 | 2, data: Uint8Array) => void) {
    this.#emit = emit;
  }

  /** Takes the bytes over; the caller does not write to them again. Order is kept, between the streams too. */
  write(stream: 1 | 2, data: Uint8Array): void {
    if (data.byteLength === 0) return;
    if (stream !== this.#stream) this.flush();
    this.#stream = stream;
    for (let at = 0; at < data.byteLength; ) {
      const piece = data.subarray(at, at + MAX_BYTES - this.#bytes);
      this.#pieces.push(piece);
      this.#bytes += piece.byteLength;
      at += piece.byteLength;
      if (this.#bytes >= MAX_BYTES) this.flush();
    }
    if (this.#bytes > 0) this.#timer ??= setTimeout(() => this.flush(), MAX_WAIT_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#bytes === 0) return;
    const [only] = this.#pieces;
    const data = this.#pieces.length === 1 && only !== undefined ? only : Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    this.#emit(this.#stream, data);
  }
}
