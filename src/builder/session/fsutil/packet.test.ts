import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { fc } from '../../../../test/fixtures/property.ts';
import { PacketSchema } from '../../proto/gen/fsutil/types/wire_pb.ts';
import {
  byteStringOf,
  decodePacket,
  decodePacketPieces,
  END_OF_STATS,
  encodeDataPacket,
  encodeErrorPacket,
  encodeRequestPacket,
  encodeStatPacket,
  FIN_PACKET,
  messageOf,
  PACKET,
  textOf,
} from './packet.ts';

const arbitraryStat = fc.record({
  path: fc.string({ unit: 'grapheme' }),
  mode: fc.nat(0xffff_ffff),
  uid: fc.nat(0xffff_ffff),
  gid: fc.nat(0xffff_ffff),
  size: fc.maxSafeNat(),
  modTime: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  linkname: fc.string({ unit: 'grapheme' }),
  devMajor: fc.nat(),
  devMinor: fc.nat(),
  xattrs: fc.array(fc.tuple(fc.string({ minLength: 1, unit: 'grapheme-ascii' }), fc.uint8Array()), { maxLength: 3 }),
});

test('a STAT packet is what the generated codec makes of it, both ways', () => {
  fc.assert(
    fc.property(arbitraryStat, (made) => {
      const xattrs = [...new Map(made.xattrs)];
      const stat = { ...made, path: byteStringOf(made.path), linkname: byteStringOf(made.linkname), xattrs };
      const theirs = create(PacketSchema, {
        stat: {
          ...made,
          size: BigInt(made.size),
          devmajor: BigInt(made.devMajor),
          devminor: BigInt(made.devMinor),
          xattrs: Object.fromEntries(xattrs),
        },
      });
      assert.deepEqual(fromBinary(PacketSchema, Uint8Array.from(encodeStatPacket(stat))), theirs);
      const decoded = decodePacket(toBinary(PacketSchema, theirs)).stat;
      assert.deepEqual(
        { ...decoded, xattrs: decoded?.xattrs.map(([name, value]) => [name, Uint8Array.from(value)]).sort() },
        { ...stat, xattrs: [...xattrs].sort() },
      );
      assert.equal(textOf(stat.path), made.path);
    }),
  );
});

test('the other packets are what the generated codec makes of them', () => {
  const theirs = (bytes: Uint8Array) => fromBinary(PacketSchema, bytes);
  assert.equal(theirs(encodeRequestPacket(300)).ID, 300);
  assert.equal(theirs(encodeRequestPacket(0xffff_ffff)).type, PACKET.REQ);
  assert.equal(theirs(FIN_PACKET).type, PACKET.FIN);
  assert.equal(END_OF_STATS.length, 0);
  const data = theirs(encodeDataPacket(7, Buffer.alloc(100_000, 'x')));
  assert.deepEqual([data.type, data.ID, data.data.byteLength], [PACKET.DATA, 7, 100_000]);
  assert.equal(messageOf(decodePacket(encodeErrorPacket('déjà'))), 'déjà');
  assert.equal(Buffer.from(theirs(encodeErrorPacket('déjà')).data).toString(), 'déjà');
});

test('a packet in pieces is the packet, wherever it is cut', () => {
  const content = Buffer.alloc(300, 'data');
  for (const packet of [encodeDataPacket(70_000, content), encodeDataPacket(0, content), encodeRequestPacket(5), FIN_PACKET]) {
    for (let cut = 0; cut <= packet.length; cut += 1) {
      const { type, id, data } = decodePacketPieces([packet.subarray(0, cut), packet.subarray(cut)]);
      const whole = decodePacket(packet);
      assert.deepEqual([type, id, Buffer.concat(data)], [whole.type, whole.id, Buffer.concat(whole.data)]);
    }
  }
});

test('whatever the bytes, decoding gives a packet or a typed refusal', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decodePacket(bytes);
      } catch (error) {
        assert.equal((error as { kind?: string }).kind, 'invalid-input');
      }
    }),
    { numRuns: 2000 },
  );
});
