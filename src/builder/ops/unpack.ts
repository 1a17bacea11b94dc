/** ADD of an archive: what the tar file holds, not the file. Compressed with gzip, zstd, bzip2 or xz, or not at all. */
import { spawn } from 'node:child_process';
import { closeSync, createReadStream, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { BuildError, cancelled } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import { TreeWriter } from '../snapshot/layer/tree-writer.ts';
import { BLOCK, FIELD, headerChecksum, type TarEntry } from '../snapshot/tar/header.ts';
import { type TarHandler, TarReader } from '../snapshot/tar/read.ts';
import { bytesOf } from '../snapshot/tree/names.ts';
import { lstat, type Owner, type TargetTree } from './target-tree.ts';
import type { CopyRules } from './tree-copy.ts';

const MAX_ENTRIES = 10_000_000;
const CHUNK_BYTES = 256 * 1024;
const PLAIN = 'plain';
const FORMATS = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
] as const;
type Format = (typeof FORMATS)[number][0] | typeof PLAIN;

/**
 * True when `source` (a host path) is an archive and was unpacked into the directory `destination`, which is made when it is missing;
 * false, with nothing done, when it is something else. Only for a target that is one directory.
 */
export async function unpackArchive(
  source: string,
  destination: string,
  target: TargetTree,
  rules: CopyRules,
  context: TaskContext,
): Promise<boolean> {
  if (lstat(bytesOf(source))?.isFile() !== true) return false;
  const chunks = await tarChunks(source);
  if (chunks === undefined) return false;
  const path = target.resolve(bytesOf(destination));
  target.makeDirectories(path, 0o755, rules);
  const options = { root: target.host(path), form: 'whole', hasLower: false, whiteouts: false } as const;
  using writer = new TreeWriter(options, target.sys);
  const reader = new TarReader(rules.owner === undefined ? writer : ownedBy(rules.owner, writer), MAX_ENTRIES);
  try {
    for await (const chunk of chunks) {
      if (context.aborted()) throw cancelled();
      reader.push(chunk);
      context.progress(chunk.length);
    }
    reader.finish();
  } catch (error) {
    // The reader calls a broken archive corrupt; here it is a file that the user gave us.
    if (error instanceof BuildError && error.kind === 'corrupt')
      throw new BuildError('invalid-input', `broken archive: ${error.message}`);
    throw error;
  }
  writer.finish();
  return true;
}

const ownedBy = (owner: Owner, writer: TarHandler): TarHandler => ({
  entry: (entry: TarEntry) => writer.entry({ ...entry, ...owner }),
  data: (chunk) => writer.data(chunk),
  end: () => writer.end(),
});

/** The bytes of the tar stream; undefined when what is inside does not begin as an archive does, or does not decompress. */
async function tarChunks(source: string): Promise<AsyncIterable<Buffer> | undefined> {
  const stream = plainChunks(source)[Symbol.asyncIterator]();
  const head: Buffer[] = [];
  let length = 0;
  try {
    while (length < BLOCK) {
      const { value, done } = await stream.next();
      if (done === true) return undefined;
      head.push(value);
      length += value.length;
    }
  } catch (error) {
    if (error instanceof BuildError) throw error;
    return undefined;
  }
  const start = Buffer.concat(head);
  if (!beginsArchive(start.subarray(0, BLOCK))) {
    await stream.return?.();
    return undefined;
  }
  return joined(start, stream);
}

async function* joined(start: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield start;
    while (true) {
      const { value, done } = await rest.next();
      if (done === true) return;
      yield value;
    }
  } catch (error) {
    throw error instanceof BuildError ? error : new BuildError('invalid-input', `broken archive: ${(error as Error).message}`);
  } finally {
    await rest.return?.();
  }
}

/** The checksum of a header is what tells a tar file from anything else. */
function beginsArchive(block: Buffer): boolean {
  const [at, size] = FIELD.checksum;
  const text = block
    .toString('latin1', at, at + size)
    .replace(/[\0 ]+$/, '')
    .trim();
  return /^[0-7]+$/.test(text) && Number.parseInt(text, 8) === headerChecksum(block);
}

function plainChunks(source: string): AsyncIterable<Buffer> {
  switch (formatOf(source)) {
    case 'plain':
      return createReadStream(source, { highWaterMark: CHUNK_BYTES });
    case 'gzip':
      return through(source, createGunzip({ chunkSize: CHUNK_BYTES }));
    case 'zstd':
      return through(source, createZstdDecompress({ chunkSize: CHUNK_BYTES }));
    case 'bzip2':
      return byTool('bzip2', source);
    case 'xz':
      return byTool('xz', source);
  }
}

function formatOf(source: string): Format {
  const head = Buffer.alloc(8);
  const fd = openSync(source, 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  return FORMATS.find(([, magic]) => magic.every((byte, at) => head[at] === byte))?.[0] ?? PLAIN;
}

/** Errors of either side end the iteration of the transform. */
function through(source: string, transform: ReturnType<typeof createGunzip>): AsyncIterable<Buffer> {
  pipeline(createReadStream(source, { highWaterMark: CHUNK_BYTES }), transform, () => {});
  return transform;
}

/** Formats that Node does not know. */
async function* byTool(tool: 'bzip2' | 'xz', source: string): AsyncGenerator<Buffer> {
  const fd = openSync(source, 'r');
  const child = spawn(tool, ['-d', '-c'], { stdio: [fd, 'pipe', 'ignore'] });
  closeSync(fd);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', (cause) =>
      reject(
        new BuildError(
          'unsupported',
          `${tool} is needed to unpack this archive`,
          { hint: `apt-get install ${tool === 'xz' ? 'xz-utils' : tool}` },
          { cause },
        ),
      ),
    );
    child.on('close', resolve);
  });
  ended.catch(() => {}); // awaited below, also when nobody reads to the end
  try {
    for await (const chunk of child.stdout ?? []) yield chunk as Buffer;
    if ((await ended) !== 0) throw new Error(`${tool} could not decompress it`);
  } finally {
    child.kill('SIGKILL');
  }
}
