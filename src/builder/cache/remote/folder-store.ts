/**
 * A cache in a folder of the daemon's machine (`[[cache.blob]] type = "filesystem"`), for a disk that several daemons share or that
 * outlives their roots. Only the configuration may name one: a client that could would read and write the host's files.
 */
import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, mkdir, open, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Digest, digestOf, hexOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import type { Attributes } from './attributes.ts';
import type { BlobContent, BlobStat, CacheStore, StoreBackend } from './ports.ts';

const DEFAULT_NAME = 'cooper';
const REFRESH_MS = 24 * 3_600_000;

export const folderBackend: StoreBackend = {
  name: 'filesystem',
  exportTitle: 'exporting cache to the daemon’s cache folder',
  importTitle: (attributes) => `filesystem:${attributes.get('path') ?? ''}`,
  open: (attributes) => new FolderStore(attributes),
};

class FolderStore implements CacheStore {
  readonly backend = 'filesystem';
  readonly label: string;
  readonly endpoint: string;
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly refreshAfterMs = REFRESH_MS;
  readonly #path: string;

  /** @throws BuildError `invalid-input`. */
  constructor(attributes: Attributes) {
    const path = attributes.get('path') ?? '';
    if (!path.startsWith('/')) throw new BuildError('invalid-input', `filesystem cache: path must be absolute, not "${path}"`);
    this.#path = path;
    this.label = `filesystem ${path}`;
    this.endpoint = path;
    this.manifestNames = [attributes.get('name') ?? DEFAULT_NAME];
  }

  async readManifest(name: string): Promise<Uint8Array | undefined> {
    return await readFile(this.#manifest(name)).catch((error: unknown) => missing(error));
  }

  async writeManifest(name: string, bytes: Uint8Array): Promise<void> {
    await this.#publish(this.#manifest(name), (temp) => writeFile(temp, bytes, { flag: 'wx' }));
  }

  async statBlob(digest: Digest): Promise<BlobStat | undefined> {
    const found = await stat(this.#blob(digest)).catch((error: unknown) => missing(error));
    return found === undefined ? undefined : { sizeBytes: found.size, modifiedAtMs: found.mtimeMs };
  }

  async *readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    try {
      yield* createReadStream(this.#blob(digest), { start: offset, highWaterMark: 1024 * 1024, signal });
    } catch (error) {
      if (missing(error) === undefined) throw new BuildError('not-found', `${this.label}: blob ${digest} is not there`);
    }
  }

  async writeBlob(descriptor: Descriptor, content: BlobContent): Promise<void> {
    await this.#publish(this.#blob(descriptor.digest), (temp) => copyFile(content.path, temp));
  }

  async touchBlob(digest: Digest): Promise<void> {
    const now = new Date();
    await utimes(this.#blob(digest), now, now).catch((error: unknown) => missing(error));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #blob(digest: Digest): string {
    return join(this.#path, 'blobs/sha256', hexOf(digest));
  }
  /** Names come from the configuration and may hold anything. */
  #manifest(name: string): string {
    return join(this.#path, 'manifests', `${hexOf(digestOf(name))}.json`);
  }

  /** Visible by rename after fsync. */
  async #publish(path: string, write: (temp: string) => Promise<void>): Promise<void> {
    const temp = `${path}.${randomUUID()}`;
    try {
      await mkdir(dirname(path), { recursive: true });
      await write(temp);
      const file = await open(temp, 'r+');
      try {
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temp, path);
    } catch (error) {
      await rm(temp, { force: true });
      throw failure(error);
    }
  }
}

/** Undefined for a file that is not there; throws everything else. */
function missing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
  throw failure(error);
}

function failure(error: unknown): BuildError {
  const known = BuildError.from(error);
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return new BuildError('denied', known.message);
  return known.kind === 'internal' ? new BuildError('unavailable', known.message, {}, { cause: error }) : known;
}
