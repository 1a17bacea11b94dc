/**
 * The cache of GitHub Actions. Keys are BuildKit's, so the two read each other's caches: layers are `buildkit-blob-1-sha256:<hex>`, a
 * configuration is `index-<scope>-1-<8 hex of the token's scope>#<number>`. Entries cannot be replaced, so each export writes the next
 * number and an import takes the newest.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { deadline } from '../../../core/abort.ts';
import { type Digest, digestOf, hexOf } from '../../../core/digest.ts';
import { BuildError } from '../../../core/errors.ts';
import type { Descriptor } from '../../content/ports.ts';
import { MAX_CONFIG_BYTES } from './config.ts';
import { discard, GhaHttp } from './gha-http.ts';
import { CACHE_VERSION, type GhaEntry, type GhaReservation, type GhaService, openGhaService } from './gha-service.ts';
import { type ActionsToken, parseActionsToken } from './gha-token.ts';
import type { BlobContent, BlobStat, CacheStore, StoreBackend, StoreDeps } from './ports.ts';
import { type AttributeTable, type AttributeValues, readAttributes } from './store-attributes.ts';
import { addressOf, readWhole, skipping } from './store-errors.ts';

export const GHA_ATTRIBUTES = {
  url: {
    kind: 'url',
    doc: 'Address of the v1 service (`ACTIONS_CACHE_URL` of the workflow). One of `url` and `url_v2` is needed.',
  },
  url_v2: { kind: 'url', doc: 'Address of the v2 service (`ACTIONS_RESULTS_URL`); wins over `url` unless `version=1`.' },
  version: { kind: 'count', doc: '1 or 2. Otherwise: 2 with `url_v2`, else 1.' },
  token: {
    kind: 'secret',
    required: true,
    doc: "The workflow's `ACTIONS_RUNTIME_TOKEN`. It names the scopes that may be read and written.",
  },
  scope: {
    kind: 'text',
    default: 'buildkit',
    doc: 'Name of the cache inside the repository: one per image, else they replace one another.',
  },
  timeout: { kind: 'duration', default: '10m', doc: 'Longest time for one request, or the upload of one layer.' },
  repository: {
    kind: 'text',
    doc: '`owner/name`. With `ghtoken`, an export asks the REST API once which layers are there, not for each.',
  },
  ghtoken: { kind: 'secret', doc: 'Token for the REST API.' },
} as const satisfies AttributeTable;

type GhaConfig = AttributeValues<typeof GHA_ATTRIBUTES>;

export const GHA_BACKEND: StoreBackend = {
  name: 'gha',
  exportTitle: 'exporting to GitHub Actions Cache',
  importTitle: (attributes) => `gha:${attributes.get('scope') ?? GHA_ATTRIBUTES.scope.default}`,
  open: (attributes, deps) => new GhaStore(readAttributes('gha', GHA_ATTRIBUTES, attributes, deps.env), deps),
};

const BLOB_PREFIX = 'buildkit-blob-1-';
/** How long a number that another export holds is waited for. After that it counts as left behind by a crash. */
const CONFLICT_WAIT_MS = 4_000;
const CONFLICT_PAUSE_MS = 250;
const LIST_PAGE = 100;

class GhaStore implements CacheStore {
  readonly backend = 'gha';
  readonly label: string;
  readonly endpoint: string;
  readonly blobScope: string;
  readonly address: { readonly host: string; readonly port: number } | undefined;
  readonly manifestNames: readonly string[];
  readonly parallelism = 4;
  readonly #config: GhaConfig;
  readonly #deps: StoreDeps;
  readonly #http: GhaHttp;
  readonly #token: ActionsToken;
  readonly #service: GhaService;
  /** Key of the configuration in the scope that the token may write. */
  readonly #writable: string | undefined;
  /** Reserved and not yet committed. */
  readonly #held = new Map<string, GhaReservation>();
  #listed: Promise<ReadonlyMap<string, number> | undefined> | undefined;

  constructor(config: GhaConfig, deps: StoreDeps) {
    const { url, version } = serviceOf(config);
    this.#config = config;
    this.#deps = deps;
    this.#http = new GhaHttp(deps);
    this.#token = parseActionsToken(config.token);
    const indexKey = (scope: string): string => `index-${config.scope}-1-${hexOf(digestOf(scope)).slice(0, 8)}`;
    this.endpoint = new URL(url).host;
    this.address = addressOf(url, deps.env);
    // Layers belong to the repository, which only the token knows.
    this.blobScope = digestOf(config.token);
    this.label = `gha ${this.endpoint} ${config.scope}`;
    // The scopes a workflow may read: its own branch and those it comes from. It writes to one of them only.
    this.manifestNames = this.#token.scopes.map(({ name }) => indexKey(name));
    const own = this.#token.scopes.findLast(({ mayWrite }) => mayWrite);
    this.#writable = own === undefined ? undefined : indexKey(own.name);
    const { nowMs } = deps;
    this.#service = openGhaService(version, { http: this.#http, label: this.label, url, token: config.token, nowMs });
  }

  async readManifest(name: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#within(signal, async (inner) => {
      const entry = await this.#newest(name, inner);
      if (entry === undefined) return undefined;
      const what = `${this.label}: reading ${entry.key}`;
      const answer = await this.#http.succeed({ what, method: 'GET', url: entry.url }, inner);
      return await readWhole(answer.body, MAX_CONFIG_BYTES, what, inner).catch((thrown: unknown) => {
        throw this.#http.failure(what, thrown, inner);
      });
    });
  }

  /** A name of a scope that the token may only read is left alone: the service would file it under the scope that may be written. */
  async writeManifest(name: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    if (this.#writable === undefined)
      throw new BuildError('denied', `${this.label}: the token may read the cache but not write to it`);
    if (name !== this.#writable) return;
    await this.#within(signal, async (inner) => {
      const reservation = await this.#reserveNext(name, bytes.byteLength, inner);
      await this.#fill(reservation, contentOf(bytes), inner);
    });
  }

  async statBlob(digest: Digest, signal: AbortSignal): Promise<BlobStat | undefined> {
    return await this.#within(signal, async (inner) => {
      const listed = await this.#list(inner);
      if (listed !== undefined) {
        const sizeBytes = listed.get(BLOB_PREFIX + digest);
        return sizeBytes === undefined ? undefined : { sizeBytes };
      }
      const entry = await this.#entry(digest, inner);
      return entry === undefined ? undefined : { sizeBytes: await this.#sizeOf(entry, inner) };
    });
  }

  async *readBlob(digest: Digest, offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const what = `${this.label}: reading ${BLOB_PREFIX}${digest}`;
    const answer = await this.#within(signal, async (inner) => {
      const entry = await this.#entry(digest, inner);
      if (entry === undefined) throw new BuildError('not-found', `${what}: not found`);
      const headers = offset > 0 ? { range: `bytes=${offset}-` } : {};
      // Not `inner`: its deadline is for the answer to begin.
      return await this.#http.succeed({ what, method: 'GET', url: entry.url, headers }, signal);
    });
    try {
      yield* offset > 0 && answer.status === 200 ? skipping(answer.body, offset) : answer.body;
    } catch (thrown) {
      throw this.#http.failure(what, thrown, signal);
    }
  }

  async writeBlob({ digest }: Descriptor, content: BlobContent, signal: AbortSignal): Promise<void> {
    await this.#within(signal, async (inner) => {
      const reservation = await this.#reserve(BLOB_PREFIX + digest, content.sizeBytes, inner);
      if (reservation === undefined) return; // another export has written these bytes, or is at it
      await this.#fill(reservation, content, inner);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http[Symbol.asyncDispose]();
  }

  async #within<T>(signal: AbortSignal, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#token.expiresAtMs <= this.#deps.nowMs()) throw new BuildError('denied', `${this.label}: the token has expired`);
    using limit = deadline(`timeout of the gha cache`, this.#config.timeout);
    return await call(AbortSignal.any([signal, limit.signal]));
  }

  async #newest(name: string, signal: AbortSignal): Promise<(GhaEntry & { readonly number: number }) | undefined> {
    const entry = await this.#service.find(`${name}#`, signal);
    if (entry === undefined || !/^#\d+$/.test(entry.key.slice(name.length))) return undefined;
    return { ...entry, number: Number(entry.key.slice(name.length + 1)) };
  }

  /** The number after the newest; one that another export holds is waited for, and skipped when that takes too long. */
  async #reserveNext(name: string, sizeBytes: number, signal: AbortSignal) {
    const untilMs = performance.now() + CONFLICT_WAIT_MS;
    for (let skipped = 0; ; ) {
      const newest = await this.#newest(name, signal);
      const reservation = await this.#reserve(`${name}#${(newest?.number ?? 0) + 1 + skipped}`, sizeBytes, signal);
      if (reservation !== undefined) return reservation;
      if (performance.now() > untilMs) skipped += 1;
      else await sleep(CONFLICT_PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  /** A key that an earlier attempt of ours reserved is still ours; the service would call it taken. */
  async #reserve(key: string, sizeBytes: number, signal: AbortSignal): Promise<GhaReservation | undefined> {
    const reservation = this.#held.get(key) ?? (await this.#service.reserve(key, sizeBytes, signal));
    if (reservation !== undefined) this.#held.set(key, reservation);
    return reservation;
  }

  async #fill(reservation: GhaReservation, content: BlobContent, signal: AbortSignal): Promise<void> {
    await this.#service.upload(reservation, content, signal);
    await this.#service.commit(reservation, content.sizeBytes, signal);
    this.#held.delete(reservation.key);
  }

  /** Looking up goes by prefix, so a signature of the blob (`...-sig`) may answer too. */
  async #entry(digest: Digest, signal: AbortSignal): Promise<GhaEntry | undefined> {
    const entry = await this.#service.find(BLOB_PREFIX + digest, signal);
    return entry?.key === BLOB_PREFIX + digest ? entry : undefined;
  }

  /** The service does not tell sizes; the storage behind it does, with the first byte. */
  async #sizeOf(entry: GhaEntry, signal: AbortSignal): Promise<number> {
    const what = `${this.label}: asking for the size of ${entry.key}`;
    const answer = await this.#http.send({ what, method: 'GET', url: entry.url, headers: { range: 'bytes=0-0' } }, signal);
    discard(answer);
    if (answer.status === 416) return 0;
    if (answer.status >= 300) throw this.#http.refused(what, answer, undefined);
    const total = /\/(\d+)$/.exec(answer.headers['content-range'] ?? '')?.[1] ?? answer.headers['content-length'];
    return Number(total ?? Number.NaN);
  }

  #list(signal: AbortSignal): Promise<ReadonlyMap<string, number> | undefined> {
    const { repository, ghtoken } = this.#config;
    if (repository === undefined || ghtoken === undefined) return Promise.resolve(undefined);
    this.#listed ??= this.#askList(repository, ghtoken, signal).catch(() => undefined); // then each layer is asked for
    return this.#listed;
  }

  /** https://docs.github.com/rest/actions/cache: keys of layers in every scope of the token, with their sizes. */
  async #askList(repository: string, ghtoken: string, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const api = this.#deps.env.GITHUB_API_URL ?? 'https://api.github.com';
    const headers = {
      accept: 'application/vnd.github+json',
      authorization: `Bearer ${ghtoken}`,
      'x-github-api-version': '2022-11-28',
    };
    const sizes = new Map<string, number>();
    for (const { name: ref } of this.#token.scopes) {
      for (let page = 1, total = 1; (page - 1) * LIST_PAGE < total; page += 1) {
        const query = new URLSearchParams({ per_page: String(LIST_PAGE), page: String(page), key: BLOB_PREFIX, ref });
        const url = `${api}/repos/${repository}/actions/caches?${query}`;
        const answer = await this.#http.json({ what: `${this.label}: listing caches`, method: 'GET', url, headers }, signal);
        total = Number(answer.total_count ?? 0);
        const caches = Array.isArray(answer.actions_caches) ? (answer.actions_caches as Record<string, unknown>[]) : [];
        for (const { key, version, size_in_bytes: size } of caches)
          if (typeof key === 'string' && version === CACHE_VERSION) sizes.set(key, Number(size));
      }
    }
    return sizes;
  }
}

function serviceOf({ url, url_v2: urlV2, version }: GhaConfig): { readonly url: string; readonly version: 1 | 2 } {
  if (version !== undefined && version > 2) throw new BuildError('invalid-input', 'gha cache: attribute version must be 1 or 2');
  if (version !== 1 && urlV2 !== undefined) return { url: urlV2, version: 2 };
  if (url === undefined) throw new BuildError('invalid-input', 'gha cache: attribute url or url_v2 is not set');
  const isV2 = version === 2 || (version === undefined && new URL(url).host === 'results-receiver.actions.githubusercontent.com');
  return { url, version: isV2 ? 2 : 1 };
}

const contentOf = (bytes: Uint8Array): BlobContent => ({
  path: '',
  sizeBytes: bytes.byteLength,
  async *read({ offset = 0, length = 0 } = {}) {
    yield bytes.subarray(offset, length === 0 ? undefined : offset + length);
  },
});
