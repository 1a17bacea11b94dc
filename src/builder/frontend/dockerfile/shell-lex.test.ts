// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles, not of templates
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMs } from '../../../../test/fixtures/cpu.ts';
import { fc } from '../../../../test/fixtures/property.ts';
import { BuildError } from '../../../core/errors.ts';
import { expandWord, expandWords, type LexOptions } from './shell-lex.ts';

const variables = new Map(
  Object.entries({ set: 'value', empty: '', path: '/a/b/a/c.tar.gz', two: 'x  y', star: 'a*b', uni: 'äöü' }),
);
const plain: LexOptions = { escape: '\\' };
const expand = (word: string, options: LexOptions = plain): string => expandWord(word, variables, options).text;

for (const [word, wanted] of [
  ['a b', 'a b'],
  ['$set', 'value'],
  ['${set}s', 'values'],
  ['$sets', ''],
  ['$set.x', 'value.x'],
  ['$', '$'],
  ['a$ b', 'a$ b'],
  ['$1x', 'x'],
  ['\\$set', '$set'],
  ["'$set'", '$set'],
  ['"$set"', 'value'],
  ['"\\$set \\" \\x"', '$set " \\x'],
  ['a\'b\'"c"', 'abc'],
  ['a\\', 'a'],
  ['${set:-d}', 'value'],
  ['${empty:-d}', 'd'],
  ['${empty-d}', ''],
  ['${none-d}', 'd'],
  ['${none:-${set}}', 'value'],
  ['${none:-"q s"}', 'q s'],
  ['${set:+y}', 'y'],
  ['${empty:+y}', ''],
  ['${empty+y}', 'y'],
  ['${none+y}', ''],
  ['${set:?m}', 'value'],
  ['${path#*/}', 'a/b/a/c.tar.gz'],
  ['${path##*/}', 'c.tar.gz'],
  ['${path%.*}', '/a/b/a/c.tar'],
  ['${path%%.*}', '/a/b/a/c'],
  ['${path#x}', '/a/b/a/c.tar.gz'],
  ['${path#/?}', '/b/a/c.tar.gz'],
  ['${path/a/A}', '/A/b/a/c.tar.gz'],
  ['${path//a/A}', '/A/b/A/c.tAr.gz'],
  ['${path//\\//_}', '_a_b_a_c.tar.gz'],
  ['${path/a*a/X}', '/Xr.gz'],
  ['${star#a\\*}', 'b'],
  ['${uni%?}', 'äö'],
  ['${empty//*/x}', 'x'],
  ['${none/a/b}', ''],
] as const)
  test(`expanding ${word}`, () => assert.equal(expand(word), wanted));

for (const [word, message] of [
  ['${set', /unsupported modifier|missing '}'/],
  ['${', /missing '}'/],
  ['${}', /bad substitution/],
  ['${:x}', /bad substitution/],
  ['${none:?is needed}', /none: is needed/],
  ['${none?}', /none: is not allowed to be unset/],
  ['${empty:?}', /empty: is not allowed to be empty/],
  ['${set^^}', /unsupported modifier \(\^\) in substitution/],
  ['${set:#x}', /unsupported modifier \(:#\) in substitution/],
  ['${set/a}', /missing '\/' in \$\{\}/],
  ['${set#\\x}', /invalid pattern \(\\x\) in substitution: invalid escape '\\x'/],
  ['"a', /matching double-quote/],
  ["'a", /matching single-quote/],
] as const)
  test(`expanding ${word} is refused`, () => assert.throws(() => expand(word), message));

test('words split at unquoted spaces, also those out of variables', () => {
  assert.deepEqual(expandWords('a "b c" $two "$two" d\\ e', variables, plain), ['a', 'b c', 'x', 'y', 'x  y', 'd e']);
  assert.deepEqual(expandWords('cat << EOF <<B', variables, plain), ['cat', '<< EOF', '<<B']);
});

test('quotes, escapes and unset variables can be kept', () => {
  assert.equal(expand('"a" \'b\'', { escape: '\\', rawQuotes: true }), '"a" \'b\'');
  assert.equal(expand('$none ${none:-x} $set', { escape: '\\', keepUnset: true }), '$none ${none:-x} value');
  assert.equal(expand('it\'s "$set"', { escape: '\\', ignoreQuotes: true }), 'it\'s "value"');
  assert.equal(expand('`$set', { escape: '`' }), '$set');
});

test('the names asked for are told apart: set, and not set', () => {
  const { matched, unmatched } = expandWord('$set ${none:-$empty}', variables, plain);
  assert.deepEqual([[...matched].sort(), [...unmatched]], [['empty', 'set'], ['none']]);
});

test('nesting and growth have a bound', () => {
  const nested = `${'${a:-'.repeat(20_000)}x${'}'.repeat(20_000)}`;
  assert.throws(() => expand(nested), /nested more than 100 deep/);
  const large = new Map([['x', 'y'.repeat(1 << 19)]]);
  assert.throws(() => expandWord('$x$x$x', large, plain), /expands to more than/);
});

test('no pattern makes matching slow', async () => {
  const value = new Map([['v', 'a'.repeat(20_000)]]);
  const ms = await cpuMs(() => {
    expandWord(`\${v##${'*a'.repeat(20)}b}`, value, plain);
    expandWord(`\${v%%${'a*'.repeat(20)}b*}`, value, plain);
  });
  assert.ok(ms < 3000, `took ${ms} ms`);
});

test('whatever the word, expanding ends in a text or in a BuildError', () => {
  const part = fc.constantFrom(...'${}:-+?#%/*\\"\'`<ab1 \u00e9'.split(''), '${set', '${path##', '${none:-', '//', '😀');
  fc.assert(
    fc.property(fc.array(part, { maxLength: 40 }), fc.boolean(), fc.boolean(), (parts, keepUnset, rawQuotes) => {
      try {
        expandWords(parts.join(''), variables, { escape: '\\', keepUnset, rawQuotes });
      } catch (error) {
        assert.ok(error instanceof BuildError, `threw ${error}`);
      }
    }),
    { numRuns: 2000 },
  );
});
