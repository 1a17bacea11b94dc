/**
 * Blob transfers, run inside threads: the thread makes the HTTP exchange itself, writes or reads the file and hashes, so that no byte
 * of a layer passes the control loop. Redirects are followed here; authentication and retries are the caller's (blob-transfer.ts).
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { type Digest, digestFromHex } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import type { TlsSettings } from './endpoints.ts';
import {
  type HeaderMap,
  type HttpLimits,
  headersAfterRedirect,
  networkError,
  type ProxySettings,
  redirectTarget,
  tlsOptions,
} from './http.ts';

interface Exchange {
  readonly url: string;
  readonly headers: HeaderMap;
  readonly tls: TlsSettings | undefined;
  readonly proxy: ProxySettings;
  readonly limits: HttpLimits;
}
export interface DownloadArgs extends Exchange {
  /** File that receives the bytes; its first `offset` bytes are there already and are not asked for again. */
  readonly path: string;
  readonly offset: number;
  /** Bytes the blob has; an answer that goes on is cut off and called corrupt. */
  readonly sizeBytes: number;
}
export interface UploadArgs extends Exchange {
  readonly method: 'PUT' | 'PATCH';
  readonly path: string;
  /** The part of the file that is sent: from `start` up to and without `end`. */
  readonly start: number;
  readonly end: number;
}
export interface Answer {
  readonly outcome: 'answered';
  readonly status: number;
  readonly headers: HeaderMap;
  readonly body: Uint8Array;
  readonly url: string;
}
export interface Interrupted {
  readonly outcome: 'interrupted';
  /** Bytes that are in the file now (downloads). */
  readonly sizeBytes: number;
  readonly message: string;
}
export type DownloadResult =
  | { readonly outcome: 'complete'; readonly digest: Digest; readonly sizeBytes: number }
  | Answer
  | Interrupted;
export type UploadResult = Answer | Interrupted;

const MAX_ANSWER_BYTES = 64 * 1024;
const PROGRESS_EVERY_BYTES = 256 * 1024;
const ABORT_POLL_MS = 50;
const READ_BYTES = 1024 * 1024;

/** Fetches a blob, or the rest of it, into a file. Rejects with `corrupt` when the answer is longer than the blob. */
export async function download(args: DownloadArgs, context: TaskContext): Promise<DownloadResult> {
  const file = openSync(args.path, 'a+', 0o600);
  const sink = new BlobSink(file, args, context);
  try {
    const range: HeaderMap = args.offset === 0 ? {} : { range: `bytes=${args.offset}-` };
    const first = await exchange({ ...args, method: 'GET', headers: { ...args.headers, ...range } }, context);
    if (first.status !== 200 && first.status !== 206) return await answerOf(first);
    if (first.status === 200 || first.headers['content-range']?.startsWith(`bytes ${args.offset}-`) !== true) sink.restart();
    else sink.resume();
    for await (const chunk of first.response) sink.write(chunk as Uint8Array);
    if (sink.sizeBytes < args.sizeBytes) return sink.interrupted('the connection ended early');
    return sink.complete();
  } catch (error) {
    if (context.aborted() || (error instanceof BuildError && error.kind !== 'unavailable')) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') throw error;
    return sink.interrupted(networkError(error, 'GET', new URL(args.url)).message);
  } finally {
    sink.reportRest();
    closeSync(file);
  }
}

/** Sends a part of a file. Any status is an answer. */
export async function upload(args: UploadArgs, context: TaskContext): Promise<UploadResult> {
  const headers = {
    'content-type': 'application/octet-stream',
    ...args.headers,
    'content-length': String(args.end - args.start),
  };
  try {
    return await answerOf(await exchange({ ...args, headers }, context));
  } catch (error) {
    if (context.aborted()) throw error;
    return { outcome: 'interrupted', sizeBytes: 0, message: networkError(error, args.method, new URL(args.url)).message };
  }
}

/** The file being filled, its hash and what progress was told. */
class BlobSink {
  readonly #file: number;
  readonly #args: DownloadArgs;
  readonly #context: TaskContext;
  #hash = createHash('sha256');
  #unreported = 0;
  sizeBytes: number;

  constructor(file: number, args: DownloadArgs, context: TaskContext) {
    this.#file = file;
    this.#args = args;
    this.#context = context;
    this.sizeBytes = args.offset;
  }

  /** The bytes are sent from the start: forget what is there. */
  restart(): void {
    ftruncateSync(this.#file, 0);
    this.#unreported -= this.sizeBytes;
    this.sizeBytes = 0;
  }

  /** Hashes what an earlier attempt left, then goes on after it. */
  resume(): void {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (let at = 0; at < this.sizeBytes; ) {
      const got = readSync(this.#file, buffer, 0, Math.min(READ_BYTES, this.sizeBytes - at), at);
      if (got === 0) throw new BuildError('internal', `${this.#args.path} is shorter than the part already fetched`);
      this.#hash.update(buffer.subarray(0, got));
      at += got;
    }
  }

  write(chunk: Uint8Array): void {
    if (this.sizeBytes + chunk.byteLength > this.#args.sizeBytes)
      throw new BuildError('corrupt', `the registry sent more than the ${this.#args.sizeBytes} bytes the blob has`);
    for (let at = 0; at < chunk.byteLength; ) at += writeSync(this.#file, chunk, at);
    this.#hash.update(chunk);
    this.sizeBytes += chunk.byteLength;
    this.#unreported += chunk.byteLength;
    if (this.#unreported >= PROGRESS_EVERY_BYTES) this.reportRest();
  }

  reportRest(): void {
    if (this.#unreported !== 0) this.#context.progress(this.#unreported);
    this.#unreported = 0;
  }

  /** Not synced here: the content store does that when it takes the file over. */
  complete(): DownloadResult {
    return { outcome: 'complete', digest: digestFromHex(this.#hash.digest('hex')), sizeBytes: this.sizeBytes };
  }

  interrupted(message: string): Interrupted {
    return { outcome: 'interrupted', sizeBytes: this.sizeBytes, message };
  }
}

interface Started {
  readonly status: number;
  readonly headers: HeaderMap;
  readonly response: http.IncomingMessage;
  readonly url: URL;
}
type Outgoing = Exchange & { readonly method: string } & Partial<Pick<UploadArgs, 'path' | 'start' | 'end'>>;

/** Sends the request and resolves with the head of the answer, redirects of GET followed. */
async function exchange(request: Outgoing, context: TaskContext): Promise<Started> {
  let url = new URL(request.url);
  let headers = request.headers;
  for (let hops = 0; ; hops += 1) {
    const started = await start({ ...request, headers }, url, context);
    const next = request.method === 'GET' ? redirectTarget(started.status, started.headers, url) : undefined;
    if (next === undefined) return started;
    started.response.resume();
    if (hops >= request.limits.maxRedirects) throw new BuildError('unavailable', `stopped after ${hops} redirects`);
    headers = headersAfterRedirect(headers, url, next);
    url = next;
  }
}

function start(request: Outgoing, url: URL, context: TaskContext): Promise<Started> {
  const { promise, resolve, reject } = Promise.withResolvers<Started>();
  const { limits } = request;
  const client = url.protocol === 'https:' ? https : http;
  const outgoing = client.request(url, {
    method: request.method,
    headers: { 'accept-encoding': 'identity', ...request.headers },
    agent: agentOf(url, request),
  });
  let incoming: http.IncomingMessage | undefined;
  const giveUp = (message: string): void => {
    const reason = new Error(message);
    incoming?.destroy(reason); // first, so that whoever reads the body learns the reason
    outgoing.destroy(reason);
  };
  const poll = setInterval(() => context.aborted() && giveUp('aborted'), ABORT_POLL_MS);
  const connecting = setTimeout(() => giveUp(`no connection within ${limits.connectTimeoutMs} ms`), limits.connectTimeoutMs);
  outgoing.setTimeout(limits.idleTimeoutMs, () => giveUp(`nothing moved for ${limits.idleTimeoutMs} ms`));
  outgoing.on('socket', (socket) => {
    if (!socket.connecting) clearTimeout(connecting);
    else socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => clearTimeout(connecting));
  });
  outgoing.on('response', (response) => {
    clearTimeout(connecting);
    incoming = response;
    const flat = Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)]));
    resolve({ status: response.statusCode ?? 0, headers: flat, response, url });
  });
  outgoing.on('error', reject);
  outgoing.on('close', () => {
    clearInterval(poll);
    clearTimeout(connecting);
  });
  sendBody(outgoing, request, context);
  return promise;
}

function sendBody(outgoing: http.ClientRequest, request: Outgoing, context: TaskContext): void {
  const { path, start: from = 0, end = 0 } = request;
  if (request.method === 'GET' || path === undefined || end === from) {
    outgoing.end();
    return;
  }
  const source = createReadStream(path, { start: from, end: end - 1, highWaterMark: READ_BYTES });
  source.on('data', (chunk) => context.progress(chunk.length));
  source.on('error', (error) => outgoing.destroy(error));
  outgoing.on('response', () => source.unpipe(outgoing)); // an answer before the end (413, 401) makes the rest pointless
  outgoing.on('close', () => source.destroy());
  source.pipe(outgoing);
}

async function answerOf({ status, headers, response, url }: Started): Promise<Answer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > MAX_ANSWER_BYTES) break;
    chunks.push(chunk);
  }
  return { outcome: 'answered', status, headers, body: Buffer.concat(chunks), url: url.href };
}

/** Connections are kept while the thread lives, which is seconds after its last transfer. */
const agents = new Map<string, http.Agent>();
function agentOf(url: URL, { tls, proxy }: Exchange): http.Agent {
  const key = JSON.stringify([url.protocol, tls, proxy]);
  const known = agents.get(key);
  if (known !== undefined) return known;
  const proxyEnv = { HTTP_PROXY: proxy.httpProxy, HTTPS_PROXY: proxy.httpsProxy, NO_PROXY: proxy.noProxy };
  const options = { keepAlive: true, ...((proxy.httpProxy ?? proxy.httpsProxy) ? { proxyEnv } : {}) };
  const agent = url.protocol === 'https:' ? new https.Agent({ ...options, ...tlsOptions(tls) }) : new http.Agent(options);
  agents.set(key, agent);
  return agent;
}
