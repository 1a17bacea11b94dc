import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withEpoch } from './build.ts';

test('exporters take SOURCE_DATE_EPOCH from the build argument when it is a time and they have none of their own', () => {
  const epochOf = (argument: string | undefined, own: Readonly<Record<string, string>> = {}): string | undefined =>
    withEpoch(
      new Map(Object.entries(own)),
      new Map(argument === undefined ? [] : [['build-arg:SOURCE_DATE_EPOCH', argument]]),
    ).get('source-date-epoch');
  assert.equal(epochOf('1700000000'), '1700000000');
  assert.equal(epochOf(''), '', 'none, whatever the frontend says');
  assert.equal(epochOf('context'), undefined, 'a word for the frontend');
  assert.equal(epochOf('1700000000', { 'source-date-epoch': '5' }), '5');
  assert.equal(epochOf(undefined), undefined);
});
