/** Deadlines and aborts whose reason is always a BuildError that says which limit passed. */
import { BuildError } from './errors.ts';

export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** Aborts after `ms` with a `timed-out` BuildError that names the limit. Dispose it when the work is done. */
export function deadline(name: string, ms: number): Deadline {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(new BuildError('timed-out', `${name} took longer than ${ms} ms`)), ms);
  timer.unref();
  return { signal: controller.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}

/** Throws the abort reason as a BuildError once the signal is aborted. */
export function throwIfAborted(signal: AbortSignal): void {
  if (signal.aborted) throw BuildError.from(signal.reason);
}

/** `promise`, or the abort reason as soon as the signal aborts. The promise itself goes on; the caller owns its clean-up. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => undefined); // given up before it is waited for, its failure would end the process
  throwIfAborted(signal);
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(BuildError.from(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Resolves after `ms`, or rejects with the abort reason. */
export async function delay(ms: number, signal?: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await (signal === undefined ? promise : abortable(promise, signal));
  } finally {
    clearTimeout(timer);
  }
}
