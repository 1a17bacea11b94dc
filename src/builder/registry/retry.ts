/**
 * Trying again, within bounds: per call a number of attempts and a total wait, per host a budget that many failing calls share, so
 * that a registry which is down is not hit several times as hard by everyone at once.
 */
import { delay } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';

export interface RetryLimits {
  /** Attempts per call, the first included. */
  readonly attempts: number;
  /** First wait; doubled each time, cut to `maxDelayMs`, then halved to full at random. */
  readonly baseDelayMs: number;
  readonly maxDelayMs: number;
  /** Longest Retry-After that is waited out; a longer one fails the call at once and is told to the client. */
  readonly maxRetryAfterMs: number;
}
export const DEFAULT_RETRIES: RetryLimits = { attempts: 5, baseDelayMs: 500, maxDelayMs: 8_000, maxRetryAfterMs: 60_000 };

const BUDGET = 30; // retries a host may cost in a burst
const REFILL_PER_SUCCESS = 0.2; // so that in the long run at most one request in six is a retry

/** The retries of one host. */
export class RetryBudget {
  #tokens = BUDGET;
  success(): void {
    this.#tokens = Math.min(BUDGET, this.#tokens + REFILL_PER_SUCCESS);
  }
  /** False when the host has used up its retries. */
  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/**
 * Runs `attempt` until it succeeds, fails with anything but `unavailable`, or the bounds are reached; then the last error stands.
 * `onRetry` hears of each wait.
 */
export async function withRetries<T>(
  attempt: (number: number) => Promise<T>,
  options: {
    readonly limits: RetryLimits;
    readonly budget: RetryBudget;
    readonly signal: AbortSignal;
    readonly onRetry?: (error: BuildError, delayMs: number) => void;
  },
): Promise<T> {
  const { limits, budget, signal } = options;
  for (let number = 1; ; number += 1) {
    try {
      const value = await attempt(number);
      budget.success();
      return value;
    } catch (thrown) {
      const error = BuildError.from(thrown);
      if (error.kind !== 'unavailable' || isUnknownHost(error) || number >= limits.attempts) throw error;
      if (signal.aborted || !budget.take()) throw error;
      const delayMs = delayOf(error, number, limits);
      if (delayMs === undefined) throw error;
      options.onRetry?.(error, delayMs);
      await delay(delayMs, signal);
    }
  }
}

/** The name of the host does not resolve: it will not a second later either. */
const isUnknownHost = (error: BuildError): boolean => (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOTFOUND';

/** Undefined when the host asks for a longer pause than we wait. */
function delayOf(error: BuildError, number: number, limits: RetryLimits): number | undefined {
  const askedMs = error.detail.retryAfterS === undefined ? 0 : error.detail.retryAfterS * 1000;
  if (askedMs > limits.maxRetryAfterMs) return undefined;
  const backoffMs = Math.min(limits.maxDelayMs, limits.baseDelayMs * 2 ** (number - 1));
  return Math.max(askedMs, backoffMs * (0.5 + Math.random() / 2));
}

/** Seconds of a Retry-After header, given as a number or as a date; undefined when absent or unreadable. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header);
  const dateMs = Date.parse(header);
  return Number.isNaN(dateMs) ? undefined : Math.max(0, Math.ceil((dateMs - nowMs) / 1000));
}
