/**
 * What is put around every store, whatever it talks to: a breaker that all builds share, deadlines for the answer and for silence, a
 * floor for the speed of a transfer, and a few tries within a budget. The store itself makes one attempt per call.
 */
import { abortable, deadline, delay, throwIfAborted } from '../../../core/abort.ts';
import type { Clock } from '../../../core/clock.ts';
import { nsToMs, nsToSeconds } from '../../../core/clock.ts';
import type { Digest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import type { Breaker, BreakerLimits } from './breaker.ts';
import type { BlobContent, BlobStat, CacheObserver, CacheOp, CacheStore, CallResult } from './ports.ts';

export interface PolicyLimits {
  readonly breaker: BreakerLimits;
  /** Attempts per call, the first included. */
  readonly attempts: number;
  /** First wait between two; doubled each time, cut by up to a half at random. */
  readonly retryDelayMs: number;
  /** Longest Retry-After that is waited out. */
  readonly maxRetryAfterMs: number;
  /** Until a small answer (a configuration, whether a blob is there) is complete. */
  readonly answerMs: number;
  /** Longest silence of a transfer. */
  readonly silenceMs: number;
  /** A transfer that has run for `slowAfterMs` must have moved this much per second on average. */
  readonly minBytesPerS: number;
  readonly slowAfterMs: number;
  /** A write as a whole. */
  readonly writeMs: number;
}
export const DEFAULT_POLICY: PolicyLimits = {
  breaker: { failures: 3, coolDownMs: 5_000, maxCoolDownMs: 60_000, connectMs: 700 },
  attempts: 3,
  retryDelayMs: 100,
  maxRetryAfterMs: 3_000,
  answerMs: 5_000,
  silenceMs: 10_000,
  minBytesPerS: 16 * 1024,
  slowAfterMs: 10_000,
  writeMs: 600_000,
};

/** Says nothing of the place: it answered, or the caller or we are at fault. */
const TELLS_OF_OUTAGE: ReadonlySet<string> = new Set(['unavailable', 'timed-out', 'exhausted']);

/** A store under the policy. Disposing it disposes the store. */
export class GuardedStore implements AsyncDisposable {
  readonly store: CacheStore;
  readonly #breaker: Breaker;
  readonly #limits: PolicyLimits;
  readonly #clock: Clock;
  readonly #observer: CacheObserver;

  constructor(store: CacheStore, breaker: Breaker, limits: PolicyLimits, clock: Clock, observer: CacheObserver) {
    this.store = store;
    this.#breaker = breaker;
    this.#limits = limits;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** Why calls are refused at present; undefined when they are not. */
  get refusal(): string | undefined {
    return this.#breaker.refusal;
  }

  /** See Breaker. */
  patienceMs(leastMs: number): number {
    return this.#breaker.patienceMs(leastMs);
  }
  imported(tookMs: number): void {
    this.#breaker.imported(tookMs);
  }
  overdue(): void {
    this.#breaker.overdue();
  }
  /** A read that nobody waits for any more was ended before there was an answer: as good as no answer. */
  abandoned(error: BuildError): void {
    this.#breaker.failed(error);
  }

  readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return this.#tried('manifest-read', signal, (inner) => this.#answered(inner, (own) => this.store.readManifest(name, own)));
  }

  async writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#tried('manifest-write', signal, (inner) =>
      this.#within('writing the cache configuration', this.#limits.silenceMs, inner, (own) =>
        this.store.writeManifest(name, bytes, own),
      ),
    );
  }

  statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined> {
    return this.#tried('blob-stat', signal, (inner) => this.#answered(inner, (own) => this.store.statBlob(digest, own)));
  }

  async touchBlob(digest: Digest, sizeBytes: number, signal: AbortSignal): Promise<void> {
    await this.#tried('blob-touch', signal, (inner) =>
      this.#answered(inner, async (own) => await this.store.touchBlob?.(digest, sizeBytes, own)),
    );
  }

  /** Hands the bytes to `take`, which consumes them all; from the beginning again when a try fails. */
  async readBlob(
    descriptor: Descriptor,
    signal: AbortSignal,
    take: (bytes: AsyncIterable<Uint8Array>, signal: AbortSignal) => Promise<void>,
    onProgress: (bytes: number) => void,
  ): Promise<void> {
    await this.#tried('blob-read', signal, async (inner) => {
      using watch = this.#watched(inner);
      const { store } = this;
      let moved = 0;
      const count = (bytes: number): void => {
        moved += bytes;
        watch.moved(bytes);
        onProgress(bytes);
      };
      try {
        if (store.fetchBlob !== undefined) await store.fetchBlob(descriptor, watch.signal, count);
        else await take(counted(store.readBlob(descriptor.digest, 0, watch.signal), count, watch.signal), watch.signal);
      } catch (error) {
        onProgress(-moved);
        throw watch.signal.aborted && !inner.aborted ? BuildError.from(watch.signal.reason) : error;
      }
      return descriptor.size;
    });
  }

  async writeBlob(descriptor: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void> {
    await this.#tried('blob-write', signal, async (inner) => {
      await this.#within('writing a cache blob', this.#limits.writeMs, inner, (own) =>
        this.store.writeBlob(descriptor, content, own),
      );
      return descriptor.size;
    });
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.store[Symbol.asyncDispose]();
  }

  async #tried<T>(op: CacheOp, signal: AbortSignal, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (let number = 1; ; number += 1) {
      const startedAtNs = this.#clock.nowNs();
      const told = (result: CallResult, bytes: number): void =>
        this.#observer.operation(this.store.backend, op, result, nsToSeconds(this.#clock.nowNs() - startedAtNs), bytes);
      const wasOpen = this.#breaker.refusal !== undefined;
      let failure: BuildError;
      try {
        await this.#breaker.enter(signal);
      } catch (error) {
        told(wasOpen ? 'skipped' : 'unavailable', 0);
        throw error;
      }
      try {
        const value = await attempt(signal);
        this.#breaker.succeeded();
        told(value === undefined && op !== 'manifest-write' ? 'miss' : 'ok', bytesOf(value));
        return value;
      } catch (thrown) {
        failure = this.#failureOf(thrown, signal);
      }
      told(failure.kind, 0);
      const again = this.#delayMs(failure, number);
      if (again === undefined || signal.aborted || !this.#breaker.budget.take()) throw failure;
      await delay(again, signal);
    }
  }

  #failureOf(thrown: unknown, signal: AbortSignal): BuildError {
    if (signal.aborted) {
      this.#breaker.forgot();
      return BuildError.from(signal.reason);
    }
    const error = BuildError.from(thrown);
    if (isOwnShortage(error)) this.#breaker.forgot();
    else if (TELLS_OF_OUTAGE.has(error.kind)) this.#breaker.failed(error);
    else this.#breaker.succeeded();
    return error;
  }

  /** Undefined: not tried again. What was slow once is not waited for again. */
  #delayMs(error: BuildError, number: number): number | undefined {
    const { attempts, retryDelayMs, maxRetryAfterMs } = this.#limits;
    if (number >= attempts || (error.kind !== 'unavailable' && error.kind !== 'exhausted')) return undefined;
    if (isOwnShortage(error)) return undefined;
    if (this.#breaker.state !== 'closed') return undefined;
    const askedMs = (error.detail.retryAfterS ?? 0) * 1000;
    if (askedMs > maxRetryAfterMs) return undefined;
    return Math.max(askedMs, retryDelayMs * 2 ** (number - 1) * (0.5 + Math.random() / 2));
  }

  #answered<T>(signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return this.#within('the answer of the cache', this.#limits.answerMs, signal, call);
  }

  async #within<T>(what: string, ms: number, signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    using limit = deadline(what, ms);
    try {
      const either = AbortSignal.any([signal, limit.signal]);
      throwIfAborted(either); // a call that began now would reject with nobody listening
      return await abortable(call(either), either);
    } catch (error) {
      throw limit.signal.aborted && !signal.aborted ? BuildError.from(limit.signal.reason) : error;
    }
  }

  /** Aborts a transfer that has gone silent or is too slow to be worth it. */
  #watched(signal: AbortSignal) {
    const { silenceMs, minBytesPerS, slowAfterMs } = this.#limits;
    const controller = new AbortController();
    const startedAtNs = this.#clock.nowNs();
    let total = 0;
    let movedAtNs = startedAtNs;
    const look = (): void => {
      const nowNs = this.#clock.nowNs();
      const elapsedMs = nsToMs(nowNs - startedAtNs);
      if (nsToMs(nowNs - movedAtNs) > silenceMs)
        controller.abort(new BuildError('timed-out', `no byte for ${silenceMs} ms from ${this.store.label}`));
      else if (elapsedMs > slowAfterMs && total / (elapsedMs / 1000) < minBytesPerS)
        controller.abort(new BuildError('timed-out', `${this.store.label} sent ${total} bytes in ${Math.round(elapsedMs)} ms`));
    };
    const timer = setInterval(look, Math.max(50, Math.min(1_000, silenceMs / 4, slowAfterMs / 4)));
    timer.unref();
    return {
      signal: AbortSignal.any([signal, controller.signal]),
      moved: (bytes: number): void => {
        total += bytes;
        movedAtNs = this.#clock.nowNs();
      },
      [Symbol.dispose]: () => clearInterval(timer),
    };
  }
}

/** This machine's disk or descriptors, whatever the store does; an error that came from a thread has only its text. */
const isOwnShortage = ({ kind, message }: BuildError): boolean =>
  kind === 'exhausted' && /ENOSPC|EDQUOT|EMFILE|ENFILE|ENOMEM|no space left/i.test(message);

/** Calls that move blobs return how much. */
const bytesOf = (value: unknown): number =>
  typeof value === 'number' ? value : value instanceof Uint8Array ? value.byteLength : 0;

/** Ends with the signal even where the source does not look at it. */
async function* counted(
  bytes: AsyncIterable<Uint8Array>,
  count: (bytes: number) => void,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  const iterator = bytes[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => undefined);
  const onAbort = (): void => aborted.reject(BuildError.from(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next.done === true) return;
      count(next.value.byteLength);
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    void iterator.return?.().catch(() => undefined);
  }
}
