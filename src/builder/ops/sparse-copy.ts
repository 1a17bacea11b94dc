/** Files with holes: a copy keeps them, or a database image of a few megabytes would become one of gigabytes. */
import { type BigIntStats, closeSync, constants, fchmodSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';

const CHUNK_BYTES = 1024 * 1024;
const BLOCK_BYTES = 64 * 1024;
const MIN_BYTES = 1_048_576n; // below, a hole saves less than looking for it costs

/** Has fewer blocks than its size needs, by a good part. */
export function isSparse(stat: BigIntStats): boolean {
  return stat.size >= MIN_BYTES && stat.blocks * 512n < stat.size - stat.size / 8n;
}

/** Copies to a new file, leaving blocks of zeros out. */
export function copySparse(source: string | Buffer, target: string | Buffer, sizeBytes: number): void {
  const from = openSync(source, constants.O_RDONLY);
  try {
    const to = openSync(target, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(sizeBytes, 1)));
      for (let at = 0; ; ) {
        const read = readSync(from, chunk, 0, chunk.length, at);
        if (read === 0) break;
        writeBlocks(to, chunk.subarray(0, read), at);
        at += read;
      }
      ftruncateSync(to, sizeBytes);
      fchmodSync(to, 0o600);
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

function writeBlocks(to: number, data: Buffer, position: number): void {
  for (let at = 0; at < data.length; at += BLOCK_BYTES) {
    const block = data.subarray(at, at + BLOCK_BYTES);
    if (!block.equals(ZEROS.subarray(0, block.length))) writeSync(to, block, 0, block.length, position + at);
  }
}
