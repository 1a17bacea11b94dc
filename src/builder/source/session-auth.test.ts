/** Credentials from clients, played by an Auth service that holds a real ed25519 key. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import {
  CredentialsResponseSchema,
  FetchTokenRequestSchema,
  FetchTokenResponseSchema,
  GetTokenAuthorityResponseSchema,
  VerifyTokenAuthorityRequestSchema,
  VerifyTokenAuthorityResponseSchema,
} from '../proto/gen/moby/filesync/v1/auth_pb.ts';
import type { Session, Sessions } from '../session/ports.ts';
import { createSessionAuths } from './session-auth.ts';

const signal = new AbortController().signal;
const challenge = { host: 'r.example', realm: 'https://t.example', service: 's', scopes: ['repository:a:pull'] };

interface Client {
  readonly session: Session;
  readonly calls: string[];
}

/** A client with a key of its own, or without token authority. */
function client(key: { publicKey: KeyObject; privateKey: KeyObject } | undefined, lies = false): Client {
  const calls: string[] = [];
  const unary = async (method: string, request: Uint8Array): Promise<Uint8Array> => {
    const name = method.split('/').at(-1) ?? '';
    calls.push(name);
    switch (name) {
      case 'GetTokenAuthority': {
        if (key === undefined) throw new BuildError('unsupported', 'unknown method');
        const PublicKey = key.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
        return toBinary(GetTokenAuthorityResponseSchema, create(GetTokenAuthorityResponseSchema, { PublicKey }));
      }
      case 'FetchToken': {
        const { Scopes } = fromBinary(FetchTokenRequestSchema, request);
        const answer = { Token: `token for ${Scopes.join()}`, ExpiresIn: 100n };
        return toBinary(FetchTokenResponseSchema, create(FetchTokenResponseSchema, answer));
      }
      case 'VerifyTokenAuthority': {
        const { Payload } = fromBinary(VerifyTokenAuthorityRequestSchema, request);
        const signer = lies ? generateKeyPairSync('ed25519').privateKey : key?.privateKey;
        const Signed = Buffer.concat([sign(null, Payload, signer ?? assert.fail()), Payload]);
        return toBinary(VerifyTokenAuthorityResponseSchema, create(VerifyTokenAuthorityResponseSchema, { Signed }));
      }
      default:
        return toBinary(CredentialsResponseSchema, create(CredentialsResponseSchema, { Username: 'u', Secret: 'p' }));
    }
  };
  return { session: { unary } as unknown as Session, calls };
}
function sessionsOf(clients: Readonly<Record<string, Client>>): Sessions {
  return {
    get: () => assert.fail('not used'),
    async any(ids, _signal, use) {
      let last: unknown = new BuildError('not-found', 'no active session');
      for (const id of ids) {
        const known = clients[id];
        if (known === undefined) continue;
        try {
          return await use(known.session);
        } catch (error) {
          last = error;
          if (!['not-found', 'unsupported'].includes(BuildError.from(error).kind)) break;
        }
      }
      throw last;
    },
  };
}

test('a pull token is reused by another session that proves to hold the same key', async () => {
  const key = generateKeyPairSync('ed25519');
  const [first, second] = [client(key), client(key)];
  const auths = createSessionAuths(sessionsOf({ first, second }), () => 0);
  assert.equal((await auths.of(['first']).token(challenge, signal))?.token, 'token for repository:a:pull');
  assert.equal((await auths.of(['second']).token(challenge, signal))?.token, 'token for repository:a:pull');
  assert.deepEqual(first.calls, ['GetTokenAuthority', 'FetchToken']);
  assert.deepEqual(second.calls, ['GetTokenAuthority', 'VerifyTokenAuthority']);
});

test('a session that names the key but cannot sign with it fetches a token of its own', async () => {
  const key = generateKeyPairSync('ed25519');
  const [first, thief] = [client(key), client(key, true)];
  const auths = createSessionAuths(sessionsOf({ first, thief }), () => 0);
  await auths.of(['first']).token(challenge, signal);
  await auths.of(['thief']).token(challenge, signal);
  assert.deepEqual(thief.calls, ['GetTokenAuthority', 'VerifyTokenAuthority', 'FetchToken']);
});

test('tokens for pushing are never shared, and old ones are not used', async () => {
  const key = generateKeyPairSync('ed25519');
  let nowMs = 0;
  const only = client(key);
  const auths = createSessionAuths(sessionsOf({ only }), () => nowMs);
  const push = { ...challenge, scopes: ['repository:a:pull,push'] };
  for (const wanted of [push, push, challenge]) await auths.of(['only']).token(wanted, signal);
  nowMs = 91_000; // of 100 s nine tenths are used
  await auths.of(['only']).token(challenge, signal);
  assert.equal(only.calls.filter((name) => name === 'FetchToken').length, 4);
});

test('a client without token authority is asked for credentials, and no client means anonymous', async () => {
  const old = client(undefined);
  const auths = createSessionAuths(sessionsOf({ old }), () => 0);
  assert.equal(await auths.of(['old']).token(challenge, signal), undefined);
  assert.deepEqual(await auths.of(['gone', 'old']).credentials('h', signal), { username: 'u', secret: 'p' });
  assert.deepEqual(await auths.of(['gone']).credentials('h', signal), { username: '', secret: '' });
  assert.deepEqual(await auths.of([]).credentials('h', signal), { username: '', secret: '' });
});

test('equal sessions get one auth, so that what it learnt is kept', () => {
  const auths = createSessionAuths(sessionsOf({}), () => 0);
  assert.equal(auths.of(['a', 'b']), auths.of(['a', 'b']));
  assert.notEqual(auths.of(['a']), auths.of(['a', 'b']));
});
