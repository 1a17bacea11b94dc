/** A registry token for a Bearer challenge (https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/). */
import { BuildError, type ErrorKind } from '../../../core/errors.ts';
import type { Credentials } from './docker-config.ts';

export interface TokenRequest {
  readonly clientId: string;
  readonly realm: string;
  readonly service: string;
  readonly scopes: readonly string[];
}
export interface Token {
  readonly token: string;
  /** Seconds; 60 when the server does not say. */
  readonly expiresInS: number;
  /** Unix seconds; 0 when the server does not say. */
  readonly issuedAtS: number;
}

const DEFAULT_LIFETIME_S = 60; // what the specification says
const MAX_ANSWER_BYTES = 1024 * 1024;
/** What servers without the OAuth endpoint answer to a POST. */
const NO_OAUTH = [401, 404, 405];

/** @throws BuildError `denied` when the server refuses the credentials, `unavailable` when it does not answer. */
export async function fetchToken(request: TokenRequest, credentials: Credentials, signal: AbortSignal): Promise<Token> {
  if (credentials.registryToken !== undefined) {
    return { token: credentials.registryToken, expiresInS: DEFAULT_LIFETIME_S, issuedAtS: 0 };
  }
  if (credentials.secret !== '') {
    const response = await ask(request.realm, { method: 'POST', body: oauthForm(request, credentials), signal });
    if (response.ok) return await tokenIn(response, request.realm);
    if (!NO_OAUTH.includes(response.status) || credentials.username === '') throw refusal(response, request.realm);
    await response.body?.cancel();
  }
  const response = await ask(urlOf(request, credentials), { headers: basicAuth(credentials), signal });
  if (!response.ok) throw refusal(response, request.realm);
  return await tokenIn(response, request.realm);
}

function oauthForm({ clientId, service, scopes }: TokenRequest, { username, secret }: Credentials): URLSearchParams {
  const form = new URLSearchParams({ client_id: clientId, service });
  if (scopes.length > 0) form.set('scope', scopes.join(' '));
  const grant =
    username === ''
      ? { grant_type: 'refresh_token', refresh_token: secret }
      : { grant_type: 'password', username, password: secret };
  for (const [name, value] of Object.entries(grant)) form.set(name, value);
  return form;
}

function urlOf({ realm, service, scopes }: TokenRequest, { username }: Credentials): string {
  const url = new URL(realm);
  if (service !== '') url.searchParams.set('service', service);
  if (username !== '') url.searchParams.set('account', username);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  return url.href;
}

const basicAuth = ({ username, secret }: Credentials): Record<string, string> =>
  secret === '' ? {} : { authorization: `Basic ${Buffer.from(`${username}:${secret}`).toString('base64')}` };

async function ask(url: string, init: RequestInit): Promise<Response> {
  if (!/^https?:\/\//.test(url))
    throw new BuildError('invalid-input', `the token server's address ${JSON.stringify(url)} is no web address`);
  try {
    return await fetch(url, { ...init, redirect: 'follow' });
  } catch (error) {
    if (init.signal?.aborted) throw BuildError.from(init.signal.reason);
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new BuildError('unavailable', `failed to fetch a token from ${new URL(url).host}: ${cause}`, {}, { cause: error });
  }
}

function refusal(response: Response, realm: string): BuildError {
  const { status } = response;
  const kind: ErrorKind =
    status === 401 || status === 403 ? 'denied' : status === 429 || status >= 500 ? 'unavailable' : 'invalid-input';
  return new BuildError(
    kind,
    `failed to fetch a token: ${new URL(realm).host} answered ${status} ${response.statusText}`.trimEnd(),
  );
}

async function tokenIn(response: Response, realm: string): Promise<Token> {
  let size = 0;
  const pieces: Uint8Array[] = [];
  for await (const piece of response.body ?? []) {
    size += piece.byteLength;
    if (size > MAX_ANSWER_BYTES) throw new BuildError('invalid-input', `${new URL(realm).host} answered with more than a token`);
    pieces.push(piece);
  }
  const answer = parse(Buffer.concat(pieces).toString());
  const token = answer.token || answer.access_token;
  if (typeof token !== 'string' || token === '')
    throw new BuildError('invalid-input', `${new URL(realm).host} answered without a token`);
  const issuedAtMs = typeof answer.issued_at === 'string' ? Date.parse(answer.issued_at) : Number.NaN;
  return {
    token,
    expiresInS: typeof answer.expires_in === 'number' && answer.expires_in > 0 ? answer.expires_in : DEFAULT_LIFETIME_S,
    issuedAtS: Number.isNaN(issuedAtMs) ? 0 : Math.floor(issuedAtMs / 1000),
  };
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
