import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fc } from '../../../test/fixtures/property.ts';
import { BuildError } from '../../core/errors.ts';
import { compactJson, goJson, objectMembers, RawJson } from './go-json.ts';

test('HTML characters and line separators are escaped as Go does it', () => {
  assert.equal(goJson('a && b <c> \u2028\u2029 é'), '"a \\u0026\\u0026 b \\u003cc\\u003e \\u2028\\u2029 é"');
});

test('struct fields keep their order, map keys are sorted by bytes, undefined fields are left out', () => {
  const value = {
    z: 1,
    a: undefined,
    m: new Map([
      ['9', 'x'],
      ['10', 'y'],
      ['B', 'z'],
      ['a', 'w'],
    ]),
    list: [true, null],
  };
  assert.equal(goJson(value), '{"z":1,"m":{"10":"y","9":"x","B":"z","a":"w"},"list":[true,null]}');
});

test('indentation equals json.MarshalIndent', () => {
  const value = { a: [], b: new Map<string, string>(), c: [{ d: 'e' }] };
  assert.equal(goJson(value, '  '), '{\n  "a": [],\n  "b": {},\n  "c": [\n    {\n      "d": "e"\n    }\n  ]\n}');
});

test('raw text keeps number spelling and key order', () => {
  assert.equal(
    goJson({ raw: new RawJson('{ "b" : 1.50, "8": 30000000000000000001, "s": " {<\\" " }') }),
    '{"raw":{"b":1.50,"8":30000000000000000001,"s":" {\\u003c\\" "}}',
  );
});

test('the members of any JSON object are its own parts', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
      fc.constantFrom(undefined, 2),
      (object, indent) => {
        const members = objectMembers(JSON.stringify(object, null, indent), 'test');
        assert.deepEqual([...members.keys()], Object.keys(object));
        for (const [key, raw] of members) assert.deepEqual(JSON.parse(raw.text), JSON.parse(JSON.stringify(object[key])));
      },
    ),
  );
});

test('compacting twice changes nothing more', () => {
  fc.assert(fc.property(fc.json(), (text) => assert.equal(compactJson(compactJson(text)), compactJson(text))));
});

for (const text of ['', '[]', 'null', '{"a":1', '"x"'])
  test(`the text ${text === '' ? 'of no length' : text} is refused where an object is wanted`, () => {
    assert.throws(
      () => objectMembers(text, 'image config'),
      (error: unknown) => error instanceof BuildError && error.kind === 'invalid-input',
    );
  });
