import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { TAR_END, type TarEntry, tarHeader } from './tar-header.ts';

/** What GNU tar makes of a header. */
function listed(entry: TarEntry): string {
  const { stdout, stderr } = spawnSync(
    'tar',
    ['tvf', '-', '--numeric-owner', '--full-time', '--utc', '--quoting-style=literal'],
    {
      input: Buffer.concat([tarHeader(entry), TAR_END]),
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    },
  );
  assert.equal(stderr.toString(), '');
  return stdout.toString().replace(/\s+/g, ' ').trim();
}
const long = `${'d'.repeat(90)}/${'e'.repeat(90)}`;

for (const [what, entry, line] of [
  ['a file', { name: 'a', type: 'file', mode: 0o4755, uid: 1, gid: 2, mtimeS: 3 }, '-rwsr-xr-x 1/2 0 1970-01-01 00:00:03 a'],
  ['a directory', { name: 'd/', type: 'directory', mode: 0o1777 }, 'drwxrwxrwt 0/0 0 1970-01-01 00:00:00 d/'],
  ['a symlink', { name: 's', type: 'symlink', mode: 0o777, linkname: '../x' }, 'lrwxrwxrwx 0/0 0 1970-01-01 00:00:00 s -> ../x'],
  [
    'a hard link',
    { name: 'h', type: 'hardlink', mode: 0o644, linkname: 'a' },
    'hrw-r--r-- 0/0 0 1970-01-01 00:00:00 h link to a',
  ],
  ['a device', { name: 'n', type: 'char', mode: 0o666, devMajor: 1, devMinor: 3 }, 'crw-rw-rw- 0/0 1,3 1970-01-01 00:00:00 n'],
  ['a name that fits prefix and name', { name: long, type: 'file', mode: 0o644 }, `-rw-r--r-- 0/0 0 1970-01-01 00:00:00 ${long}`],
  [
    'a name that fits neither',
    { name: 'x'.repeat(300), type: 'file', mode: 0o644 },
    `-rw-r--r-- 0/0 0 1970-01-01 00:00:00 ${'x'.repeat(300)}`,
  ],
  [
    'a name that is not ASCII',
    { name: Buffer.from('é').toString('latin1'), type: 'file', mode: 0o644 },
    '-rw-r--r-- 0/0 0 1970-01-01 00:00:00 é',
  ],
  [
    'a long link',
    { name: 's', type: 'symlink', mode: 0o777, linkname: 'y'.repeat(200) },
    `lrwxrwxrwx 0/0 0 1970-01-01 00:00:00 s -> ${'y'.repeat(200)}`,
  ],
  [
    'a big owner',
    { name: 'b', type: 'file', mode: 0o600, uid: 3_000_000_000, gid: 4_000_000 },
    '-rw------- 3000000000/4000000 0 1970-01-01 00:00:00 b',
  ],
  ['a time before 1970', { name: 'o', type: 'file', mode: 0o600, mtimeS: -1 }, '-rw------- 0/0 0 1969-12-31 23:59:59 o'],
] as const satisfies readonly (readonly [string, TarEntry, string])[])
  test(`GNU tar reads ${what}`, () => assert.equal(listed(entry), line));

test('a size beyond 8 GiB is told in a pax record', () => {
  const header = Buffer.from(tarHeader({ name: 'big', type: 'file', mode: 0o600, sizeBytes: 2 ** 33 })).toString('latin1');
  assert.ok(header.includes('19 size=8589934592\n'));
});

test('attributes are kept, their bytes as they are', () => {
  const value = Buffer.from([0, 10, 255]);
  const header = Buffer.from(tarHeader({ name: 'x', type: 'file', mode: 0o600, xattrs: [['user.a', value]] }));
  assert.ok(
    header.includes(Buffer.concat([Buffer.from('26 SCHILY.xattr.user.a='), value, Buffer.from('\n')])) || header.includes(value),
  );
});
