import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { redactor } from './redact.ts';

function clean(secrets: readonly string[], chunks: readonly Uint8Array[]): string {
  const out: Uint8Array[] = [];
  const redact = redactor(
    secrets.map((text) => Buffer.from(text)),
    (data) => out.push(Buffer.from(data)),
  );
  for (const chunk of chunks) redact.push(chunk);
  redact.flush();
  return Buffer.concat(out).toString();
}

for (const [what, secrets, text, expected] of [
  ['a value', ['hunter2'], 'pw=hunter2!', 'pw=[secret]!'],
  ['a value without its last newline', ['hunter2\n'], 'hunter2hunter2', '[secret][secret]'],
  ['long lines of a value', ['-----BEGIN-----\nabcdefghij\n--\n'], 'x abcdefghij y -- z', 'x [secret] y -- z'],
  ['the longer of two values', ['abc', 'abcdef'], 'abcdef abc', '[secret] [secret]'],
  ['nothing for a value of two bytes', ['ab'], 'abab', 'abab'],
  ['nothing without secrets', [], 'text', 'text'],
] as const) {
  test(`redaction: ${what}`, () => assert.equal(clean(secrets, [Buffer.from(text)]), expected));
}

test('redaction does not depend on where chunks end', () => {
  const secret = fc.stringMatching(/^[ab]{3,6}$/);
  const text = fc.stringMatching(/^[abc]{0,60}$/);
  const cuts = fc.array(fc.nat(60), { maxLength: 8 });
  fc.assert(
    fc.property(secret, text, cuts, (value, output, at) => {
      const ends = [...at.filter((end) => end < output.length), output.length].sort((a, b) => a - b);
      const chunks = ends.map((end, i) => Buffer.from(output.slice(ends[i - 1] ?? 0, end)));
      assert.equal(clean([value], chunks), output.replaceAll(value, '[secret]'));
    }),
  );
});
