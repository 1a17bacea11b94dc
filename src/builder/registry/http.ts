/**
 * Single HTTP exchanges with a registry over undici: small answers whole, redirects followed within bounds and without taking
 * credentials to another host, failures as BuildErrors. Bulk bodies go through transfer-task.ts.
 */
import type { Dispatcher } from 'undici';
import { BuildError } from '../../core/errors.ts';
import type { TlsSettings } from './endpoints.ts';
import { parseRetryAfter } from './retry.ts';

export interface HttpLimits {
  readonly connectTimeoutMs: number;
  /** Longest silence of the peer: before the first byte and between two. */
  readonly idleTimeoutMs: number;
  readonly maxRedirects: number;
}
export const DEFAULT_HTTP: HttpLimits = { connectTimeoutMs: 30_000, idleTimeoutMs: 60_000, maxRedirects: 5 };

/** What Go's http.ProxyFromEnvironment reads; handed in, never read from the environment here. */
export interface ProxySettings {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly noProxy?: string;
}

export type HeaderMap = Readonly<Record<string, string>>;
export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers: HeaderMap;
  readonly body?: Uint8Array;
  readonly tls: TlsSettings | undefined;
  readonly signal: AbortSignal;
  /** Answers above this are an `exhausted` error. */
  readonly maxBytes: number;
}
export interface HttpResponse {
  readonly status: number;
  readonly headers: HeaderMap;
  readonly body: Uint8Array;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
}

export class RegistryHttp implements AsyncDisposable {
  readonly limits: HttpLimits;
  readonly #proxy: ProxySettings;
  readonly #userAgent: string;
  readonly #dispatchers = new Map<string, Promise<Dispatcher>>();

  constructor(options: { readonly limits: HttpLimits; readonly proxy: ProxySettings; readonly userAgent: string }) {
    this.limits = options.limits;
    this.#proxy = options.proxy;
    this.#userAgent = options.userAgent;
  }

  get userAgent(): string {
    return this.#userAgent;
  }
  get proxy(): ProxySettings {
    return this.#proxy;
  }

  /** One exchange, redirects of GET and HEAD followed. Any status is an answer; only a failed exchange rejects (`unavailable`). */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, headers } = request;
    for (let hops = 0; ; hops += 1) {
      const response = await this.#exchange({ ...request, url, headers });
      const follows = request.method === 'GET' || request.method === 'HEAD';
      const next = follows ? redirectTarget(response.status, response.headers, url) : undefined;
      if (next === undefined) return { ...response, url };
      if (hops >= this.limits.maxRedirects)
        throw new BuildError('unavailable', `stopped after ${hops} redirects at ${publicUrl(url)}`);
      headers = headersAfterRedirect(headers, url, next);
      url = next;
    }
  }

  async #exchange(request: HttpRequest): Promise<Omit<HttpResponse, 'url'>> {
    const dispatcher = await this.#dispatcher(request.tls);
    try {
      const answer = await dispatcher.request({
        origin: request.url.origin,
        path: request.url.pathname + request.url.search,
        method: request.method,
        headers: { 'user-agent': this.#userAgent, ...request.headers },
        body: request.body ?? null,
        signal: request.signal,
      });
      const chunks: Uint8Array[] = [];
      let sizeBytes = 0;
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        sizeBytes += chunk.byteLength;
        if (sizeBytes > request.maxBytes)
          throw new BuildError('exhausted', `${publicUrl(request.url)} answered with more than ${request.maxBytes} bytes`);
        chunks.push(chunk);
      }
      return { status: answer.statusCode, headers: flatHeaders(answer.headers), body: Buffer.concat(chunks) };
    } catch (error) {
      if (request.signal.aborted) throw BuildError.from(request.signal.reason);
      throw networkError(error, request.method, request.url);
    }
  }

  /** undici costs 20 MB and 60 ms to load, so not before the first request. */
  #dispatcher(tls: TlsSettings | undefined): Promise<Dispatcher> {
    const key = JSON.stringify(tls ?? null);
    const known = this.#dispatchers.get(key);
    if (known !== undefined) return known;
    const made = import('undici').then(({ EnvHttpProxyAgent }) => {
      const connect = { timeout: this.limits.connectTimeoutMs, ...tlsOptions(tls) };
      return new EnvHttpProxyAgent({
        ...this.#proxy,
        connect,
        requestTls: connect,
        headersTimeout: this.limits.idleTimeoutMs,
        bodyTimeout: this.limits.idleTimeoutMs,
        connections: 8, // per origin
      });
    });
    this.#dispatchers.set(key, made);
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = [...this.#dispatchers.values()];
    this.#dispatchers.clear();
    await Promise.all(open.map(async (dispatcher) => await (await dispatcher).destroy()));
  }
}

export function tlsOptions(tls: TlsSettings | undefined): {
  ca?: string[];
  cert?: string[];
  key?: string[];
  rejectUnauthorized?: boolean;
} {
  if (tls === undefined) return {};
  return {
    rejectUnauthorized: tls.rejectUnauthorized,
    ...(tls.ca === undefined ? {} : { ca: [...tls.ca] }),
    ...(tls.cert === undefined ? {} : { cert: [...tls.cert] }),
    ...(tls.key === undefined ? {} : { key: [...tls.key] }),
  };
}

/** Where a redirect leads; undefined when the answer is none. @throws BuildError `unavailable` for a target that is not HTTP. */
export function redirectTarget(status: number, headers: HeaderMap, from: URL): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(status) || headers.location === undefined) return undefined;
  const target = URL.canParse(headers.location, from.href) ? new URL(headers.location, from) : undefined;
  if (target === undefined || !/^https?:$/.test(target.protocol))
    throw new BuildError('unavailable', `${publicUrl(from)} redirects to an address that is not HTTP`);
  if (from.protocol === 'https:' && target.protocol === 'http:')
    throw new BuildError('unavailable', `${publicUrl(from)} redirects from HTTPS to plain HTTP`);
  return target;
}

/** Credentials stay with the origin they were given for. */
export function headersAfterRedirect(headers: HeaderMap, from: URL, to: URL): HeaderMap {
  if (from.origin === to.origin) return headers;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !/^(authorization|cookie)$/i.test(name)));
}

/** An address for messages: signed queries and user names stay out of logs. */
export function publicUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

/** The request got no answer. A host that does not exist is not worth another try, everything else may be. */
export function networkError(error: unknown, method: string, url: URL): BuildError {
  if (error instanceof BuildError) return error;
  const { message, code } =
    error instanceof Error ? (error as NodeJS.ErrnoException) : { message: String(error), code: undefined };
  const verb = method.charAt(0) + method.slice(1).toLowerCase();
  const why = GO_WORDS[code ?? '']?.(url) ?? (message === '' ? (code ?? 'the connection failed') : message);
  return new BuildError('unavailable', `failed to do request: ${verb} "${publicUrl(url)}": ${why}`, {}, { cause: error });
}

const addressOf = (url: URL): string => `${url.hostname}:${url.port || (url.protocol === 'https:' ? '443' : '80')}`;
/** Failures as Go's net package words them: operators have alerts and habits for these texts. */
const GO_WORDS: Readonly<Record<string, (url: URL) => string>> = {
  ECONNREFUSED: (url) => `dial tcp ${addressOf(url)}: connect: connection refused`,
  EHOSTUNREACH: (url) => `dial tcp ${addressOf(url)}: connect: no route to host`,
  ENETUNREACH: (url) => `dial tcp ${addressOf(url)}: connect: network is unreachable`,
  ENOTFOUND: (url) => `dial tcp: lookup ${url.hostname}: no such host`,
  EAI_AGAIN: (url) => `dial tcp: lookup ${url.hostname}: server misbehaving`,
  ETIMEDOUT: (url) => `dial tcp ${addressOf(url)}: i/o timeout`,
  UND_ERR_CONNECT_TIMEOUT: (url) => `dial tcp ${addressOf(url)}: i/o timeout`,
  ECONNRESET: () => 'read: connection reset by peer',
};

/** A status that ends the call, as a BuildError of the kind the status stands for. The registry's own words are added. */
export function statusError(
  response: { readonly status: number; readonly headers: HeaderMap; readonly body: Uint8Array },
  method: string,
  url: URL,
  nowMs: number,
): BuildError {
  const { status } = response;
  const text = `unexpected status from ${method} request to ${publicUrl(url)}: ${status} ${STATUS_TEXT[status] ?? ''}`.trimEnd();
  const said = registryMessage(response.body);
  const message = said === undefined ? text : `${text}: ${said}`;
  if (status === 401 || status === 403) return new BuildError('denied', message);
  if (status === 404) return new BuildError('not-found', message);
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    const retryAfterS = parseRetryAfter(response.headers['retry-after'], nowMs);
    return new BuildError('unavailable', message, retryAfterS === undefined ? {} : { retryAfterS });
  }
  return new BuildError('unsupported', message);
}

/** `{"errors":[{"code":"DENIED","message":"..."}]}` (distribution-spec v1.1, error codes), else the start of the text. */
function registryMessage(body: Uint8Array): string | undefined {
  const text = new TextDecoder().decode(body.subarray(0, 4096)).trim();
  if (text === '') return undefined;
  try {
    const { errors } = JSON.parse(text) as { errors?: { code?: unknown; message?: unknown }[] };
    const [first] = errors ?? [];
    if (first === undefined) return undefined;
    return [first.code, first.message].filter((part) => typeof part === 'string' && part !== '').join(': ') || undefined;
  } catch {
    return text.startsWith('<') ? undefined : text.slice(0, 200);
  }
}

function flatHeaders(headers: Record<string, string | string[] | undefined>): HeaderMap {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (value !== undefined) flat[name.toLowerCase()] = Array.isArray(value) ? value.join(', ') : value;
  return flat;
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Request Entity Too Large',
  416: 'Requested Range Not Satisfiable',
  429: 'Too Many Requests',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};
