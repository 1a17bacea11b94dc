/**
 * Azure Blob Storage. Blobs are named as BuildKit names them: `<prefix>/<manifests_prefix>/<name>` and
 * `<prefix>/<blobs_prefix>/sha256:<hex>`, joined like paths. The container is made by the first export. The SDK is loaded when the
 * first call is made.
 */
import { posix } from 'node:path';
import type { BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import { abortable, throwIfAborted } from '../../../core/abort.ts';
import type { Digest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { ambientCredential } from './azure-credentials.ts';
import { MAX_CONFIG_BYTES } from './config.ts';
import type { BlobContent, BlobStat, CacheStore, StoreBackend, StoreDeps } from './ports.ts';
import { type AttributeTable, type AttributeValues, readAttributes } from './store-attributes.ts';
import { eachAtOnce, rangesOf, sendRange } from './store-body.ts';
import { addressOf, failureOf, heard, networkCode, readWhole, skipping, storeError } from './store-errors.ts';

export const AZBLOB_ATTRIBUTES = {
  account_url: {
    kind: 'url',
    required: true,
    env: 'BUILDKIT_AZURE_STORAGE_ACCOUNT_URL',
    doc: 'Blob endpoint of the account: `https://<account>.blob.core.windows.net`. A shared access signature may follow as its query.',
  },
  account_name: {
    kind: 'text',
    env: 'BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME',
    doc: 'Account. Otherwise the first label of the host name.',
  },
  container: {
    kind: 'text',
    default: 'buildkit-cache',
    env: 'BUILDKIT_AZURE_STORAGE_CONTAINER',
    doc: 'Container. An export makes it when it is missing.',
  },
  prefix: { kind: 'text', env: 'BUILDKIT_AZURE_STORAGE_PREFIX', doc: 'Folder inside the container.' },
  manifests_prefix: { kind: 'text', default: 'manifests', doc: 'Folder of configurations below `prefix`.' },
  blobs_prefix: { kind: 'text', default: 'blobs', doc: 'Folder of layers below `prefix`.' },
  name: {
    kind: 'names',
    default: 'buildkit',
    doc: 'Names of the cache. An export writes all of them, an import reads and merges all.',
  },
  secret_access_key: {
    kind: 'secret',
    doc: "Account key. Without it: the signature in `account_url`, else the daemon's service principal, workload identity or managed identity.",
  },
} as const satisfies AttributeTable;

type AzblobConfig = AttributeValues<typeof AZBLOB_ATTRIBUTES>;

export const AZBLOB_BACKEND: StoreBackend = {
  name: 'azblob',
  exportTitle: 'exporting cache to Azure Blob Storage',
  importTitle: (attributes) => `azblob:${attributes.get('container') ?? AZBLOB_ATTRIBUTES.container.default}`,
  open: (attributes, deps) => new AzblobStore(readAttributes('azblob', AZBLOB_ATTRIBUTES, attributes, deps.env), deps),
};

const MiB = 1024 * 1024;
const BLOCK_BYTES = 32 * MiB;
/** Blocks of one blob in flight; several blobs are written at once already. */
const BLOCKS_AT_ONCE = 2;

class AzblobStore implements CacheStore {
  readonly backend = 'azblob';
  readonly label: string;
  readonly endpoint: string;
  readonly blobScope: string;
  readonly address: { readonly host: string; readonly port: number } | undefined;
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly #config: AzblobConfig;
  readonly #deps: StoreDeps;
  #container: Promise<ContainerClient> | undefined;

  constructor(config: AzblobConfig, deps: StoreDeps) {
    const url = new URL(config.account_url);
    if (!/^https?:$/.test(url.protocol))
      throw new BuildError('invalid-input', 'azblob cache: attribute account_url must begin with https:// or http://');
    this.#config = config;
    this.#deps = deps;
    this.label = `azblob ${posix.join(url.host, config.container, config.prefix ?? '')}`;
    this.endpoint = `${url.host}${url.pathname.replace(/\/$/, '')}/${config.container}`;
    this.blobScope = posix.join(config.prefix ?? '', config.blobs_prefix);
    this.address = addressOf(config.account_url, deps.env);
    this.manifestNames = config.name;
  }

  async readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const key = this.#manifestKey(name);
    try {
      const body = await this.#get(key, 0, signal);
      return await readWhole(body, MAX_CONFIG_BYTES, `${this.label}: reading ${key}`, signal);
    } catch (thrown) {
      if (!signal.aborted && isAbsent(thrown)) return undefined;
      throw this.#failure(thrown, `reading ${key}`, signal);
    }
  }

  async writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const key = this.#manifestKey(name);
    await this.#write(key, signal, async (blob) => {
      await blob.upload(bytes, bytes.byteLength, { abortSignal: signal });
    });
  }

  async statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined> {
    const key = this.#blobKey(digest);
    return await this.#call(`looking for ${key}`, signal, async (container) => {
      try {
        const found = await container.getBlobClient(key).getProperties({ abortSignal: signal });
        const modifiedAtMs = found.lastModified?.getTime();
        return { sizeBytes: found.contentLength ?? 0, ...(modifiedAtMs === undefined ? {} : { modifiedAtMs }) };
      } catch (thrown) {
        if (signal.aborted || statusOf(thrown) !== 404) throw thrown;
        return undefined;
      }
    });
  }

  async *readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const key = this.#blobKey(digest);
    try {
      yield* await this.#get(key, offset, signal);
    } catch (thrown) {
      throw this.#failure(thrown, `reading ${key}`, signal);
    }
  }

  async writeBlob({ digest }: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void> {
    await this.#write(this.#blobKey(digest), signal, async (blob) => {
      try {
        await putBlob(blob, content, signal);
      } catch (thrown) {
        if (signal.aborted || codeOf(thrown) !== 'InvalidBlockList') throw thrown;
        // Someone else ended an upload of this blob meanwhile, which drops all waiting blocks; the same bytes are there now.
        const present = await blob.getProperties({ abortSignal: signal });
        if (present.contentLength !== content.sizeBytes) throw thrown;
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #manifestKey(name: string): string {
    return posix.join(this.#config.prefix ?? '', this.#config.manifests_prefix, name);
  }
  #blobKey(digest: Digest): string {
    return posix.join(this.#config.prefix ?? '', this.#config.blobs_prefix, digest);
  }

  async #get(key: string, offset: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    throwIfAborted(signal);
    const container = await abortable(this.#open(), signal);
    // One attempt: the SDK would otherwise go on by itself where a stream broke.
    const options = { abortSignal: signal, maxRetryRequests: 0 };
    const asked = container.getBlobClient(key).download(offset, undefined, options);
    asked.then(({ readableStreamBody: late }) => late && heard(late)).catch(() => undefined);
    const answer = await abortable(asked, signal);
    if (answer.readableStreamBody === undefined)
      throw new BuildError('corrupt', `${this.label}: reading ${key}: an answer without a body`);
    const body = answer.readableStreamBody as AsyncIterable<Uint8Array>;
    return offset > 0 && answer.contentRange === undefined ? skipping(body, offset) : body;
  }

  /** Makes the container and tries once more when there is none. */
  async #write(key: string, signal: AbortSignal, write: (blob: BlockBlobClient) => Promise<void>): Promise<void> {
    await this.#call(`writing ${key}`, signal, async (container) => {
      const blob = container.getBlockBlobClient(key);
      try {
        await write(blob);
      } catch (thrown) {
        if (signal.aborted || codeOf(thrown) !== 'ContainerNotFound') throw thrown;
        await container.createIfNotExists({ abortSignal: signal });
        await write(blob);
      }
    });
  }

  async #call<T>(doing: string, signal: AbortSignal, call: (container: ContainerClient) => Promise<T>): Promise<T> {
    try {
      const container = await abortable(this.#open(), signal);
      return await abortable(call(container), signal);
    } catch (thrown) {
      throw this.#failure(thrown, doing, signal);
    }
  }

  #failure(thrown: unknown, doing: string, signal: AbortSignal): BuildError {
    return failureOf(thrown, signal, () => {
      const status = statusOf(thrown);
      const headers = (thrown as { response?: { headers?: { get?(name: string): string | undefined } } }).response?.headers;
      const code = status === undefined ? networkCode(thrown) : codeOf(thrown);
      return storeError(
        `${this.label}: ${doing}`,
        { status, code, retryAfter: headers?.get?.('retry-after') },
        this.#deps.nowMs(),
      );
    });
  }

  #open(): Promise<ContainerClient> {
    this.#container ??= openContainer(this.#config, this.#deps);
    return this.#container;
  }
}

/** Visible at once and whole: by one request, or by the list of blocks that ends the upload. */
async function putBlob(blob: BlockBlobClient, content: BlobContent, signal: AbortSignal): Promise<void> {
  const { sizeBytes } = content;
  if (sizeBytes === 0) return void (await blob.upload('', 0, { abortSignal: signal }));
  if (sizeBytes <= BLOCK_BYTES) {
    await sendRange(content, { offset: 0, length: sizeBytes }, signal, (body, abortSignal) =>
      blob.upload(() => body, sizeBytes, { abortSignal }),
    );
    return;
  }
  const ranges = rangesOf(sizeBytes, BLOCK_BYTES);
  // Blocks that are not yet in a list are one pool per blob, so two daemons that upload the same blob need names of their own.
  const upload = Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString('hex');
  const idOf = (at: number): string => Buffer.from(`${upload}${String(at).padStart(6, '0')}`).toString('base64');
  await eachAtOnce(ranges, BLOCKS_AT_ONCE, async (range, at) => {
    await sendRange(content, range, signal, (body, abortSignal) =>
      blob.stageBlock(idOf(at), () => body, range.length, { abortSignal }),
    );
  });
  await blob.commitBlockList(
    ranges.map((_, at) => idOf(at)),
    { abortSignal: signal },
  );
}

async function openContainer(config: AzblobConfig, deps: StoreDeps): Promise<ContainerClient> {
  const sdk = await import('@azure/storage-blob');
  const { account_url: url, secret_access_key: key } = config;
  const account = config.account_name ?? new URL(url).hostname.split('.')[0] ?? '';
  const credential =
    key !== undefined
      ? new sdk.StorageSharedKeyCredential(account, key)
      : new URL(url).searchParams.has('sig')
        ? new sdk.AnonymousCredential()
        : ambientCredential(deps);
  const options = { retryOptions: { maxTries: 1 }, userAgentOptions: { userAgentPrefix: deps.userAgent } };
  return new sdk.BlobServiceClient(url, credential, options).getContainerClient(config.container);
}

const statusOf = (thrown: unknown): number | undefined => (thrown as { statusCode?: number }).statusCode;
/** The service's own code; answers to HEAD have it in a header only, which the SDK takes over too. */
const codeOf = (thrown: unknown): string | undefined => {
  const { details, code } = thrown as { details?: { errorCode?: string }; code?: string };
  return details?.errorCode ?? code;
};
const isAbsent = (thrown: unknown): boolean => ['BlobNotFound', 'ContainerNotFound'].includes(codeOf(thrown) ?? '');
