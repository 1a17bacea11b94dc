import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createReadStream, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import { BuildError } from '../../core/errors.ts';
import { Health } from '../proto/gen/grpc/health/v1/health_pb.ts';
import { SSH } from '../proto/gen/moby/sshforward/v1/ssh_pb.ts';
import { Upload } from '../proto/gen/moby/upload/v1/upload_pb.ts';
import { connect } from '../rpc/client.ts';
import { raw, type Service, service } from '../rpc/handlers.ts';
import { type ClientOutput, fileSendService } from './attachables/file-send.ts';
import { fileSyncService } from './attachables/file-sync.ts';
import { secretsService } from './attachables/secrets.ts';
import { walk } from './fsutil/walk.ts';
import type { ReceiveFiles } from './ports.ts';
import { readSecret } from './secrets.ts';
import { connectClient, openStubDaemon } from './session.test-rig.ts';

const signal = new AbortController().signal;
const nothing = (): void => {};

test('a build reads what it wants of a directory: follows links, leaves out what is ignored, runs a thousand patterns', async () => {
  await using daemon = await openStubDaemon();
  const source = join(daemon.dir, 'source');
  for (const dir of ['', 'src', 'src/deep', 'real', 'node_modules', 'node_modules/x']) mkdirSync(join(source, dir));
  for (const file of ['src/a.c', 'src/b.o', 'src/deep/c.c', 'real/file', 'node_modules/x/y', 'node_modules/keep', 'other']) {
    writeFileSync(join(source, file), file);
  }
  symlinkSync('real', join(source, 'alias'));
  await using client = await connectClient(daemon, [fileSyncService(new Map([['context', source]]))]);
  const names = async (wanted: Partial<ReceiveFiles>): Promise<string[]> => {
    const destination = join(daemon.dir, 'target');
    mkdirSync(destination, { recursive: true });
    await client.session.receiveFiles({ ...everything(destination), ...wanted });
    return [...walk(destination)].map((stat) => stat.path);
  };
  assert.deepEqual(await names({ followPaths: ['alias/file'] }), ['alias', 'real', 'real/file']);
  assert.deepEqual(await names({ followPaths: ['src/*.c', '/other'] }), ['other', 'src', 'src/a.c']);
  assert.deepEqual(await names({ excludePatterns: ['node_modules', '!node_modules/keep', '**/*.o', 'real', 'alias'] }), [
    'node_modules',
    'node_modules/keep',
    'other',
    'src',
    'src/a.c',
    'src/deep',
    'src/deep/c.c',
  ]);
  const many = Array.from({ length: 1000 }, (_, at) => `no/such/path/number/${at}`);
  assert.deepEqual(await names({ includePatterns: [...many, 'othér', 'other'] }), ['other']);
  assert.deepEqual(await names({ followPaths: ['missing'] }), []);
  await assert.rejects(names({ dirName: 'secret' }), { kind: 'not-found', message: /no access allowed to dir "secret"/ });
});

test('a result arrives as a tree below its prefix, with one time if asked for', async () => {
  await using daemon = await openStubDaemon();
  const [source, target] = [join(daemon.dir, 'result'), join(daemon.dir, 'out')];
  mkdirSync(join(source, 'bin'), { recursive: true });
  writeFileSync(join(source, 'bin/app'), Buffer.alloc(700_000, 'a'), { mode: 0o755 });
  mkdirSync(target);
  writeFileSync(join(target, 'mine'), 'stays');
  await using client = await connectClient(daemon, outputs({ type: 'directory', path: target }));
  let bytes = 0;
  await client.session.sendFiles({
    dir: source,
    prefix: 'linux_amd64',
    modTimeNs: 1_600_000_000_000_000_001n,
    headers: [],
    signal,
    onProgress: (count) => (bytes += count),
  });
  assert.deepEqual(readFileSync(join(target, 'linux_amd64/bin/app')), readFileSync(join(source, 'bin/app')));
  assert.equal(readFileSync(join(target, 'mine'), 'utf8'), 'stays');
  assert.ok(bytes > 700_000);
});

test('a tarball goes through a pipe and behind a link, and replaces neither', async () => {
  await using daemon = await openStubDaemon();
  const pipe = join(daemon.dir, 'pipe');
  const link = join(daemon.dir, 'link');
  execFileSync('mkfifo', [pipe]);
  writeFileSync(join(daemon.dir, 'file'), 'old');
  symlinkSync('file', link);
  await using client = await connectClient(daemon, outputs({ type: 'file', path: pipe }, { type: 'file', path: link }));
  const send = (exporter: number): Promise<void> =>
    client.session.sendBytes({
      source: inPieces(Buffer.from('content'), 3),
      headers: [['buildkit-attachable-exporter-id', String(exporter)]],
      signal,
      onProgress: nothing,
    });
  const read = buffer(createReadStream(pipe));
  await send(0);
  assert.equal(String(await read), 'content');
  assert.ok(lstatSync(pipe).isFIFO());
  await send(1);
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.equal(readFileSync(join(daemon.dir, 'file'), 'utf8'), 'content');
});

test('a tarball arrives from memory, from a file, and on a stream; the wrong exporter is refused', async () => {
  await using daemon = await openStubDaemon();
  const stdout = new PassThrough();
  const file = join(daemon.dir, 'out/image.tar');
  await using client = await connectClient(daemon, outputs({ type: 'file', path: file }, { type: 'stream', writable: stdout }));
  const content = Buffer.alloc(5_000_001, 'tar');
  const send = (exporter: number, source: AsyncIterable<Uint8Array> | { readonly file: string }): Promise<void> =>
    client.session.sendBytes({
      source,
      headers: [['buildkit-attachable-exporter-id', String(exporter)]],
      signal,
      onProgress: nothing,
    });
  await send(0, inPieces(content, 100_000));
  assert.deepEqual(readFileSync(file), content);
  const collected = buffer(stdout);
  await send(1, { file });
  stdout.end();
  assert.deepEqual(await collected, content);
  await assert.rejects(send(2, inPieces(content, 1000)), { kind: 'not-found' });
  await assert.rejects(send(0, failing()), /the layer is gone/);
  await client.client.close();
  assert.deepEqual(readdirSync(join(daemon.dir, 'out')), ['image.tar']);
});

test('a client that has the output already counts as success', async () => {
  await using daemon = await openStubDaemon();
  const refuse = raw(() => Promise.reject(new BuildError('invalid-input', 'target already exists', { grpcCode: 6 })));
  const { FileSend } = await import('../proto/gen/moby/filesync/v1/filesync_pb.ts');
  await using client = await connectClient(daemon, [service(FileSend, { diffCopy: refuse })]);
  await client.session.sendBytes({ source: inPieces(Buffer.alloc(100), 10), headers: [], signal, onProgress: nothing });
});

test('secrets come from the first client that has them; a missing one is undefined, a huge one refused', async () => {
  await using daemon = await openStubDaemon();
  const file = join(daemon.dir, 'secret');
  writeFileSync(file, 'from a file');
  await using first = await connectClient(daemon, [secretsService(new Map([['a', { value: 'one' }]]))]);
  await using second = await connectClient(daemon, [
    secretsService(
      new Map([
        ['b', { file }],
        ['huge', { value: 'x'.repeat(600_000) }],
      ]),
    ),
  ]);
  await using third = await connectClient(daemon, []);
  const ids = [third.session.id, first.session.id, second.session.id];
  const read = async (id: string): Promise<string | undefined> => {
    const value = await readSecret(daemon.manager, ids, id, signal);
    return value === undefined ? undefined : Buffer.from(value).toString();
  };
  assert.deepEqual([await read('a'), await read('b'), await read('c')], ['one', 'from a file', undefined]);
  await assert.rejects(read('huge'), /invalid secret size/);
});

test('a stream carries messages both ways, with half-close, and leaving it cancels the call', async () => {
  await using daemon = await openStubDaemon();
  const cancelled = Promise.withResolvers<void>();
  const echo = raw(async (stream, { headers, signal: gone }) => {
    gone.addEventListener('abort', () => cancelled.resolve(), { once: true });
    for await (const message of stream) await stream.send(message);
    await stream.send(Buffer.from(headers.get('buildkit.ssh.id') ?? ''));
    await new Promise<void>((resolve) => (headers.has('hold') ? gone.addEventListener('abort', () => resolve()) : resolve()));
  });
  await using client = await connectClient(daemon, [service(SSH, { forwardAgent: echo })]);
  const method = '/moby.sshforward.v1.SSH/ForwardAgent';
  const stream = client.session.stream(method, { headers: [['buildkit.ssh.id', 'default']], signal });
  for (let count = 0; count < 50; count += 1) await stream.send(Buffer.from(`message ${count}`));
  stream.end();
  const answers: string[] = [];
  for await (const message of stream) answers.push(Buffer.from(message).toString());
  assert.deepEqual(answers, [...Array.from({ length: 50 }, (_, count) => `message ${count}`), 'default']);

  const held = client.session.stream(method, { headers: [['hold', '1']], signal });
  await held.send(Buffer.from('x'));
  for await (const _ of held) break;
  await cancelled.promise;
});

test('an upload is read to its end', async () => {
  await using daemon = await openStubDaemon();
  const pull = raw(async (stream, { headers }) => {
    for (const text of [headers.get('urlhost'), headers.get('urlpath')]) await stream.sendData(Buffer.from(text ?? ''));
  });
  await using client = await connectClient(daemon, [service(Upload, { pull })]);
  const body = await all(client.session.pullUpload('abc', signal));
  assert.deepEqual(body.map(String), ['buildkit-session', '/abc']);
});

test('what the client answers reaches the build with its kind; an unknown method is unsupported', async () => {
  await using daemon = await openStubDaemon();
  await using client = await connectClient(daemon, [secretsService(new Map())], { sharedKey: 'shared' });
  const { session } = client;
  assert.equal(session.sharedKey, 'shared');
  assert.equal(session.supports('/MOBY.buildkit.secrets.v1.Secrets/getsecret'), true);
  assert.equal(session.supports('/moby.filesync.v1.FileSync/DiffCopy'), false);
  await assert.rejects(session.unary('/no.such.Service/Method', new Uint8Array(0), { signal }), { kind: 'unsupported' });
  await assert.rejects(session.unary('/moby.buildkit.secrets.v1.Secrets/GetSecret', Buffer.from([0xff]), { signal }), {
    name: 'BuildError',
  });
});

test('a session is found by id, with or without prefix, as soon as it connects; one that never comes is not found', async () => {
  await using daemon = await openStubDaemon(undefined, { lookUpMs: 200 });
  const early = daemon.manager.get('prefix:later', signal);
  await using client = await connectClient(daemon, [], { id: 'later' });
  assert.equal(await early, client.session);
  await assert.rejects(daemon.manager.get('never', signal), { kind: 'not-found', message: /no active session for never/ });
  await assert.rejects(
    daemon.manager.any(['never'], signal, async () => 1),
    { kind: 'not-found' },
  );
  const gone = new AbortController();
  const waiting = daemon.manager.get('never', gone.signal);
  gone.abort(new BuildError('cancelled', 'enough'));
  await assert.rejects(waiting, /enough/);
});

test('with several sessions named, one that has gone holds nobody up, and the first to come answers', async () => {
  await using daemon = await openStubDaemon();
  const waiting = daemon.manager.any(['gone', 'late'], signal, async (session) => session.id);
  await using client = await connectClient(daemon, [], { id: 'late' });
  assert.equal(await waiting, 'late');
  const refuse = async (): Promise<never> => {
    throw new BuildError('unsupported', 'not by me');
  };
  const startedMs = performance.now();
  await assert.rejects(daemon.manager.any(['gone', client.session.id], signal, refuse), /not by me/);
  assert.ok(performance.now() - startedMs < 4_500);
});

test('a client that speaks no HTTP/2 inside its session fails the call and loses the session', async () => {
  await using daemon = await openStubDaemon();
  await using rpc = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });
  using tunnel = rpc.stream('/moby.buildkit.v1.Control/Session', { headers: [['x-docker-expose-session-uuid', 'noise']] });
  const session = await daemon.manager.get('noise', signal);
  await tunnel.sendData(Buffer.alloc(200_000, 'this is no HTTP/2 '));
  await assert.rejects(session.unary('/a.B/C', new Uint8Array(0), { signal }), { kind: 'unavailable' });
  await all(tunnel);
  assert.equal(session.closed.aborted, true);
  assert.equal(daemon.manager.active, 0);
});

test('a second session of the same id is refused while the first lives', async () => {
  await using daemon = await openStubDaemon();
  await using client = await connectClient(daemon, [], { id: 'same' });
  await using rpc = await connect({ type: 'unix', path: daemon.address.slice('unix://'.length) });
  const second = rpc.stream('/moby.buildkit.v1.Control/Session', { headers: [['x-docker-expose-session-uuid', 'same']] });
  await assert.rejects(all(second), /session same already exists/);
  assert.equal(client.session.closed.aborted, false);
  const nameless = rpc.stream('/moby.buildkit.v1.Control/Session');
  await assert.rejects(all(nameless), /needs an id/);
});

test('when the client closes its session, the call ends with OK at once and what is running fails as cancelled', async () => {
  await using daemon = await openStubDaemon();
  const asked = Promise.withResolvers<void>();
  const stuck = service(Upload, {
    pull: raw(async (_stream, { signal: gone }) => {
      asked.resolve();
      await new Promise<void>((resolve) => gone.addEventListener('abort', () => resolve()));
    }),
  });
  const client = await connectClient(daemon, [stuck]);
  const pulling = all(client.session.pullUpload('x', signal));
  pulling.catch(nothing);
  await asked.promise;
  const startedMs = performance.now();
  await client[Symbol.asyncDispose]();
  await client.client.ended;
  assert.ok(performance.now() - startedMs < 4_500);
  await assert.rejects(pulling, { name: 'BuildError' });
  assert.equal(client.session.closed.aborted, true);
  await assert.rejects(client.session.unary('/a.B/C', new Uint8Array(0), { signal }), { kind: 'cancelled' });
  assert.equal(daemon.manager.active, 0);
});

test('a client that vanishes in the middle of a transfer fails it as cancelled and leaves nothing half written', async () => {
  await using daemon = await openStubDaemon();
  const [source, target] = [join(daemon.dir, 'source'), join(daemon.dir, 'target')];
  mkdirSync(source);
  mkdirSync(target);
  writeFileSync(join(source, 'big'), Buffer.alloc(64 * 1024 * 1024));
  const client = await connectClient(daemon, [fileSyncService(new Map([['context', source]]))]);
  let vanished = false;
  const onProgress = (): void => {
    if (!vanished) client.rpc.destroy();
    vanished = true;
  };
  await assert.rejects(client.session.receiveFiles({ ...everything(target), onProgress }), { kind: 'cancelled' });
  assert.deepEqual(readdirSync(target), []);
  await client[Symbol.asyncDispose]();
});

test('aborting a transfer stops it and keeps the session', async () => {
  await using daemon = await openStubDaemon();
  const [source, target] = [join(daemon.dir, 'source'), join(daemon.dir, 'target')];
  mkdirSync(source);
  mkdirSync(target);
  writeFileSync(join(source, 'big'), Buffer.alloc(64 * 1024 * 1024));
  await using client = await connectClient(daemon, [fileSyncService(new Map([['context', source]]))]);
  const gone = new AbortController();
  const onProgress = (): void => gone.abort(new BuildError('cancelled', 'context canceled'));
  await assert.rejects(
    client.session.receiveFiles({ ...everything(target), signal: gone.signal, onProgress }),
    /context canceled/,
  );
  assert.deepEqual(readdirSync(target), []);
  assert.equal((await client.session.receiveFiles(everything(target))).files, 1);
});

test('a client whose health checks fail twice in a row is let go; one that does not know them is not', async () => {
  await using daemon = await openStubDaemon(undefined, { healthIntervalMs: 20 });
  let checks = 0;
  const enough = Promise.withResolvers<void>();
  const answers = (failing: boolean): Service =>
    service(Health, {
      check: () => {
        checks += 1;
        if (failing) throw new BuildError('internal', 'sick');
        if (checks >= 4) enough.resolve();
        throw new BuildError('unsupported', 'unknown service');
      },
    });
  await using well = await connectClient(daemon, [answers(false)]);
  await enough.promise;
  assert.equal(well.session.closed.aborted, false);
  await using sick = await connectClient(daemon, [answers(true)]);
  await new Promise<void>((resolve) => sick.session.closed.addEventListener('abort', () => resolve()));
  assert.match(String(sick.session.closed.reason), /health checks failed/);
});

test('a hundred clients that are never called cost no thread, and a hundred that are share a few', async () => {
  await using daemon = await openStubDaemon(undefined, { threads: 2 });
  const clients = await Promise.all(
    Array.from({ length: 100 }, (_, at) => connectClient(daemon, [secretsService(new Map([['s', { value: `${at}` }]]))])),
  );
  assert.deepEqual([daemon.manager.active, daemon.manager.threads], [100, 0]);
  const values = await Promise.all(clients.map(({ session }) => readSecret(daemon.manager, [session.id], 's', signal)));
  assert.deepEqual(
    values.map((value) => Buffer.from(value ?? []).toString()),
    clients.map((_, at) => `${at}`),
  );
  assert.equal(daemon.manager.threads, 2);
  await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()));
  assert.equal(daemon.manager.active, 0);
});

function everything(destination: string): ReceiveFiles {
  return {
    dirName: 'context',
    includePatterns: [],
    excludePatterns: [],
    followPaths: [],
    destination,
    differ: 'metadata',
    signal,
    onProgress: nothing,
  };
}

const outputs = (...list: ClientOutput[]): Service[] => [fileSendService(new Map(list.entries()))];

async function all(messages: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const list: Buffer[] = [];
  for await (const message of messages) list.push(Buffer.from(message));
  return list;
}

async function* inPieces(content: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

async function* failing(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('some');
  throw new BuildError('corrupt', 'the layer is gone');
}
