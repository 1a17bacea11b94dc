/** One authorised request to one endpoint of a registry, and the walk over the endpoints of a host. */
import { BuildError } from '../../core/errors.ts';
import { Authorizer, type AuthRequest } from './authorizer.ts';
import { type Endpoint, endpointsOf, type RegistryHosts } from './endpoints.ts';
import { type HeaderMap, type HttpResponse, publicUrl, type RegistryHttp } from './http.ts';
import type { ImageReference, RegistryCall } from './ports.ts';
import { RetryBudget, type RetryLimits, withRetries } from './retry.ts';

/** Where and as whom a request goes. */
export interface Target {
  readonly endpoint: Endpoint;
  readonly reference: ImageReference;
  readonly scopes: readonly string[];
  readonly call: RegistryCall;
}
export interface ClientRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers?: HeaderMap;
  readonly body?: Uint8Array;
  readonly maxBytes?: number;
}

/** What a request was for; telemetry counts them. */
export type RegistryOp = 'ping' | 'token' | 'manifest-get' | 'manifest-put' | 'blob-get' | 'blob-head' | 'blob-upload';
export interface RequestFacts {
  /** Host and port that was asked. */
  readonly host: string;
  /** Wall time, the transfer of the body included. */
  readonly durationMs: number;
  /** What the registry says of its rate limit (`ratelimit-limit: 100;w=21600`). */
  readonly rateLimit?: { readonly limit?: number; readonly remaining: number };
}
/** Told of every request that ended, redirects counted once; `status` undefined when no answer came. Must not throw. */
export type OnRequest = (op: RegistryOp, status: number | undefined, facts?: RequestFacts) => void;

const MAX_CHALLENGES = 2; // one for a stale or missing token, one for a wider scope
const SMALL_ANSWER_BYTES = 64 * 1024;

export class RegistryClient {
  readonly http: RegistryHttp;
  readonly #authorizer: Authorizer;
  readonly #onRequest: OnRequest;
  readonly #retries: RetryLimits;
  readonly #budgets = new Map<string, RetryBudget>();
  readonly #endpoints = new Map<string, Promise<readonly Endpoint[]>>();
  readonly #speaksTls = new Map<string, Promise<boolean>>();
  #hosts: RegistryHosts;

  constructor(options: {
    readonly hosts: RegistryHosts;
    readonly http: RegistryHttp;
    readonly retries: RetryLimits;
    readonly nowMs: () => number;
    readonly onRequest: OnRequest;
  }) {
    this.http = options.http;
    this.#onRequest = options.onRequest;
    this.#hosts = options.hosts;
    this.#retries = options.retries;
    this.#authorizer = new Authorizer(options.http, options.nowMs, (status) => options.onRequest('token', status));
  }

  /** New settings for calls that start from now on; certificates are read again. */
  reconfigure(hosts: RegistryHosts): void {
    this.#hosts = hosts;
    this.#endpoints.clear();
    this.#speaksTls.clear();
  }

  /** `https://host/v2/<repository>/<path>`; a mirror is told for which registry it stands in (`ns`). */
  urlOf({ endpoint, reference }: Target, path: string, query: Readonly<Record<string, string>> = {}): URL {
    const url = new URL(`${endpoint.scheme}://${endpoint.authority}${endpoint.path}/${reference.repository}/${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    if (endpoint.mirror) url.searchParams.set('ns', reference.host);
    return url;
  }

  /** Any status but an answerable 401 is returned. Rejects with `denied` or `unavailable`. */
  async send(target: Target, request: ClientRequest): Promise<HttpResponse> {
    const { signal } = target.call;
    return await this.authorised(target, request, async (authorization) => {
      const headers = { ...request.headers, ...authorization };
      const { endpoint } = target;
      const tls = request.url.host === endpoint.authority ? endpoint.tls : undefined;
      return await this.http.send({ maxBytes: SMALL_ANSWER_BYTES, ...request, headers, tls, signal });
    });
  }

  /**
   * Runs `exchange` with the credentials for the target, again with better ones after a 401. An exchange with another host than the
   * endpoint (an upload location elsewhere) gets none. Status 0 stands for an exchange that broke off.
   */
  async authorised<
    R extends { readonly status: number; readonly headers: HeaderMap; readonly body: Uint8Array; readonly url: URL },
  >(
    target: Target,
    { method, url }: Pick<ClientRequest, 'method' | 'url'>,
    attempt: (authorization: HeaderMap) => Promise<R>,
  ): Promise<R> {
    const { endpoint, scopes, call } = target;
    const exchange = (authorization: HeaderMap): Promise<R> =>
      this.#counted(operationOf(method, url), url.host, call.signal, () => attempt(authorization));
    if (url.host !== endpoint.authority) return await exchange({});
    const request: AuthRequest = { endpoint, scopes, auth: call.auth, signal: call.signal };
    try {
      let header = await this.#authorizer.known(request);
      for (let challenges = 0; ; challenges += 1) {
        const response = await exchange(header === undefined ? {} : { authorization: header });
        const answerable = response.status === 401 && challenges < MAX_CHALLENGES && response.url.host === endpoint.authority;
        if (!answerable) return response;
        header = await this.#authorizer.answer(request, response, header);
      }
    } catch (thrown) {
      const error = BuildError.from(thrown);
      throw error.message.startsWith('failed to fetch') ? error.wrap('failed to authorize') : error;
    }
  }

  async #counted<R extends { readonly status: number; readonly headers: HeaderMap }>(
    op: RegistryOp,
    host: string,
    signal: AbortSignal,
    exchange: () => Promise<R>,
  ): Promise<R> {
    const startedMs = performance.now();
    try {
      const response = await exchange();
      const facts = { host, durationMs: performance.now() - startedMs, ...rateLimitOf(response.headers) };
      this.#onRequest(op, response.status === 0 ? undefined : response.status, facts);
      return response;
    } catch (error) {
      if (!signal.aborted) this.#onRequest(op, undefined, { host, durationMs: performance.now() - startedMs });
      throw error;
    }
  }

  /** Tries the endpoints that may serve a pull in turn. The last one's failure is the call's; what mirrors said becomes its hint. */
  async pull<T>(reference: ImageReference, call: RegistryCall, use: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const endpoints = await this.#endpointsOf(reference.host, call.insecure === true);
    const failures: string[] = [];
    for (const [at, endpoint] of endpoints.entries()) {
      const last = at === endpoints.length - 1;
      try {
        return await this.#retrying(endpoint, call, last ? this.#retries : { ...this.#retries, attempts: 2 }, use);
      } catch (thrown) {
        const error = BuildError.from(thrown);
        if (call.signal.aborted) throw BuildError.from(call.signal.reason);
        if (!last) failures.push(`mirror ${endpoint.authority}: ${error.message}`);
        else throw failures.length === 0 ? error : error.wrap('', { hint: failures.join('; ') });
      }
    }
    throw new BuildError('internal', `no endpoint for ${reference.host}`);
  }

  /** The endpoint that takes pushes: the host itself, never a mirror. */
  async push<T>(reference: ImageReference, call: RegistryCall, use: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const endpoint = (await this.#endpointsOf(reference.host, call.insecure === true)).at(-1);
    if (endpoint === undefined) throw new BuildError('internal', `no endpoint for ${reference.host}`);
    return await this.#retrying(endpoint, call, this.#retries, use);
  }

  async #retrying<T>(
    endpoint: Endpoint,
    call: RegistryCall,
    limits: RetryLimits,
    use: (endpoint: Endpoint) => Promise<T>,
  ): Promise<T> {
    const { signal, onRetry, attempts = limits.attempts } = call;
    const budget = this.#budgets.get(endpoint.authority) ?? new RetryBudget();
    this.#budgets.set(endpoint.authority, budget);
    const attempt = async () => await use(await this.#settle(endpoint, signal));
    return await withRetries(attempt, {
      limits: { ...limits, attempts: Math.min(attempts, limits.attempts) },
      budget,
      signal,
      ...(onRetry === undefined ? {} : { onRetry }),
    });
  }

  #endpointsOf(host: string, insecure: boolean): Promise<readonly Endpoint[]> {
    const key = `${host} ${insecure}`;
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const made = endpointsOf(this.#hosts, host, insecure);
    this.#endpoints.set(key, made);
    made.catch(() => this.#endpoints.delete(key));
    return made;
  }

  /** Finds out once whether a host that may be spoken to in the clear speaks TLS. */
  async #settle(endpoint: Endpoint, signal: AbortSignal): Promise<Endpoint> {
    if (!endpoint.fallsBackToHttp) return endpoint;
    const key = endpoint.authority;
    const known = this.#speaksTls.get(key) ?? this.#probeTls(endpoint, signal);
    this.#speaksTls.set(key, known);
    try {
      return (await known) ? endpoint : { ...endpoint, scheme: 'http', tls: undefined };
    } catch (error) {
      this.#speaksTls.delete(key);
      throw error;
    }
  }

  async #probeTls(endpoint: Endpoint, signal: AbortSignal): Promise<boolean> {
    const url = new URL(`https://${endpoint.authority}/v2/`);
    try {
      const request = { method: 'HEAD', url, headers: {}, tls: endpoint.tls, signal, maxBytes: SMALL_ANSWER_BYTES } as const;
      await this.#counted('ping', endpoint.authority, signal, () => this.http.send(request));
      return true;
    } catch (thrown) {
      const error = BuildError.from(thrown);
      const code = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? '';
      if (code.includes('SSL') || code === 'EPROTO' || code === 'ECONNRESET' || code === 'UND_ERR_SOCKET') return false;
      // Nothing listens on 443: the registry may still listen on 80.
      if (code === 'ECONNREFUSED' && !/:\d+$/.test(endpoint.authority)) return false;
      throw error.kind === 'unavailable' ? error : new BuildError('unavailable', `${publicUrl(url)}: ${error.message}`);
    }
  }
}

function operationOf(method: ClientRequest['method'], { pathname }: URL): RegistryOp {
  if (pathname.includes('/manifests/')) return method === 'PUT' ? 'manifest-put' : 'manifest-get';
  if (pathname.includes('/uploads/') || (method !== 'GET' && method !== 'HEAD')) return 'blob-upload';
  return method === 'HEAD' ? 'blob-head' : 'blob-get';
}

/** `ratelimit-remaining: 98;w=21600`, as Docker Hub sends it (draft-polli-ratelimit-headers). */
function rateLimitOf(headers: HeaderMap): { readonly rateLimit?: { readonly limit?: number; readonly remaining: number } } {
  const remaining = Number.parseInt(headers['ratelimit-remaining'] ?? '', 10);
  if (Number.isNaN(remaining)) return {};
  const limit = Number.parseInt(headers['ratelimit-limit'] ?? '', 10);
  return { rateLimit: { remaining, ...(Number.isNaN(limit) ? {} : { limit }) } };
}
