/** Request bodies read from a blob while they are sent. */
import { Readable } from 'node:stream';
import { throwIfAborted } from '../../../core/abort.ts';
import { BuildError } from '../../../core/errors.ts';
import type { BlobContent } from './ports.ts';

export interface Range {
  readonly offset: number;
  readonly length: number;
}

/**
 * Sends `range` of the blob with `send`, which gets a signal that also ends the request when the blob cannot be read: HTTP clients do
 * not listen to failures of a body they were given, and would wait for the rest. Rejects with the reading failure then.
 */
export async function sendRange<T>(
  content: BlobContent,
  range: Range,
  signal: AbortSignal,
  send: (body: Readable, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal);
  const reading = new AbortController();
  const body = Readable.from(content.read(range), { objectMode: false });
  body.on('error', (error) => reading.abort(BuildError.from(error)));
  try {
    return await send(body, AbortSignal.any([signal, reading.signal]));
  } catch (error) {
    if (!signal.aborted && reading.signal.aborted) throw reading.signal.reason;
    throw error;
  } finally {
    body.destroy();
  }
}

/** Ranges of `partBytes`, longer where the service would not take that many parts. */
export function rangesOf(sizeBytes: number, partBytes: number, maxParts = 10_000): Range[] {
  const step = Math.max(partBytes, Math.ceil(sizeBytes / maxParts));
  const count = Math.ceil(sizeBytes / step);
  return Array.from({ length: count }, (_, at) => ({ offset: at * step, length: Math.min(step, sizeBytes - at * step) }));
}

/** Runs `send` for every item, `atOnce` in flight; the first failure rejects and no further item is begun. */
export async function eachAtOnce<T>(
  items: readonly T[],
  atOnce: number,
  send: (item: T, at: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const some = async (): Promise<void> => {
    for (let item = items[next]; item !== undefined && !failed; item = items[next]) {
      const at = next;
      next += 1;
      await send(item, at).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, some));
}
