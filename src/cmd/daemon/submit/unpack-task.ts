/**
 * Unpacks an uploaded build context into an empty folder of ours, in a worker thread. The archive is hostile until proven otherwise:
 * every name stays below the folder, nothing is written through a symlink, nothing but files, directories, symlinks and hard links is
 * taken, and size and count of what comes out are bounded, whatever the archive claims.
 */
import {
  closeSync,
  constants,
  createReadStream,
  fchmodSync,
  futimesSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type TarEntry, TYPE } from '../../../builder/snapshot/tar/header.ts';
import { TarReader } from '../../../builder/snapshot/tar/read.ts';
import { BuildError } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';

export interface UnpackOrder {
  /** The archive as it came: plain, gzip or zstd, told by its first bytes. */
  readonly archive: string;
  /** An empty directory. */
  readonly into: string;
  /** Of all files together, unpacked. */
  readonly maxBytes: number;
  readonly maxEntries: number;
}
export interface Unpacked {
  readonly entries: number;
  readonly bytes: number;
}

const FILE_TYPES: readonly string[] = [TYPE.file, TYPE.oldFile, TYPE.contiguous];
const MAX_DEPTH = 128;
const GZIP = '1f8b';
const ZSTD = '28b52ffd';

/** @throws BuildError `invalid-input`, naming the entry, for an archive that is not taken. What was unpacked until then is left there. */
export async function unpack(order: UnpackOrder, { aborted }: TaskContext): Promise<Unpacked> {
  const writer = new ContextWriter(order);
  const reader = new TarReader(writer, order.maxEntries);
  const file = createReadStream(order.archive, { highWaterMark: 256 * 1024 });
  const magic = await firstBytes(order.archive);
  const decoder = magic.startsWith(GZIP) ? createGunzip() : magic === ZSTD ? createZstdDecompress() : undefined;
  if (decoder !== undefined) file.once('error', (error) => decoder.destroy(error)).pipe(decoder);
  try {
    for await (const chunk of (decoder ?? file) as AsyncIterable<Buffer>) {
      if (aborted()) throw new BuildError('cancelled', 'context canceled');
      writer.take(chunk.byteLength);
      reader.push(chunk);
    }
    reader.finish();
    return { entries: writer.entries, bytes: writer.bytes };
  } catch (thrown) {
    throw asInput(thrown);
  } finally {
    writer.close();
    decoder?.destroy();
    file.destroy();
  }
}

/** What is wrong with an upload is the caller's to put right; a full disk is not. */
function asInput(thrown: unknown): BuildError {
  const error = BuildError.from(thrown);
  const code = (thrown as NodeJS.ErrnoException).code ?? '';
  if (error.kind === 'corrupt' || /^(Z_|ERR_ZLIB|ZSTD_|ERR_ZSTD)/.test(code))
    return new BuildError('invalid-input', `context: ${error.message}`, { hint: 'send a tar archive, plain, gzip or zstd' });
  return error;
}

async function firstBytes(path: string): Promise<string> {
  await using file = await open(path);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
  return buffer
    .toString('hex', 0, bytesRead)
    .slice(0, 8)
    .replace(/^(1f8b).*/, '$1');
}

class ContextWriter {
  readonly #order: UnpackOrder;
  #file: number | undefined;
  #mtimeS = 0;
  #stream = 0;
  entries = 0;
  bytes = 0;

  constructor(order: UnpackOrder) {
    this.#order = order;
  }

  /** Counts the archive's own bytes too: headers without content are a bomb as well. */
  take(size: number): void {
    this.#stream += size;
    const { maxBytes, maxEntries } = this.#order;
    if (this.#stream > maxBytes + maxEntries * 1024) throw tooLarge(maxBytes);
  }

  entry(entry: TarEntry): void {
    const name = Buffer.from(entry.name, 'latin1').toString('utf8');
    const parts = partsOf(name, 'entry');
    if (parts.length === 0) {
      if (entry.type === TYPE.directory) return; // the folder itself, "./"
      throw refused(name, 'it has no name');
    }
    this.entries += 1;
    const path = this.#below(parts, name);
    if (entry.type === TYPE.directory) return this.#directory(path, entry, name);
    removeOld(path, name);
    if (FILE_TYPES.includes(entry.type)) this.#open(path, entry);
    else if (entry.type === TYPE.symlink) symlinkSync(Buffer.from(entry.linkname, 'latin1'), path);
    else if (entry.type === TYPE.link) this.#link(path, entry, name);
    else throw refused(name, 'it is a device, a FIFO or something else that a build context cannot hold');
  }

  data(chunk: Buffer): void {
    this.bytes += chunk.byteLength;
    if (this.bytes > this.#order.maxBytes) throw tooLarge(this.#order.maxBytes);
    for (let at = 0; this.#file !== undefined && at < chunk.byteLength; ) at += writeSync(this.#file, chunk, at);
  }

  end(): void {
    if (this.#file !== undefined) futimesSync(this.#file, this.#mtimeS, this.#mtimeS);
    this.close();
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(path: string, { mode, mtimeNs }: TarEntry): void {
    this.#file = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    fchmodSync(this.#file, mode & 0o777); // set-user-id bits mean nothing until a COPY --chmod asks for them
    this.#mtimeS = Number(mtimeNs) / 1e9;
  }

  #directory(path: string, { mode }: TarEntry, name: string): void {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isDirectory()) throw refused(name, 'something else has that name already');
    if (found === undefined) mkdirSync(path, { mode: (mode & 0o777) | 0o700 }); // so that what is below can be written
  }

  #link(path: string, entry: TarEntry, name: string): void {
    const target = this.#existing(partsOf(Buffer.from(entry.linkname, 'latin1').toString('utf8'), 'hard link'));
    if (target === undefined) throw refused(name, 'it is a hard link to something that is no file before it in the archive');
    linkSync(target, path);
  }

  /** A regular file in the folder, reached through directories only. */
  #existing(parts: readonly string[]): string | undefined {
    let path = this.#order.into;
    for (const [at, part] of parts.entries()) {
      path = join(path, part);
      const found = lstatSync(path, { throwIfNoEntry: false });
      const last = at === parts.length - 1;
      if (found === undefined || !(last ? found.isFile() : found.isDirectory())) return undefined;
    }
    return path;
  }

  /** The path to write at; directories on the way are made. Only this thread writes here, so what was looked at stays as it is. */
  #below(parts: readonly string[], name: string): string {
    let path = this.#order.into;
    for (const part of parts.slice(0, -1)) {
      path = join(path, part);
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found === undefined) mkdirSync(path, { mode: 0o755 });
      else if (!found.isDirectory()) throw refused(name, `"${part}" on the way to it is no directory`);
    }
    return join(path, parts.at(-1) ?? '');
  }
}

function partsOf(name: string, what: string): string[] {
  if (name.includes('\0')) throw refused(name.replaceAll('\0', '?'), 'its name has a zero byte');
  if (name.startsWith('/')) throw refused(name, `the ${what} has an absolute path`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw refused(name, `the path of the ${what} climbs with ".."`);
  if (parts.length > MAX_DEPTH) throw refused(name.slice(0, 80), `it lies more than ${MAX_DEPTH} directories deep`);
  return parts;
}

/** The later entry of a name wins, as tar has it; a directory stays. */
function removeOld(path: string, name: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory()) throw refused(name, 'a directory has that name already');
  if (found !== undefined) rmSync(path);
}

const refused = (name: string, why: string): BuildError =>
  new BuildError('invalid-input', `context: entry ${JSON.stringify(name.slice(0, 200))} is not taken: ${why}`);
const tooLarge = (maxBytes: number): BuildError =>
  new BuildError('invalid-input', `context: more than ${maxBytes} bytes when unpacked`, {
    hint: 'leave out what the build does not need, or raise cooper.submit.max-context',
  });
