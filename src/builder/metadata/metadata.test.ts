import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempDisposable, open, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { type MetadataProblem, openMetadata } from './metadata.ts';

const tempDir = () => mkdtempDisposable(join(tmpdir(), 'cooper-metadata-'));
const TABLE = ['create table if not exists things (name text primary key, size integer, bytes blob) without rowid'];
const INSERT = 'insert into things (name, size, bytes) values (?, ?, ?)';

test('a read sees every write made before it, and they are there after closing and opening again', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  {
    await using store = await openMetadata(path);
    await store.define(TABLE);
    for (let n = 0; n < 1_234; n += 1) store.write(INSERT, [`thing ${String(n).padStart(4, '0')}`, n, null]);
    const rows = await store.read('select count(*) as count, max(size) as largest from things', []);
    assert.deepEqual(rows, [{ count: 1_234, largest: 1_233 }]);
  }
  await using store = await openMetadata(path);
  const rows = await store.read('select size from things order by name', []);
  assert.deepEqual(
    rows.map((row) => row.size),
    Array.from({ length: 1_234 }, (_, n) => n),
  );
  assert.deepEqual(
    (await readdir(dir.path)).filter((name) => name.includes('corrupt')),
    [],
  );
});

test('integers keep their value and type: small ones as number, large ones as bigint, stored as INTEGER', async () => {
  await using dir = await tempDir();
  await using store = await openMetadata(join(dir.path, 'cooper.sqlite'));
  const large = 2n ** 62n + 1n;
  const [row] = await store.read('select ? as one, ? as large, ? as half, typeof(?) as type, ? as bytes, ? as none', [
    1,
    large,
    0.5,
    7,
    new Uint8Array([1, 2, 3]),
    null,
  ]);
  assert.deepEqual(row, { one: 1, large, half: 0.5, type: 'integer', bytes: new Uint8Array([1, 2, 3]), none: null });
});

test('a change that can never work is reported and its neighbours are committed', async () => {
  await using dir = await tempDir();
  const problems: MetadataProblem[] = [];
  await using store = await openMetadata(join(dir.path, 'cooper.sqlite'), { onProblem: (problem) => problems.push(problem) });
  await store.define(TABLE);
  store.write(INSERT, ['a', 1, null]);
  store.write(INSERT, ['a', 2, null]); // the same primary key again
  store.write('insert into nowhere values (1)', []);
  store.write(INSERT, ['b', 3, null]);
  await store.flush();
  assert.deepEqual(await store.read('select name, size from things order by name', []), [
    { name: 'a', size: 1 },
    { name: 'b', size: 3 },
  ]);
  assert.deepEqual(
    problems.map((problem) => (problem.type === 'write-failed' ? problem.sql : problem.type)),
    [INSERT, 'insert into nowhere values (1)'],
  );
  await assert.rejects(store.read('select * from nowhere', []), { name: 'BuildError', kind: 'internal' });
  assert.equal(store.queuedRows, 0);
});

for (const [damage, write] of [
  ['is not a database', (path: string) => writeFile(path, 'this was never a database, whatever its name says\n'.repeat(200))],
  ['has a page of rubbish', overwriteMiddle],
] as const) {
  test(`a file that ${damage} is refused, or moved aside when the caller allows it`, async () => {
    await using dir = await tempDir();
    const path = join(dir.path, 'cooper.sqlite');
    {
      await using store = await openMetadata(path);
      await store.define(TABLE);
      for (let n = 0; n < 3_000; n += 1) store.write(INSERT, [`thing ${n}`, n, new Uint8Array(100)]);
    }
    await write(path);
    await assert.rejects(openMetadata(path), { name: 'BuildError', kind: 'corrupt', message: /cooper\.sqlite/ });

    const problems: MetadataProblem[] = [];
    await using store = await openMetadata(path, { replaceCorrupt: true, onProblem: (problem) => problems.push(problem) });
    assert.equal(store.quarantined, `${path}.corrupt-1`);
    assert.deepEqual(
      problems.map(({ type }) => type),
      ['quarantined'],
    );
    await store.define(TABLE);
    assert.deepEqual(await store.read('select count(*) as count from things', []), [{ count: 0 }]);
    assert.ok((await readdir(dir.path)).includes('cooper.sqlite.corrupt-1'));
  });
}

async function overwriteMiddle(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.alloc(8192, 0xa5), 0, 8192, Math.floor(size / 8192) * 4096);
}

test('after kill -9 every row that was reported committed is there, and none is torn', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  for (let round = 0; round < 3; round += 1) {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'metadata.test-child.ts'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) {
      output += String(chunk);
      if (output.split('\n').length > 30 + round * 11) break; // leaving the loop closes the pipe
    }
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    const lastReported = Number(output.trimEnd().split('\n').at(-1));

    await using store = await openMetadata(path);
    const [row] = await store.read('select count(*) as count, max(n) as last, sum(text = ?1 || n) as whole from numbers', [
      'number ',
    ]);
    assert.ok(Number(row?.count) >= lastReported, `${lastReported} rows were reported, ${row?.count} are there`);
    assert.deepEqual(row, { count: row?.last, last: row?.last, whole: row?.count }); // in order, without a hole
    await store.define(['delete from numbers']);
  }
});

const isRoot = process.getuid?.() === 0;
test('on a full disk writes wait, reads go on, and everything is committed once there is room', {
  skip: !isRoot && 'needs root for a tmpfs',
}, async () => {
  await using dir = await tempDir();
  assert.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', dir.path]).status, 0);
  using _mount = { [Symbol.dispose]: () => spawnSync('umount', ['-l', dir.path]) };
  const ballast = join(dir.path, 'ballast');
  const problems: MetadataProblem[] = [];
  const stalled = Promise.withResolvers<void>();
  const resumed = Promise.withResolvers<void>();
  await using store = await openMetadata(join(dir.path, 'cooper.sqlite'), {
    onProblem(problem) {
      problems.push(problem);
      if (problem.type === 'stalled') stalled.resolve();
      if (problem.type === 'resumed') resumed.resolve();
    },
  });
  await store.define(TABLE);
  store.write(INSERT, ['before', 1, null]);
  await store.flush();
  await writeFile(ballast, Buffer.alloc(4 << 20)).catch((error: NodeJS.ErrnoException) => assert.equal(error.code, 'ENOSPC'));

  for (let n = 0; n < 500; n += 1) store.write(INSERT, [`thing ${n}`, n, new Uint8Array(500)]);
  await stalled.promise;
  await assert.rejects(store.flush(), { kind: 'exhausted' });
  assert.deepEqual(await store.read('select name from things where size = 1 and bytes is null', []), [{ name: 'before' }]);
  assert.ok(store.queuedRows > 0);

  await rm(ballast);
  await resumed.promise;
  await store.flush({ durable: true });
  assert.deepEqual(await store.read('select count(*) as count from things', []), [{ count: 501 }]);
  assert.deepEqual(
    problems.map(({ type }) => type),
    ['stalled', 'resumed'],
  );
});

test('another process may read the file meanwhile', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'cooper.sqlite');
  await using store = await openMetadata(path);
  await store.define(TABLE);
  store.write(INSERT, ['a', 1, null]);
  await store.flush();
  using other = new DatabaseSync(path, { readOnly: true });
  assert.deepEqual({ ...other.prepare('select name from things').get() }, { name: 'a' });
});

test('after close every call is refused with a typed error, and closing again is harmless', async () => {
  await using dir = await tempDir();
  const store = await openMetadata(join(dir.path, 'cooper.sqlite'));
  await store.close();
  await store.close();
  store.write(INSERT, ['a', 1, null]);
  await assert.rejects(store.flush(), { name: 'BuildError', kind: 'cancelled' });
});
