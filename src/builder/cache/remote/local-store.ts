/**
 * A cache in a folder of the client (`type=local`): an OCI layout's blobs, reached through the content service of the build's session.
 * The client itself writes `index.json` from the `cache.manifest` it is told, and reads it to name the digest on import.
 */

import type { Digest } from '../../../core/digest.ts';
import { digestOf, isDigest, parseDigest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import type { Sessions } from '../../session/ports.ts';
import { type SessionContent, sessionContent } from '../../source/session-content.ts';
import { type Attributes, parseManifestOptions } from './attributes.ts';
import { encodeCacheConfig, MAX_CONFIG_BYTES, parseCacheConfig } from './config.ts';
import { readOciCache, writeOciCache } from './oci-form.ts';
import type { BlobContent, CacheStore, StoreBackend, StoreDeps } from './ports.ts';
import { manifestResponse } from './registry-store.ts';

export function localBackend(sessions: Sessions): StoreBackend {
  return {
    name: 'local',
    exportTitle: 'exporting cache to client directory',
    importTitle: (attributes) => `local:${hashOf(attributes)}`,
    open: (attributes, deps) => new ClientFolder(sessions, attributes, deps),
  };
}

class ClientFolder implements CacheStore {
  readonly backend = 'local';
  readonly label: string;
  readonly endpoint: string;
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly #sessions: Sessions;
  readonly #ids: StoreDeps['sessions'];
  readonly #folder: string;
  readonly #digest: Digest | undefined;
  readonly #options: ReturnType<typeof parseManifestOptions>;
  #written: Descriptor | undefined;

  /** @throws BuildError `invalid-input`. */
  constructor(sessions: Sessions, attributes: Attributes, { sessions: ids }: StoreDeps) {
    const [dest, src, digest] = ['dest', 'src', 'digest'].map((name) => attributes.get(name) ?? '');
    if (dest === '' && src === '')
      throw new BuildError('invalid-input', 'local cache requires dest to export to, or src to import from');
    if (src !== '' && digest === '') throw new BuildError('invalid-input', 'local cache importer requires explicit digest');
    if (digest !== undefined && digest !== '' && !isDigest(digest))
      throw new BuildError('invalid-input', `local cache: digest "${digest}" is not a sha256 digest`);
    this.#sessions = sessions;
    this.#ids = ids;
    this.#folder = dest === '' ? (src ?? '') : (dest ?? '');
    this.#digest = digest === undefined || digest === '' ? undefined : parseDigest(digest);
    this.#options = parseManifestOptions(attributes);
    this.label = `local ${this.#folder}`;
    this.endpoint = `session ${ids()[0] ?? ''}`; // a client that went away is nobody else's outage
    this.manifestNames = [this.#folder];
  }

  async readManifest(_name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const content = await this.#content(signal);
    if (this.#digest === undefined) return undefined;
    const read = (digest: Digest): Promise<Uint8Array> => content.readAll(digest, MAX_CONFIG_BYTES, signal);
    return encodeCacheConfig(await readOciCache(await read(this.#digest), ({ digest }) => read(digest)), true);
  }

  async writeManifest(_name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const content = await this.#content(signal);
    const { config, manifest } = writeOciCache(parseCacheConfig(bytes), this.#options);
    await content.write(config.descriptor, once(config.bytes), signal);
    await content.write(manifest.descriptor, once(manifest.bytes), signal);
    this.#written = manifest.descriptor;
  }

  async statBlob(digest: Digest, signal: AbortSignal): Promise<{ sizeBytes: number } | undefined> {
    try {
      return await (await this.#content(signal)).info(digest, signal);
    } catch (thrown) {
      if (BuildError.from(thrown).kind === 'not-found') return undefined;
      throw thrown;
    }
  }

  async *readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    yield* (await this.#content(signal)).read(digest, offset, signal);
  }

  async writeBlob(descriptor: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void> {
    await (await this.#content(signal)).write(descriptor, content.read(), signal);
  }

  exporterResponse(): ReadonlyMap<string, string> {
    return manifestResponse(this.#written);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** The folder belongs to the client that asked, so no other session of the build is tried. */
  async #content(signal: AbortSignal): Promise<SessionContent> {
    const [first] = this.#ids();
    if (first === undefined) throw new BuildError('unavailable', 'local cache exporter/importer requires session');
    return sessionContent(await this.#sessions.get(first, signal), `local:${this.#folder}`);
  }
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** A short name of the attributes, as the real daemon gives one to caches without a reference. */
const hashOf = (attributes: Attributes): string =>
  BigInt(`0x${digestOf(JSON.stringify([...attributes].sort())).slice(7, 23)}`).toString();
