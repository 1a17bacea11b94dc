/** Where the real buildx can take a context from: stdin, a web server, a repository, an OCI layout. And its tunnel, dial-stdio. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createSocketServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { BuildxRig } from '../fixtures/buildx.ts';
import { contextOf } from '../fixtures/context.ts';
import { run, unableTo } from '../fixtures/daemon.ts';
import { serveRepository } from '../fixtures/git.ts';

const skip = unableTo('buildx', 'buildctl', 'runc', 'docker-registry', 'busybox');
let rig: BuildxRig;

before(async () => {
  if (skip === false) rig = await BuildxRig.start();
});
after(() => rig?.[Symbol.asyncDispose]());

const filesOf = () => ({
  Dockerfile: `FROM ${rig.base}\nCOPY in.txt /\nRUN tr a-z A-Z < in.txt > /out.txt\n`,
  'in.txt': 'hello\n',
});

async function assertBuilds(args: readonly string[], input?: string | Uint8Array): Promise<void> {
  const out = await rig.folder();
  const { status, stderr } = await rig.build(['-o', out, ...args], input === undefined ? {} : { input });
  assert.equal(status, 0, stderr);
  assert.equal(readFileSync(join(out, 'out.txt'), 'utf8'), 'HELLO\n');
}

test('a Dockerfile on stdin is built, with a context and without', { skip }, async () => {
  await using context = await contextOf(filesOf());
  await assertBuilds(['-f', '-', context.dir], filesOf().Dockerfile);
  await assertBuilds(['-'], `FROM ${rig.base}\nRUN echo HELLO > /out.txt\n`);
});

test('a context on stdin is built, plain and compressed', { skip }, async () => {
  await using context = await contextOf(filesOf());
  const tar = execFileSync('tar', ['-C', context.dir, '-c', '.']);
  await assertBuilds(['-'], tar);
  await assertBuilds(['-'], gzipSync(tar));
  await assertBuilds(['-f', 'Dockerfile', '-'], tar);
});

test('a context, a Dockerfile and an added file come from a web server', { skip }, async () => {
  await using context = await contextOf(filesOf());
  const bodies: Readonly<Record<string, string | Buffer>> = {
    '/context.tgz': gzipSync(execFileSync('tar', ['-C', context.dir, '-c', '.'])),
    '/Dockerfile': `FROM ${rig.base}\nRUN echo HELLO > /out.txt\n`,
    '/in.txt': 'hello\n',
  };
  const server = createServer(({ url = '' }, response) => void response.writeHead(url in bodies ? 200 : 404).end(bodies[url]));
  await using _server = { [Symbol.asyncDispose]: async () => void server.close() };
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await assertBuilds([`${url}/context.tgz`]);
  await assertBuilds([`${url}/Dockerfile`]);
  const checksum = 'sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
  context.write(
    'Dockerfile',
    `FROM ${rig.base}\nADD --checksum=${checksum} ${url}/in.txt /in.txt\nRUN tr a-z A-Z < /in.txt > /out.txt\n`,
  );
  await assertBuilds([context.dir]);
  context.write('Dockerfile', `FROM scratch\nADD ${url}/missing /\n`);
  const missing = await rig.build([context.dir]);
  assert.equal(missing.status, 1);
  assert.match(missing.stderr, /missing: invalid response status 404/);
});

test('a context comes from a repository: a branch, a folder of it, a commit', { skip: skip || unableTo('git') }, async () => {
  await using repository = await serveRepository();
  const commit = repository.commit({ ...filesOf(), 'sub/Dockerfile': filesOf().Dockerfile, 'sub/in.txt': 'hello\n' });
  await assertBuilds([`${repository.url}#main`]);
  await assertBuilds([`${repository.url}#main:sub`]);
  await assertBuilds([`${repository.url}#${commit}`]);
  const missing = await rig.build([`${repository.url}#nothere`]);
  assert.match(missing.stderr, /ERROR: failed to build: failed to solve: .*repository does not contain ref nothere/);
});

test('a base image comes from an OCI layout that an earlier build wrote', { skip }, async () => {
  await using context = await contextOf({ Dockerfile: `FROM ${rig.base}\nRUN echo hello > /in.txt\n` });
  const out = await rig.folder();
  const wrote = await rig.build(['-o', `type=oci,dest=${out}/layout,tar=false`, context.dir]);
  assert.equal(wrote.status, 0, wrote.stderr);
  context.write('Dockerfile', 'FROM given\nRUN tr a-z A-Z < /in.txt > /out.txt\n');
  await assertBuilds(['--build-context', `given=oci-layout://${out}/layout`, context.dir]);
});

test('buildctl builds through the tunnel of buildx dial-stdio', { skip }, async () => {
  await using context = await contextOf(filesOf());
  const path = join(await rig.folder(), 'tunnel.sock');
  const tunnels = createSocketServer((socket) => {
    const tunnel = rig.spawn(['dial-stdio']);
    socket.pipe(tunnel.stdin);
    tunnel.stdout.pipe(socket);
    socket.on('error', () => tunnel.kill());
    tunnel.stdin.on('error', () => undefined);
    tunnel.on('exit', () => socket.destroy());
  });
  await using _tunnels = { [Symbol.asyncDispose]: async () => void tunnels.close() };
  await new Promise<void>((resolve) => tunnels.listen(path, resolve));
  const out = await rig.folder();
  const sources = ['--local', `context=${context.dir}`, '--local', `dockerfile=${context.dir}`];
  const args = [
    '--addr',
    `unix://${path}`,
    'build',
    '--frontend',
    'dockerfile.v0',
    ...sources,
    '--output',
    `type=local,dest=${out}`,
  ];
  const { status, stderr } = await run('buildctl', args);
  assert.equal(status, 0, stderr);
  assert.equal(readFileSync(join(out, 'out.txt'), 'utf8'), 'HELLO\n');
});
