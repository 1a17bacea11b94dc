import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { systemClock } from '../../core/clock.ts';
import type { BuildError } from '../../core/errors.ts';
import { issueCertificates } from './certificates.test-rig.ts';
import { type Address, connect } from './client.ts';
import { listen } from './listener.ts';
import { callOnce, peerService } from './rpc.test-rig.ts';
import { RpcServer } from './server.ts';

async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'cooper-listen-'));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}
const newServer = (): RpcServer => new RpcServer({ clock: systemClock(), services: [peerService()] });
const echo = async (address: Address): Promise<string> => {
  await using client = await connect(address);
  return String((await callOnce(client, 'Echo', 'hello'))[0]);
};

test('a unix socket gets its permissions and owner, and is gone after close', async (t) => {
  const path = join(await tempDir(t), 'deep', 'er', 'x.sock');
  await using server = newServer();
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const listener = await listen(server, { type: 'unix', path, mode: 0o600, ...own });
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal(await echo({ type: 'unix', path }), 'hello');
  await listener.close();
  await assert.rejects(stat(path), { code: 'ENOENT' });
  await assert.rejects(echo({ type: 'unix', path }), { kind: 'unavailable' });
});

test('a second daemon on a live socket is told which process holds it', async (t) => {
  const path = join(await tempDir(t), 'x.sock');
  await using server = newServer();
  await using listener = await listen(server, { type: 'unix', path });
  await assert.rejects(listen(newServer(), { type: 'unix', path }), (error: BuildError) => {
    assert.equal(error.kind, 'unavailable');
    assert.match(error.message, new RegExp(`cannot listen on ${path}: process ${process.pid} \\(.*\\) already does`));
    return true;
  });
  assert.equal(listener.address, `unix://${path}`);
  assert.equal(await echo({ type: 'unix', path }), 'hello'); // and the first one is not disturbed
});

test('the socket of a killed daemon is taken over', async (t) => {
  const path = join(await tempDir(t), 'x.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.stdout.write('up'))`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok((await stat(path)).isSocket());
  await using server = newServer();
  await using _listener = await listen(server, { type: 'unix', path });
  assert.equal(await echo({ type: 'unix', path }), 'hello');
});

test('a file that is no socket is never removed', async (t) => {
  const path = join(await tempDir(t), 'notes.txt');
  await writeFile(path, 'mine');
  await assert.rejects(listen(newServer(), { type: 'unix', path }), { kind: 'invalid-input', message: /is not a socket/ });
  assert.equal((await stat(path)).size, 4);
});

test('a taken TCP port names its holder', async (t) => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
  t.after(() => other.close());
  const { port } = other.address() as { port: number };
  await assert.rejects(listen(newServer(), { type: 'tcp', host: '127.0.0.1', port, allowPlain: true }), {
    kind: 'unavailable',
    message: new RegExp(`127\\.0\\.0\\.1:${port}: process ${process.pid} `),
  });
});

test('plain TCP is served only to those who asked for it', async () => {
  await using server = newServer();
  await assert.rejects(listen(server, { type: 'tcp', host: '127.0.0.1', port: 0 }), { kind: 'invalid-input', message: /no TLS/ });
  await using listener = await listen(server, { type: 'tcp', host: '127.0.0.1', port: 0, allowPlain: true });
  assert.equal(await echo({ type: 'tcp', host: '127.0.0.1', port: Number(listener.address.split(':').at(-1)) }), 'hello');
});

test('mutual TLS: a client of our CA gets in, others do not, and the server knows who called', async () => {
  const ours = issueCertificates('alice');
  const theirs = issueCertificates('mallory');
  const peers: (string | undefined)[] = [];
  await using server = new RpcServer({
    clock: systemClock(),
    services: [peerService()],
    observer: { rpcStarted: (_method, peer) => peers.push(peer.identity) },
  });
  const { ca: clientCa, server: pair } = ours;
  await using listener = await listen(server, { type: 'tcp', host: '127.0.0.1', port: 0, tls: { ...pair, clientCa } });
  const port = Number(listener.address.split(':').at(-1));
  const at = (tls: object): Address => ({ type: 'tcp', host: '127.0.0.1', port, tls: { serverName: 'localhost', ...tls } });
  assert.equal(await echo(at({ ca: ours.ca, ...ours.client })), 'hello');
  assert.deepEqual(peers, ['alice']);
  // TLS 1.3 lets a client finish its handshake before it hears of the refusal, if it hears of it before the connection ends.
  const refused = ({ kind }: BuildError): boolean => kind === 'denied' || kind === 'unavailable';
  await assert.rejects(echo(at({ ca: ours.ca })), refused);
  await assert.rejects(echo(at({ ca: ours.ca, ...theirs.client })), refused);
  await assert.rejects(echo(at({ ca: theirs.ca, ...ours.client })), { kind: 'denied' }); // a server we do not trust
  await assert.rejects(echo({ type: 'tcp', host: '127.0.0.1', port }), { kind: 'unavailable' }); // plain text into TLS
  assert.deepEqual(peers, ['alice']);
  listener.reloadTls({ ...theirs.server, clientCa: theirs.ca });
  assert.equal(await echo(at({ ca: theirs.ca, ...theirs.client })), 'hello');
  assert.deepEqual(peers, ['alice', 'mallory']);
});

test('a TLS client that offers no h2 is turned away', async (t) => {
  const { server: pair } = issueCertificates('alice');
  await using server = newServer();
  await using listener = await listen(server, { type: 'tcp', host: '127.0.0.1', port: 0, tls: pair });
  const port = Number(listener.address.split(':').at(-1));
  const script = `const s = require('tls').connect({ port: ${port}, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    s.on('error', () => {}).on('close', () => console.log('closed')).resume()`;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { signal: t.signal });
  assert.equal(stdout.trim(), 'closed');
  assert.equal(server.connections, 0);
});
