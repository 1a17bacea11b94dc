/** One connection to Redis: opened by the first call, again by the next after it broke, and never by itself. */
import type { Redis, RedisOptions } from 'ioredis';
import { abortable, throwIfAborted } from '../../../core/abort.ts';
import { BuildError } from '../../../core/errors.ts';
import { failureOf, networkCode, storeError } from './store-errors.ts';

export interface RedisLinkOptions {
  readonly label: string;
  readonly nowMs: () => number;
  readonly host: string;
  readonly port: number;
  readonly database: number;
  readonly username?: string;
  readonly password?: string;
  readonly tls?: { readonly rejectUnauthorized: boolean };
}

export class RedisLink implements Disposable {
  readonly #options: RedisLinkOptions;
  #connection: { readonly redis: Promise<Redis>; isOpen: boolean } | undefined;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
  }

  /** One attempt. Commands cannot be taken back; a call that ran out of time drops the connection, so that the next gets a fresh one. */
  async call<T>(doing: string, signal: AbortSignal, call: (redis: Redis) => Promise<T>): Promise<T> {
    try {
      throwIfAborted(signal);
      const redis = await abortable(this.#open(), signal);
      return await abortable(call(redis), signal);
    } catch (thrown) {
      if (signal.aborted && BuildError.from(signal.reason).kind === 'timed-out') this[Symbol.dispose]();
      throw failureOf(thrown, signal, () => this.#failure(doing, thrown));
    }
  }

  [Symbol.dispose](): void {
    this.#connection?.redis.then((redis) => redis.disconnect()).catch(() => undefined);
    this.#connection = undefined;
  }

  async #open(): Promise<Redis> {
    if (this.#connection?.isOpen !== true) {
      const opened = { redis: connect(this.#options, () => (opened.isOpen = false)), isOpen: true };
      opened.redis.catch(() => (opened.isOpen = false));
      this.#connection = opened;
    }
    return await this.#connection.redis;
  }

  /** Redis says why in the first word of its answer: https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors */
  #failure(doing: string, thrown: unknown): BuildError {
    const what = `${this.#options.label}: ${doing}`;
    const { name, message } = thrown instanceof Error ? thrown : { name: '', message: '' };
    const code = name === 'ReplyError' ? /^[A-Z]+/.exec(message)?.[0] : networkCode(thrown);
    if (code === 'OOM')
      return new BuildError('exhausted', `${what}: Redis has no memory left`, {
        hint: 'set maxmemory-policy to allkeys-lru, so that the oldest layers make room',
      });
    const status = name === 'ReplyError' && !TEMPORARY.has(code ?? '') && !REFUSED.has(code ?? '') ? 400 : undefined;
    return storeError(what, { status, code }, this.#options.nowMs());
  }
}

const TEMPORARY = new Set(['LOADING', 'BUSY', 'MASTERDOWN', 'TRYAGAIN', 'READONLY', 'CLUSTERDOWN', 'MISCONF']);
const REFUSED = new Set(['NOAUTH', 'WRONGPASS', 'NOPERM']);

async function connect(options: RedisLinkOptions, closed: () => void): Promise<Redis> {
  const { Redis: Client } = await import('ioredis');
  const { host, port, database: db, username, password, tls } = options;
  const settings = {
    host,
    port,
    db,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
  } satisfies RedisOptions;
  const redis = new Client(settings);
  let why: unknown;
  redis.on('error', (error) => {
    why = error; // what `connect` rejects with says only that the connection is closed
  });
  redis.on('close', closed);
  try {
    await redis.connect();
    return redis;
  } catch (error) {
    redis.disconnect();
    throw why ?? error;
  }
}
