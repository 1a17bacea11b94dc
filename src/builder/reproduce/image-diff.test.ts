import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layerDifferences } from './image-diff.ts';
import type { LayerEntry } from './layer-list-task.ts';

const FILE: LayerEntry = {
  type: '0',
  mode: 0o644,
  owner: '0:0',
  mtimeNs: 0n,
  link: '',
  size: 3,
  content: 'a'.repeat(64),
  xattrs: '',
};
const layer = (entries: Readonly<Record<string, Partial<LayerEntry>>>): ReadonlyMap<string, LayerEntry> =>
  new Map(Object.entries(entries).map(([path, change]) => [path, { ...FILE, ...change }]));

for (const [change, what] of [
  [{ content: 'b'.repeat(64) }, ['content']],
  [{ mtimeNs: 1_000_000_000n }, ['mtime']],
  [{ mode: 0o755 }, ['mode']],
  [{ owner: '0:5' }, ['owner']],
  [{ xattrs: 'user.a=00' }, ['xattrs']],
  [{ type: '2', link: '/x', content: '', size: 0 }, ['type', 'content', 'link']],
] as const)
  test(`a file that differs in ${what.join(', ')} is named with just that`, () => {
    const [found, ...more] = layerDifferences(1, layer({ '/a': {}, '/b': {} }), layer({ '/a': {}, '/b': change }));
    assert.deepEqual(more, []);
    assert.deepEqual([found?.layer, found?.path, found?.what], [1, '/b', what]);
  });

test('files that came or went are told, and an equal set in another order too', () => {
  assert.deepEqual(
    layerDifferences(0, layer({ '/a': {}, '/b': {} }), layer({ '/a': {}, '/c': {} })).map(({ path, what }) => [path, ...what]),
    [
      ['/b', 'removed'],
      ['/c', 'added'],
    ],
  );
  assert.equal(layerDifferences(0, layer({ '/a': {} }), layer({ '/a': {} }))[0]?.was, 'order of entries');
});
