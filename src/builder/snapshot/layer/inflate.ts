/**
 * Reads a stored blob and decompresses it. Inflating runs in Node's own threads, so the thread that takes the chunks hashes and writes
 * meanwhile. The compressed bytes are hashed as they are read, and at the end both digests are compared with what they should be.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { DiffId, Digest } from '../../../core/digest.ts';
import { BuildError, cancelled } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';

export interface BlobSource {
  readonly blob: string;
  readonly digest: Digest;
  /** Of the uncompressed stream. */
  readonly diffId: DiffId;
  /** The uncompressed stream may be this long. */
  readonly maxBytes: number;
}

const READ_BYTES = 256 * 1024;
const OUTPUT_BYTES = 256 * 1024;
const GZIP_MAGIC = [0x1f, 0x8b];
const ZSTD_MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

/** Chunks of the uncompressed stream, in order; the format is told by the first bytes. Each chunk is valid until the next is asked for.
 *  @throws BuildError `corrupt` when the blob does not decompress or either digest differs, `invalid-input` above `maxBytes`. */
export async function* inflate(source: BlobSource, context: TaskContext): AsyncGenerator<Buffer> {
  const fd = openSync(source.blob, 'r');
  const compressed = createHash('sha256');
  const plain = createHash('sha256');
  let size = 0;
  try {
    for await (const chunk of decompressed(fd, compressed, context)) {
      if (context.aborted()) throw cancelled();
      size += chunk.length;
      if (size > source.maxBytes) {
        throw new BuildError('invalid-input', `layer ${source.digest} unpacks to more than ${source.maxBytes} bytes`);
      }
      plain.update(chunk);
      yield chunk;
    }
    for (let rest = readSync(fd, scratch); rest > 0; rest = readSync(fd, scratch)) compressed.update(scratch.subarray(0, rest));
  } catch (error) {
    throw isZlibError(error) ? corrupt(source, `it does not decompress (${error.message})`, error) : BuildError.from(error);
  } finally {
    closeSync(fd);
  }
  check(source, compressed, source.digest, 'its bytes hash to');
  check(source, plain, source.diffId, 'its content hashes to');
}

const scratch = Buffer.allocUnsafeSlow(READ_BYTES);

async function* decompressed(fd: number, hash: Hash, context: TaskContext): AsyncGenerator<Buffer> {
  const start = Buffer.alloc(4);
  const length = readSync(fd, start, 0, 4, 0);
  const startsWith = (magic: readonly number[]): boolean =>
    length >= magic.length && magic.every((byte, at) => start[at] === byte);
  const bytes = readChunks(fd, hash, context);
  if (startsWith(GZIP_MAGIC)) yield* pipe(bytes, createGunzip({ chunkSize: OUTPUT_BYTES }));
  else if (startsWith(ZSTD_MAGIC)) yield* pipe(bytes, createZstdDecompress({ chunkSize: OUTPUT_BYTES }));
  else yield* bytes;
}

async function* pipe(bytes: Iterable<Buffer>, transform: ReturnType<typeof createGunzip>): AsyncGenerator<Buffer> {
  const input = Readable.from(bytes, { highWaterMark: 2 });
  input.on('error', (error) => transform.destroy(error));
  input.pipe(transform);
  try {
    for await (const chunk of transform) yield chunk as Buffer;
  } finally {
    input.destroy();
    transform.destroy();
  }
}

function* readChunks(fd: number, hash: Hash, context: TaskContext): Generator<Buffer> {
  while (true) {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    const size = readSync(fd, buffer);
    if (size === 0) return;
    const chunk = buffer.subarray(0, size);
    hash.update(chunk);
    context.progress(size);
    yield chunk;
  }
}

function check(source: BlobSource, hash: Hash, expected: Digest | DiffId, what: string): void {
  const digest = `sha256:${hash.digest('hex')}`;
  if (digest !== expected) throw corrupt(source, `${what} ${digest}, expected ${expected}`);
}

const corrupt = (source: BlobSource, why: string, cause?: Error): BuildError =>
  new BuildError('corrupt', `layer ${source.digest}: ${why}`, {}, cause === undefined ? undefined : { cause });

const isZlibError = (error: unknown): error is Error =>
  error instanceof Error && 'code' in error && /^(Z_|ZSTD_|ERR_ZSTD)/.test(String(error.code));
