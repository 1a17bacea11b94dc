/** Hosts, mirrors and TLS settings against HTTPS servers with certificates made for the test. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openTestContent } from '../../../test/fixtures/content.ts';
import { missingTool, startScriptedServer } from '../../../test/fixtures/registry.ts';
import { digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { endpointsOf, type RegistryHosts } from './endpoints.ts';
import { encodeManifest, MEDIA } from './manifest.ts';
import type { RegistryCall } from './ports.ts';
import { parseReference } from './reference.ts';
import { createRegistry } from './registry.ts';

const config = { mediaType: MEDIA.ociConfig, digest: digestOf('{}'), size: 2 };
const manifest = encodeManifest({ mediaType: MEDIA.ociManifest, config, layers: [] });
const LAYER = randomBytes(2_000_000); // fetched by a thread, which makes connections of its own
const layer = { mediaType: MEDIA.ociLayer, digest: digestOf(LAYER), size: LAYER.byteLength };
const call: RegistryCall = {
  auth: { token: async () => undefined, credentials: async () => ({ username: '', secret: '' }) },
  signal: new AbortController().signal,
};
const retries = { attempts: 2, baseDelayMs: 1, maxDelayMs: 1, maxRetryAfterMs: 0 };
const skip = missingTool('openssl');

interface Certificates {
  readonly dir: string;
  /** Path of `<name>.pem` or `<name>.key`. */
  readonly file: (name: string) => string;
}
/** An authority, a server certificate for 127.0.0.1 and a client certificate. */
function makeCertificates(t: TestContext): Certificates {
  const dir = mkdtempSync(join(tmpdir(), 'cooper-tls-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test authority', '-days', '2');
  for (const name of ['server', 'client'])
    openssl(
      'req',
      '-x509',
      ...key,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      `/CN=${name}`,
      '-days',
      '2',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-addext',
      'basicConstraints=critical,CA:FALSE',
    );
  return { dir, file: (name) => join(dir, name) };
}

async function startTlsRegistry(t: TestContext, { file }: Certificates, options: https.ServerOptions = {}): Promise<string> {
  const tls = { cert: readFileSync(file('server.pem')), key: readFileSync(file('server.key')), ...options };
  const server = https.createServer(tls, ({ method, url }, response) => {
    if (url?.includes('/blobs/') === true) return void response.end(LAYER);
    response.writeHead(200, { 'docker-content-digest': digestOf(manifest) }).end(method === 'HEAD' ? '' : manifest);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** `ok` when a manifest and a layer came, or the message of the failure. */
async function resolveWith(hosts: RegistryHosts, host: string, options: { readonly insecure?: boolean } = {}): Promise<string> {
  await using store = await openTestContent();
  await using registry = createRegistry({ content: store.content, hosts, limits: { retries } });
  const reference = parseReference(`${host}/a:1`);
  try {
    await registry.resolve(reference, { ...call, ...options });
    await registry.fetchBlob(reference, layer, { ...call, ...options, onProgress: () => undefined });
    return 'ok';
  } catch (error) {
    return `${BuildError.from(error).kind}: ${BuildError.from(error).message}`;
  }
}

test('a certificate of an authority we know nothing of is refused; knowing it, or not caring, helps', { skip }, async (t) => {
  const certificates = makeCertificates(t);
  const host = await startTlsRegistry(t, certificates);
  assert.match(await resolveWith({ [host]: { http: false } }, host), /^unavailable: failed to do request: Head .*certificate/);
  assert.equal(await resolveWith({ [host]: { http: false, ca: [certificates.file('ca.pem')] } }, host), 'ok');
  assert.equal(await resolveWith({ [host]: { http: false, insecure: true } }, host), 'ok');
  assert.equal(await resolveWith({}, host, { insecure: true }), 'ok');
});

test('a registry that wants a client certificate gets the configured one, also from a directory', { skip }, async (t) => {
  const certificates = makeCertificates(t);
  const { file, dir } = certificates;
  const host = await startTlsRegistry(t, certificates, {
    requestCert: true,
    rejectUnauthorized: true,
    ca: readFileSync(file('ca.pem')),
  });
  assert.match(await resolveWith({ [host]: { http: false, ca: [file('ca.pem')] } }, host), /^unavailable/);
  const keypairs = [{ key: file('client.key'), cert: file('client.pem') }];
  assert.equal(await resolveWith({ [host]: { http: false, ca: [file('ca.pem')], keypairs } }, host), 'ok');
  const config = join(dir, 'certs.d');
  mkdirSync(config);
  copyFileSync(file('ca.pem'), join(config, 'ca.crt'));
  copyFileSync(file('client.pem'), join(config, 'client.cert'));
  copyFileSync(file('client.key'), join(config, 'client.key'));
  assert.equal(await resolveWith({ [host]: { http: false, tlsConfigDirs: [config, '/nonexistent'] } }, host), 'ok');
});

test('an insecure call falls back to plain HTTP, and does so without asking twice', async () => {
  await using server = await startScriptedServer(({ method, path }, response) => {
    if (path.includes('/blobs/')) return void response.end(LAYER);
    response.writeHead(200, { 'docker-content-digest': digestOf(manifest) }).end(method === 'HEAD' ? '' : manifest);
  });
  assert.equal(await resolveWith({}, server.host, { insecure: true }), 'ok');
  assert.equal(await resolveWith({ [server.host]: { insecure: true } }, server.host), 'ok');
  assert.match(await resolveWith({ [server.host]: { http: false } }, server.host), /^unavailable/);
});

test('a certificate file that cannot be read says which', async () => {
  await assert.rejects(
    endpointsOf({ 'h.example': { ca: ['/nonexistent/ca.pem'] } }, 'h.example', false),
    (error: unknown) =>
      error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes('/nonexistent/ca.pem'),
  );
});

for (const [host, hosts, insecure, wanted] of [
  ['docker.io', {}, false, ['https registry-1.docker.io /v2']],
  ['localhost:5000', {}, false, ['http localhost:5000 /v2']],
  ['127.0.0.1:5000', { '127.0.0.1:5000': { http: false } }, false, ['https 127.0.0.1:5000 /v2']],
  ['r.example', { 'r.example': { http: true } }, false, ['http r.example /v2']],
  ['r.example', {}, true, ['https r.example /v2 or http']],
  ['localhost', {}, true, ['https localhost /v2 or http']],
  [
    'docker.io',
    { 'docker.io': { mirrors: ['https://m.example/hub/', '127.0.0.1:6000'] }, 'm.example': { http: true } },
    false,
    ['http m.example /v2/hub mirror', 'http 127.0.0.1:6000 /v2 mirror', 'https registry-1.docker.io /v2'],
  ],
] as const)
  test(`${host} with ${JSON.stringify(hosts)}${insecure ? ', insecure,' : ''} is asked at ${wanted.join(', then ')}`, async () => {
    const endpoints = await endpointsOf(hosts, host, insecure);
    assert.deepEqual(
      endpoints.map(({ scheme, authority, path, mirror, fallsBackToHttp }) =>
        [scheme, authority, path, ...(mirror ? ['mirror'] : []), ...(fallsBackToHttp ? ['or http'] : [])].join(' '),
      ),
      wanted,
    );
  });
