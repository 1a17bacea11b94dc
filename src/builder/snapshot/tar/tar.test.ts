import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fc } from '../../../../test/fixtures/property.ts';
import { BuildError, type ErrorKind } from '../../../core/errors.ts';
import { bytesOf } from '../tree/names.ts';
import { BLOCK, headerChecksum, padding, type TarEntry, TYPE } from './header.ts';
import { TarReader } from './read.ts';
import { END, tarHeader } from './write.ts';

const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const entry = (fields: Partial<TarEntry>): TarEntry => ({
  name: 'a',
  type: TYPE.file,
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeNs: 1_000_000_000n,
  linkname: '',
  devMajor: 0,
  devMinor: 0,
  xattrs: new Map(),
  ...fields,
});

// Made by Go's archive/tar (Format: PAX), which writes the layers of the real daemon: length and sha256 of all header blocks.
const GOLDEN: readonly (readonly [name: string, fields: Partial<TarEntry>, length: number, sha256: string])[] = [
  [
    'a small file',
    { size: 3, mtimeNs: 1_700_000_000_000_000_000n },
    512,
    'c81892bb68b716e3f5ab0234fcf2eb8b8e1c97d2da0f2392bdbc9d45d8fd9ebe',
  ],
  [
    'a sticky directory of somebody',
    { name: 'dir/', type: TYPE.directory, mode: 0o1777, uid: 1000, gid: 1000, mtimeNs: 0n },
    512,
    '79007a86613fc86d6aba818f439bff144944b579cbc4bfaac94030a36a7d4ffa',
  ],
  [
    'a file name too long to split',
    { name: `sub/${'n'.repeat(120)}` },
    1536,
    '7970356a01642cbde734979684d6e3157eee5751e936f1a069e247dc1ca307b9',
  ],
  [
    'a directory name that splits',
    { name: `src/${'d'.repeat(60)}/${'e'.repeat(80)}/`, type: TYPE.directory, mode: 0o755 },
    512,
    '995a5caac1ea8abc71c3ed9c154dd6a2a9d1a4dccf93e7bf21210055ba8cd198',
  ],
  [
    'a path too long to split',
    { name: `${'x'.repeat(150)}/${'y'.repeat(150)}/z`, mode: 0o600 },
    1536,
    '7fd196ef709eeec01a14405326299efe78ed7a7592cf8ff6d06f81cd6cf8ef18',
  ],
  [
    'a name that is not ASCII',
    { name: bytesOf('Főtan.txt') },
    1536,
    'c844d3ec21d3beff66ffb32a1c8cdbe91d2e5fabb6866e60e0413631b068d62d',
  ],
  [
    'a long symlink',
    { name: 'link', linkname: 't'.repeat(130), type: TYPE.symlink, mode: 0o777 },
    1536,
    '3e66b383b52cca836c02b5b63b420a8242b5dff62207560d55ffa5c10e83e563',
  ],
  [
    'a setuid hard link',
    { name: 'hard', linkname: 'a', type: TYPE.link, mode: 0o4755 },
    512,
    'fb87f4f14d251c6ea30e6ec1a76afa0cffd24a54edfe3a54fb6304593dcc3e71',
  ],
  [
    'a time before 1970',
    { name: 'old', mtimeNs: -315_619_200_000_000_000n },
    1536,
    '2c97b6ddd4e875f8b44e07c8491098fcc77db357443a880f69806631a49e2e98',
  ],
  [
    'owners above 2 097 151',
    { name: 'uid', uid: 3_000_000, gid: 4_000_000_000 },
    1536,
    '907d0545e785e89f5114a4fbb6b05fd7726a4cdbec1e95e38b683c45fb5658aa',
  ],
  [
    'more than 8 GiB',
    { name: 'big', size: 9_000_000_000 },
    1536,
    '948db2f1fad747867e96fbf915aec2aad9086bd94925561a602b562b7bc13fd9',
  ],
  [
    'a device',
    { name: 'null', type: TYPE.char, mode: 0o666, devMajor: 1, devMinor: 3 },
    512,
    '29b300f8d8d7e0ff4e5a40f63e69fa8294e193adedc743652dbab150d0b12bf0',
  ],
  [
    'a capability',
    { name: 'cap', mode: 0o755, xattrs: new Map([['security.capability', CAPABILITY]]) },
    1536,
    'e1a495d573520d026b4baea93379dd1d5a128d227f0e554bf222c1c4af86fd5e',
  ],
  [
    'a name that would split, beside a capability',
    { name: 'q/'.repeat(60) + 'w'.repeat(60), mode: 0o755, xattrs: new Map([['security.capability', Buffer.from([1])]]) },
    1536,
    '33e0b38bf59d934e07bdb18a8ddeba79070ed408d32a79c408443354f7412dc4',
  ],
];
for (const [name, fields, length, sha256] of GOLDEN) {
  test(`the header of ${name} has the bytes that Go writes`, () => {
    const header = tarHeader(entry(fields));
    assert.deepEqual([header.length, hash('sha256', header, 'hex')], [length, sha256]);
  });
}

interface Read extends TarEntry {
  readonly content: string;
}
function read(archive: Buffer, chunkBytes = archive.length): Read[] {
  const found: Read[] = [];
  let chunks: Buffer[] = [];
  let current: TarEntry | undefined;
  const reader = new TarReader(
    {
      entry(each) {
        current = each;
        chunks = [];
      },
      data: (chunk) => chunks.push(Buffer.from(chunk)),
      end: () => {
        if (current !== undefined) found.push({ ...current, content: Buffer.concat(chunks).toString('latin1') });
      },
    },
    1000,
  );
  for (let at = 0; at < archive.length; at += chunkBytes) reader.push(archive.subarray(at, at + chunkBytes));
  reader.finish();
  return found;
}

const archiveOf = (entries: readonly (readonly [TarEntry, string])[]): Buffer =>
  Buffer.concat([
    ...entries.flatMap(([each, content]) => [tarHeader(each), Buffer.from(content, 'latin1'), Buffer.alloc(padding(each.size))]),
    END,
  ]);

test('what is written is read back, however the archive is cut into chunks', () => {
  const name = fc
    .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 300 })
    .map((bytes) => Buffer.from(bytes).toString('latin1'));
  const file = fc
    .record({
      name,
      mode: fc.integer({ min: 0, max: 0o7777 }),
      uid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      gid: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      seconds: fc.bigInt({ min: -(2n ** 36n), max: 2n ** 36n }),
      xattr: fc.uint8Array({ maxLength: 50 }),
      content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    })
    .map(({ seconds, xattr, content, ...rest }): [TarEntry, string] => [
      entry({
        ...rest,
        size: content.length,
        mtimeNs: seconds * 1_000_000_000n,
        xattrs: new Map([['user.x', Buffer.from(xattr)]]),
      }),
      content,
    ]);
  const link = fc
    .record({ name, linkname: name })
    .map((fields): [TarEntry, string] => [entry({ ...fields, type: TYPE.symlink }), '']);
  fc.assert(
    fc.property(fc.array(fc.oneof(file, link), { maxLength: 5 }), fc.integer({ min: 1, max: 3000 }), (entries, chunkBytes) => {
      const expected = entries.map(([each, content]) => ({ ...each, content }));
      assert.deepEqual(read(archiveOf(entries), chunkBytes), expected);
    }),
    { numRuns: 200 },
  );
});

for (const format of ['gnu', 'posix', 'ustar', 'v7', 'oldgnu'] as const) {
  test(`archives of GNU tar in ${format} format are read`, (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'cooper-tar-'));
    t.after(() => rmSync(dir, { recursive: true }));
    const long = format === 'v7' ? 'short' : `${'d'.repeat(90)}/${'f'.repeat(90)}`;
    mkdirSync(join(dir, 'in', long, '..'), { recursive: true });
    writeFileSync(join(dir, 'in', long), 'content');
    writeFileSync(join(dir, 'in/aa'), '');
    linkSync(join(dir, 'in/aa'), join(dir, 'in/zz-hard'));
    symlinkSync('nowhere', join(dir, 'in/symlink'));
    execFileSync('tar', [
      '-C',
      join(dir, 'in'),
      `--format=${format}`,
      '--sort=name',
      '--mtime=@1234567890',
      '--owner=5',
      '--group=6',
      '-cf',
      join(dir, 'out.tar'),
      '.',
    ]);
    const entries = read(readFileSync(join(dir, 'out.tar')), 700);
    const byName = new Map(entries.map((each) => [each.name, each]));
    const file = byName.get(`./${long}`);
    assert.deepEqual([file?.content, file?.uid, file?.gid, file?.mtimeNs], ['content', 5, 6, 1_234_567_890_000_000_000n]);
    assert.equal(byName.get('./')?.type, TYPE.directory);
    assert.deepEqual([byName.get('./symlink')?.type, byName.get('./symlink')?.linkname], [TYPE.symlink, 'nowhere']);
    assert.deepEqual([byName.get('./zz-hard')?.type, byName.get('./zz-hard')?.linkname], [TYPE.link, './aa']);
  });
}

test('times of PAX records keep their nanoseconds', () => {
  const record = (text: string): Buffer => Buffer.from(`${text.length + 4} ${text}\n`);
  const data = record('mtime=1234567890.123456789');
  const extended = Buffer.alloc(BLOCK);
  extended.write('x', 156);
  extended.write(`${data.length.toString(8).padStart(11, '0')}`, 124);
  extended.write(`${headerChecksum(extended).toString(8).padStart(6, '0')}\0 `, 148);
  const [only] = read(Buffer.concat([extended, data, Buffer.alloc(padding(data.length)), tarHeader(entry({})), END]));
  assert.equal(only?.mtimeNs, 1_234_567_890_123_456_789n);
});

/** The header of a file, spoilt. */
function spoilt(change: (block: Buffer) => void, fields: Partial<TarEntry> = {}): Buffer {
  const block = Buffer.from(tarHeader(entry(fields)));
  change(block);
  block.write(`${headerChecksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([block, Buffer.alloc(1024), END]);
}
const REFUSED: readonly (readonly [name: string, archive: Buffer, kind: ErrorKind])[] = [
  ['a wrong checksum', Buffer.concat([Buffer.alloc(BLOCK, 'x'), END]), 'corrupt'],
  ['text instead of a number', spoilt((block) => block.write('zzz', 100)), 'corrupt'],
  ['a negative size', spoilt((block) => block.fill(0xff, 124, 136)), 'corrupt'],
  ['a size beyond all bounds', spoilt((block) => block.fill(0xff, 125, 136).fill(0x80, 124, 125)), 'corrupt'],
  ['a sparse file', spoilt((block) => block.write('S', 156)), 'invalid-input'],
  [
    'a huge extended header',
    spoilt((block) => block.write('x', 156).toString() && block.write('77777777777', 124)),
    'invalid-input',
  ],
  [
    'a malformed extended header',
    Buffer.concat([spoilt((block) => block.write('x', 156), { size: 512 }).subarray(0, 512), Buffer.alloc(512, '9'), END]),
    'corrupt',
  ],
  ['an end in the middle of a file', tarHeader(entry({ size: 100 })), 'corrupt'],
  ['an end in the middle of a header', tarHeader(entry({})).subarray(0, 100), 'corrupt'],
  [
    'more entries than allowed',
    Buffer.concat([...Array.from({ length: 1001 }, () => tarHeader(entry({}))), END]),
    'invalid-input',
  ],
];
for (const [name, archive, kind] of REFUSED) {
  test(`an archive with ${name} is refused as ${kind}`, () => {
    assert.throws(
      () => read(archive),
      (error) => error instanceof BuildError && error.kind === kind,
    );
  });
}

test('bytes at random never crash the reader', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 512, maxLength: 3000 }), (bytes) => {
      try {
        read(Buffer.from(bytes));
      } catch (error) {
        assert.ok(error instanceof BuildError);
      }
    }),
  );
});
