import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError } from '../../core/errors.ts';
import { BytesMessageSchema } from '../proto/gen/moby/buildkit/v1/control_pb.ts';
import { bytesMessagePieces, decodeBytesMessage, encodeBytesMessage } from './bytes-message.ts';

test('the hand-written codec and the generated one read each other', () =>
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 70_000, 3_000_000).map((n) => new Uint8Array(n).fill(3)),
      ),
      (data) => {
        const message = encodeBytesMessage(data);
        assert.ok(Buffer.from(fromBinary(BytesMessageSchema, message).data).equals(data));
        const generated = toBinary(BytesMessageSchema, { $typeName: 'moby.buildkit.v1.BytesMessage', data });
        assert.ok(Buffer.from(generated).equals(message));
        assert.ok(Buffer.from(decodeBytesMessage(generated)).equals(data));
      },
    ),
    { numRuns: 50 },
  ));

test('a message in pieces gives its data, wherever it is cut and whatever else it holds', () => {
  const more = Buffer.concat([encodeBytesMessage(Buffer.alloc(200, 'a')), Buffer.of(0x10, 1)]);
  for (const message of [encodeBytesMessage(Buffer.alloc(300, 'b')), encodeBytesMessage(Buffer.alloc(0)), more]) {
    for (let cut = 0; cut <= message.byteLength; cut += 1) {
      const pieces = [message.subarray(0, cut), message.subarray(cut)];
      assert.ok(Buffer.concat(bytesMessagePieces(pieces)).equals(decodeBytesMessage(message)));
    }
  }
});

test('unknown fields of every wire type are skipped and the last data wins', () => {
  const message = Buffer.concat([
    Buffer.of(0x10, 0xac, 0x02), // 2: varint
    Buffer.of(0x19, 1, 2, 3, 4, 5, 6, 7, 8), // 3: 64 bit
    encodeBytesMessage(Buffer.from('first')),
    Buffer.of(0x22, 2, 9, 9), // 4: bytes
    Buffer.of(0x2d, 1, 2, 3, 4), // 5: 32 bit
    encodeBytesMessage(Buffer.from('last')),
  ]);
  assert.equal(Buffer.from(decodeBytesMessage(message)).toString(), 'last');
});

test('any bytes give data or invalid-input', () =>
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        assert.ok(decodeBytesMessage(bytes).byteLength <= bytes.byteLength);
      } catch (error) {
        assert.ok(error instanceof BuildError && error.kind === 'invalid-input');
      }
    }),
    { numRuns: 2_000 },
  ));
