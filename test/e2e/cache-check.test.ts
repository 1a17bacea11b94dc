/** `cooper cache check --repair` on stores that were damaged by hand: each damage is found, repaired, and a build works afterwards. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, test } from 'node:test';
import { contextOf, type TestContext } from '../fixtures/context.ts';
import { type Run, run, TestDaemon, unableTo } from '../fixtures/daemon.ts';

const skip = unableTo('runc');
const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cmd', 'main.ts');
const cooper = (args: readonly string[]): Promise<Run> => run(process.execPath, [MAIN, ...args]);
const DOCKERFILE = 'FROM scratch AS one\nCOPY a /a\nFROM one\nCOPY b /b\n';

let dir: string;
let context: TestContext;
/** A state folder with two layers, their blobs and their keys; nobody writes to it. */
let pristine: string;

before(async () => {
  if (skip !== false) return;
  dir = mkdtempSync(join(tmpdir(), 'cooper-check-'));
  pristine = join(dir, 'pristine');
  context = await contextOf({ Dockerfile: DOCKERFILE, a: 'a'.repeat(20_000), b: 'b'.repeat(20_000) });
  await using daemon = await TestDaemon.start({ root: pristine });
  await buildImage(daemon);
});
after(async () => {
  if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  await context?.[Symbol.asyncDispose]();
});

async function buildImage(daemon: TestDaemon): Promise<void> {
  const args = ['build', '--addr', daemon.address, '--progress', 'plain', '--tag', 'example.org/x:1', context.dir];
  const { status, stderr } = await cooper(args);
  assert.equal(status, 0, stderr);
}

interface Report {
  readonly findings: readonly { readonly kind: string; readonly subject: string; readonly repaired: boolean }[];
}
async function check(args: readonly string[]): Promise<{ readonly status: number | null; readonly kinds: string[] }> {
  const { status, stdout, stderr } = await cooper(['cache', 'check', '--json', ...args]);
  assert.ok(status === 0 || status === 9, stderr);
  return { status, kinds: [...new Set((JSON.parse(stdout) as Report).findings.map(({ kind }) => kind))].sort() };
}

const blobs = (root: string): string => join(root, 'content/blobs/sha256');
function sql(root: string, statement: string): void {
  using db = new DatabaseSync(join(root, 'cooper.sqlite'));
  db.exec(statement);
}
function row(root: string, statement: string): Record<string, unknown> {
  using db = new DatabaseSync(join(root, 'cooper.sqlite'));
  return db.prepare(statement).get() as Record<string, unknown>;
}
/** File of the blob of some layer. */
const layerBlob = (root: string): string =>
  join(blobs(root), String(row(root, 'select digest from snapshot_blobs limit 1').digest).slice('sha256:'.length));
/** A snapshot that others stand on. */
const lowerSnapshot = (root: string): string =>
  String(row(root, "select parent from snapshots where parent is not null and record_type = 'regular' limit 1").parent);

const DAMAGES: readonly (readonly [string, readonly string[], (root: string) => void])[] = [
  [
    'a flipped byte in a layer',
    ['blob-corrupt'],
    (root) => {
      const bytes = readFileSync(layerBlob(root));
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      writeFileSync(layerBlob(root), bytes);
    },
  ],
  ['a truncated layer', ['blob-corrupt'], (root) => truncateSync(layerBlob(root), 30)],
  ['a layer without its blob', ['layer-blob-missing'], (root) => rmSync(layerBlob(root))],
  [
    'a wrong size in the row of a layer',
    ['layer-blob-size'],
    (root) => sql(root, 'update snapshot_blobs set size_bytes = size_bytes + 7'),
  ],
  ['a file that is no blob', ['blob-stray'], (root) => writeFileSync(join(blobs(root), 'notes.txt'), 'mine')],
  [
    'a file under the digest of something else',
    ['blob-corrupt'],
    (root) => writeFileSync(join(blobs(root), createHash('sha256').update('else').digest('hex')), 'not that'),
  ],
  [
    'a snapshot without its directory',
    ['snapshot-missing'],
    (root) => rmSync(join(root, 'snapshots', lowerSnapshot(root)), { recursive: true }),
  ],
  [
    'a directory without a record',
    ['snapshot-stray'],
    (root) => mkdirSync(join(root, 'snapshots/0000000000abc/fs'), { recursive: true }),
  ],
  [
    'a row without anything behind it',
    ['snapshot-missing'],
    (root) =>
      sql(
        root,
        "insert into snapshots (id, kind, description, record_type, created_at_ns, usage_count) values ('0000000000xyz', 'committed', 'x', 'regular', 1, 1)",
      ),
  ],
  [
    'blobs of a record that is not there',
    ['snapshot-missing'],
    (root) => sql(root, "update snapshot_blobs set snapshot = '0000000000gone'"),
  ],
  ['a key that leads nowhere', ['key-dangling'], (root) => sql(root, "update or ignore cache_results set id = '0000000000gone'")],
];

/** Damages that do not hide one another share a folder: a daemon start and four commands a case add up. */
const TOGETHER = [[0, 4, 8], [1, 5, 7], [2, 10], [3], [6, 9]];
assert.deepEqual(
  TOGETHER.flat().sort((a, b) => a - b),
  [...DAMAGES.keys()],
);

for (const numbers of TOGETHER) {
  const damages = numbers.map((at) => DAMAGES[at]).filter((one) => one !== undefined);
  const what = damages.map(([name]) => name).join('; ');
  test(`found in a stopped daemon's folder, repaired, and a build works: ${what}`, { skip }, async () => {
    const root = join(mkdtempSync(join(dir, 'case-')), 'root');
    cpSync(pristine, root, { recursive: true, verbatimSymlinks: true });
    for (const [, , damage] of damages) damage(root);
    const found = await check(['--root', root]);
    for (const kind of damages.flatMap(([, kinds]) => kinds))
      assert.ok(found.kinds.includes(kind), `found ${found.kinds}, not ${kind}`);
    assert.equal((await check(['--root', root, '--repair'])).status, 0, 'all of it can be repaired');
    await using daemon = await TestDaemon.start({ root });
    assert.deepEqual((await check(['--addr', daemon.address])).kinds, [], 'nothing is left');
    await buildImage(daemon);
    assert.deepEqual((await check(['--addr', daemon.address])).kinds, [], 'also after a build');
    rmSync(root, { recursive: true, force: true });
  });
}

test('a sound folder has no findings, and one that a daemon holds is refused', { skip }, async () => {
  assert.deepEqual(await check(['--root', pristine]), { status: 0, kinds: [] });
  await using daemon = await TestDaemon.start({ root: pristine });
  const { status, stderr } = await cooper(['cache', 'check', '--root', pristine]);
  assert.match(stderr, /held by the daemon with process id/);
  assert.notEqual(status, 0);
  await assert.rejects(TestDaemon.start({ root: pristine }), /held by the daemon with process id/);
  assert.equal(daemon.running, true);
});

test('a running daemon finds and repairs the same, and goes on building', { skip }, async () => {
  const root = join(mkdtempSync(join(dir, 'live-')), 'root');
  cpSync(pristine, root, { recursive: true, verbatimSymlinks: true });
  await using daemon = await TestDaemon.start({ root });
  const names = readdirSync(blobs(root));
  assert.ok(names.length >= 3);
  truncateSync(layerBlob(root), 10);
  rmSync(join(blobs(root), names.find((name) => !layerBlob(root).endsWith(name)) ?? ''));
  writeFileSync(join(blobs(root), 'notes.txt'), 'mine');
  mkdirSync(join(root, 'snapshots/0000000000abc/fs'), { recursive: true });
  rmSync(join(root, 'snapshots', lowerSnapshot(root)), { recursive: true });
  const wanted = ['blob-corrupt', 'blob-missing', 'blob-stray', 'snapshot-missing', 'snapshot-stray'];
  const found = await check(['--addr', daemon.address]);
  assert.equal(found.status, 9);
  for (const kind of wanted) assert.ok(found.kinds.includes(kind), `found ${found.kinds}, not ${kind}`);
  assert.deepEqual((await check(['--addr', daemon.address])).kinds, found.kinds, 'a check without --repair changes nothing');
  const repaired = await check(['--addr', daemon.address, '--repair']);
  assert.equal(repaired.status, 0, String(repaired.kinds));
  await buildImage(daemon);
  assert.deepEqual((await check(['--addr', daemon.address])).kinds, []);
  assert.ok(readdirSync(join(root, 'quarantine')).length >= 2, 'what was bad is kept for a look');
});
