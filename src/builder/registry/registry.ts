/**
 * The one implementation of the Registry port: distribution-spec v1.1 over mirrors and upstream, with the client's credentials,
 * retries within a budget, resumed downloads, and blobs moved by threads.
 */
import { type Digest, digestOf, isDigest } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../core/limits.ts';
import { Semaphore } from '../../core/semaphore.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { downloadBlob, openPartialBlob } from './blob-download.ts';
import { INLINE_BYTES, uploadBlob } from './blob-upload.ts';
import { pullScope, pushScope } from './challenge.ts';
import type { RegistryHosts } from './endpoints.ts';
import { DEFAULT_HTTP, type HttpLimits, type HttpResponse, type ProxySettings, RegistryHttp, statusError } from './http.ts';
import { isIndexType, isManifestType, MEDIA, parseManifest } from './manifest.ts';
import type { ImageReference, Registry, RegistryCall } from './ports.ts';
import { withDefaultTag } from './reference.ts';
import { type OnRequest, RegistryClient, type Target } from './registry-client.ts';
import { DEFAULT_RETRIES, type RetryLimits } from './retry.ts';
import { SingleFlight } from './single-flight.ts';

export interface RegistryLimits {
  readonly http: HttpLimits;
  readonly retries: RetryLimits;
  /** Blob transfers at once, each in its own thread (`[system] maxRegistryConcurrency`). */
  readonly parallelTransfers: number;
  readonly uploadChunkBytes: number;
}
export const DEFAULT_REGISTRY_LIMITS: RegistryLimits = {
  http: DEFAULT_HTTP,
  retries: DEFAULT_RETRIES,
  parallelTransfers: 4,
  uploadChunkBytes: 32 * 1024 * 1024,
};

export interface RegistryOptions {
  readonly content: ContentStore;
  readonly hosts: RegistryHosts;
  readonly limits?: Partial<RegistryLimits>;
  readonly proxy?: ProxySettings;
  /** What registries log of us. */
  readonly userAgent?: string;
  /** Wall clock, milliseconds since the epoch: token lifetimes and Retry-After dates. */
  readonly nowMs?: () => number;
  /** For telemetry. */
  readonly onRequest?: OnRequest;
}
export interface RegistryService extends Registry, AsyncDisposable {
  /** New host settings for calls that start from now on (configuration reload). */
  reconfigure(hosts: RegistryHosts): void;
}

export function createRegistry(options: RegistryOptions): RegistryService {
  return new RegistryOverHttp(options);
}

const ACCEPT = [MEDIA.dockerManifest, MEDIA.dockerList, MEDIA.ociManifest, MEDIA.ociIndex, '*/*'].join(', ');
const MAX_SEEN = 20_000; // manifests whose repository is remembered

class RegistryOverHttp implements RegistryService {
  readonly #content: ContentStore;
  readonly #limits: RegistryLimits;
  readonly #nowMs: () => number;
  readonly #client: RegistryClient;
  readonly #pool: WorkerPool;
  readonly #slots: Semaphore;
  readonly #blobs = new SingleFlight<void>();
  readonly #small = new SingleFlight<Uint8Array>();
  /** `<repository>@<digest>` of manifests that a registry has shown to this daemon: a pinned reference needs no second look. */
  readonly #seen = new Set<string>();

  constructor(options: RegistryOptions) {
    this.#content = options.content;
    this.#limits = { ...DEFAULT_REGISTRY_LIMITS, ...options.limits };
    this.#nowMs = options.nowMs ?? Date.now;
    const http = new RegistryHttp({
      limits: this.#limits.http,
      proxy: options.proxy ?? {},
      userAgent: options.userAgent ?? 'cooper/0.1',
    });
    this.#client = new RegistryClient({
      hosts: options.hosts,
      http,
      retries: this.#limits.retries,
      nowMs: this.#nowMs,
      onRequest: options.onRequest ?? (() => undefined),
    });
    this.#pool = new WorkerPool(this.#limits.parallelTransfers);
    this.#slots = new Semaphore(this.#limits.parallelTransfers);
  }

  reconfigure(hosts: RegistryHosts): void {
    this.#client.reconfigure(hosts);
  }

  async resolve(
    reference: ImageReference,
    call: RegistryCall,
  ): Promise<{ readonly descriptor: Descriptor; readonly bytes: Uint8Array }> {
    const wanted = withDefaultTag(reference);
    const stored = await this.#stored(wanted);
    if (stored !== undefined) return stored;
    try {
      return await this.#client.pull(wanted, call, async (endpoint) => {
        return await this.#resolveAt({ endpoint, reference: wanted, scopes: [pullScope(wanted.repository)], call });
      });
    } catch (thrown) {
      throw pullRefused(BuildError.from(thrown), wanted);
    }
  }

  async fetchSmall(reference: ImageReference, descriptor: Descriptor, call: RegistryCall): Promise<Uint8Array> {
    if (descriptor.data !== undefined) {
      const inline = Buffer.from(descriptor.data, 'base64');
      if (digestOf(inline) === descriptor.digest) return inline;
    }
    if ((await this.#content.info(descriptor.digest)) !== undefined)
      return await this.#content.readAll(descriptor.digest, MAX_MANIFEST_BYTES);
    if (descriptor.size > MAX_MANIFEST_BYTES)
      throw new BuildError('exhausted', `${reference.text}: ${descriptor.digest} is larger than ${MAX_MANIFEST_BYTES} bytes`);
    const kind = isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType) ? 'manifests' : 'blobs';
    return await this.#small.run(
      `${reference.host}/${reference.repository} ${descriptor.digest}`,
      call.signal,
      async (signal) => {
        const bytes = await this.#fetchWhole(reference, descriptor, kind, { ...call, signal });
        await this.#content.put(bytes, { expected: descriptor.digest, expectedSize: descriptor.size, signal });
        return bytes;
      },
    );
  }

  async fetchBlob(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall & { readonly onProgress: (bytes: number) => void },
  ): Promise<void> {
    if ((await this.#content.info(descriptor.digest)) !== undefined) return;
    let started = false;
    const work = async (signal: AbortSignal, report: (bytes: number) => void): Promise<void> => {
      started = true;
      await this.#download(reference, descriptor, { ...call, signal }, report);
    };
    try {
      await this.#blobs.run(descriptor.digest, call.signal, work, call.onProgress);
    } catch (thrown) {
      const { kind } = BuildError.from(thrown);
      // Somebody else's repository or credentials failed; ours have not been tried.
      if (started || (kind !== 'denied' && kind !== 'not-found')) throw thrown;
      await this.#blobs.run(`${reference.text} ${descriptor.digest}`, call.signal, work, call.onProgress);
    }
  }

  async pushBlob(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall & { readonly mountFrom?: ImageReference; readonly onProgress: (bytes: number) => void },
  ): Promise<void> {
    using _slot = await this.#slots.acquire(call.signal);
    using lease = this.#content.lease();
    lease.add(descriptor.digest);
    await this.#client.push(reference, call, async (endpoint) => {
      await uploadBlob({
        client: this.#client,
        content: this.#content,
        pool: this.#pool,
        target: { endpoint, reference, scopes: [pushScope(reference.repository)], call },
        descriptor,
        mountFrom: call.mountFrom,
        chunkBytes: this.#limits.uploadChunkBytes,
        nowMs: this.#nowMs,
        onProgress: call.onProgress,
      });
    });
  }

  async pushManifest(reference: ImageReference, descriptor: Descriptor, bytes: Uint8Array, call: RegistryCall): Promise<void> {
    await this.#client.push(reference, call, async (endpoint) => {
      const target = { endpoint, reference, scopes: [pushScope(reference.repository)], call };
      const url = this.#client.urlOf(target, `manifests/${reference.tag ?? descriptor.digest}`);
      const headers = { 'content-type': descriptor.mediaType };
      const response = await this.#client.send(target, { method: 'PUT', url, headers, body: bytes });
      if (response.status !== 200 && response.status !== 201 && response.status !== 204)
        throw statusError(response, 'PUT', response.url, this.#nowMs());
      const stored = response.headers['docker-content-digest'];
      if (stored !== undefined && isDigest(stored) && stored !== descriptor.digest)
        throw new BuildError('corrupt', `${endpoint.authority} stored the manifest as ${stored}, expected ${descriptor.digest}`);
    });
    this.#remember(reference, descriptor.digest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.http[Symbol.asyncDispose]();
    await this.#pool[Symbol.asyncDispose]();
  }

  /** A pinned manifest that is here and was seen in this repository before. */
  async #stored(reference: ImageReference): Promise<{ descriptor: Descriptor; bytes: Uint8Array } | undefined> {
    const { digest } = reference;
    if (digest === undefined || !this.#seen.has(seenKey(reference, digest))) return undefined;
    return await this.#fromContent(reference, digest);
  }

  async #fromContent(
    reference: ImageReference,
    digest: Digest,
  ): Promise<{ descriptor: Descriptor; bytes: Uint8Array } | undefined> {
    const info = await this.#content.info(digest);
    if (info === undefined) return undefined;
    const bytes = await this.#content.readAll(digest, MAX_MANIFEST_BYTES);
    return { descriptor: { mediaType: mediaTypeOf(bytes, reference), digest, size: bytes.byteLength }, bytes };
  }

  async #resolveAt(target: Target): Promise<{ descriptor: Descriptor; bytes: Uint8Array }> {
    const { reference, call } = target;
    const url = this.#client.urlOf(target, `manifests/${reference.digest ?? reference.tag ?? 'latest'}`);
    const headers = { accept: ACCEPT };
    const head = await this.#client.send(target, { method: 'HEAD', url, headers });
    if (head.status !== 200) throw await this.#headRefused(target, url, head);
    const named = head.headers['docker-content-digest'];
    const known = named !== undefined && isDigest(named) ? await this.#fromContent(reference, named) : undefined;
    if (known !== undefined) {
      this.#remember(reference, known.descriptor.digest);
      return known;
    }
    const response = await this.#client.send(target, { method: 'GET', url, headers, maxBytes: MAX_MANIFEST_BYTES });
    if (response.status !== 200) throw this.#notHere(target, response, 'GET');
    const digest = digestOf(response.body);
    if (reference.digest !== undefined && digest !== reference.digest)
      throw new BuildError('corrupt', `${reference.text}: ${target.endpoint.authority} sent a manifest with digest ${digest}`);
    const mediaType = mediaTypeOf(response.body, reference);
    await this.#content.put(response.body, { expected: digest, signal: call.signal });
    this.#remember(reference, digest);
    return { descriptor: { mediaType, digest, size: response.body.byteLength }, bytes: response.body };
  }

  /** A HEAD has no body, so what the registry has to say about a refusal is asked for with a GET. */
  async #headRefused(target: Target, url: URL, head: HttpResponse): Promise<BuildError> {
    if (head.status !== 403) return this.#notHere(target, head, 'HEAD');
    const { body } = await this.#client.send(target, { method: 'GET', url, headers: { accept: ACCEPT } });
    return statusError({ ...head, body }, 'HEAD', head.url, this.#nowMs());
  }

  #notHere(target: Target, response: HttpResponse, method: string): BuildError {
    if (response.status === 404) return new BuildError('not-found', `${target.reference.text}: not found`);
    return statusError(response, method, response.url, this.#nowMs());
  }

  async #fetchWhole(
    reference: ImageReference,
    descriptor: Descriptor,
    kind: 'manifests' | 'blobs',
    call: RegistryCall,
  ): Promise<Uint8Array> {
    try {
      return await this.#client.pull(reference, call, async (endpoint) => {
        const target = { endpoint, reference, scopes: [pullScope(reference.repository)], call };
        const url = this.#client.urlOf(target, `${kind}/${descriptor.digest}`);
        const headers = { accept: `${descriptor.mediaType}, */*` };
        const response = await this.#client.send(target, { method: 'GET', url, headers, maxBytes: MAX_MANIFEST_BYTES });
        if (response.status !== 200) throw statusError(response, 'GET', response.url, this.#nowMs());
        const digest = digestOf(response.body);
        if (digest !== descriptor.digest)
          throw new BuildError('corrupt', `unexpected digest ${digest} of ${descriptor.digest} from ${endpoint.authority}`);
        return response.body;
      });
    } catch (thrown) {
      throw pullRefused(BuildError.from(thrown), reference);
    }
  }

  async #download(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall,
    onProgress: (bytes: number) => void,
  ): Promise<void> {
    using _slot = await this.#slots.acquire(call.signal);
    try {
      if (descriptor.size <= INLINE_BYTES) return await this.#downloadSmall(reference, descriptor, call, onProgress);
      await using partial = openPartialBlob(this.#content);
      await this.#client.pull(reference, call, async (endpoint) => {
        const target = { endpoint, reference, scopes: [pullScope(reference.repository)], call };
        const url = this.#client.urlOf(target, `blobs/${descriptor.digest}`);
        const common = { client: this.#client, content: this.#content, pool: this.#pool, nowMs: this.#nowMs, onProgress };
        await downloadBlob({ ...common, target, url, descriptor, partial });
      });
    } catch (thrown) {
      throw pullRefused(BuildError.from(thrown), reference).wrap(`failed to copy: ${descriptor.digest}`);
    }
  }

  async #downloadSmall(
    reference: ImageReference,
    descriptor: Descriptor,
    call: RegistryCall,
    onProgress: (bytes: number) => void,
  ): Promise<void> {
    const bytes = await this.#fetchWhole(reference, descriptor, 'blobs', call);
    await this.#content.put(bytes, { expected: descriptor.digest, expectedSize: descriptor.size, signal: call.signal });
    onProgress(bytes.byteLength);
  }

  #remember(reference: ImageReference, digest: Digest): void {
    if (this.#seen.size >= MAX_SEEN)
      for (const oldest of this.#seen.values()) {
        this.#seen.delete(oldest);
        break;
      }
    this.#seen.add(seenKey(reference, digest));
  }
}

const seenKey = (reference: ImageReference, digest: Digest): string => `${reference.host}/${reference.repository}@${digest}`;

/** The type a manifest says it has; registries that send something else in the header are not believed. */
function mediaTypeOf(bytes: Uint8Array, reference: ImageReference): string {
  const parsed = parseManifest(bytes, reference.text);
  return parsed.kind === 'index' ? parsed.index.mediaType : parsed.manifest.mediaType;
}

const pullRefused = (error: BuildError, reference: ImageReference): BuildError => {
  if (error.kind !== 'denied') return error;
  if (!error.message.startsWith('server message')) return error;
  const hint = `log in to ${reference.host} on the client, or check the name`;
  return error.wrap('pull access denied, repository does not exist or may require authorization', { hint });
};
