/** Decompresses a blob into a file, in a thread, checking both digests. */
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import type { Digest } from '../../../core/digest.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { type BlobSource, inflate } from './inflate.ts';

export interface InflateArgs extends BlobSource {
  /** A new file. */
  readonly path: string;
}
export interface InflateOutput {
  /** Of the uncompressed file. */
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** The file is removed again when this fails. */
export async function inflateBlob(args: InflateArgs, context: TaskContext): Promise<InflateOutput> {
  const fd = openSync(args.path, 'wx', 0o644);
  let done = false;
  try {
    let sizeBytes = 0;
    for await (const chunk of inflate(args, context)) {
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      sizeBytes += chunk.length;
    }
    done = true;
    return { digest: args.diffId as string as Digest, sizeBytes };
  } finally {
    closeSync(fd);
    if (!done) unlinkSync(args.path);
  }
}
