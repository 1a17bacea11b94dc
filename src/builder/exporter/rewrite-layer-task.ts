/** One layer with its times clamped to an epoch: inflated, rewritten and compressed again in a thread, in one pass. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { type DiffId, type Digest, diffIdOf, digestFromHex } from '../../core/digest.ts';
import { cancelled } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import { codecOf, updateCrc } from '../snapshot/layer/codec.ts';
import { type BlobSource, inflate } from '../snapshot/layer/inflate.ts';
import type { Compression } from '../snapshot/ports.ts';
import { clampTimes } from './clamp-times.ts';

export interface RewriteLayerArgs {
  readonly source: BlobSource;
  readonly epochSeconds: number;
  readonly compression: Compression;
  readonly level: number | undefined;
  /** A new file for the compressed result. */
  readonly path: string;
}
export interface RewrittenLayer {
  readonly digest: Digest;
  readonly diffId: DiffId;
  readonly sizeBytes: number;
}

export async function rewriteLayer(args: RewriteLayerArgs, context: TaskContext): Promise<RewrittenLayer> {
  const codec = codecOf(args.compression, args.level);
  const file = openSync(args.path, 'wx', 0o600);
  const blob = createHash('sha256');
  const plain = createHash('sha256');
  let [sizeBytes, plainBytes, crc] = [0, 0, 0];
  const write = (bytes: Buffer): void => {
    for (let at = 0; at < bytes.byteLength; ) at += writeSync(file, bytes, at);
    blob.update(bytes);
    sizeBytes += bytes.byteLength;
  };
  try {
    write(codec.head);
    let held = Buffer.alloc(0);
    for await (const chunk of clampTimes(inflate(args.source, context), args.epochSeconds)) {
      if (context.aborted()) throw cancelled();
      plain.update(chunk);
      plainBytes += chunk.byteLength;
      if (codec.needsCrc) crc = updateCrc(chunk, crc);
      held = Buffer.concat([held, chunk]);
      // The last block is compressed differently, so one is always held back.
      for (; held.byteLength > codec.blockBytes; held = held.subarray(codec.blockBytes))
        write(codec.compress(held.subarray(0, codec.blockBytes), false));
    }
    write(codec.compress(held, true));
    write(codec.tail(crc, plainBytes));
  } finally {
    closeSync(file);
  }
  return { digest: digestFromHex(blob.digest('hex')), diffId: diffIdOf(digestFromHex(plain.digest('hex'))), sizeBytes };
}
