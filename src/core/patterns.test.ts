import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from './errors.ts';
import { compilePatterns, hasWildcard, matchGlob, parseIgnoreFile } from './patterns.ts';

/** What Docker's own matcher answers (MatchesOrParentMatches), checked against it case by case. */
const CASES: readonly (readonly [patterns: string, path: string, matches: boolean])[] = [
  ['foo', 'foo', true],
  ['foo', 'foo/bar/baz', true],
  ['foo', 'a/foo', false],
  ['foo', 'foobar', false],
  ['*', 'a/b', true],
  ['*.go', 'a.go', true],
  ['*.go', 'a/b.go', false],
  ['**/*.go', 'b.go', true],
  ['**/*.go', 'a/b/c.go', true],
  ['**', 'anything/at/all', true],
  ['**/foo', 'foo', true],
  ['**/foo', 'a/b/foo/c', true],
  ['**foo', 'a/xfoo', true],
  ['**.txt', 'a/.txt', true],
  ['a/**', 'a/b', true],
  ['a/**', 'a', false],
  ['a**', 'abc/d', true],
  ['a/**/b', 'a/b', true],
  ['a/**/b', 'a/x/y/b', true],
  ['a/**/b', 'ab', false],
  ['a**/b', 'ax/y/b', true],
  ['a**/b', 'axb', false],
  ['a?c', 'abc', true],
  ['a?c', 'a/c', false],
  ['a?c', 'a😀c', true],
  ['[ab]c', 'bc', true],
  ['[^ab]c', 'bc', false],
  ['[a-c]', 'b', true],
  ['a]', 'a]', true],
  ['a\\*b', 'a*b', true],
  ['a\\*b', 'axb', false],
  ['a+b', 'a+b', true],
  ['a+*', 'aab', false],
  ['(x)*', '(x)y', true],
  ['a.c', 'abc', false],
  ['a.?', 'abc', false],
  ['./foo/', 'foo', true],
  ['/foo', 'foo', false],
  ['é*', 'a/été', false],
  ['é*', 'ét', true],
  ['foo !foo/bar', 'foo/bar', false],
  ['foo !foo/bar', 'foo/bar/x', false],
  ['foo !foo/bar', 'foo/baz', true],
  ['!foo foo', 'foo', true],
  ['* !*.md README.md', 'a.md', false],
  ['* !*.md README.md', 'README.md', true],
  ['**/node_modules !keep/node_modules', 'keep/node_modules/x', false],
  ['a !a/b a/b/c', 'a/b/c/d', true],
  ['a !a/b a/b/c', 'a/b/d', false],
];

for (const [patterns, path, expected] of CASES) {
  test(`patterns "${patterns}" ${expected ? 'match' : 'do not match'} ${path}`, () => {
    const set = compilePatterns(patterns.split(' '));
    assert.equal(set.matches(path), expected);
    // A walk from the top asks per component and must come to the same answer.
    const parts = path.split('/');
    let step: ReturnType<typeof set.visit> | undefined;
    for (const at of parts.keys()) step = set.visit(parts.slice(0, at + 1).join('/'), step?.state);
    assert.equal(step?.matched, expected);
  });
}

for (const pattern of ['[a', 'a\\', '[]a]', '[a-]', 'x/[^]']) {
  test(`pattern "${pattern}" is refused when a path reaches it, and harmless before`, () => {
    assert.throws(() => compilePatterns([pattern]).matches('x'), { name: 'BuildError', kind: 'invalid-input' });
    assert.equal(compilePatterns([`!${pattern}`]).matches('x'), false);
    assert.throws(() => matchGlob(pattern, 'x'), BuildError);
  });
}

test('a lone exclamation mark is refused at once', () => {
  assert.throws(() => compilePatterns(['!']), /illegal exclusion pattern/);
});

test('a walk is told which directories cannot matter', () => {
  const include = compilePatterns(['a/b/c', 'd/*']);
  assert.deepEqual([include.mayMatchBelow('a'), include.mayMatchBelow('a/b'), include.mayMatchBelow('x')], [true, true, false]);
  assert.equal(include.mayMatchBelow('d'), true);
  assert.equal(compilePatterns(['*/c']).mayMatchBelow('x'), true);
  assert.equal(compilePatterns(['node_modules']).mayExcludeBelow('node_modules'), false);
  assert.equal(compilePatterns(['n', '!n/keep']).mayExcludeBelow('n'), true);
  assert.equal(compilePatterns(['n', '!m/keep']).mayExcludeBelow('n'), false);
});

test('an ignore file loses comments, blanks, leading slashes and the byte order mark', () => {
  const text = '\uFEFF# comment\n\n  /a/b/ \r\n! /keep/../k\n #not a comment\n!\n/\n';
  assert.deepEqual(parseIgnoreFile(text), ['a/b', '!k', '#not a comment', '!', '/']);
});

const GLOBS: readonly (readonly [glob: string, name: string, matches: boolean])[] = [
  ['*', 'a', true],
  ['*', 'a/b', false],
  ['a**', 'ab', true],
  ['**', 'a/b', false],
  ['[^a]', 'b', true],
  ['[b-a]', 'b', false],
  ['\\d', 'd', true],
  ['\\d', '1', false],
  ['(^$)', '(^$)', true],
  ['a\\[b', 'a[b', true],
  ['?', 'é', true],
];
for (const [glob, name, expected] of GLOBS) {
  test(`glob "${glob}" ${expected ? 'matches' : 'does not match'} ${name}`, () => assert.equal(matchGlob(glob, name), expected));
}

test('escaped wildcards are not wildcards', () => {
  assert.deepEqual(['a*', 'a\\*', '\\\\?', 'a[', '\\['].map(hasWildcard), [true, false, true, true, false]);
});
