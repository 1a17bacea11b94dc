/**
 * Redis as a cache that several daemons share (docs/adr/0011 says why it holds layers too). A layer is one string, so an eviction takes it
 * whole. Each export leaves a configuration of its own and an import reads the newest of them merged: two daemons that export at the
 * same time cannot undo one another. ioredis is loaded when the first call is made.
 *
 *   <prefix>:blob:<digest>              bytes of a layer
 *   <prefix>:upload:<digest>:<random>   the same while it is written; expires by itself when its writer dies
 *   <prefix>:configs:<name>             sorted set: id of each configuration by time
 *   <prefix>:config:<name>:<id>         a configuration
 */
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { abortable, throwIfAborted } from '../../../core/abort.ts';
import { type Digest, digestOf, hexOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { type CacheConfig, encodeCacheConfig, MAX_CONFIG_BYTES, parseCacheConfig } from './config.ts';
import { mergeConfigs } from './merge-configs.ts';
import type { BlobContent, BlobStat, CacheStore, StoreBackend, StoreDeps } from './ports.ts';
import { RedisLink } from './redis-link.ts';
import { type AttributeTable, type AttributeValues, readAttributes } from './store-attributes.ts';

export const REDIS_ATTRIBUTES = {
  addr: { kind: 'text', alias: 'redis-addr', required: true, doc: '`redis://host:6379/0`, or `rediss://` for TLS.' },
  username: { kind: 'text', doc: 'User of an ACL. Also read from `addr`.' },
  password: { kind: 'secret', doc: 'Password. Also read from `addr`.' },
  insecure: { kind: 'bool', default: 'false', doc: 'With `rediss://`: any certificate is accepted.' },
  prefix: { kind: 'text', default: 'cooper', doc: 'First part of every key.' },
  name: {
    kind: 'names',
    default: 'cooper',
    doc: 'Names of the cache. An export writes all of them, an import reads and merges all.',
  },
  ttl: { kind: 'duration', default: '168h', doc: 'Layers and configurations that were not used for so long expire. 0: never.' },
  max_blob_size: { kind: 'size', default: '256MB', doc: 'Larger layers are left out of an export; 512MB at most.' },
  keep_configs: { kind: 'count', default: '32', doc: 'Configurations kept per name: of the newest so many exports that differ.' },
} as const satisfies AttributeTable;

type RedisConfig = AttributeValues<typeof REDIS_ATTRIBUTES>;

export const REDIS_BACKEND: StoreBackend = {
  name: 'redis',
  exportTitle: 'exporting cache to Redis',
  importTitle: (attributes) => `redis:${attributes.get('prefix') ?? REDIS_ATTRIBUTES.prefix.default}`,
  open: (attributes, deps) => new RedisStore(readAttributes('redis', REDIS_ATTRIBUTES, attributes, deps.env), deps),
};

const MiB = 1024 * 1024;
/** Longest string of a Redis server as it is delivered (proto-max-bulk-len). */
const MAX_STRING_BYTES = 512 * MiB;
const CHUNK_BYTES = MiB;
/** Chunks on their way at once: the next is read while the last is answered. */
const CHUNKS_AT_ONCE = 4;
/** A writer that has been silent for so long is dead. */
const UPLOAD_TTL_MS = 15 * 60_000;

class RedisStore implements CacheStore {
  readonly backend = 'redis';
  readonly label: string;
  readonly endpoint: string;
  readonly address: { readonly host: string; readonly port: number };
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly refreshAfterMs: number | undefined;
  readonly maxBlobBytes: number;
  readonly #config: RedisConfig;
  readonly #deps: StoreDeps;
  readonly #link: RedisLink;
  /** Layers outlive the configurations that name them, even when one was last touched just before the export that wrote it. */
  readonly #blobTtlMs: number;

  constructor(config: RedisConfig, deps: StoreDeps) {
    const url = urlOf(config.addr);
    this.#config = config;
    this.#deps = deps;
    this.address = { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 6379) };
    const host = `${url.hostname}:${this.address.port}`;
    const database = Number(url.pathname.slice(1) || 0);
    if (!Number.isSafeInteger(database))
      throw new BuildError('invalid-input', 'redis cache: attribute addr: the path is not a number');
    this.label = `redis ${host}/${database} ${config.prefix}`;
    this.endpoint = host;
    this.manifestNames = config.name;
    this.maxBlobBytes = Math.min(config.max_blob_size, MAX_STRING_BYTES);
    const refreshMs = Math.min(3_600_000, config.ttl / 10);
    this.refreshAfterMs = config.ttl === 0 ? undefined : refreshMs;
    this.#blobTtlMs = config.ttl === 0 ? 0 : config.ttl + 2 * refreshMs;
    const username = config.username ?? (decodeURIComponent(url.username) || undefined);
    const password = config.password ?? (decodeURIComponent(url.password) || undefined);
    this.#link = new RedisLink({
      label: this.label,
      nowMs: deps.nowMs,
      ...this.address,
      database,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(url.protocol === 'rediss:' ? { tls: { rejectUnauthorized: !config.insecure } } : {}),
    });
  }

  async readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const found = await this.#link.call(`reading ${name}`, signal, async (redis) => {
      const ids = await redis.zrevrange(this.#key('configs', name), 0, this.#config.keep_configs - 1);
      const texts: Buffer[] = [];
      let sizeBytes = 0;
      for (const id of ids) {
        const text = await redis.getBuffer(this.#key('config', name, id));
        sizeBytes += text?.byteLength ?? 0;
        if (sizeBytes > MAX_CONFIG_BYTES) break; // the newest come first
        if (text !== null) texts.push(text);
      }
      return texts;
    });
    // One is handed on as it was written; so is one that cannot be read, for the reader to say so.
    if (found.length < 2) return found[0];
    const configs = found.flatMap(readable);
    return configs.length === 0 ? found[0] : encodeCacheConfig(mergeConfigs(configs), true);
  }

  /** Exports of the same records take the same place, so a cache that is exported again and again does not push out the others. */
  async writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    const id = hexOf(digestOf(bytes)).slice(0, 32);
    const set = this.#key('configs', name);
    const { ttl, keep_configs: keep } = this.#config;
    await this.#link.call(`writing ${name}`, signal, async (redis) => {
      const change = redis.multi().set(this.#key('config', name, id), Buffer.from(bytes));
      if (ttl > 0) change.pexpire(this.#key('config', name, id), ttl);
      change.zadd(set, this.#deps.nowMs(), id);
      if (ttl > 0) change.pexpire(set, ttl);
      await finished(change.exec());
      const old = await redis.zrange(set, '0', String(-keep - 1));
      if (old.length === 0) return;
      await finished(
        redis
          .multi()
          .zrem(set, ...old)
          .unlink(...old.map((one) => this.#key('config', name, one)))
          .exec(),
      );
    });
  }

  async statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined> {
    const key = this.#key('blob', digest);
    return await this.#link.call(`looking for ${digest}`, signal, async (redis) => {
      const [sizeBytes, leftMs] = await Promise.all([redis.strlen(key), redis.pttl(key)]);
      if (leftMs === -2) return undefined;
      const age = leftMs === -1 || this.#blobTtlMs === 0 ? {} : { modifiedAtMs: this.#deps.nowMs() - (this.#blobTtlMs - leftMs) };
      return { sizeBytes, ...age };
    });
  }

  /** What is read stays: reading renews the time to live. */
  async *readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const key = this.#key('blob', digest);
    const doing = `reading ${digest}`;
    const gone = (when: string): BuildError => new BuildError('not-found', `${this.label}: ${doing}: ${when}`);
    const sizeBytes = await this.#link.call(doing, signal, async (redis) => {
      const [size, leftMs] = await Promise.all([redis.strlen(key), redis.pttl(key)]);
      if (leftMs === -2) throw gone('not found');
      if (this.#blobTtlMs > 0) await redis.pexpire(key, this.#blobTtlMs);
      return size;
    });
    const chunkAt = (start: number): Promise<Buffer> =>
      this.#link.call(doing, signal, (redis) => redis.getrangeBuffer(key, start, Math.min(start + CHUNK_BYTES, sizeBytes) - 1));
    for (let at = offset; at < sizeBytes; ) {
      const chunk = await chunkAt(at);
      if (chunk.byteLength !== Math.min(CHUNK_BYTES, sizeBytes - at)) throw gone('evicted while it was read');
      at += chunk.byteLength;
      yield chunk;
    }
  }

  async writeBlob({ digest }: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void> {
    if (content.sizeBytes > this.maxBlobBytes)
      throw new BuildError('invalid-input', `${this.label}: ${digest} is larger than max_blob_size (${this.maxBlobBytes} bytes)`);
    const upload = this.#key('upload', digest, randomUUID());
    await this.#link.call(`writing ${digest}`, signal, async (redis) => {
      try {
        await redis.set(upload, '', 'PX', UPLOAD_TTL_MS);
        await sendChunks(redis, upload, content, signal);
        await this.#publish(redis, upload, this.#key('blob', digest), content.sizeBytes);
      } catch (error) {
        redis.unlink(upload).catch(() => undefined); // expires otherwise
        throw error;
      }
    });
  }

  async touchBlob(digest: Digest, _sizeBytes: number, signal: AbortSignal): Promise<void> {
    const key = this.#key('blob', digest);
    await this.#link.call(`touching ${digest}`, signal, (redis) => redis.pexpire(key, this.#blobTtlMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#link[Symbol.dispose]();
  }

  /**
   * Gives the finished upload its name. One that was evicted on its way has been made anew by the next chunk, with zeros before it; such
   * a string does not expire, which tells it apart.
   */
  async #publish(redis: Redis, upload: string, key: string, sizeBytes: number): Promise<void> {
    const [size, leftMs] = await Promise.all([redis.strlen(upload), redis.pttl(upload)]);
    if (size !== sizeBytes || leftMs < 0)
      throw new BuildError('unavailable', `${this.label}: the upload was evicted while it was written`);
    const change = redis.multi();
    if (this.#blobTtlMs > 0) change.pexpire(upload, this.#blobTtlMs);
    else change.persist(upload);
    await finished(change.rename(upload, key).exec());
  }

  #key(...parts: readonly string[]): string {
    return [this.#config.prefix, ...parts].join(':');
  }
}

/** Each chunk names its place, so one that is sent twice does no harm. */
async function sendChunks(redis: Redis, key: string, content: BlobContent, signal: AbortSignal): Promise<void> {
  const waiting: Promise<unknown>[] = [];
  let offset = 0;
  for await (const bytes of content.read()) {
    for (let from = 0; from < bytes.byteLength; from += CHUNK_BYTES) {
      throwIfAborted(signal);
      const chunk = Buffer.from(bytes.subarray(from, from + CHUNK_BYTES));
      const sent = redis.setrange(key, offset, chunk);
      sent.catch(() => undefined); // heard of below
      waiting.push(sent);
      offset += chunk.byteLength;
      if (waiting.length >= CHUNKS_AT_ONCE) await abortable(waiting.shift() ?? sent, signal);
    }
  }
  await abortable(Promise.all(waiting), signal);
}

/** A transaction's answer holds the failures of its commands. */
async function finished(answers: Promise<[Error | null, unknown][] | null>): Promise<void> {
  for (const [error] of (await answers) ?? []) if (error !== null) throw error;
}

/** One broken configuration must not hide the others. */
function readable(bytes: Uint8Array): CacheConfig[] {
  try {
    return [parseCacheConfig(bytes)];
  } catch {
    return [];
  }
}

function urlOf(text: string): URL {
  const address = text.includes('://') ? text : `redis://${text}`;
  const url = URL.canParse(address) ? new URL(address) : undefined;
  if (url === undefined || !/^rediss?:$/.test(url.protocol) || url.hostname === '')
    throw new BuildError('invalid-input', 'redis cache: attribute addr: expected redis://host:port or rediss://host:port');
  return url;
}
