/** Hashes a stored blob in a thread. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { type Digest, digestFromHex } from '../../core/digest.ts';
import { cancelled } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';

export interface VerifyArgs {
  readonly path: string;
}
export interface VerifyOutput {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export function verify({ path }: VerifyArgs, context: TaskContext): VerifyOutput {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  const fd = openSync(path, 'r');
  try {
    let sizeBytes = 0;
    for (let size = readSync(fd, buffer); size > 0; size = readSync(fd, buffer)) {
      if (context.aborted()) throw cancelled();
      hash.update(buffer.subarray(0, size));
      sizeBytes += size;
    }
    return { digest: digestFromHex(hash.digest('hex')), sizeBytes };
  } finally {
    closeSync(fd);
  }
}
