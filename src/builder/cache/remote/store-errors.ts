/**
 * What a remote cache store answers when it fails, as BuildErrors of the kinds that the port names. A message holds our own words, the
 * status and the service's error code, never its text: service texts quote signatures, addresses with tokens, and account names.
 */
import { throwIfAborted } from '../../../core/abort.ts';
import { BuildError, type ErrorDetail } from '../../../core/errors.ts';
import { parseRetryAfter } from '../../registry/retry.ts';
import type { StoreDeps } from './ports.ts';

export interface StoreFailure {
  /** HTTP status, where there was an answer. */
  readonly status?: number | undefined;
  /** The service's own name of the error (`NoSuchBucket`), or the system's (`ECONNREFUSED`). */
  readonly code?: string | undefined;
  /** The Retry-After header as it came. */
  readonly retryAfter?: string | undefined;
}

/** @param what says who did what: `s3 bucket/prefix: reading manifests/main`. */
export function storeError(what: string, failure: StoreFailure, nowMs: number): BuildError {
  const code = failure.code !== undefined && /^[\w.:-]{1,64}$/.test(failure.code) ? failure.code : undefined;
  const { kind, words, hint } = meaningOf(failure.status, code);
  const facts = [failure.status, code].filter((fact) => fact !== undefined).join(' ');
  const retryAfterS = parseRetryAfter(failure.retryAfter, nowMs);
  const detail: ErrorDetail = {
    ...(retryAfterS === undefined ? {} : { retryAfterS }),
    ...(hint === undefined ? {} : { hint }),
  };
  // A cause of our own: the original holds the request with its credentials, and causes are logged.
  const cause = code === undefined ? {} : { cause: Object.assign(new Error(words), { code }) };
  return new BuildError(kind, `${what}: ${words}${facts === '' ? '' : ` (${facts})`}`, detail, cause);
}

type Meaning = { readonly kind: BuildError['kind']; readonly words: string; readonly hint?: string };

const EXPIRED = /expired/i;
const BAD_CREDENTIALS =
  /^(Credentials|InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthenticationFailed|NOAUTH|NOPERM|WRONGPASS)/;
const THROTTLED = /^(SlowDown|TooManyRequests|Throttl|RequestLimitExceeded|ServerBusy)/;

function meaningOf(status: number | undefined, code = ''): Meaning {
  if (EXPIRED.test(code)) return { kind: 'denied', words: 'the credentials have expired' };
  if (BAD_CREDENTIALS.test(code)) return { kind: 'denied', words: 'the credentials were not accepted' };
  if (THROTTLED.test(code) || status === 429) return { kind: 'exhausted', words: 'too many requests' };
  if (status === undefined) return { kind: 'unavailable', words: NETWORK_WORDS[code] ?? 'the connection failed' };
  if (status === 401 || status === 403) return { kind: 'denied', words: 'access denied' };
  if (status === 404) return { kind: 'not-found', words: 'not found' };
  if (status === 408 || status === 425 || status >= 500) return { kind: 'unavailable', words: 'the service failed' };
  if (status >= 400) return { kind: 'invalid-input', words: 'the request was refused' };
  return { kind: 'corrupt', words: 'the answer makes no sense' };
}

const NETWORK_WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was cut',
  EPIPE: 'the connection was cut',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name of the host could not be looked up',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network is unreachable',
  ETIMEDOUT: 'no answer in time',
};

/** The abort reason when the signal ended the call, since libraries reject with errors of their own then; else `otherwise()`. */
export function failureOf(thrown: unknown, signal: AbortSignal, otherwise: () => BuildError): BuildError {
  if (signal.aborted) return BuildError.from(signal.reason);
  return thrown instanceof BuildError ? thrown : otherwise();
}

/** Where the service answers TCP, for the breaker to try; undefined when a proxy stands between. */
export function addressOf(url: string, env: StoreDeps['env']): { readonly host: string; readonly port: number } | undefined {
  const { protocol, hostname, port } = new URL(url);
  if (PROXY_VARIABLES.some((name) => env[name])) return undefined;
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
}
const PROXY_VARIABLES = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'];

/** The system's error code of a failed connection, from the error or what caused it. */
export function networkCode(thrown: unknown): string | undefined {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth += 1) {
    const { code, errors } = error as Error & { code?: unknown; errors?: unknown };
    if (typeof code === 'string' && code !== '') return code;
    // Node gives one error per address that it tried.
    if (Array.isArray(errors) && errors[0] instanceof Error) return networkCode(errors[0]);
  }
  return undefined;
}

/**
 * The body of an answer, also of one that came after the caller had given up. A body that fails while nobody reads it would otherwise be
 * an uncaught error; who reads it still gets the failure.
 */
export function heard<T extends object>(body: T): T {
  if ('on' in body && typeof body.on === 'function') body.on('error', () => undefined);
  return body;
}

/** Drops the first `skipBytes`: for a service that answers a range request with the whole object. */
export async function* skipping(body: AsyncIterable<Uint8Array>, skipBytes: number): AsyncIterable<Uint8Array> {
  let left = skipBytes;
  for await (const chunk of body) {
    if (left >= chunk.byteLength) left -= chunk.byteLength;
    else {
      yield left === 0 ? chunk : chunk.subarray(left);
      left = 0;
    }
  }
}

/** A small object whole. @throws BuildError `exhausted` above `maxBytes`. */
export async function readWhole(
  body: AsyncIterable<Uint8Array>,
  maxBytes: number,
  what: string,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    throwIfAborted(signal);
    sizeBytes += chunk.byteLength;
    if (sizeBytes > maxBytes) throw new BuildError('exhausted', `${what}: more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
