import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileDigest } from './fsutil/entry-hash.ts';
import { byteStringOf, textOf } from './fsutil/packet.ts';
import { walk } from './fsutil/walk.ts';
import type { ReceivedFiles, ReceiveFiles, Session } from './ports.ts';
import { readSecret } from './secrets.ts';
import { buildctl, buildctlPath, openStubDaemon } from './session.test-rig.ts';

const real = { skip: buildctlPath === undefined && 'buildctl is missing' };
const signal = new AbortController().signal;

test('the real client sends 5 000 files with links and odd names; a second time it sends none', real, async () => {
  const received: ReceivedFiles[] = [];
  let requested = 0;
  await using daemon = await openStubDaemon(async (session) => {
    received.push(await receiveContext(session, target, (bytes) => (requested += bytes)));
  });
  const [source, target] = [join(daemon.dir, 'source'), join(daemon.dir, 'target')];
  mkdirSync(target);
  fillContext(source);
  const build = ['--addr', daemon.address, 'build', '--frontend', 'dockerfile.v0', '--local', `context=${source}`];

  const first = await buildctl(build);
  assert.equal(first.status, 0, first.output);
  assert.deepEqual(shapeOf(target), shapeOf(source));
  assert.equal(received[0]?.files, [...walk(byteStringOf(source))].length);
  assert.equal(lstatSync(join(target, 'first')).ino, lstatSync(join(target, 'second')).ino);
  const big = readFileSync(join(source, 'big'));
  assert.equal(received[0]?.digests.get('big'), fileDigest({ mode: 0o644, uid: 0, gid: 0, size: big.length, xattrs: [] }, big));
  assert.ok(requested > big.length);

  requested = 0;
  const second = await buildctl(build);
  assert.equal(second.status, 0, second.output);
  assert.deepEqual([received[1]?.changed, received[1]?.digests.size], [0, 0]);
  assert.ok(requested < big.length / 2, 'only the listing was sent');
});

test('the real client picks files by pattern, with odd characters and a thousand patterns', real, async () => {
  await using daemon = await openStubDaemon(async (session) => {
    const many = Array.from({ length: 1000 }, (_, at) => `no/such/path/number/${at}`);
    const wanted = { followPaths: ['link', 'schön 😀 + %20', 'dir-2/file.9*', ...many], excludePatterns: ['**/file.99'] };
    await session.receiveFiles({ ...context(target), ...wanted, onProgress: () => {} });
  });
  const [source, target] = [join(daemon.dir, 'source'), join(daemon.dir, 'target')];
  mkdirSync(target);
  fillContext(source);
  const run = await buildctl(['--addr', daemon.address, 'build', '--frontend', 'dockerfile.v0', '--local', `context=${source}`]);
  assert.equal(run.status, 0, run.output);
  const names = [...walk(byteStringOf(target))].map((stat) => textOf(stat.path));
  const nines = ['9', ...Array.from({ length: 9 }, (_, at) => `9${at}`)].map((number) => `dir-2/file.${number}`);
  assert.deepEqual(names, ['dir-1', 'dir-1/file.1', 'dir-2', ...nines, 'link', 'schön 😀 + %20']);
});

test('the real client takes a tree and a tarball, and hands over a secret', real, async () => {
  const secrets: (string | undefined)[] = [];
  await using daemon = await openStubDaemon(async (session) => {
    const id = (index: number) => ({
      headers: [['buildkit-attachable-exporter-id', String(index)]] as const,
      signal,
      onProgress: () => {},
    });
    await session.sendFiles({ dir: source, ...id(0) });
    await session.sendBytes({ source: { file: join(source, 'big') }, ...id(1) });
    for (const name of ['given', 'missing']) {
      const value = await readSecret(daemon.manager, [session.id], name, signal);
      secrets.push(value === undefined ? undefined : Buffer.from(value).toString());
    }
  });
  const [source, out, tar] = [join(daemon.dir, 'source'), join(daemon.dir, 'out'), join(daemon.dir, 'out.tar')];
  fillContext(source);
  const outputs = ['--output', `type=local,dest=${out}`, '--output', `type=tar,dest=${tar}`];
  const run = await buildctl([
    ...['--addr', daemon.address, 'build', '--frontend', 'dockerfile.v0', ...outputs],
    ...['--secret', `id=given,src=${join(source, 'first')}`],
  ]);
  assert.equal(run.status, 0, run.output);
  assert.deepEqual(shapeOf(out), shapeOf(source));
  assert.deepEqual(readFileSync(tar), readFileSync(join(source, 'big')));
  assert.deepEqual(secrets, ['two names', undefined]);
});

test('a real client that is killed in the middle of a transfer leaves nothing half written and no session', real, async () => {
  const killed = new AbortController();
  const failed = Promise.withResolvers<unknown>();
  await using daemon = await openStubDaemon(async (session) => {
    const transfer = receiveContext(session, target, () => killed.abort());
    await transfer.catch(failed.resolve);
  });
  const [source, target] = [join(daemon.dir, 'source'), join(daemon.dir, 'target')];
  mkdirSync(source);
  mkdirSync(target);
  writeFileSync(join(source, 'big'), Buffer.alloc(64 * 1024 * 1024));
  const build = ['--addr', daemon.address, 'build', '--frontend', 'dockerfile.v0', '--local', `context=${source}`];
  await buildctl(build, { signal: killed.signal });
  assert.equal(((await failed.promise) as { kind?: string }).kind, 'cancelled');
  assert.deepEqual(readdirSync(target), []);
  assert.equal(daemon.manager.active, 0);
});

function receiveContext(session: Session, destination: string, onProgress: (bytes: number) => void): Promise<ReceivedFiles> {
  return session.receiveFiles({ ...context(destination), onProgress });
}

const context = (destination: string): Omit<ReceiveFiles, 'onProgress'> => ({
  dirName: 'context',
  includePatterns: [],
  excludePatterns: [],
  followPaths: [],
  destination,
  differ: 'metadata',
  signal,
});

function fillContext(root: string): void {
  mkdirSync(root);
  for (let dir = 0; dir < 50; dir += 1) {
    mkdirSync(join(root, `dir-${dir}`));
    for (let file = 0; file < 100; file += 1) writeFileSync(join(root, `dir-${dir}/file.${file}`), `content of ${dir} ${file}\n`);
  }
  writeFileSync(join(root, 'big'), Buffer.alloc(3_000_001, 'cooper'), { mode: 0o644 });
  writeFileSync(join(root, 'first'), 'two names');
  linkSync(join(root, 'first'), join(root, 'second'));
  symlinkSync('dir-1/file.1', join(root, 'link'));
  symlinkSync('/etc/passwd', join(root, 'outside'));
  writeFileSync(join(root, 'schön 😀 + %20'), 'ünïcode');
  writeFileSync(join(root, 'dir-1.before'), 'sorts after the files of dir-1');
  writeFileSync(join(root, 'empty'), '');
  writeFileSync(join(root, 'executable'), '#!/bin/sh\n', { mode: 0o755 });
}

function shapeOf(root: string): unknown[] {
  return [...walk(byteStringOf(root))].map((stat) => {
    const path = join(root, Buffer.from(stat.path, 'latin1').toString());
    const content = lstatSync(path).isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
    return { ...stat, uid: 0, gid: 0, content };
  });
}
