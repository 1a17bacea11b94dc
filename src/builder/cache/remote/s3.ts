/**
 * Amazon S3 and whatever speaks its protocol. Objects are named as BuildKit names them, so the two read each other's caches:
 * `<prefix><manifests_prefix><name>` and `<prefix><blobs_prefix>sha256:<hex>`. The SDK is loaded when the first call is made.
 */
import http from 'node:http';
import https from 'node:https';
import type { S3Client } from '@aws-sdk/client-s3';
import { abortable, throwIfAborted } from '../../../core/abort.ts';
import type { Digest } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { MAX_CONFIG_BYTES } from './config.ts';
import type { BlobContent, BlobStat, CacheStore, StoreBackend, StoreDeps } from './ports.ts';
import { copyOntoItself, putObject, type S3Target } from './s3-upload.ts';
import { type AttributeTable, type AttributeValues, readAttributes } from './store-attributes.ts';
import { addressOf, failureOf, heard, networkCode, readWhole, skipping, storeError } from './store-errors.ts';

export const S3_ATTRIBUTES = {
  bucket: { kind: 'text', required: true, env: 'AWS_BUCKET', doc: 'Bucket. It must exist.' },
  region: { kind: 'text', required: true, env: 'AWS_REGION', doc: 'Region of the bucket.' },
  prefix: { kind: 'text', doc: 'Put before every object name as it is, so end it with `/`.' },
  manifests_prefix: { kind: 'text', default: 'manifests/', doc: 'Follows `prefix` in names of configurations.' },
  blobs_prefix: { kind: 'text', default: 'blobs/', doc: 'Follows `prefix` in names of layers.' },
  name: {
    kind: 'names',
    default: 'buildkit',
    doc: 'Names of the cache. An export writes all of them, an import reads and merges all.',
  },
  endpoint_url: { kind: 'url', doc: 'Another S3 service: MinIO, Ceph, R2.' },
  use_path_style: {
    kind: 'bool',
    default: 'false',
    doc: 'Bucket in the path and not in the host name; only with `endpoint_url`.',
  },
  access_key_id: {
    kind: 'secret',
    doc: 'Without both keys the daemon uses its own credentials: environment, profile files, web identity, instance role.',
  },
  secret_access_key: { kind: 'secret', doc: 'Belongs to `access_key_id`.' },
  session_token: { kind: 'secret', doc: 'For temporary keys.' },
  touch_refresh: {
    kind: 'duration',
    default: '24h',
    doc: 'A layer last written longer ago is copied onto itself by an export, so that a lifecycle rule keeps what is in use.',
  },
  upload_parallelism: { kind: 'count', default: '4', doc: 'Layers read or written at once.' },
  retry_mode: { kind: 'text', doc: "`standard` or `adaptive`: the SDK's own waiting between attempts, inside each of ours." },
  retry_max_attempts: { kind: 'count', default: '1', doc: 'Attempts of the SDK inside each attempt of ours.' },
  disable_accept_encoding: { kind: 'bool', default: 'false', doc: 'Accepted. The header it is about is never signed here.' },
} as const satisfies AttributeTable;

type S3Config = AttributeValues<typeof S3_ATTRIBUTES>;

export const S3_BACKEND: StoreBackend = {
  name: 's3',
  exportTitle: 'exporting cache to Amazon S3',
  importTitle: (attributes) => `s3:${attributes.get('bucket') ?? ''}/${attributes.get('prefix') ?? ''}`,
  open: (attributes, deps) => new S3Store(readAttributes('s3', S3_ATTRIBUTES, attributes, deps.env), deps),
};

class S3Store implements CacheStore {
  readonly backend = 's3';
  readonly label: string;
  readonly endpoint: string;
  readonly blobScope: string;
  readonly address: { readonly host: string; readonly port: number } | undefined;
  readonly manifestNames: readonly string[];
  readonly parallelism: number;
  readonly refreshAfterMs: number;
  readonly #config: S3Config;
  readonly #deps: StoreDeps;
  #client: Promise<S3Client> | undefined;

  constructor(config: S3Config, deps: StoreDeps) {
    const { retry_mode: mode } = config;
    if (mode !== undefined && mode !== 'standard' && mode !== 'adaptive')
      throw new BuildError('invalid-input', 's3 cache: attribute retry_mode must be standard or adaptive');
    this.#config = config;
    this.#deps = deps;
    this.label = `s3 ${config.bucket}/${config.prefix ?? ''}`;
    this.endpoint = `${config.endpoint_url === undefined ? config.region : new URL(config.endpoint_url).host}/${config.bucket}`;
    this.blobScope = `${config.prefix ?? ''}${config.blobs_prefix}`;
    this.address = config.endpoint_url === undefined ? undefined : addressOf(config.endpoint_url, deps.env);
    this.manifestNames = config.name;
    this.parallelism = config.upload_parallelism;
    this.refreshAfterMs = config.touch_refresh;
  }

  async readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const key = this.#manifestKey(name);
    try {
      const body = await this.#get(key, 0, signal);
      return await readWhole(body, MAX_CONFIG_BYTES, `${this.label}: reading ${key}`, signal);
    } catch (thrown) {
      if (!signal.aborted && isNoSuchKey(thrown)) return undefined;
      throw this.#failure(thrown, `reading ${key}`, signal);
    }
  }

  async writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const key = this.#manifestKey(name);
    await this.#call(`writing ${key}`, signal, async (target) => {
      const { PutObjectCommand } = await import('@aws-sdk/client-s3');
      const put = new PutObjectCommand({ Bucket: target.bucket, Key: key, Body: bytes, ContentLength: bytes.byteLength });
      await target.client.send(put, { abortSignal: signal });
    });
  }

  async statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined> {
    const key = this.#blobKey(digest);
    return await this.#call(`looking for ${key}`, signal, async ({ client, bucket }) => {
      const { HeadObjectCommand } = await import('@aws-sdk/client-s3');
      try {
        const head = await client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }), { abortSignal: signal });
        const modifiedAtMs = head.LastModified?.getTime();
        return { sizeBytes: head.ContentLength ?? 0, ...(modifiedAtMs === undefined ? {} : { modifiedAtMs }) };
      } catch (thrown) {
        if (signal.aborted || statusOf(thrown) !== 404) throw thrown;
        return undefined; // an answer to HEAD has no body, so a missing bucket looks the same; the first write tells
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
    const key = this.#blobKey(digest);
    await this.#call(`writing ${key}`, signal, async (target) => await putObject(target, key, digest, content, signal));
  }

  async touchBlob(digest: Digest, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const key = this.#blobKey(digest);
    const nowMs = this.#deps.nowMs();
    await this.#call(`touching ${key}`, signal, async (target) => await copyOntoItself(target, key, sizeBytes, nowMs, signal));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    client?.destroy();
  }

  #manifestKey(name: string): string {
    return `${this.#config.prefix ?? ''}${this.#config.manifests_prefix}${name}`;
  }
  #blobKey(digest: Digest): string {
    return `${this.#config.prefix ?? ''}${this.#config.blobs_prefix}${digest}`;
  }

  async #get(key: string, offset: number, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    throwIfAborted(signal);
    const [{ GetObjectCommand }, client] = await Promise.all([import('@aws-sdk/client-s3'), this.#open()]);
    throwIfAborted(signal);
    const range = offset > 0 ? { Range: `bytes=${offset}-` } : {};
    const command = new GetObjectCommand({ Bucket: this.#config.bucket, Key: key, ...range });
    const asked = client.send(command, { abortSignal: signal });
    asked.then(({ Body: late }) => late && heard(late)).catch(() => undefined);
    const answer = await abortable(asked, signal);
    if (answer.Body === undefined) throw new BuildError('corrupt', `${this.label}: reading ${key}: an answer without a body`);
    const body = answer.Body as unknown as AsyncIterable<Uint8Array>;
    return offset > 0 && answer.ContentRange === undefined ? skipping(body, offset) : body;
  }

  /** Looking up credentials may hang where the SDK hears no signal; `abortable` ends the call all the same. */
  async #call<T>(doing: string, signal: AbortSignal, call: (target: S3Target) => Promise<T>): Promise<T> {
    try {
      throwIfAborted(signal);
      const client = await this.#open();
      throwIfAborted(signal); // a rejection that nobody waits for would end the process
      return await abortable(call({ client, bucket: this.#config.bucket }), signal);
    } catch (thrown) {
      throw this.#failure(thrown, doing, signal);
    }
  }

  #failure(thrown: unknown, doing: string, signal: AbortSignal): BuildError {
    return failureOf(thrown, signal, () => {
      const status = statusOf(thrown);
      const headers = (thrown as { $response?: { headers?: Record<string, string> } }).$response?.headers;
      // Of a failed connection the name is `Error` or `TimeoutError`; then the system's code says more.
      const code = status === undefined ? (networkCode(thrown) ?? credentialsCode(thrown)) : (thrown as Error).name;
      return storeError(`${this.label}: ${doing}`, { status, code, retryAfter: headers?.['retry-after'] }, this.#deps.nowMs());
    });
  }

  #open(): Promise<S3Client> {
    this.#client ??= openClient(this.#config, this.#deps);
    return this.#client;
  }
}

async function openClient(config: S3Config, deps: StoreDeps): Promise<S3Client> {
  const { S3Client: Client } = await import('@aws-sdk/client-s3');
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: sessionToken } = config;
  const agent = { keepAlive: true, maxSockets: 4 * config.upload_parallelism, proxyEnv: deps.env };
  return new Client({
    region: config.region,
    maxAttempts: config.retry_max_attempts,
    ...(config.retry_mode === undefined ? {} : { retryMode: config.retry_mode }),
    // Services other than Amazon's refuse or ignore the newer checksums; bytes are hashed by whoever reads them anyway.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    customUserAgent: deps.userAgent,
    requestHandler: { httpAgent: new http.Agent(agent), httpsAgent: new https.Agent(agent) },
    logger: { debug() {}, info() {}, warn() {}, error() {}, trace() {} }, // the daemon's log is not the SDK's to write
    ...(config.endpoint_url === undefined ? {} : { endpoint: config.endpoint_url, forcePathStyle: config.use_path_style }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } }),
  });
}

const statusOf = (thrown: unknown): number | undefined =>
  (thrown as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
const isNoSuchKey = (thrown: unknown): boolean => thrown instanceof Error && thrown.name === 'NoSuchKey';
const credentialsCode = (thrown: unknown): string | undefined =>
  thrown instanceof Error && /^(Credentials|Token)ProviderError$/.test(thrown.name) ? 'CredentialsMissing' : undefined;
