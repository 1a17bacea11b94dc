/**
 * What a proxy does to bytes on their way, with the verbs and attributes of toxiproxy (https://github.com/Shopify/toxiproxy#toxics), so
 * that a game is written once and runs on either. Times are milliseconds, `rate` is kilobytes a second.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export const TOXIC_ATTRIBUTES = {
  latency: ['latency', 'jitter'],
  bandwidth: ['rate'],
  slow_close: ['delay'],
  timeout: ['timeout'],
  reset_peer: ['timeout'],
  slicer: ['average_size', 'size_variation', 'delay'],
  limit_data: ['bytes'],
} as const;
export type ToxicType = keyof typeof TOXIC_ATTRIBUTES;
export interface Toxic {
  readonly name: string;
  readonly type: ToxicType;
  readonly stream: 'upstream' | 'downstream';
  /** Share of connections it applies to, 0 to 1. */
  readonly toxicity: number;
  readonly attributes: Readonly<Record<string, number>>;
}

interface Piece {
  readonly bytes: Buffer;
  readonly arrivedMs: number;
}
const MAX_QUEUED = 64;

/**
 * Carries everything from one socket to the other under the toxics of the moment; resolves when the stream has ended or was cut. Never
 * rejects: a broken connection is what this is for.
 */
export async function carry(from: Socket, to: Socket, toxicsNow: () => readonly Toxic[]): Promise<void> {
  const queue: Piece[] = [];
  let ended = false;
  let wake = (): void => undefined;
  from.on('data', (bytes: Buffer) => {
    queue.push({ bytes, arrivedMs: Date.now() });
    if (queue.length >= MAX_QUEUED) from.pause();
    wake();
  });
  const end = (): void => {
    ended = true;
    wake();
  };
  from.once('end', end).once('close', end);
  let sentBytes = 0;
  for (;;) {
    const piece = queue.shift();
    if (piece === undefined) {
      if (ended) break;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    if (from.isPaused()) from.resume();
    const left = await delayed(piece, toxicsNow());
    if (left === 'cut' || to.destroyed) return cut(from, to);
    const limit = attribute(toxicsNow(), 'limit_data', 'bytes');
    const bytes = limit === undefined ? piece.bytes : piece.bytes.subarray(0, Math.max(0, limit - sentBytes));
    sentBytes += bytes.byteLength;
    await send(to, bytes, toxicsNow());
    if (limit !== undefined && sentBytes >= limit) return cut(from, to);
  }
  const closing = attribute(toxicsNow(), 'slow_close', 'delay');
  if (closing !== undefined) await sleep(closing);
  to.end();
}

function cut(...sockets: readonly Socket[]): void {
  for (const socket of sockets) socket.destroy();
}

const attribute = (toxics: readonly Toxic[], type: ToxicType, name: string): number | undefined => {
  const toxic = toxics.find((one) => one.type === type);
  return toxic === undefined ? undefined : (toxic.attributes[name] ?? 0);
};

/** Waits as long as the toxics say. `cut`: nothing of it may pass. */
async function delayed(piece: Piece, toxics: readonly Toxic[]): Promise<'pass' | 'cut'> {
  const timeoutMs = attribute(toxics, 'timeout', 'timeout');
  if (timeoutMs !== undefined) {
    // 0 says: silence until the toxic goes, and then the proxy closes the connection.
    await sleep(timeoutMs === 0 ? 2 ** 31 - 1 : timeoutMs, undefined, { ref: false });
    return 'cut';
  }
  const latencyMs = attribute(toxics, 'latency', 'latency');
  if (latencyMs !== undefined) {
    const jitterMs = (attribute(toxics, 'latency', 'jitter') ?? 0) * (Math.random() * 2 - 1);
    const waitMs = piece.arrivedMs + latencyMs + jitterMs - Date.now();
    if (waitMs > 0) await sleep(waitMs);
  }
  const rate = attribute(toxics, 'bandwidth', 'rate');
  if (rate !== undefined) await sleep(Math.min(2 ** 31 - 1, piece.bytes.byteLength / Math.max(rate, 0.001)));
  return 'pass';
}

async function send(to: Socket, bytes: Buffer, toxics: readonly Toxic[]): Promise<void> {
  const slicer = toxics.find(({ type }) => type === 'slicer');
  const average = Math.max(1, slicer?.attributes.average_size ?? bytes.byteLength);
  for (let at = 0; at < bytes.byteLength; ) {
    const variation = (slicer?.attributes.size_variation ?? 0) * (Math.random() * 2 - 1);
    const size = Math.max(1, Math.round(average + variation));
    if (!to.write(bytes.subarray(at, at + size))) await drained(to);
    at += size;
    // toxiproxy counts this one delay in microseconds
    if (slicer !== undefined && at < bytes.byteLength) await sleep((slicer.attributes.delay ?? 0) / 1000);
  }
}

const drained = (to: Socket): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      to.off('drain', done).off('close', done);
      resolve();
    };
    if (to.destroyed) return resolve();
    to.once('drain', done).once('close', done);
  });
