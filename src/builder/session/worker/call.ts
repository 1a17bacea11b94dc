/** A call in flight, as the worker sees it: its abort, its messages to and from the main thread, its reports. */
import type { BuildError } from '../../../core/errors.ts';
import { CallChannel } from './call-channel.ts';
import type { FromWorker } from './protocol.ts';

const PROGRESS_MS = 100; // as often as progress is shown
const DIGEST_BATCH = 1_000; // a message that the main thread unpacks in about a millisecond

export class Call {
  readonly id: number;
  readonly channel: CallChannel;
  readonly #post: (message: FromWorker) => void;
  readonly #aborted = new AbortController();
  #progressBytes = 0;
  #progressAt = 0;
  #digests: (readonly [string, string])[] = [];
  #links: (readonly [string, string])[] = [];

  constructor(id: number, post: (message: FromWorker, transfer?: ArrayBuffer[]) => void) {
    this.id = id;
    this.#post = post;
    this.channel = new CallChannel(id, post);
  }

  get signal(): AbortSignal {
    return this.#aborted.signal;
  }
  abort(reason: BuildError): void {
    this.#aborted.abort(reason);
    this.channel.fail(reason);
  }

  /** Reported a few times per second. */
  readonly progress = (bytes: number): void => {
    this.#progressBytes += bytes;
    const nowMs = performance.now();
    if (nowMs - this.#progressAt < PROGRESS_MS) return;
    this.#progressAt = nowMs;
    this.#reportProgress();
  };

  digest(path: string, digest: string): void {
    this.#digests.push([path, digest]);
    if (this.#digests.length >= DIGEST_BATCH) this.#reportDigests();
  }
  link(path: string, target: string): void {
    this.#links.push([path, target]);
    if (this.#links.length >= DIGEST_BATCH) this.#reportDigests();
  }

  /** Reports what has been held back. */
  flush(): void {
    if (this.#progressBytes > 0) this.#reportProgress();
    if (this.#digests.length + this.#links.length > 0) this.#reportDigests();
  }

  #reportProgress(): void {
    this.#post({ type: 'progress', call: this.id, bytes: this.#progressBytes });
    this.#progressBytes = 0;
  }
  #reportDigests(): void {
    this.#post({ type: 'digests', call: this.id, digests: this.#digests, links: this.#links });
    this.#digests = [];
    this.#links = [];
  }
}
