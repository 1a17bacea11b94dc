/** The registry client against a server that misbehaves in one way at a time. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { openTestContent, type TestContent } from '../../../test/fixtures/content.ts';
import { type Script, type ScriptedServer, startScriptedServer } from '../../../test/fixtures/registry.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError, type ErrorKind } from '../../core/errors.ts';
import type { Descriptor } from '../content/ports.ts';
import type { RegistryHosts } from './endpoints.ts';
import { DEFAULT_HTTP } from './http.ts';
import { encodeManifest, MEDIA } from './manifest.ts';
import type { RegistryAuth, RegistryCall } from './ports.ts';
import { parseReference } from './reference.ts';
import { createRegistry, type RegistryService } from './registry.ts';

const LIMITS = {
  retries: { attempts: 3, baseDelayMs: 1, maxDelayMs: 2, maxRetryAfterMs: 2_000 },
  http: { ...DEFAULT_HTTP, idleTimeoutMs: 400 },
};
const anonymous: RegistryAuth = { token: async () => undefined, credentials: async () => ({ username: '', secret: '' }) };
const callAs = (auth: RegistryAuth = anonymous): RegistryCall => ({ auth, signal: new AbortController().signal });

const LAYER = randomBytes(2_000_000); // too big to be moved by the control loop
const layer: Descriptor = { mediaType: MEDIA.ociLayer, digest: digestOf(LAYER), size: LAYER.byteLength };
const configBytes = new TextEncoder().encode('{"os":"linux"}');
const config: Descriptor = { mediaType: MEDIA.ociConfig, digest: digestOf(configBytes), size: configBytes.byteLength };
const manifest = encodeManifest({ mediaType: MEDIA.ociManifest, config, layers: [layer] });

interface Rig extends AsyncDisposable {
  readonly server: ScriptedServer;
  readonly store: TestContent;
  readonly registry: RegistryService;
  readonly name: string;
}
async function openRig(script: Script, hosts: (host: string) => RegistryHosts = () => ({})): Promise<Rig> {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startScriptedServer(script));
  const store = stack.use(await openTestContent());
  const registry = stack.use(createRegistry({ content: store.content, hosts: hosts(server.host), limits: LIMITS }));
  const held = stack.move();
  return { server, store, registry, name: `${server.host}/a/b:1`, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

const answer = (
  response: ServerResponse,
  status: number,
  headers: Record<string, string> = {},
  body: string | Uint8Array = '',
): void => {
  response.writeHead(status, headers).end(body);
};
const sendManifest = (response: ServerResponse, method: string): void =>
  answer(
    response,
    200,
    { 'docker-content-digest': digestOf(manifest), 'content-type': MEDIA.ociManifest },
    method === 'HEAD' ? '' : manifest,
  );

const failing = (kind: ErrorKind, text: string | RegExp) => (error: unknown) => {
  assert.ok(error instanceof BuildError, String(error));
  assert.equal(error.kind, kind, error.message);
  assert.match(error.message, typeof text === 'string' ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')) : text);
  return true;
};

for (const [status, kind, requests, text] of [
  [400, 'unsupported', 1, '400 Bad Request'],
  [403, 'denied', 2, '403 Forbidden: DENIED: not for you'], // the second asks for the reason, which a HEAD cannot carry
  [404, 'not-found', 1, 'a/b:1: not found'],
  [429, 'unavailable', 3, '429 Too Many Requests'],
  [500, 'unavailable', 3, '500 Internal Server Error'],
  [503, 'unavailable', 3, '503 Service Unavailable'],
] as const)
  test(`status ${status} on resolve is ${kind} after ${requests} requests`, async () => {
    const body = JSON.stringify({ errors: [{ code: 'DENIED', message: 'not for you' }] });
    await using rig = await openRig((_, response) => answer(response, status, {}, body));
    await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), failing(kind, text));
    assert.equal(rig.server.requests.length, requests);
  });

test('a 401 without a challenge, or with one that we cannot meet, is denied', async () => {
  for (const header of ['', 'Negotiate', 'Basic realm="x"', 'Bearer service="x"']) {
    const headers: Record<string, string> = header === '' ? {} : { 'www-authenticate': header };
    await using rig = await openRig((_, response) => answer(response, 401, headers));
    await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), failing('denied', '401 Unauthorized'));
  }
});

test('Retry-After is waited out when it is short', async () => {
  await using rig = await openRig(({ method }, response, number) => {
    if (number === 1) answer(response, 429, { 'retry-after': '1' });
    else sendManifest(response, method);
  });
  const startMs = performance.now();
  const delays: number[] = [];
  const { descriptor } = await rig.registry.resolve(parseReference(rig.name), {
    ...callAs(),
    onRetry: (_, delayMs) => delays.push(delayMs),
  });
  assert.equal(descriptor.digest, digestOf(manifest));
  assert.deepEqual(delays, [1000]);
  assert.ok(performance.now() - startMs >= 990);
});

test('a long Retry-After fails the call at once and is told to the client', async () => {
  await using rig = await openRig((_, response) => answer(response, 429, { 'retry-after': '3600' }));
  await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), (error: unknown) => {
    assert.ok(error instanceof BuildError);
    assert.equal(error.detail.retryAfterS, 3600);
    return error.kind === 'unavailable';
  });
  assert.equal(rig.server.requests.length, 1);
});

test('a download that breaks off goes on where it stopped', async () => {
  const ranges: (string | undefined)[] = [];
  await using rig = await openRig(({ headers: { range } }, response, number) => {
    ranges.push(range);
    if (number === 1) {
      response.writeHead(200, { 'content-length': String(LAYER.byteLength) });
      response.write(LAYER.subarray(0, 400_000), () => response.destroy());
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    const headers = { 'content-range': `bytes ${from}-${LAYER.byteLength - 1}/${LAYER.byteLength}` };
    answer(response, 206, headers, LAYER.subarray(from));
  });
  let received = 0;
  await rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: (bytes) => (received += bytes) });
  assert.equal(ranges.length, 2);
  assert.match(ranges[1] ?? '', /^bytes=[1-9]\d*-$/);
  assert.equal(received, LAYER.byteLength);
  await rig.store.content.verify(layer.digest, callAs().signal);
});

test('a server that ignores Range is read from the start again, and progress ends right', async () => {
  await using rig = await openRig((_, response, number) => {
    response.writeHead(200, { 'content-length': String(LAYER.byteLength) });
    if (number === 1) response.write(LAYER.subarray(0, 500_000), () => response.destroy());
    else response.end(LAYER);
  });
  let received = 0;
  await rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: (bytes) => (received += bytes) });
  assert.equal(received, LAYER.byteLength);
});

test('a download that is always cut short is unavailable after the attempts, and leaves no file', async () => {
  await using rig = await openRig((_, response) => {
    response.writeHead(200, { 'content-length': String(LAYER.byteLength) });
    response.write('x', () => response.destroy());
  });
  const fetched = rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: () => undefined });
  await assert.rejects(fetched, failing('unavailable', layer.digest));
  assert.equal(rig.server.requests.length, 3);
  assert.deepEqual(await readdir(join(rig.store.root, 'content/tmp')), []);
});

test('a body that ends early without an error is not taken for the blob', async () => {
  await using rig = await openRig((_, response) => answer(response, 200, {}, LAYER.subarray(0, -1)));
  const fetched = rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: () => undefined });
  await assert.rejects(fetched, failing('unavailable', 'the connection ended early'));
  assert.equal(await rig.store.content.info(layer.digest), undefined);
});

for (const [what, bytes] of [
  ['wrong', Buffer.alloc(LAYER.byteLength)],
  ['too many', Buffer.concat([LAYER, Buffer.alloc(10)])],
] as const)
  test(`${what} bytes are corrupt and are not kept`, async () => {
    await using rig = await openRig((_, response) => answer(response, 200, {}, bytes));
    const fetched = rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: () => undefined });
    await assert.rejects(fetched, failing('corrupt', layer.digest));
    assert.equal(rig.server.requests.length, 1);
    assert.equal(await rig.store.content.info(layer.digest), undefined);
    assert.deepEqual(await readdir(join(rig.store.root, 'content/tmp')), []);
  });

const SMALL = randomBytes(5_000);
const smallLayer: Descriptor = { mediaType: MEDIA.ociLayer, digest: digestOf(SMALL), size: SMALL.byteLength };
for (const [what, body, kind] of [
  ['cut short', SMALL.subarray(0, -1), 'corrupt'],
  ['too long', Buffer.concat([SMALL, SMALL]), 'corrupt'],
  ['wrong', Buffer.alloc(SMALL.byteLength), 'corrupt'],
] as const)
  test(`a small blob that comes ${what} is ${kind} and is not kept`, async () => {
    await using rig = await openRig((_, response) => answer(response, 200, {}, body));
    const fetched = rig.registry.fetchBlob(parseReference(rig.name), smallLayer, { ...callAs(), onProgress: () => undefined });
    await assert.rejects(fetched, failing(kind, smallLayer.digest));
    assert.equal(await rig.store.content.info(smallLayer.digest), undefined);
  });

test('over a connection that fails every other time a small blob is fetched, and a push that never gets through tells no progress', async () => {
  const stored: Buffer[] = [];
  await using rig = await openRig(({ method, path, body }, response, number) => {
    if (number % 2 === 1) return void response.destroy();
    if (method === 'HEAD') return answer(response, 404);
    if (method === 'POST') return answer(response, 202, { location: '/up' });
    if (method === 'GET') return answer(response, path.includes('/blobs/') ? 200 : 404, {}, stored[0]);
    stored.push(body);
    answer(response, 201);
  });
  await rig.store.content.put(SMALL, { signal: callAs().signal });
  await using registry = createRegistry({
    content: rig.store.content,
    hosts: {},
    limits: { retries: { ...LIMITS.retries, attempts: 9 } },
  });
  let progress = 0;
  const call = { ...callAs(), onProgress: (bytes: number) => (progress += bytes) };
  await assert.rejects(registry.pushBlob(parseReference(rig.name), smallLayer, call)); // no three requests in a row succeed
  assert.equal(progress, 0);
  await rig.store.content.remove(smallLayer.digest);
  stored.push(SMALL);
  await registry.fetchBlob(parseReference(rig.name), smallLayer, call);
  assert.equal(progress, SMALL.byteLength);
});

test('a host whose name does not resolve is not tried again', async () => {
  await using rig = await openRig((_, response) => answer(response, 200));
  let waits = 0;
  const resolved = rig.registry.resolve(parseReference('nowhere.invalid/a:1'), { ...callAs(), onRetry: () => (waits += 1) });
  await assert.rejects(resolved, failing('unavailable', /no such host|server misbehaving/));
  assert.ok(waits === 0 || waits === 2, 'a resolver that is out of order is asked again, an answer is not');
});

test('a manifest that is not what the digest says is corrupt', async () => {
  await using rig = await openRig(({ method }, response) => sendManifest(response, method));
  const pinned = parseReference(`${rig.name}@${digestOf('another manifest')}`);
  await assert.rejects(rig.registry.resolve(pinned, callAs()), failing('corrupt', digestOf(manifest)));
});

for (const [what, body] of [
  ['no JSON', '<html>'],
  ['no manifest', '{}'],
  ['both manifest and index', JSON.stringify({ config, layers: [], manifests: [] })],
  ['a bad digest', JSON.stringify({ config: { ...config, digest: 'sha256:x' }, layers: [] })],
  ['a negative size', JSON.stringify({ config: { ...config, size: -1 }, layers: [] })],
] as const)
  test(`a manifest with ${what} is refused`, async () => {
    await using rig = await openRig(({ method }, response) => answer(response, 200, {}, method === 'HEAD' ? '' : body));
    await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), failing('invalid-input', /./));
  });

test('an answer of endless size is cut off', async () => {
  await using rig = await openRig(({ method }, response) => {
    if (method === 'HEAD') return answer(response, 200);
    const more = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(1_000_000, ' ')));
      response.once('drain', more);
    };
    more();
  });
  await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), failing('exhausted', 'more than'));
});

test('a server that falls silent is given up after the idle limit', async () => {
  await using rig = await openRig(({ method, path }, response) => {
    if (method === 'GET' && path.includes('/blobs/')) {
      response.writeHead(200, { 'content-length': String(LAYER.byteLength) });
      response.write('x'); // and nothing more
    }
  });
  const reference = parseReference(rig.name);
  const fetched = rig.registry.fetchBlob(reference, layer, { ...callAs(), onProgress: () => undefined });
  await assert.rejects(fetched, failing('unavailable', 'nothing moved for 400 ms'));
  await assert.rejects(rig.registry.resolve(reference, callAs()), failing('unavailable', 'failed to do request: Head'));
});

test('a registry that nobody serves is unavailable and names the address', async () => {
  await using rig = await openRig((_, response) => answer(response, 200));
  await assert.rejects(
    rig.registry.resolve(parseReference('127.0.0.1:1/a:1'), callAs()),
    failing('unavailable', 'Head "http://127.0.0.1:1/v2/a/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused'),
  );
});

test('credentials are not sent to the host a blob is redirected to', async () => {
  await using elsewhere = await startScriptedServer((_, response) => answer(response, 200, {}, LAYER));
  await using rig = await openRig(({ headers: { authorization } }, response) => {
    if (authorization === undefined) answer(response, 401, { 'www-authenticate': 'Basic realm="r"' });
    else answer(response, 307, { location: `${elsewhere.url}/signed?secret=1` });
  });
  const auth: RegistryAuth = { token: async () => undefined, credentials: async () => ({ username: 'u', secret: 'p' }) };
  await rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(auth), onProgress: () => undefined });
  assert.equal(elsewhere.requests.length, 1);
  assert.equal(elsewhere.requests[0]?.headers.authorization, undefined);
});

test('a download that fails for another build is tried with our own credentials', async () => {
  const latch = Promise.withResolvers<void>();
  await using rig = await openRig(async ({ headers: { authorization } }, response, number) => {
    if (number === 1) await latch.promise; // until both builds wait for the one download
    if (authorization === undefined) answer(response, 401, { 'www-authenticate': 'Basic realm="r"' });
    else answer(response, 200, {}, LAYER);
  });
  const withPassword: RegistryAuth = { token: async () => undefined, credentials: async () => ({ username: 'u', secret: 'p' }) };
  const fetchAs = (auth: RegistryAuth): Promise<void> =>
    rig.registry.fetchBlob(parseReference(rig.name), layer, { ...callAs(auth), onProgress: () => undefined });
  const [first, second] = [fetchAs({ ...anonymous }), fetchAs(withPassword)];
  latch.resolve();
  await assert.rejects(first, failing('denied', '401'));
  await second;
  assert.notEqual(await rig.store.content.info(layer.digest), undefined);
});

test('redirects without end are given up', async () => {
  await using rig = await openRig(({ path }, response) => answer(response, 302, { location: `${path}x` }));
  await assert.rejects(rig.registry.resolve(parseReference(rig.name), callAs()), failing('unavailable', 'redirects'));
});

test('mirrors are asked first, with the name of the registry they stand in for; the upstream decides the error', async () => {
  await using mirror = await startScriptedServer((_, response) => answer(response, 503));
  const hosts = (host: string): RegistryHosts => ({ [host]: { mirrors: [`${mirror.host}/proxy`] } });
  await using rig = await openRig(({ method }, response) => sendManifest(response, method), hosts);
  const { descriptor } = await rig.registry.resolve(parseReference(rig.name), callAs());
  assert.equal(descriptor.digest, digestOf(manifest));
  assert.equal(mirror.requests[0]?.path, `/v2/proxy/a/b/manifests/1?ns=${encodeURIComponent(rig.server.host)}`);
  await using down = await openRig((_, response) => answer(response, 404), hosts);
  await assert.rejects(down.registry.resolve(parseReference(down.name), callAs()), (error: unknown) => {
    failing('not-found', 'a/b:1: not found')(error);
    return (error as BuildError).detail.hint?.includes('503 Service Unavailable') === true;
  });
});

test('a token server is asked with the scope, and its token is used until it expires', async () => {
  const tokens: string[] = [];
  let nowMs = 1_000_000;
  await using server = await startScriptedServer(({ path, method, headers }, response) => {
    if (path.startsWith('/token')) {
      tokens.push(path);
      return answer(response, 200, {}, JSON.stringify({ token: `t${tokens.length}`, expires_in: 100 }));
    }
    const challenge = `Bearer realm="http://${headers.host}/token",service="svc",scope="repository:a/b:pull"`;
    if (headers.authorization !== `Bearer t${tokens.length}`) return answer(response, 401, { 'www-authenticate': challenge });
    sendManifest(response, method);
  });
  await using store = await openTestContent();
  await using registry = createRegistry({ content: store.content, hosts: {}, limits: LIMITS, nowMs: () => nowMs });
  const reference = parseReference(`${server.host}/a/b:1`);
  const call = callAs();
  await registry.resolve(reference, call);
  await registry.resolve(reference, call);
  assert.deepEqual(tokens, ['/token?service=svc&scope=repository%3Aa%2Fb%3Apull']);
  nowMs += 95_000;
  await registry.resolve(reference, call);
  assert.equal(tokens.length, 2);
  await registry.resolve(reference, callAs({ ...anonymous })); // another build has a token of its own
  assert.equal(tokens.length, 3);
});

test('every request is told once, with its status or without an answer', async () => {
  const seen: string[] = [];
  await using server = await startScriptedServer(({ path, method, headers }, response) => {
    if (path.startsWith('/token')) return answer(response, 200, {}, '{"token":"t"}');
    if (headers.authorization === undefined)
      return answer(response, 401, { 'www-authenticate': `Bearer realm="http://${headers.host}/token"` });
    if (path.includes('/manifests/')) return sendManifest(response, method);
    if (path.includes(layer.digest)) return void response.destroy();
    if (method === 'HEAD') return answer(response, 404);
    answer(response, method === 'POST' ? 202 : 201, { location: '/anywhere' });
  });
  await using store = await openTestContent();
  const onRequest = (op: string, status: number | undefined): void => void seen.push(`${op} ${status}`);
  await using registry = createRegistry({
    content: store.content,
    hosts: {},
    limits: { retries: { ...LIMITS.retries, attempts: 1 } },
    onRequest,
  });
  const reference = parseReference(`${server.host}/a/b:1`);
  const call = { ...callAs(), onProgress: () => undefined };
  await registry.resolve(reference, call);
  await assert.rejects(registry.fetchBlob(reference, layer, call));
  await store.content.put(SMALL, { signal: call.signal });
  await registry.pushBlob(reference, smallLayer, call);
  await registry.pushManifest(reference, { ...config, digest: digestOf(manifest) }, manifest, call);
  await assert.rejects(registry.resolve(parseReference('127.0.0.1:1/a'), call));
  assert.deepEqual(seen, [
    'manifest-get 401',
    'token 200',
    'manifest-get 200',
    'manifest-get 200',
    'blob-get undefined',
    'token 200', // the right to push is another token
    'blob-head 404',
    'blob-upload 202',
    'blob-upload 201',
    'manifest-put 200',
    'manifest-get undefined',
  ]);
});

test('a token that the registry refuses ends in pull access denied', async () => {
  await using rig = await openRig(({ path, headers }, response) => {
    if (path.startsWith('/token')) return answer(response, 200, {}, '{"token":"useless"}');
    const error = headers.authorization === undefined ? '' : ',error="insufficient_scope"';
    answer(response, 401, { 'www-authenticate': `Bearer realm="http://${headers.host}/token"${error}` });
  });
  await assert.rejects(
    rig.registry.resolve(parseReference(rig.name), callAs()),
    failing(
      'denied',
      'pull access denied, repository does not exist or may require authorization: server message: insufficient_scope',
    ),
  );
});

test('a token server that fails says so', async () => {
  await using rig = await openRig(({ path, headers }, response) => {
    if (path.startsWith('/token')) return answer(response, 403);
    answer(response, 401, { 'www-authenticate': `Bearer realm="http://${headers.host}/token"` });
  });
  await assert.rejects(
    rig.registry.resolve(parseReference(rig.name), callAs()),
    failing('denied', 'failed to authorize: failed to fetch anonymous token: unexpected status from GET request to'),
  );
});

test('a client that fetches tokens itself is asked, and its credentials are not', async () => {
  await using rig = await openRig(({ method, headers }, response) => {
    if (headers.authorization === 'Bearer from-client') return sendManifest(response, method);
    answer(response, 401, { 'www-authenticate': `Bearer realm="http://${headers.host}/token",service="s"` });
  });
  const challenges: unknown[] = [];
  const auth: RegistryAuth = {
    token: async (challenge) => {
      challenges.push(challenge);
      return { token: 'from-client', expiresInS: 60 };
    },
    credentials: () => assert.fail('not asked'),
  };
  await rig.registry.resolve(parseReference(rig.name), callAs(auth));
  const host = rig.server.host;
  assert.deepEqual(challenges, [{ host, realm: `http://${host}/token`, service: 's', scopes: ['repository:a/b:pull'] }]);
});

test('a registry that wants small requests gets the blob in chunks, and an interrupted chunk is gone on with', async () => {
  const received: Buffer[] = [];
  let interrupted = false;
  const have = (): number => received.reduce((sum, part) => sum + part.byteLength, 0);
  await using rig = await openRig(({ method, path, body, headers }, response) => {
    if (method === 'HEAD') return answer(response, 404);
    if (method === 'POST') return answer(response, 202, { location: '/up/1', 'oci-chunk-min-length': '200000' });
    if (method === 'GET') return answer(response, 204, { location: '/up/2', range: `0-${have() - 1}` });
    if (method === 'PUT')
      return answer(response, path.includes(encodeURIComponent(layer.digest)) && have() === LAYER.byteLength ? 201 : 400);
    assert.match(headers['content-range'] ?? '', new RegExp(`^${have()}-\\d+$`));
    if (have() > 0 && !interrupted) {
      interrupted = true;
      received.push(body.subarray(0, 1000));
      return void response.destroy();
    }
    received.push(body);
    answer(response, 202, { location: '/up/3', range: `0-${have() - 1}` });
  });
  await rig.store.content.put(LAYER, { signal: callAs().signal });
  await using registry = createRegistry({
    content: rig.store.content,
    hosts: {},
    limits: { ...LIMITS, uploadChunkBytes: 300_000 },
  });
  await registry.pushBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: () => undefined });
  assert.ok(interrupted);
  assert.equal(digestOf(Buffer.concat(received)), layer.digest);
});

test('a push that is refused for its size is sent in chunks', async () => {
  let size = 0;
  await using rig = await openRig(({ method, path, body }, response) => {
    if (method === 'HEAD') return answer(response, 404);
    if (method === 'POST') return answer(response, 202, { location: '/up' });
    if (method === 'PATCH') {
      size += body.byteLength;
      return answer(response, 202, { location: '/up?n=1' });
    }
    answer(response, body.byteLength > 300_000 ? 413 : path.includes('n=1') ? 201 : 400);
  });
  await rig.store.content.put(LAYER, { signal: callAs().signal });
  let progress = 0;
  await rig.registry.pushBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: (bytes) => (progress += bytes) });
  assert.equal(size, LAYER.byteLength);
  assert.equal(progress, LAYER.byteLength);
});

test('a push without the right is denied', async () => {
  await using rig = await openRig(({ method }, response) => answer(response, method === 'HEAD' ? 404 : 403));
  await rig.store.content.put(LAYER, { signal: callAs().signal });
  await assert.rejects(
    rig.registry.pushBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: () => undefined }),
    failing('denied', 'push access denied'),
  );
});

test('a push that fails on the way is sent again', async () => {
  let puts = 0;
  await using rig = await openRig(({ method, body }, response) => {
    if (method === 'HEAD') return answer(response, 404);
    if (method === 'POST') return answer(response, 202, { location: '/up' });
    puts += 1;
    assert.equal(body.byteLength, LAYER.byteLength);
    answer(response, puts === 1 ? 502 : 201);
  });
  await rig.store.content.put(LAYER, { signal: callAs().signal });
  let progress = 0;
  await rig.registry.pushBlob(parseReference(rig.name), layer, { ...callAs(), onProgress: (bytes) => (progress += bytes) });
  assert.equal(puts, 2);
  assert.equal(progress, LAYER.byteLength);
});
