import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMs } from '../../test/fixtures/cpu.ts';
import { clientRegExp } from './client-regexp.ts';

for (const [source, text, matches] of [
  ['^run', 'run make', true],
  ['(?i)RUN', 'run make', true],
  ['(?P<word>make)$', 'run make', true],
  ['a|b', 'c', false],
] as const) {
  test(`${source} ${matches ? 'matches' : 'does not match'} "${text}"`, () =>
    assert.equal(clientRegExp(source).test(text), matches));
}

for (const source of ['(', '(?=a)', '(?<!a)b', '(a)\\1', 'a'.repeat(2_000)]) {
  test(`${source.slice(0, 10)} is refused`, () => assert.throws(() => clientRegExp(source), { kind: 'invalid-input' }));
}

test('an expression made to backtrack for ever answers at once', async () => {
  const ms = await cpuMs(() => {
    assert.equal(clientRegExp('^(a+)+$').test(`${'a'.repeat(60)}b`), false);
    assert.equal(clientRegExp('^(a|aa)+$').test(`${'a'.repeat(60)}b`), false);
  });
  assert.ok(ms < 1_000, `took ${ms} ms`);
});
