import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fc } from '../../../../test/fixtures/property.ts';
import { cacheDigestOf, digestOf } from '../../../core/digest.ts';
import type { KeyRecord } from '../../solver/ports.ts';
import { chainsOf } from './chains.ts';
import { type CacheLayer, encodeCacheConfig, parseCacheConfig, timeOf } from './config.ts';
import { readOciCache, writeOciCache } from './oci-form.ts';
import { RemoteIndex } from './remote-index.ts';

const GOLDEN = join(import.meta.dirname, '../../../../test/golden/remote-cache');
const blob = (layout: string, digest: string): Uint8Array =>
  readFileSync(join(GOLDEN, layout, 'blobs', digest.replace(':', '/')));
const rootOf = (layout: string): Uint8Array => {
  const index = JSON.parse(readFileSync(join(GOLDEN, layout, 'index.json'), 'utf8')) as { manifests: { digest: string }[] };
  return blob(layout, index.manifests[0]?.digest ?? '');
};
const read = (layout: string) => readOciCache(rootOf(layout), async ({ digest }) => blob(layout, digest));

test('what buildkitd wrote is read and written again byte for byte', async () => {
  const config = await read('buildkit-max');
  const { manifest, config: written } = writeOciCache(config, { ociTypes: true, imageManifest: true });
  assert.deepEqual(Buffer.from(manifest.bytes).toString(), Buffer.from(rootOf('buildkit-max')).toString());
  assert.deepEqual(Buffer.from(written.bytes), Buffer.from(blob('buildkit-max', written.descriptor.digest)));
  assert.deepEqual(parseCacheConfig(encodeCacheConfig(config, true)).layers.length, config.layers.length);
});

test('an inline cache names the layers of its image, and every record with a result has them', async () => {
  const { layers, records } = await read('buildkit-inline');
  assert.ok(layers.every(({ layer }) => layer !== undefined));
  assert.ok(records.some(({ results }) => results.length > 0));
});

const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const A = digestOf('a');
for (const [what, value] of [
  ['no object', []],
  ['a record that links to nowhere', { records: [{ digest: A, inputs: [[{ link: 1 }]] }] }],
  ['an input without a link', { records: [{ digest: A, inputs: [[]] }] }],
  ['a layer that is not there', { records: [{ digest: A, layers: [{ layer: 0 }] }] }],
  ['a parent that is not there', { layers: [{ blob: A, parent: 7 }] }],
  ['a digest that is none', { records: [{ digest: 'sha256:1' }] }],
  ['an index below zero', { records: [{ digest: A, inputs: [[{ link: -2 }]] }] }],
  ['a size below zero', { layers: [{ blob: A, parent: -1, annotations: { mediaType: 'x', diffID: A, size: -1 } }] }],
] as const)
  test(`a configuration with ${what} is corrupt`, () => {
    assert.throws(() => parseCacheConfig(text(value)), { kind: 'corrupt' });
  });

test('layers that stand on each other in a circle give no result and no hang', () => {
  const layer = { mediaType: 'x', diffID: A, size: 1 };
  const config = parseCacheConfig(
    text({
      layers: [
        { blob: A, parent: 1, annotations: layer },
        { blob: A, parent: 0, annotations: layer },
      ],
      records: [{ digest: cacheDigestOf('root@0'), layers: [{ layer: 0 }] }],
    }),
  );
  const index = new RemoteIndex(config, () => assert.fail('there is no such result'));
  assert.deepEqual(index.results(`${A}@0`), []);
});

test('times keep their nanoseconds, and Go’s zero time is none', () => {
  assert.equal(timeOf('2026-11-21T01:00:27.461935069Z'), 1_795_222_827_461_935_069n);
  assert.equal(timeOf('0001-01-01T00:00:00Z'), 0n);
  assert.equal(timeOf('yesterday'), 0n);
});

const layerOf = (name: string): CacheLayer => ({
  descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digestOf(name), size: name.length },
  diffId: digestOf(`diff ${name}`) as never,
  createdAtNs: 1_700_000_000_000_000_000n,
  description: '',
});

test('however a graph is listed, it gives the same bytes, and every result is found again by its keys', () =>
  fc.assert(
    fc.property(fc.array(fc.array(fc.nat(), { maxLength: 3 }), { minLength: 1, maxLength: 12 }), fc.boolean(), (shape, twice) => {
      const records: KeyRecord[] = [];
      for (const [at, below] of shape.entries()) {
        const sources = at === 0 ? [] : [...new Set(below.map((n) => n % at))];
        records.push({
          name: cacheDigestOf(`${digestOf(`op ${at}`)}@0`),
          inputs: sources.map((source) => [{ record: records[source] as KeyRecord }]),
        });
      }
      const results = new Map(
        records.map((record, at) => [record, { createdAtNs: 1n, layers: [layerOf('base'), layerOf(`${at}`)] }]),
      );
      const config = chainsOf(records, results);
      const again = chainsOf(twice ? [...records, ...records] : records, results);
      assert.deepEqual(encodeCacheConfig(again, true), encodeCacheConfig(config, true));
      const index = new RemoteIndex(parseCacheConfig(encodeCacheConfig(config, true)), (found) => ({
        createdAtNs: found.createdAtNs,
        layers: found.layers.map(({ descriptor }) => descriptor.digest),
        load: () => assert.fail('nothing is fetched'),
      }));
      const keys: string[][] = [];
      for (const [at, record] of records.entries()) {
        const op = { digest: digestOf(`op ${at}`) as never, output: 0 };
        const reached = record.inputs.map(([link], input) =>
          (keys[records.indexOf(link?.record as KeyRecord)] ?? []).flatMap((key) => [...index.linked(key, { ...op, input })]),
        );
        keys.push(
          reached.length === 0
            ? [`${op.digest}@0`]
            : (reached[0] ?? []).filter((key) => reached.every((set) => set.includes(key))),
        );
        const layers = (keys[at] ?? []).flatMap((key) => index.results(key)).map((result) => result.layers.at(-1));
        assert.deepEqual([...new Set(layers)], [digestOf(`${at}`)]);
      }
    }),
  ));
