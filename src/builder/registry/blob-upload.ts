/**
 * A blob from the content store to a registry (distribution-spec v1.1, pushing blobs): skipped when it is there, mounted from another
 * repository when that is allowed, else sent in one PUT, or in chunks when the registry wants no big requests.
 */
import { BuildError } from '../../core/errors.ts';
import { type TaskRef, taskRef, type WorkerPool } from '../../core/worker-pool.ts';
import type { ContentStore, Descriptor } from '../content/ports.ts';
import { pullScope } from './challenge.ts';
import { type HeaderMap, type HttpResponse, statusError } from './http.ts';
import type { ImageReference } from './ports.ts';
import type { RegistryClient, Target } from './registry-client.ts';
import type { UploadArgs, UploadResult } from './transfer-task.ts';

const uploadTask: TaskRef<UploadArgs, UploadResult> = taskRef(new URL('./transfer-task.ts', import.meta.url), 'upload');

export interface BlobUpload {
  readonly client: RegistryClient;
  readonly content: ContentStore;
  readonly pool: WorkerPool;
  readonly target: Target;
  readonly descriptor: Descriptor;
  readonly mountFrom: ImageReference | undefined;
  /** Size of one request of a chunked upload. */
  readonly chunkBytes: number;
  readonly nowMs: () => number;
  readonly onProgress: (bytes: number) => void;
}

/** Up to here a blob is moved by the control loop: starting a thread would take longer than the transfer. */
export const INLINE_BYTES = 1024 * 1024;
const MAX_RESUMES = 5; // interruptions of one chunked upload

/** One attempt. Rejects with `unavailable` when trying again makes sense; a repeated attempt finds what an earlier one finished. */
export async function uploadBlob(upload: BlobUpload): Promise<void> {
  if (await exists(upload)) return;
  const location = await begin(upload);
  if (location === undefined) return;
  const { descriptor } = upload;
  if (location.minChunkBytes !== undefined) return await sendChunks(upload, location.url, location.minChunkBytes);
  let sentBytes = 0;
  const count = (bytes: number): void => {
    sentBytes += bytes;
    upload.onProgress(bytes);
  };
  const finish = new URL(location.url);
  finish.searchParams.set('digest', descriptor.digest);
  const response = await transfer({ ...upload, onProgress: count }, finish, 'PUT', 0, descriptor.size, {});
  if (response.status === 201 || response.status === 204 || response.status === 200) return;
  upload.onProgress(-sentBytes);
  if (response.status !== 413) throw statusError(response, 'PUT', response.url, upload.nowMs());
  const again = await begin(upload); // the body was too big for something on the way
  if (again !== undefined) await sendChunks(upload, again.url, again.minChunkBytes ?? 0);
}

async function exists({ client, target, descriptor, nowMs }: BlobUpload): Promise<boolean> {
  const url = client.urlOf(target, `blobs/${descriptor.digest}`);
  const response = await client.send(target, { method: 'HEAD', url });
  if (response.status === 200) return true;
  // Some registries answer a HEAD with 401 or 403 to those who may push only; the POST tells the truth.
  if (response.status === 404 || response.status === 401 || response.status === 403) return false;
  throw statusError(response, 'HEAD', response.url, nowMs());
}

interface UploadLocation {
  readonly url: URL;
  /** Set when the registry asks for chunks. */
  readonly minChunkBytes: number | undefined;
}

/** Opens an upload session; undefined when the blob was mounted instead. */
async function begin(upload: BlobUpload): Promise<UploadLocation | undefined> {
  const mounted = await mount(upload);
  if (mounted === 'mounted') return undefined;
  const { client, target } = upload;
  const response = mounted ?? (await client.send(target, { method: 'POST', url: client.urlOf(target, 'blobs/uploads/') }));
  if (response.status === 201) return undefined;
  if (response.status !== 202) throw pushRefused(statusError(response, 'POST', response.url, upload.nowMs()));
  const minimum = Number(response.headers['oci-chunk-min-length'] ?? Number.NaN);
  return { url: locationOf(response), minChunkBytes: Number.isNaN(minimum) ? undefined : minimum };
}

/** `mounted`, an opened session (the registry would not mount), or undefined when mounting was not possible. */
async function mount(upload: BlobUpload): Promise<'mounted' | HttpResponse | undefined> {
  const { client, target, descriptor, mountFrom } = upload;
  if (mountFrom === undefined || mountFrom.host !== target.reference.host) return undefined;
  if (mountFrom.repository === target.reference.repository) return undefined;
  const url = client.urlOf(target, 'blobs/uploads/', { mount: descriptor.digest, from: mountFrom.repository });
  const scopes = [...target.scopes, pullScope(mountFrom.repository)];
  try {
    const response = await client.send({ ...target, scopes }, { method: 'POST', url });
    if (response.status === 201) return 'mounted';
    return response.status === 202 ? response : undefined;
  } catch (thrown) {
    const error = BuildError.from(thrown);
    if (error.kind === 'denied' || error.kind === 'not-found') return undefined; // no right to the other repository
    throw error;
  }
}

async function transfer(
  upload: BlobUpload,
  url: URL,
  method: 'PUT' | 'PATCH',
  start: number,
  end: number,
  headers: HeaderMap,
): Promise<HttpResponse> {
  const { client, content, pool, target, descriptor } = upload;
  if (descriptor.size <= INLINE_BYTES) {
    const whole = await content.readAll(descriptor.digest, INLINE_BYTES);
    const body = whole.subarray(start, end);
    const type = { 'content-type': 'application/octet-stream' };
    const response = await client.send(target, { method, url, headers: { ...type, ...headers }, body });
    upload.onProgress(body.byteLength);
    return response;
  }
  return await client.authorised(target, { method, url }, async (authorization) => {
    const args: UploadArgs = {
      url: url.href,
      method,
      headers: { 'user-agent': client.http.userAgent, ...headers, ...authorization },
      tls: target.endpoint.tls,
      proxy: client.http.proxy,
      limits: client.http.limits,
      path: content.path(descriptor.digest),
      start,
      end,
    };
    const done = await pool.run(uploadTask, args, { signal: target.call.signal, onProgress: upload.onProgress });
    if (done.outcome === 'interrupted') throw new BuildError('unavailable', done.message);
    return { status: done.status, headers: done.headers, body: done.body, url: new URL(done.url) };
  });
}

/** PATCH by PATCH, asking after an interruption how far the registry got, then an empty PUT that names the digest. */
async function sendChunks(upload: BlobUpload, first: URL, minChunkBytes: number): Promise<void> {
  const { client, target, descriptor, nowMs } = upload;
  const size = Math.max(upload.chunkBytes, minChunkBytes);
  let url = first;
  let resumes = 0;
  for (let at = 0; at < descriptor.size; ) {
    const end = Math.min(at + size, descriptor.size);
    const range = { 'content-range': `${at}-${end - 1}` };
    const response = await transfer(upload, url, 'PATCH', at, end, range).catch((error: BuildError) => error);
    if (!(response instanceof BuildError) && response.status === 202) {
      url = locationOf(response);
      at = end;
      continue;
    }
    const interrupted = response instanceof BuildError ? response.kind === 'unavailable' : response.status === 416;
    resumes += 1;
    if (!interrupted || resumes > MAX_RESUMES)
      throw response instanceof BuildError ? response : statusError(response, 'PATCH', response.url, nowMs());
    const status = await client.send(target, { method: 'GET', url });
    if (status.status !== 204) throw statusError(status, 'GET', status.url, nowMs());
    if (status.headers.location !== undefined) url = locationOf(status);
    at = receivedBytes(status.headers.range);
  }
  const finish = new URL(url);
  finish.searchParams.set('digest', descriptor.digest);
  const response = await client.send(target, { method: 'PUT', url: finish, body: new Uint8Array() });
  if (response.status !== 201 && response.status !== 204) throw statusError(response, 'PUT', response.url, nowMs());
}

/** `0-1023` says that 1024 bytes have arrived; `0-0` with nothing sent is how several registries write zero. */
function receivedBytes(range: string | undefined): number {
  const last = Number(/^(?:bytes=)?0-(\d+)$/.exec(range ?? '')?.[1] ?? Number.NaN);
  return Number.isNaN(last) || last === 0 ? 0 : last + 1;
}

function locationOf(response: HttpResponse): URL {
  const { location } = response.headers;
  if (location === undefined || !URL.canParse(location, response.url.href))
    throw new BuildError('unavailable', `${response.url.origin} opened an upload without saying where`);
  return new URL(location, response.url);
}

const pushRefused = (error: BuildError): BuildError =>
  error.kind === 'denied' ? error.wrap('push access denied, repository does not exist or may require authorization') : error;
