/**
 * Registry credentials from the clients of a build (`moby.filesync.v1.Auth`, buildkit-wire.md section 3.5). Where the client can, it
 * fetches tokens itself and the daemon never sees a password. Pull tokens are kept across builds: another session gets one only
 * after it has proved, by signing a challenge, that it holds the same credentials.
 */
import { createPublicKey, randomBytes, verify } from 'node:crypto';
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import {
  CredentialsRequestSchema,
  CredentialsResponseSchema,
  FetchTokenRequestSchema,
  FetchTokenResponseSchema,
  GetTokenAuthorityRequestSchema,
  GetTokenAuthorityResponseSchema,
  VerifyTokenAuthorityRequestSchema,
  VerifyTokenAuthorityResponseSchema,
} from '../proto/gen/moby/filesync/v1/auth_pb.ts';
import type { RegistryAuth } from '../registry/ports.ts';
import type { Session, Sessions } from '../session/ports.ts';

export interface SessionAuths {
  /** Credentials of whichever of these sessions offers any. Equal ids give the same object, so that a build's tokens are remembered. */
  of(sessionIds: readonly string[]): RegistryAuth;
}

const TIMEOUT_MS = 60_000;
const CLIENT_ID = 'buildkit-client';
const DEFAULT_LIFETIME_S = 60; // what a token without a lifetime lasts
const LIFETIME_USED = 0.9; // renewed before the registry's clock calls it expired
const MAX_AUTHS = 256; // builds in flight, and then some
const MAX_TOKENS = 4096;
/** DER prefix of an ed25519 public key (RFC 8410, section 4); the 32 bytes of the key follow. */
const ED25519_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
const SIGNATURE_BYTES = 64;

interface StoredToken {
  readonly token: string;
  readonly expiresAtMs: number;
}
type TokenChallenge = Parameters<RegistryAuth['token']>[0];

export function createSessionAuths(sessions: Sessions, nowMs: () => number): SessionAuths {
  // Fixed for the daemon's life, so that a client derives the same key for it each time.
  const salt = new Uint8Array(randomBytes(32));
  const tokens = new Map<string, StoredToken>();
  const auths = new Map<string, RegistryAuth>();
  return {
    of(sessionIds) {
      const key = sessionIds.join(' ');
      const auth = auths.get(key) ?? new SessionAuth({ sessions, sessionIds: [...sessionIds], salt, tokens, nowMs });
      auths.delete(key);
      auths.set(key, auth); // used last, so forgotten last
      trim(auths, MAX_AUTHS);
      return auth;
    },
  };
}

interface Parts {
  readonly sessions: Sessions;
  readonly sessionIds: readonly string[];
  readonly salt: Uint8Array;
  readonly tokens: Map<string, StoredToken>;
  readonly nowMs: () => number;
}

class SessionAuth implements RegistryAuth {
  readonly #parts: Parts;
  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async token(
    challenge: TokenChallenge,
    signal: AbortSignal,
  ): Promise<{ readonly token: string; readonly expiresInS: number } | undefined> {
    return await this.#any(signal, async (session) => {
      const publicKey = await this.#authority(session, challenge.host, signal);
      if (publicKey === undefined) throw new BuildError('not-found', 'this session offers no token authority');
      const key = shareable(challenge) ? tokenKey(challenge, publicKey) : undefined;
      const kept = key === undefined ? undefined : await this.#kept(session, challenge.host, publicKey, key, signal);
      if (kept !== undefined) return kept;
      const answer = await call(session, 'FetchToken', FetchTokenRequestSchema, FetchTokenResponseSchema, signal, {
        ClientID: CLIENT_ID,
        Host: challenge.host,
        Realm: challenge.realm,
        Service: challenge.service,
        Scopes: [...challenge.scopes],
      });
      const expiresInS = answer.ExpiresIn > 0n ? Number(answer.ExpiresIn) : DEFAULT_LIFETIME_S;
      if (key !== undefined) this.#keep(key, answer.Token, expiresInS);
      return { token: answer.Token, expiresInS };
    });
  }

  async credentials(host: string, signal: AbortSignal): Promise<{ readonly username: string; readonly secret: string }> {
    const found = await this.#any(signal, async (session) => {
      const answer = await call(session, 'Credentials', CredentialsRequestSchema, CredentialsResponseSchema, signal, {
        Host: host,
      });
      return { username: answer.Username, secret: answer.Secret };
    });
    return found ?? { username: '', secret: '' };
  }

  /** Undefined when no session can do it; a failure of one that can is the caller's to see. */
  async #any<T>(signal: AbortSignal, use: (session: Session) => Promise<T>): Promise<T | undefined> {
    const { sessions, sessionIds } = this.#parts;
    if (sessionIds.length === 0) return undefined;
    try {
      return await sessions.any(sessionIds, signal, use);
    } catch (thrown) {
      const error = BuildError.from(thrown);
      if (signal.aborted || (error.kind !== 'not-found' && error.kind !== 'unsupported')) throw error;
      return undefined;
    }
  }

  async #authority(session: Session, host: string, signal: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      const request = { Host: host, Salt: this.#parts.salt };
      const { PublicKey } = await call(
        session,
        'GetTokenAuthority',
        GetTokenAuthorityRequestSchema,
        GetTokenAuthorityResponseSchema,
        signal,
        request,
      );
      return PublicKey.byteLength === 32 ? PublicKey : undefined;
    } catch (thrown) {
      // `unavailable` is how clients say that they have no credentials for the host.
      if (BuildError.from(thrown).kind === 'unavailable') return undefined;
      throw thrown;
    }
  }

  /** A token fetched earlier for the same key, if this session proves that it holds that key. */
  async #kept(
    session: Session,
    host: string,
    publicKey: Uint8Array,
    key: string,
    signal: AbortSignal,
  ): Promise<{ token: string; expiresInS: number } | undefined> {
    const { tokens, nowMs, salt } = this.#parts;
    const kept = tokens.get(key);
    if (kept === undefined) return undefined;
    const expiresInS = (kept.expiresAtMs - nowMs()) / 1000;
    if (expiresInS <= 0) {
      tokens.delete(key);
      return undefined;
    }
    const payload = new Uint8Array(randomBytes(32));
    const schemas = [VerifyTokenAuthorityRequestSchema, VerifyTokenAuthorityResponseSchema] as const;
    const { Signed } = await call(session, 'VerifyTokenAuthority', ...schemas, signal, {
      Host: host,
      Payload: payload,
      Salt: salt,
    });
    return signedBy(publicKey, payload, Signed) ? { token: kept.token, expiresInS } : undefined;
  }

  #keep(key: string, token: string, expiresInS: number): void {
    const { tokens, nowMs } = this.#parts;
    tokens.set(key, { token, expiresAtMs: nowMs() + expiresInS * 1000 * LIFETIME_USED });
    trim(tokens, MAX_TOKENS);
  }
}

/** A token that allows pushing stays within its build. */
const shareable = (challenge: TokenChallenge): boolean => challenge.scopes.every((scope) => scope.endsWith(':pull'));
const tokenKey = (challenge: TokenChallenge, publicKey: Uint8Array): string =>
  [challenge.host, challenge.realm, challenge.service, Buffer.from(publicKey).toString('hex'), ...challenge.scopes].join('\n');

/** `signed` is an attached signature: 64 bytes, then the payload. */
function signedBy(publicKey: Uint8Array, payload: Uint8Array, signed: Uint8Array): boolean {
  if (!Buffer.from(signed.subarray(SIGNATURE_BYTES)).equals(payload)) return false;
  const key = createPublicKey({ key: Buffer.concat([ED25519_PREFIX, publicKey]), format: 'der', type: 'spki' });
  return verify(null, payload, key, signed.subarray(0, SIGNATURE_BYTES));
}

async function call<Request extends DescMessage, Response extends DescMessage>(
  session: Session,
  method: string,
  request: Request,
  response: Response,
  signal: AbortSignal,
  values: MessageInitShape<Request>,
): Promise<MessageShape<Response>> {
  const bytes = toBinary(request, create(request, values));
  return fromBinary(response, await session.unary(`/moby.filesync.v1.Auth/${method}`, bytes, { signal, timeoutMs: TIMEOUT_MS }));
}

function trim(map: Map<string, unknown>, max: number): void {
  for (const oldest of map.keys()) {
    if (map.size <= max) return;
    map.delete(oldest);
  }
}
