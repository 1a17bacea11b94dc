import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileFilter } from './filter.ts';
import { record } from './gc.test-rig.ts';

const one = record('abc', {
  description: 'mount / from exec "make all", twice',
  parents: ['p1', 'p2'],
  recordType: 'exec.cachemount',
  mutable: true,
  inUse: true,
});

for (const [entries, matches] of [
  [[], true],
  [[''], true],
  [['type==exec.cachemount'], true],
  [['type==source.local'], false],
  [['type==source.local', 'type==exec.cachemount'], true],
  [['type==source.local', ''], true],
  [['id==abc,mutable'], true],
  [['id==abc,immutable'], false],
  [['id~=^a'], true],
  [['id ~= ^b'], false],
  [['id!=abc'], false],
  [['id!=xyz , inuse'], true],
  [['shared'], false],
  [['private'], true],
  [['parents==p1;p2'], true],
  [['description=="mount / from exec \\"make all\\", twice"'], true],
  [["description~='make all, twice'"], false],
  [['description~=/make [a-z]+/'], true],
  [['description~=|exec "make|'], true],
  [['description~=/from exec \\/bin/'], false],
  [['size'], false],
  [['size!=5'], true],
  [['labels.foo'], false],
  [['labels."foo bar"==x'], false],
] as const) {
  test(`[${entries.map((entry) => `"${entry}"`).join(' ')}] ${matches ? 'matches' : 'does not match'}`, () =>
    assert.equal(compileFilter(entries)(one), matches));
}

for (const [entry, message] of [
  ['==x', /expected a field/],
  ['id==', /expected a value/],
  ['id=x', /expected "," or the end/],
  ['id==a,', /expected a field/],
  ['id=="open', /not terminated/],
  ['id~=(', /regular expression/],
  ['id==a b', /filter \[id==a {1,2}>\|b\|< \]/],
] as const) {
  test(`"${entry}" is refused with the place`, () =>
    assert.throws(() => compileFilter([entry]), { kind: 'invalid-input', message }));
}
