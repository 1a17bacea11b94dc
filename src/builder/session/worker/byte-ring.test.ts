import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../../test/fixtures/property.ts';
import { createRing, RING_BYTES, RingReader, RingWriter } from './byte-ring.ts';

test('bytes come out as they went in, however writes and reads interleave', () => {
  const step = fc.oneof(fc.record({ write: fc.nat(RING_BYTES * 2) }), fc.record({ read: fc.nat(RING_BYTES) }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const ring = createRing();
      const [writer, reader] = [new RingWriter(ring), new RingReader(ring)];
      let [written, read] = [0, 0];
      for (const one of steps) {
        if ('write' in one) written += writer.write(numbered(written, one.write));
        else {
          const count = Math.min(one.read, written - read);
          for (const piece of reader.read(count)) {
            assert.deepEqual(piece.equals(numbered(read, piece.length)), true);
            read += piece.length;
          }
          reader.take(count);
        }
        assert.ok(written - read <= RING_BYTES);
      }
    }),
    { numRuns: 30 },
  );
});

test('a writer without room is told once half of the ring is free, and not otherwise', () => {
  const ring = createRing();
  const [writer, reader] = [new RingWriter(ring), new RingReader(ring)];
  const takes = (count: number): boolean => {
    for (const _ of reader.read(count));
    return reader.take(count);
  };
  for (let round = 0; round < 3; round += 1) {
    assert.equal(writer.write(new Uint8Array(RING_BYTES + 1)), RING_BYTES);
    assert.equal(writer.write(new Uint8Array(1)), 0);
    assert.equal(writer.starve(), true);
    assert.deepEqual([takes(10), takes(RING_BYTES / 2 - 11), takes(1), takes(1)], [false, false, true, false]);
    assert.equal(writer.starve(), false);
    assert.equal(takes(RING_BYTES / 2 - 1), false);
  }
});

/** Bytes that tell their position in the stream. */
function numbered(from: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at += 1) bytes[at] = ((from + at) * 31) % 251;
  return bytes;
}
