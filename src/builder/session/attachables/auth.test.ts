import assert from 'node:assert/strict';
import { createPublicKey, verify } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { Auth } from '../../proto/gen/moby/filesync/v1/auth_pb.ts';
import { connectClient, openStubDaemon } from '../session.test-rig.ts';
import { authService } from './auth.ts';
import { readCredentials } from './docker-config.ts';

const basic = (username: string, password: string): string => Buffer.from(`${username}:${password}`).toString('base64');

test('credentials are found under the names that logins leave them by', async () => {
  using dir = configDir({
    auths: {
      'registry.example:5000': { auth: basic('ann', 'pass:with:colons') },
      'https://index.docker.io/v1/': { auth: basic('hub', 'pw') },
      'https://other.example/v2/': { auth: basic('bob', 'pw') },
      'token.example': { identitytoken: 'identity' },
      'static.example': { registrytoken: 'ready' },
    },
  });
  assert.deepEqual(await readCredentials(dir.path, 'registry.example:5000'), { username: 'ann', secret: 'pass:with:colons' });
  assert.deepEqual(await readCredentials(dir.path, 'registry-1.docker.io'), { username: 'hub', secret: 'pw' });
  assert.deepEqual(await readCredentials(dir.path, 'other.example'), { username: 'bob', secret: 'pw' });
  assert.deepEqual(await readCredentials(dir.path, 'token.example'), { username: '', secret: 'identity' });
  assert.equal((await readCredentials(dir.path, 'static.example')).registryToken, 'ready');
  assert.deepEqual(await readCredentials(dir.path, 'registry.example'), { username: '', secret: '' });
  assert.deepEqual(await readCredentials(join(dir.path, 'missing'), 'registry.example'), { username: '', secret: '' });
  writeFileSync(join(dir.path, 'config.json'), '{"auths":');
  await assert.rejects(readCredentials(dir.path, 'x'), { kind: 'invalid-input' });
});

test('a credential helper is asked, and one that knows nothing means anonymous', async (t) => {
  using dir = configDir({ credHelpers: { 'a.example': 'cooper-test' }, credsStore: 'cooper-missing' });
  const helper = join(dir.path, 'docker-credential-cooper-test');
  writeFileSync(helper, '#!/bin/sh\nread server\nprintf \'{"Username":"<token>","Secret":"for %s"}\' "$server"\n');
  chmodSync(helper, 0o755);
  const before = process.env.PATH;
  t.after(() => {
    process.env.PATH = before;
  });
  process.env.PATH = `${dir.path}:${before}`;
  assert.deepEqual(await readCredentials(dir.path, 'a.example'), { username: '', secret: 'for a.example' });
  writeFileSync(helper, '#!/bin/sh\necho "credentials not found in native keychain"\nexit 1\n');
  assert.deepEqual(await readCredentials(dir.path, 'a.example'), { username: '', secret: '' });
  writeFileSync(helper, '#!/bin/sh\necho "keychain is locked"\nexit 1\n');
  await assert.rejects(readCredentials(dir.path, 'a.example'), /keychain is locked/);
  await assert.rejects(readCredentials(dir.path, 'b.example'), /cannot run docker-credential-cooper-missing/);
});

test('tokens are fetched by the client: by OAuth, by GET where that is unknown, anonymously, and refused with the reason', async () => {
  await using server = await tokenServer();
  using dir = configDir({
    auths: { oauth: { auth: basic('ann', 'right') }, get: { auth: basic('old', 'right') }, bad: { auth: basic('ann', 'wrong') } },
  });
  await using rig = await authRig(dir.path);
  const fetchToken = (host: string) =>
    rig.call(Auth.method.fetchToken, {
      ClientID: 'cooper',
      Host: host,
      Realm: server.realm,
      Service: 'reg',
      Scopes: ['repository:a:pull'],
    });
  const oauth = await fetchToken('oauth');
  assert.deepEqual([oauth.Token, oauth.ExpiresIn, oauth.IssuedAt], ['oauth ann repository:a:pull', 300n, 1_600_000_000n]);
  assert.deepEqual([(await fetchToken('get')).Token, (await fetchToken('nobody')).Token], ['get old', 'anonymous reg']);
  await assert.rejects(fetchToken('bad'), { kind: 'denied', message: /answered 403/ });
  await server[Symbol.asyncDispose]();
  await assert.rejects(fetchToken('nobody'), { kind: 'unavailable' });
});

test('equal credentials give the same key, which signs what the daemon asks; anonymous clients share one', async () => {
  using dir = configDir({ auths: { host: { auth: basic('ann', 'pw') } } });
  using other = configDir({ auths: { host: { auth: basic('ann', 'pw') } } });
  await using rig = await authRig(dir.path);
  await using second = await authRig(dir.path);
  await using stranger = await authRig(other.path);
  const salt = Buffer.alloc(32, 7);
  const keyOf = async (from: typeof rig, host: string, Salt = salt): Promise<Buffer> =>
    Buffer.from((await from.call(Auth.method.getTokenAuthority, { Host: host, Salt })).PublicKey);
  const key = await keyOf(rig, 'host');
  assert.equal(key.length, 32);
  assert.deepEqual(await keyOf(second, 'host'), key);
  assert.notDeepEqual(await keyOf(stranger, 'host'), key, 'another seed');
  assert.notDeepEqual(await keyOf(rig, 'host', Buffer.alloc(32, 8)), key, 'another daemon');
  assert.deepEqual(await keyOf(rig, 'nobody'), await keyOf(stranger, 'nobody'));
  const payload = Buffer.from('challenge');
  const { Signed } = await rig.call(Auth.method.verifyTokenAuthority, { Host: 'host', Payload: payload, Salt: salt });
  const publicKey = createPublicKey({
    key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), key]),
    format: 'der',
    type: 'spki',
  });
  assert.ok(verify(null, payload, publicKey, Signed.subarray(0, 64)));
  assert.deepEqual(Buffer.from(Signed.subarray(64)), payload);
});

function configDir(config: unknown): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'cooper-auth-'));
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

interface Method<I extends DescMessage, O extends DescMessage> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

/** The daemon's side of a client that offers credentials. */
async function authRig(dir: string) {
  const daemon = await openStubDaemon();
  const client = await connectClient(daemon, [authService(dir)]);
  return {
    async call<I extends DescMessage, O extends DescMessage>(
      method: Method<I, O>,
      request: MessageInitShape<I>,
    ): Promise<MessageShape<O>> {
      const path = `/${method.parent.typeName}/${method.name}`;
      const bytes = toBinary(method.input, create(method.input, request));
      return fromBinary(method.output, await client.session.unary(path, bytes, { signal: new AbortController().signal }));
    },
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await daemon[Symbol.asyncDispose]();
    },
  };
}

/** Knows ann by OAuth, old by GET only, and everybody anonymously. */
async function tokenServer(): Promise<AsyncDisposable & { readonly realm: string }> {
  const answer = async (request: IncomingMessage): Promise<{ status: number; body: unknown }> => {
    const url = new URL(request.url ?? '', 'http://localhost');
    if (request.method === 'POST') {
      const form = new URLSearchParams(await text(request));
      if (form.get('username') === 'old') return { status: 404, body: {} };
      if (form.get('password') !== 'right') return { status: 403, body: {} };
      const token = `oauth ${form.get('username')} ${form.get('scope')}`;
      return { status: 200, body: { access_token: token, expires_in: 300, issued_at: '2020-09-13T12:26:40Z' } };
    }
    const { authorization } = request.headers;
    if (authorization === undefined) return { status: 200, body: { token: `anonymous ${url.searchParams.get('service')}` } };
    const known = authorization === `Basic ${basic('old', 'right')}`;
    return known ? { status: 200, body: { token: `get ${url.searchParams.get('account')}` } } : { status: 403, body: {} };
  };
  const server = createServer((request, response) => {
    void answer(request).then(({ status, body }) =>
      response.writeHead(status, { connection: 'close' }).end(JSON.stringify(body)),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  let closed: Promise<void> | undefined;
  return {
    realm: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`,
    [Symbol.asyncDispose]() {
      closed ??= new Promise((resolve) => server.close(() => resolve()));
      return closed;
    },
  };
}
