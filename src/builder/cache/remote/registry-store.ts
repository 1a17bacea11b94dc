/**
 * A cache in a registry, as `type=registry` keeps it; also reads what `type=inline` wrote into an image. Blobs go between registry and
 * content store in threads; the client's credentials are asked for as for any image.
 */
import { BuildError } from '../../../core/errors.ts';
import type { ContentStore, Descriptor } from '../../content/ports.ts';
import { goJson } from '../../registry/go-json.ts';
import { goDescriptor } from '../../registry/manifest.ts';
import type { ImageReference, Registry, RegistryAuth, RegistryCall } from '../../registry/ports.ts';
import { parseReference, withDefaultTag } from '../../registry/reference.ts';
import { type Attributes, parseFlag, parseManifestOptions } from './attributes.ts';
import { encodeCacheConfig, parseCacheConfig } from './config.ts';
import { readOciCache, writeOciCache } from './oci-form.ts';
import type { CacheStore, StoreBackend, StoreDeps } from './ports.ts';

export interface RegistryStoreDeps {
  readonly registry: Registry;
  readonly content: ContentStore;
  readonly authOf: (sessions: readonly string[]) => RegistryAuth;
  /** Where a registry answers TCP; undefined when a mirror may answer for it. */
  readonly addressOf: (host: string) => CacheStore['address'];
}

export function registryBackend(deps: RegistryStoreDeps): StoreBackend {
  return {
    name: 'registry',
    exportTitle: 'exporting cache to registry',
    importTitle: (attributes) => attributes.get('ref') ?? '',
    open: (attributes, storeDeps) => new RegistryStore(deps, attributes, storeDeps),
  };
}

class RegistryStore implements CacheStore {
  readonly backend = 'registry';
  readonly label: string;
  readonly endpoint: string;
  readonly address?: { readonly host: string; readonly port: number };
  readonly blobScope: string;
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly #deps: RegistryStoreDeps;
  readonly #reference: ImageReference;
  readonly #options: ReturnType<typeof parseManifestOptions>;
  readonly #insecure: boolean;
  readonly #sessions: StoreDeps['sessions'];
  #written: Descriptor | undefined;

  /** @throws BuildError `invalid-input`. */
  constructor(deps: RegistryStoreDeps, attributes: Attributes, { sessions }: StoreDeps) {
    this.#deps = deps;
    this.#reference = withDefaultTag(parseReference(requireRef(attributes)));
    this.#options = parseManifestOptions(attributes);
    this.#insecure = parseFlag(attributes, 'registry.insecure', false);
    this.#sessions = sessions;
    this.label = `registry ${this.#reference.text}`;
    this.endpoint = this.#reference.host;
    this.blobScope = this.#reference.repository;
    const address = deps.addressOf(this.#reference.host);
    if (address !== undefined) this.address = address;
    this.manifestNames = [this.#reference.text];
  }

  async readManifest(_name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { registry } = this.#deps;
    const call = this.#call(signal);
    const { bytes } = await registry.resolve(this.#reference, call).catch((error: BuildError) => {
      if (error.kind === 'not-found') return { bytes: undefined };
      throw error;
    });
    if (bytes === undefined) return undefined;
    const config = await readOciCache(bytes, (descriptor) => registry.fetchSmall(this.#reference, descriptor, call));
    return encodeCacheConfig(config, true);
  }

  async writeManifest(_name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const { registry, content } = this.#deps;
    const { config, manifest } = writeOciCache(parseCacheConfig(bytes), this.#options);
    using lease = content.lease();
    lease.add(config.descriptor.digest);
    await content.put(config.bytes, { expected: config.descriptor.digest, signal });
    await registry.pushBlob(this.#reference, config.descriptor, { ...this.#call(signal), onProgress: () => undefined });
    await registry.pushManifest(this.#reference, manifest.descriptor, manifest.bytes, this.#call(signal));
    this.#written = manifest.descriptor;
  }

  /** The upload itself asks whether the blob is there. */
  async statBlob(): Promise<undefined> {
    return undefined;
  }

  async *readBlob(): AsyncIterable<Uint8Array> {}

  async fetchBlob(descriptor: Descriptor, signal: AbortSignal, onProgress: (bytes: number) => void): Promise<void> {
    await this.#deps.registry.fetchBlob(this.#reference, descriptor, { ...this.#call(signal), onProgress });
  }

  async writeBlob(descriptor: Descriptor, _content: unknown, signal: AbortSignal): Promise<void> {
    await this.#deps.registry.pushBlob(this.#reference, descriptor, { ...this.#call(signal), onProgress: () => undefined });
  }

  exporterResponse(): ReadonlyMap<string, string> {
    return manifestResponse(this.#written);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** One attempt: the policy decides about more. */
  #call(signal: AbortSignal): RegistryCall {
    return { auth: this.#deps.authOf(this.#sessions()), signal, attempts: 1, ...(this.#insecure ? { insecure: true } : {}) };
  }
}

function requireRef(attributes: Attributes): string {
  const ref = attributes.get('ref');
  if (ref === undefined || ref === '') throw new BuildError('invalid-input', 'missing ref');
  return ref;
}

/** `cache.manifest`: the descriptor as JSON. */
export function manifestResponse(written: Descriptor | undefined): ReadonlyMap<string, string> {
  return written === undefined ? new Map() : new Map([['cache.manifest', goJson(goDescriptor(written))]]);
}
