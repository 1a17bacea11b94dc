import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { addHeaders, formatTimeout, Metadata, parseTimeout, percentDecode, percentEncode } from './metadata.ts';

test('any text survives percent-encoding, and what is sent is printable ASCII', () =>
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const encoded = percentEncode(text);
      assert.match(encoded, /^[\x20-\x7e]*$/);
      assert.equal(percentDecode(encoded), text);
    }),
  ));

test('decoding never throws and leaves a lone percent sign alone', () => {
  assert.equal(percentDecode('100% sure, %zz, %'), '100% sure, %zz, %');
  fc.assert(fc.property(fc.string(), (text) => typeof percentDecode(text) === 'string'));
});

for (const [text, ms] of [
  ['1H', 3_600_000],
  ['2M', 120_000],
  ['15S', 15_000],
  ['200m', 200],
  ['1500u', 1.5],
  ['99999999n', 99.999999],
  ['', undefined],
  ['5', undefined],
  ['-1S', undefined],
  ['123456789S', undefined],
  ['1x', undefined],
] as const)
  test(`grpc-timeout "${text}" is ${ms} ms`, () => assert.equal(parseTimeout(text), ms));

test('a timeout is sent in at most 8 digits and never shorter than asked', () =>
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 47 }), (ms) => {
      const text = formatTimeout(ms);
      assert.match(text, /^\d{1,8}[HMSm]$/);
      assert.ok((parseTimeout(text) ?? 0) >= Math.min(ms, 99_999_999 * 3_600_000));
    }),
  ));

test('repeated headers keep their values apart, commas included', () => {
  const metadata = Metadata.fromRaw(['X-Many', 'a, b', 'other', '1', 'x-many', 'c']);
  assert.deepEqual(metadata.getAll('x-many'), ['a, b', 'c']);
  assert.equal(metadata.get('X-MANY'), 'a, b');
  assert.deepEqual(
    [...metadata],
    [
      ['x-many', 'a, b'],
      ['x-many', 'c'],
      ['other', '1'],
    ],
  );
});

test('a header that could split the request is refused', () => {
  for (const [name, value] of [
    ['x', 'a\r\nb: c'],
    ['x', 'ü'],
    ['bad name', 'v'],
    ['', 'v'],
  ] as const)
    assert.throws(() => addHeaders({}, [[name, value]]), { kind: 'invalid-input' });
});
