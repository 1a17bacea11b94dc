/**
 * The two protocols of the GitHub Actions cache service. Entries are immutable: a key is reserved, filled and committed once, and a key
 * that someone else holds is a conflict. Looking for a key finds the newest entry that begins with it.
 *   v1: `_apis/artifactcache`, bytes go through the service.   v2: Twirp, bytes go to a signed address of Azure Blob Storage.
 */
import { createHash } from 'node:crypto';
import { discard, type GhaHttp, type HeaderMap, type Json } from './gha-http.ts';
import type { BlobContent } from './ports.ts';
import { eachAtOnce, rangesOf } from './store-body.ts';
import { storeError } from './store-errors.ts';

export interface GhaEntry {
  /** The whole key, which may go on after the one that was asked for. */
  readonly key: string;
  /** Where its bytes are, already authenticated. */
  readonly url: string;
}
/** Where the bytes of a reserved key go, and what ends the upload. */
export interface GhaReservation {
  readonly key: string;
  readonly target: string;
}
export interface GhaService {
  find(key: string, signal: AbortSignal): Promise<GhaEntry | undefined>;
  /** Undefined: the key is taken, by an entry or by an upload that may never end. */
  reserve(key: string, sizeBytes: number, signal: AbortSignal): Promise<GhaReservation | undefined>;
  upload(reservation: GhaReservation, content: BlobContent, signal: AbortSignal): Promise<void>;
  commit(reservation: GhaReservation, sizeBytes: number, signal: AbortSignal): Promise<void>;
}

export interface GhaServiceOptions {
  readonly http: GhaHttp;
  readonly label: string;
  readonly url: string;
  readonly token: string;
  readonly nowMs: () => number;
}

/** Entries of another version are invisible. BuildKit's text, so that the two read each other's caches. */
export const CACHE_VERSION = createHash('sha256').update('|go-actionscache-1.0').digest('hex');

const MiB = 1024 * 1024;
const CHUNK_BYTES = 32 * MiB;
const CHUNKS_AT_ONCE = 2;

export function openGhaService(version: 1 | 2, options: GhaServiceOptions): GhaService {
  return version === 1 ? serviceV1(options) : serviceV2(options);
}

function serviceV1({ http, label, url, token, nowMs }: GhaServiceOptions): GhaService {
  const at = (path: string): string => `${url.replace(/\/+$/, '')}/_apis/artifactcache/${path}`;
  const headers: HeaderMap = { authorization: `Bearer ${token}`, accept: 'application/json;api-version=6.0-preview.1' };
  const post = (what: string, path: string, body: object, signal: AbortSignal): Promise<Json> =>
    http.json({ what, method: 'POST', url: at(path), headers: jsonOf(headers), body: JSON.stringify(body) }, signal, isConflict);
  return {
    async find(key, signal) {
      const query = new URLSearchParams({ keys: key, version: CACHE_VERSION });
      const what = `${label}: looking for ${key}`;
      const found = await http.json({ what, method: 'GET', url: at(`cache?${query}`), headers }, signal);
      const { status, cacheKey, archiveLocation, ...others } = found;
      if (cacheKey === undefined && Object.keys(others).length === 0) return undefined; // an empty answer
      if (typeof cacheKey !== 'string' || typeof archiveLocation !== 'string')
        throw storeError(what, { status: Number(status) }, nowMs());
      return cacheKey === '' ? undefined : { key: cacheKey, url: archiveLocation };
    },
    async reserve(key, sizeBytes, signal) {
      const what = `${label}: reserving ${key}`;
      const answer = await post(what, 'caches', { key, version: CACHE_VERSION, cacheSize: sizeBytes }, signal);
      if (Number(answer.status) >= 300) return undefined;
      const id = answer.cacheId ?? answer.cacheID;
      if (typeof id !== 'number' || id === 0) throw storeError(what, { status: Number(answer.status) }, nowMs());
      return { key, target: String(id) };
    },
    async upload({ key, target }, content, signal) {
      await eachAtOnce(rangesOf(content.sizeBytes, CHUNK_BYTES), CHUNKS_AT_ONCE, async (range) => {
        const span = { 'content-range': `bytes ${range.offset}-${range.offset + range.length - 1}/*` };
        const sent = { ...headers, ...span, 'content-type': 'application/octet-stream' };
        const what = `${label}: writing ${key}`;
        await http.json({ what, method: 'PATCH', url: at(`caches/${target}`), headers: sent, body: { content, range } }, signal);
      });
    },
    async commit({ key, target }, size, signal) {
      const what = `${label}: ending ${key}`;
      const body = JSON.stringify({ size });
      await http.json({ what, method: 'POST', url: at(`caches/${target}`), headers: jsonOf(headers), body }, signal);
    },
  };
}

function serviceV2({ http, label, url, token, nowMs }: GhaServiceOptions): GhaService {
  const base = `${url.replace(/\/+$/, '')}/twirp/github.actions.results.api.v1.CacheService/`;
  const headers = jsonOf({ authorization: `Bearer ${token}` });
  const call = (what: string, method: string, body: object, signal: AbortSignal): Promise<Json> =>
    http.json({ what, method: 'POST', url: base + method, headers, body: JSON.stringify(body) }, signal, isConflict);
  return {
    async find(key, signal) {
      const what = `${label}: looking for ${key}`;
      const body = { key, restore_keys: [key], version: CACHE_VERSION };
      const answer = await call(what, 'GetCacheEntryDownloadURL', body, signal);
      const { status, ok, matched_key: found, signed_download_url: address } = answer;
      if (ok === false || Object.keys(answer).length === 1) return undefined; // Twirp leaves out what is false
      if (typeof found !== 'string' || typeof address !== 'string') throw storeError(what, { status: Number(status) }, nowMs());
      return { key: found, url: address };
    },
    async reserve(key, _sizeBytes, signal) {
      const what = `${label}: reserving ${key}`;
      const answer = await call(what, 'CreateCacheEntry', { key, version: CACHE_VERSION }, signal);
      if (Number(answer.status) >= 300 || answer.ok !== true) return undefined;
      const target = answer.signed_upload_url;
      if (typeof target !== 'string') throw storeError(what, { status: Number(answer.status) }, nowMs());
      return { key, target };
    },
    async upload({ key, target }, content, signal) {
      await uploadBlocks(http, `${label}: writing ${key}`, target, content, signal);
    },
    async commit({ key }, sizeBytes, signal) {
      const what = `${label}: ending ${key}`;
      const body = { key, size_bytes: String(sizeBytes), version: CACHE_VERSION };
      const answer = await call(what, 'FinalizeCacheEntryUpload', body, signal);
      if (answer.ok !== true) throw storeError(what, { status: 502 }, nowMs());
    },
  };
}

/** https://learn.microsoft.com/rest/api/storageservices/put-block-list: nothing can be read before the list is there. */
async function uploadBlocks(
  http: GhaHttp,
  what: string,
  target: string,
  content: BlobContent,
  signal: AbortSignal,
): Promise<void> {
  const headers = { 'x-ms-version': '2021-08-06', 'content-type': 'application/octet-stream' };
  const put = async (query: string, body: GhaBody, more: HeaderMap = {}): Promise<void> => {
    const url = query === '' ? target : `${target}${target.includes('?') ? '&' : '?'}${query}`;
    const answer = await http.succeed({ what, method: 'PUT', url, headers: { ...headers, ...more }, body }, signal);
    discard(answer);
  };
  if (content.sizeBytes <= CHUNK_BYTES) {
    const body = content.sizeBytes === 0 ? '' : { content, range: { offset: 0, length: content.sizeBytes } };
    return await put('', body, { 'x-ms-blob-type': 'BlockBlob' });
  }
  const ranges = rangesOf(content.sizeBytes, CHUNK_BYTES);
  const idOf = (at: number): string => Buffer.from(String(at).padStart(8, '0')).toString('base64');
  await eachAtOnce(ranges, CHUNKS_AT_ONCE, (range, at) =>
    put(`comp=block&blockid=${encodeURIComponent(idOf(at))}`, { content, range }),
  );
  const list = ranges.map((_, at) => `<Latest>${idOf(at)}</Latest>`).join('');
  await put('comp=blocklist', `<?xml version="1.0" encoding="utf-8"?><BlockList>${list}</BlockList>`);
}
type GhaBody = string | { readonly content: BlobContent; readonly range: { readonly offset: number; readonly length: number } };

const jsonOf = (headers: HeaderMap): HeaderMap => ({ ...headers, 'content-type': 'application/json' });

/** v1 says it in `typeKey` or in words, v2 in `code`; the status alone is 400 or 409. */
function isConflict(status: number, { typeKey, code, message }: Json): boolean {
  if (status !== 400 && status !== 409) return false;
  return /AlreadyExists|already_exists|already exists/i.test(`${typeKey} ${code} ${message}`);
}
