/** Messages of one call between the main thread and a session worker, at most CALL_WINDOW ahead of the other side. Same at both ends. */
import type { BuildError } from '../../../core/errors.ts';
import { CALL_WINDOW, type CallMessage, ownBytes } from './protocol.ts';

export type PostCallMessage = (message: CallMessage, transfer?: ArrayBuffer[]) => void;

export class CallChannel implements AsyncIterable<Uint8Array> {
  readonly #call: number;
  readonly #post: PostCallMessage;
  readonly #incoming: Uint8Array[] = [];
  #ended = false;
  #failure: BuildError | undefined;
  /** Messages sent that the other side has not dealt with. */
  #ahead = 0;
  readonly #wake = new Set<() => void>();

  constructor(call: number, post: PostCallMessage) {
    this.#call = call;
    this.#post = post;
  }

  /** Copies the message and resolves when the next may follow. Rejects with the failure. */
  async send(message: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const bytes = ownBytes([message]);
    this.#ahead += 1;
    this.#post({ type: 'message', call: this.#call, bytes }, [bytes.buffer]);
    while (this.#ahead >= CALL_WINDOW) {
      await this.#change();
      if (this.#failure !== undefined) throw this.#failure;
    }
  }

  /** No more messages from this side. */
  end(): void {
    this.#post({ type: 'half-close', call: this.#call });
  }

  receive(message: CallMessage): void {
    if (message.type === 'message') this.#incoming.push(message.bytes);
    else if (message.type === 'half-close') this.#ended = true;
    else this.#ahead -= 1;
    this.#changed();
  }

  /** What has arrived can still be read; then iteration ends. */
  finish(): void {
    this.#ended = true;
    this.#ahead = 0;
    this.#changed();
  }

  /** Whoever sends or reads gets the failure. */
  fail(failure: BuildError): void {
    this.#failure ??= failure;
    this.#changed();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    while (true) {
      if (this.#failure !== undefined) throw this.#failure;
      const message = this.#incoming.shift();
      if (message !== undefined) {
        yield message;
        this.#post({ type: 'room', call: this.#call });
      } else if (this.#ended) return;
      else await this.#change();
    }
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.add(resolve));
  }
  #changed(): void {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }
}
