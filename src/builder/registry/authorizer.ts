/**
 * Answers registry challenges (Bearer and Basic) with what the client of the build offers, and remembers the answers. Memory is per
 * RegistryAuth, so per build: one build's token never opens a repository for another.
 */
import { BuildError } from '../../core/errors.ts';
import { type Challenge, normaliseScopes, parseChallenges } from './challenge.ts';
import type { Endpoint, TlsSettings } from './endpoints.ts';
import { type HttpResponse, type RegistryHttp, statusError } from './http.ts';
import type { RegistryAuth } from './ports.ts';

export interface AuthRequest {
  readonly endpoint: Endpoint;
  readonly auth: RegistryAuth;
  readonly scopes: readonly string[];
  readonly signal: AbortSignal;
}

interface Known {
  /** How each host wants to be spoken to, learnt from its last challenge. */
  readonly schemes: Map<string, { readonly basic: string } | { readonly realm: string; readonly service: string }>;
  readonly tokens: Map<string, Promise<{ readonly header: string; readonly expiresAtMs: number }>>;
}

const DEFAULT_LIFETIME_S = 60; // token.md: what a token without expires_in lasts
const LIFETIME_USED = 0.9; // a token is renewed before the registry's clock calls it expired
const MAX_TOKEN_ANSWER_BYTES = 1024 * 1024;
const CLIENT_ID = 'buildkit-client';

export class Authorizer {
  readonly #http: RegistryHttp;
  readonly #nowMs: () => number;
  readonly #onToken: (status: number | undefined) => void;
  readonly #known = new WeakMap<RegistryAuth, Known>();

  /** `onToken` hears of every token request, with undefined when no answer came. */
  constructor(http: RegistryHttp, nowMs: () => number, onToken: (status: number | undefined) => void) {
    this.#http = http;
    this.#nowMs = nowMs;
    this.#onToken = onToken;
  }

  /** The Authorization header for a request to a host whose challenge is known already; undefined when none is. */
  async known(request: AuthRequest): Promise<string | undefined> {
    const scheme = this.#memory(request.auth).schemes.get(request.endpoint.authority);
    if (scheme === undefined) return undefined;
    if ('basic' in scheme) return scheme.basic;
    return await this.#bearer(request, scheme, normaliseScopes(request.scopes));
  }

  /**
   * The header that answers a 401. `refused` is the header that was sent and turned down, if any.
   * Rejects with `denied` when no further answer exists.
   */
  async answer(request: AuthRequest, response: HttpResponse, refused: string | undefined): Promise<string> {
    const challenges = parseChallenges(response.headers['www-authenticate'] ?? '');
    const memory = this.#memory(request.auth);
    for (const challenge of challenges) {
      if (challenge.scheme === 'bearer' && challenge.parameters.realm !== undefined)
        return await this.#answerBearer(request, memory, challenge, challenge.parameters.realm, refused);
      if (challenge.scheme === 'basic') {
        const { username, secret } = await request.auth.credentials(request.endpoint.authority, request.signal);
        if (username === '' || secret === '') continue;
        const basic = basicHeader(username, secret);
        if (basic === refused) break;
        memory.schemes.set(request.endpoint.authority, { basic });
        return basic;
      }
    }
    throw statusError(response, 'GET', response.url, this.#nowMs());
  }

  async #answerBearer(
    request: AuthRequest,
    memory: Known,
    challenge: Challenge,
    realm: string,
    refused: string | undefined,
  ): Promise<string> {
    const { service = '', scope = '', error } = challenge.parameters;
    const scheme = { realm, service };
    const scopes = normaliseScopes([...request.scopes, scope]);
    memory.schemes.set(request.endpoint.authority, scheme);
    if (refused !== undefined) memory.tokens.delete(tokenKey(request, scheme, scopes));
    const header = await this.#bearer(request, scheme, scopes);
    if (header === refused || (refused !== undefined && error === 'insufficient_scope'))
      throw new BuildError('denied', `server message: ${error ?? 'unauthorized'}: authorization failed`);
    return header;
  }

  #bearer(request: AuthRequest, scheme: { realm: string; service: string }, scopes: readonly string[]): Promise<string> {
    const { tokens } = this.#memory(request.auth);
    const key = tokenKey(request, scheme, scopes);
    const fresh = async () => {
      const { token, expiresInS } = await this.#fetchToken(request, scheme, scopes);
      const lifetimeMs = (expiresInS > 0 ? expiresInS : DEFAULT_LIFETIME_S) * 1000 * LIFETIME_USED;
      return { header: `Bearer ${token}`, expiresAtMs: this.#nowMs() + lifetimeMs };
    };
    const start = () => {
      const made = fresh();
      tokens.set(key, made);
      made.catch(() => tokens.get(key) === made && tokens.delete(key)); // a failure is not remembered
      return made;
    };
    return (tokens.get(key) ?? start())
      .then((token) => (token.expiresAtMs > this.#nowMs() ? token : start()))
      .then(({ header }) => header);
  }

  async #fetchToken(
    request: AuthRequest,
    { realm, service }: { realm: string; service: string },
    scopes: readonly string[],
  ): Promise<{ token: string; expiresInS: number }> {
    const { endpoint, auth, signal } = request;
    const offered = await auth.token({ host: endpoint.authority, realm, service, scopes }, signal);
    if (offered !== undefined) return offered;
    const { username, secret } = await auth.credentials(endpoint.authority, signal);
    const url = realmUrl(realm, endpoint, secret !== '');
    const tls = url.host === endpoint.authority ? endpoint.tls : undefined;
    const exchange = { url, tls, service, scopes, signal };
    if (secret === '') return await this.#getToken(exchange, undefined, 'failed to fetch anonymous token');
    if (username === '') return await this.#postToken(exchange, { grant_type: 'refresh_token', refresh_token: secret });
    try {
      return await this.#getToken(exchange, { username, secret }, 'failed to fetch oauth token');
    } catch (error) {
      // Some registries know the POST form only and answer the GET with one of these.
      if (!(error instanceof BuildError) || !['not-found', 'denied', 'unsupported'].includes(error.kind)) throw error;
      return await this.#postToken(exchange, { grant_type: 'password', username, password: secret }).catch(() => {
        throw error;
      });
    }
  }

  async #getToken(
    exchange: TokenExchange,
    credentials: { username: string; secret: string } | undefined,
    context: string,
  ): Promise<{ token: string; expiresInS: number }> {
    const url = new URL(exchange.url);
    if (exchange.service !== '') url.searchParams.set('service', exchange.service);
    for (const scope of exchange.scopes) url.searchParams.append('scope', scope);
    if (credentials !== undefined) url.searchParams.set('account', credentials.username);
    const headers: Record<string, string> =
      credentials === undefined ? {} : { authorization: basicHeader(credentials.username, credentials.secret) };
    return await this.#readToken('GET', url, headers, undefined, exchange, context);
  }

  async #postToken(exchange: TokenExchange, grant: Record<string, string>): Promise<{ token: string; expiresInS: number }> {
    const form = new URLSearchParams({ ...grant, client_id: CLIENT_ID, service: exchange.service });
    if (exchange.scopes.length > 0) form.set('scope', exchange.scopes.join(' '));
    const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' };
    const body = new TextEncoder().encode(form.toString());
    return await this.#readToken('POST', exchange.url, headers, body, exchange, 'failed to fetch oauth token');
  }

  async #readToken(
    method: 'GET' | 'POST',
    url: URL,
    headers: Record<string, string>,
    body: Uint8Array | undefined,
    { tls, signal }: TokenExchange,
    context: string,
  ): Promise<{ token: string; expiresInS: number }> {
    const request = {
      method,
      url,
      headers,
      tls,
      signal,
      maxBytes: MAX_TOKEN_ANSWER_BYTES,
      ...(body === undefined ? {} : { body }),
    };
    const response = await this.#http.send(request).catch((error: unknown) => {
      if (!signal.aborted) this.#onToken(undefined);
      throw error;
    });
    this.#onToken(response.status);
    if (response.status !== 200) throw statusError(response, method, url, this.#nowMs()).wrap(context);
    const json = readJson(response.body);
    const token = json.token ?? json.access_token;
    if (typeof token !== 'string' || token === '')
      throw new BuildError('unavailable', `${context}: the token server answered without a token`);
    return { token, expiresInS: typeof json.expires_in === 'number' ? json.expires_in : 0 };
  }

  #memory(auth: RegistryAuth): Known {
    const known = this.#known.get(auth) ?? { schemes: new Map(), tokens: new Map() };
    this.#known.set(auth, known);
    return known;
  }
}

interface TokenExchange {
  readonly url: URL;
  readonly tls: TlsSettings | undefined;
  readonly service: string;
  readonly scopes: readonly string[];
  readonly signal: AbortSignal;
}

const tokenKey = (request: AuthRequest, scheme: { realm: string; service: string }, scopes: readonly string[]): string =>
  [request.endpoint.authority, scheme.realm, scheme.service, ...scopes].join('\n');
const basicHeader = (username: string, secret: string): string =>
  `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}`;

/** A registry spoken to over TLS must not send us, with a password, to a token server in the clear. */
function realmUrl(realm: string, endpoint: Endpoint, withSecret: boolean): URL {
  const url = URL.canParse(realm) ? new URL(realm) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol))
    throw new BuildError('unavailable', `${endpoint.authority} names a token server that is not an HTTP address`);
  if (withSecret && endpoint.scheme === 'https' && url.protocol === 'http:')
    throw new BuildError(
      'denied',
      `${endpoint.authority} asks for credentials to be sent to ${url.origin} without TLS; not sent`,
    );
  return url;
}

function readJson(body: Uint8Array): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(body));
    return json !== null && typeof json === 'object' ? (json as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
