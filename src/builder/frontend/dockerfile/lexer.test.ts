import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpuMs } from '../../../../test/fixtures/cpu.ts';
import { fc } from '../../../../test/fixtures/property.ts';
import { BuildError } from '../../../core/errors.ts';
import { findSyntax } from './directives.ts';
import { parseStages } from './instructions.ts';
import { type LexedDockerfile, lexDockerfile } from './lexer.ts';
import { Linter } from './lint.ts';

const fileOf = (text: string) => ({ filename: 'Dockerfile', language: 'Dockerfile', data: new TextEncoder().encode(text) });
const lex = (text: string): LexedDockerfile => lexDockerfile(fileOf(text), text);
const parse = (text: string) => parseStages(fileOf(text), lex(text).instructions, Linter.silent);
const shape = (text: string): string[] =>
  lex(text).instructions.map(({ keyword, flags, args, ranges }) => {
    const words =
      'words' in args ? args.words : args.form === 'pairs' ? args.pairs.map(({ key, value }) => `${key}=${value}`) : [];
    return [keyword, ...flags, ...words, `@${ranges[0]?.start.line}-${ranges.at(-1)?.end.line}`].join('|');
  });

for (const [what, text, wanted] of [
  ['lines are joined at the escape character', 'RUN a \\\n  b\nRUN c', ['RUN|a   b|@1-2', 'RUN|c|@3-3']],
  ['spaces after the escape do not matter', 'RUN a \\  \n b', ['RUN|a  b|@1-2']],
  ['an escaped escape ends the line', 'RUN a \\\\\nRUN b', ['RUN|a \\\\|@1-1', 'RUN|b|@2-2']],
  ['comments inside a continued line are dropped', 'RUN a \\\n# c\n  # d\n b', ['RUN|a  b|@1-4']],
  ['empty lines inside a continued line are skipped', 'RUN a \\\n\n b', ['RUN|a  b|@1-3']],
  ['a file may end in a continuation', 'RUN a \\', ['RUN|a|@1-1']],
  ['carriage returns are line ends too', 'FROM a\r\nRUN b \\\r\n c\r\n', ['FROM|a|@1-1', 'RUN|b  c|@2-3']],
  ['keywords keep their case', 'fRoM x', ['fRoM|x|@1-1']],
  ['flags come before arguments and lose their quotes', 'COPY --a="b c" --d a b', ['COPY|--a=b c|--d|a|b|@1-1']],
  ['two dashes end the flags', 'COPY -- --a b', ['COPY|--a|b|@1-1']],
  ['JSON forms become words', 'CMD ["a b", "\\u00e9"]', ['CMD|a b|é|@1-1']],
  ['what only looks like JSON is a command', 'RUN [ -f x ]', ['RUN|[ -f x ]|@1-1']],
  ['pairs keep quotes for later', 'ENV a="b c" d=e\\ f', ['ENV|a="b c"|d=e\\ f|@1-1']],
  ['the old pair takes the rest of the line', 'ENV a  b  c', ['ENV|a=b  c|@1-1']],
  ['the escape directive changes the character', '# escape=`\nRUN a `\n b\nRUN c \\', ['RUN|a  b|@2-3', 'RUN|c \\|@4-4']],
  ['a directive after a comment is a comment', '# x\n# escape=`\nRUN a \\\n b', ['RUN|a  b|@3-4']],
  ['a byte order mark is no character', '\ufeffFROM a', ['FROM|a|@1-1']],
] as const)
  test(`lexer: ${what}`, () => assert.deepEqual(shape(new TextDecoder().decode(new TextEncoder().encode(text))), wanted));

for (const [what, text, wanted] of [
  ['content up to the word', 'RUN <<A\nx\n y\nA\nRUN z', [['A', 'x\n y\n', true]]],
  [
    'several in order',
    'RUN cat <<A <<B\n1\nA\n2\nB',
    [
      ['A', '1\n', true],
      ['B', '2\n', true],
    ],
  ],
  ['quoted words are not expanded', "COPY <<'A B' /x\n$y\nA B", [['A B', '$y\n', false]]],
  ['a dash allows tabs before the end', 'RUN <<-A\n\tx\n\tA', [['A', '\tx\n', true]]],
  ['a space may stand before the word', 'RUN << A\nx\nA', [['A', 'x\n', true]]],
  ['none in quotes', 'RUN echo "<<A"', []],
  ['none in JSON', 'RUN ["<<A"]', []],
  ['none in other instructions', 'CMD <<A', []],
] as const)
  test(`heredocs: ${what}`, () => {
    const { heredocs = [] } = lex(text).instructions[0] ?? {};
    assert.deepEqual(
      heredocs.map(({ name, content, expand }) => [name, content, expand]),
      wanted,
    );
  });

for (const [text, wanted] of [
  ['# syntax=a/b:1\nFROM x', { ref: 'a/b:1', cmdline: 'a/b:1' }],
  ['# Syntax = a/b  --opt \n', { ref: 'a/b', cmdline: 'a/b  --opt' }],
  ['#!/usr/bin/env x\n# syntax=a\n', { ref: 'a', cmdline: 'a' }],
  ['// syntax=a\n', { ref: 'a', cmdline: 'a' }],
  ['{"syntax": "a", "x": 1}', { ref: 'a', cmdline: 'a' }],
  ['# escape=`\n# syntax=a\n', { ref: 'a', cmdline: 'a' }],
  ['# comment\n# syntax=a\n', undefined],
  ['\n# syntax=a\n', undefined],
  ['FROM x\n# syntax=a\n', undefined],
] as const)
  test(`syntax directive of ${JSON.stringify(text)}`, () => {
    const found = findSyntax(text);
    assert.deepEqual(found === undefined ? undefined : { ref: found.ref, cmdline: found.cmdline }, wanted);
  });

const fragments = fc.constantFrom(
  ...[
    'FROM a',
    'FROM b AS c',
    'RUN',
    'COPY',
    'ADD',
    'ENV',
    'ARG',
    'ONBUILD',
    'HEALTHCHECK',
    'CMD',
    '# escape=`',
    '# check=skip=all',
  ],
  ...[
    ' ',
    '\n',
    '\r\n',
    '\\\n',
    '`\n',
    '\t',
    '\0',
    '"',
    "'",
    '$x',
    '${x',
    '}',
    '<<E',
    '<<-"E"',
    '\nE\n',
    '[',
    ']',
    '["a"]',
    '--f=',
    '--mount=type=cache,',
  ],
  ...['a', '=', ':', '/', '#', '\u00a0', '😀', '\ud800', 'ENV a=b'],
);

test('whatever the text, parsing ends in instructions or in a BuildError about it', () => {
  const anyText = fc.oneof(
    fc.array(fragments, { maxLength: 60 }).map((parts) => parts.join('')),
    fc.string({ unit: 'binary' }),
  );
  fc.assert(
    fc.property(anyText, (text) => {
      try {
        parse(text);
      } catch (error) {
        assert.ok(error instanceof BuildError, `threw ${error}`);
        assert.equal(error.kind, 'invalid-input');
      }
    }),
    { numRuns: 2000 },
  );
});

const HOSTILE: readonly (readonly [string, string, RegExp | undefined])[] = [
  ['a line of a megabyte', `FROM x\nRUN ${'a'.repeat(1 << 20)}`, /line greater than max allowed size of 65535/],
  ['a megabyte of continued lines', `FROM x\nRUN a ${'\\\n b '.repeat(200_000)}`, undefined],
  ['a megabyte of comments', `FROM x\n${'#\n#a\n'.repeat(200_000)}`, undefined],
  ['a megabyte of line ends', `FROM x\n${'\r'.repeat(60_000)}\n${'\n'.repeat(900_000)}`, undefined],
  ['a heredoc without end', `FROM x\nRUN <<E\n${'line\n'.repeat(200_000)}`, /unterminated heredoc/],
  ['a thousand heredocs in a line', `FROM x\nRUN cat ${'<<E '.repeat(1000)}\n${'E\n'.repeat(1000)}`, undefined],
  ['NUL bytes', 'FROM \0x\nRUN \0\0', undefined],
  ['triggers of triggers', `FROM x\n${'ONBUILD '.repeat(8000)}RUN x`, /Chaining ONBUILD/],
  ['nested JSON', `FROM x\nRUN ${'['.repeat(60_000)}`, undefined],
  ['a word of quotes', `FROM x\nENV a=${'"'.repeat(60_000)}`, undefined],
  ['spaces in a directive', `# syntax=a${' '.repeat(60_000)}b\nFROM x`, undefined],
  ['spaces before a mark', `FROM x\nRUN <<"${' '.repeat(60_000)}<"`, undefined],
  ['ten thousand flags', `FROM x\nCOPY ${'--exclude=a '.repeat(5000)} a b`, undefined],
];
for (const [what, text, message] of HOSTILE)
  test(`hostile file: ${what} is read or refused, quickly`, async () => {
    const ms = await cpuMs(() => (message === undefined ? parse(text) : assert.throws(() => parse(text), message)));
    assert.ok(ms < 3000, `took ${ms} ms`);
  });
