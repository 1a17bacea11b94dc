import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError } from '../../core/errors.ts';
import { FrameDecoder, framePrefix } from './framing.ts';

const LIMIT = 200_000;

function decode(chunks: readonly Uint8Array[], limit = LIMIT): { frames: Buffer[]; idle: boolean } {
  const decoder = new FrameDecoder(limit);
  const frames: Buffer[] = [];
  for (const chunk of chunks) decoder.push(chunk, ({ bytes }) => frames.push(Buffer.from(bytes)));
  return { frames, idle: decoder.idle };
}

/** `bytes` cut at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...[...places].map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return sorted.slice(1).map((end, i) => bytes.subarray(sorted[i], end));
}

test('messages come out as they went in, however the stream is cut', () =>
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 40 }),
          fc.integer({ min: 0, max: LIMIT }).map((n) => new Uint8Array(n).fill(7)),
        ),
      ),
      fc.array(fc.nat()),
      (messages, places) => {
        const stream = Buffer.concat(messages.flatMap((message) => [framePrefix(message.byteLength), message]));
        const { frames, idle } = decode(cut(stream, places));
        assert.equal(idle, true);
        assert.equal(frames.length, messages.length);
        for (const [i, frame] of frames.entries()) assert.ok(frame.equals(messages[i] as Uint8Array));
      },
    ),
  ));

test('byte by byte is the worst cut and works too', () => {
  const stream = Buffer.concat([framePrefix(3), Buffer.from('abc'), framePrefix(0), framePrefix(1), Buffer.from('d')]);
  const { frames } = decode([...stream].map((byte) => Buffer.of(byte)));
  assert.deepEqual(frames.map(String), ['abc', '', 'd']);
});

test('any bytes at all give messages or one typed error, never anything else', () =>
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 })), (chunks) => {
      try {
        decode(chunks);
      } catch (error) {
        assert.ok(error instanceof BuildError && (error.kind === 'internal' || error.kind === 'exhausted'));
      }
    }),
  ));

test('an unfinished message shows', () => {
  assert.equal(decode([framePrefix(5), Buffer.from('abc')]).idle, false);
  assert.equal(decode([Buffer.of(0, 0)]).idle, false);
});

test('a message above the limit is refused by its prefix, before its bytes come', () => {
  assert.throws(() => decode([framePrefix(11)], 10), { kind: 'exhausted', message: /larger than max \(11 vs\. 10\)/ });
  assert.deepEqual(
    decode([framePrefix(10), Buffer.alloc(10)], 10).frames.map((frame) => frame.length),
    [10],
  );
});

test('a large announced length takes no memory until bytes arrive', () => {
  const before = process.memoryUsage().arrayBuffers;
  const decoders = Array.from({ length: 100 }, () => {
    const decoder = new FrameDecoder(16 * 1024 * 1024);
    decoder.push(Buffer.concat([framePrefix(16 * 1024 * 1024), Buffer.alloc(1)]), () => {});
    return decoder;
  });
  assert.ok(process.memoryUsage().arrayBuffers - before < 100 * 100 * 1024, `${decoders.length} unfinished frames hold too much`);
});

test('the compressed flag is handed on and any other flag is an error', () => {
  const seen: boolean[] = [];
  new FrameDecoder(LIMIT).push(Buffer.of(1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0, 0), ({ compressed }) => seen.push(compressed));
  assert.deepEqual(seen, [true, false]);
  assert.throws(() => decode([Buffer.of(2, 0, 0, 0, 0)]), { kind: 'internal' });
});
