/** A queue between a producer that must not wait and a consumer that may be slow: at the bound, new items are dropped and counted. */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #capacity: number;
  #wake: (() => void) | undefined;
  #closed = false;
  #dropped = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length;
  }
  /** Items refused so far because the queue was full. */
  get dropped(): number {
    return this.#dropped;
  }

  /** False when the item was dropped: the queue is full or closed. */
  push(item: T): boolean {
    if (this.#closed) return false;
    if (this.#items.length >= this.#capacity) {
      this.#dropped += 1;
      return false;
    }
    this.#items.push(item);
    this.#wake?.();
    return true;
  }

  /** What is queued is still delivered; then iteration ends. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  /** Up to `count` of the oldest, without waiting. */
  take(count: number): T[] {
    return this.#items.splice(0, count);
  }

  /** Everything queued right now, without waiting. */
  drain(): T[] {
    return this.#items.splice(0);
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    while (true) {
      while (this.#items.length > 0) yield this.#items.shift() as T;
      if (this.#closed) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
