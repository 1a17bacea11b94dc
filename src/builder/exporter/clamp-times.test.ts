import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError } from '../../core/errors.ts';
import { clampTimes } from './clamp-times.ts';
import { TAR_END, tarHeader } from './tar-header.ts';

async function clamp(tar: Buffer, epoch: number, chunkBytes = tar.byteLength): Promise<Buffer> {
  async function* chunks() {
    for (let at = 0; at < tar.byteLength; at += chunkBytes) yield tar.subarray(at, at + chunkBytes);
  }
  const parts: Buffer[] = [];
  for await (const part of clampTimes(chunks(), epoch)) parts.push(part);
  return Buffer.concat(parts);
}
const file = (name: string, mtimeS: number, text: string): Buffer =>
  Buffer.concat([
    tarHeader({ name, type: 'file', mode: 0o644, mtimeS, sizeBytes: text.length }),
    Buffer.from(text.padEnd(Math.ceil(text.length / 512) * 512, '\0')),
  ]);
function times(tar: Buffer): Record<string, string> {
  const args = ['tvf', '-', '--full-time', '--utc', '--numeric-owner'];
  const { stdout, stderr } = spawnSync('tar', args, { input: tar });
  assert.equal(stderr.toString(), '');
  const lines = stdout.toString().trim().split('\n');
  return Object.fromEntries(lines.map((line) => line.split(/\s+/)).map((part) => [part[5] ?? '', `${part[3]} ${part[4]}`]));
}

test('later times become the epoch, earlier ones stay, contents are untouched', async () => {
  const tar = Buffer.concat([file('old', 500, 'a'), file('new', 5_000_000, 'bb'), TAR_END]);
  const clamped = await clamp(tar, 1000);
  assert.deepEqual(times(clamped), { old: '1970-01-01 00:08:20', new: '1970-01-01 00:16:40' });
  assert.equal(clamped.byteLength, tar.byteLength);
  assert.ok(clamped.includes('bb'));
});

test('times in PAX headers, as GNU tar writes them, are clamped too', async () => {
  const script = 'cd "$(mktemp -d)" && touch -d @2000000000.5 a && tar --format=pax -cf - a && rm -r "$PWD"';
  const { stdout } = spawnSync('sh', ['-c', script]);
  assert.ok(stdout.includes('mtime=2000000000.5'));
  const clamped = await clamp(stdout, 1000);
  assert.ok(!clamped.includes('mtime=2000000000'));
  assert.deepEqual(times(clamped), { a: '1970-01-01 00:16:40' });
});

test('clamping twice, or in other chunks, gives the same bytes', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(fc.stringMatching(/^[a-z]{1,150}$/), fc.nat(2 ** 31), fc.string({ unit: 'grapheme-ascii', maxLength: 2000 })),
        { maxLength: 5 },
      ),
      fc.nat(2 ** 31),
      fc.integer({ min: 1, max: 3000 }),
      async (files, epoch, chunk) => {
        const tar = Buffer.concat([...files.map(([name, mtimeS, text]) => file(name, mtimeS, text)), TAR_END]);
        const once = await clamp(tar, epoch);
        assert.deepEqual(await clamp(once, epoch, chunk), once);
        assert.deepEqual(await clamp(tar, epoch, chunk), once);
      },
    ),
    { numRuns: 50 },
  ));

for (const [what, bytes] of [
  ['a cut header', Buffer.alloc(100, 'x')],
  ['a cut file', file('a', 1, 'x'.repeat(600)).subarray(0, 1024)],
  ['no size', Buffer.from(tarHeader({ name: 'a', type: 'file', mode: 0 })).fill('z', 124, 135)],
] as const)
  test(`a stream with ${what} is corrupt`, async () => {
    await assert.rejects(clamp(bytes, 1), (error: unknown) => error instanceof BuildError && error.kind === 'corrupt');
  });
