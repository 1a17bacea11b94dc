import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DiffId, diffIdOf, digestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { completeConfig } from './image-config.ts';

const S = 1_000_000_000n;
const layer = (name: string, atS: bigint) => ({
  diffId: diffIdOf(digestOf(name)) as DiffId,
  createdAtNs: atS * S,
  description: `RUN ${name}`,
});
const complete = (json: unknown, options: Partial<Parameters<typeof completeConfig>[0]> = {}) =>
  JSON.parse(
    Buffer.from(
      completeConfig({
        config: json === undefined ? undefined : new TextEncoder().encode(JSON.stringify(json)),
        baseConfig: undefined,
        layers: [],
        epochSeconds: undefined,
        ...options,
      }),
    ).toString(),
  );
const linux = { os: 'linux', architecture: 'amd64' };

test('no config at all gives a default one', () => {
  const text = Buffer.from(
    completeConfig({ config: undefined, baseConfig: undefined, layers: [layer('a', 5n)], epochSeconds: undefined }),
  ).toString();
  assert.match(
    text,
    /^\{"architecture":"[^"]+","config":\{"Env":\["PATH=[^"]+"\],"WorkingDir":"\/"\},"created":"1970-01-01T00:00:05Z","history":\[/,
  );
  assert.deepEqual(JSON.parse(text).history, [
    { created: '1970-01-01T00:00:05Z', created_by: 'RUN a', comment: 'buildkit.exporter.image.v0' },
  ]);
});

test('scratch has no layers, no history and no time', () => {
  const config = complete(linux);
  assert.deepEqual(config, { ...linux, created: null, history: null, rootfs: { type: 'layers', diff_ids: null } });
});

test('layers that the history does not name get entries of their own', () => {
  const { history } = complete({ ...linux, history: [{ created_by: 'a' }] }, { layers: [layer('a', 1n), layer('b', 2n)] });
  assert.deepEqual(
    history.map((h: { created_by: string }) => h.created_by),
    ['a', 'RUN b'],
  );
});

test('history entries beyond the layers become empty ones', () => {
  const { history } = complete({ ...linux, history: [{ created_by: 'a' }, { created_by: 'b' }] }, { layers: [layer('a', 1n)] });
  assert.deepEqual(
    history.map((h: { empty_layer?: boolean }) => h.empty_layer),
    [undefined, true],
  );
});

test('an empty entry after the base image takes the time of the first new layer, later ones that of the layer before', () => {
  const history = [
    { created: '2000-01-01T00:00:00Z', created_by: 'base' },
    { created_by: 'ENV', empty_layer: true },
    { created_by: 'RUN' },
    { created_by: 'CMD', empty_layer: true },
  ];
  const config = complete({ ...linux, history }, { layers: [layer('base', 1n), layer('run', 1_000_000_000n)] });
  const run = '2001-09-09T01:46:40Z';
  assert.deepEqual(
    config.history.map((h: { created: string }) => h.created),
    ['2000-01-01T00:00:00Z', run, run, run],
  );
  assert.equal(config.created, run);
});

test('an epoch clamps later times, but not those of the base image', () => {
  const base = { created: '2030-01-01T00:00:00Z', created_by: 'base' };
  const config = complete(
    {
      ...linux,
      created: '2040-01-01T00:00:00Z',
      history: [base, { created_by: 'RUN' }, { created: '1990-01-01T00:00:00Z', created_by: 'old', empty_layer: true }],
    },
    {
      layers: [layer('base', 1n), layer('run', 2_000_000_000n)],
      epochSeconds: 1_000_000_000n,
      baseConfig: new TextEncoder().encode(JSON.stringify({ ...linux, history: [base] })),
    },
  );
  const epoch = '2001-09-09T01:46:40Z';
  assert.equal(config.created, epoch);
  assert.deepEqual(
    config.history.map((h: { created: string }) => h.created),
    [base.created, epoch, '1990-01-01T00:00:00Z'],
  );
});

test('what the exporter does not know is kept as it was written', () => {
  const text = Buffer.from(
    completeConfig({
      config: new TextEncoder().encode(
        '{"os":"linux", "architecture":"amd64", "x": {"10": 1.50, "9": "<"}, "config": {"Healthcheck":{"Interval":30000000000}}}',
      ),
      baseConfig: undefined,
      layers: [],
      epochSeconds: undefined,
    }),
  ).toString();
  assert.ok(text.includes('"x":{"10":1.50,"9":"\\u003c"}'), text);
});

for (const [json, message] of [
  [{ architecture: 'amd64' }, 'missing os'],
  [{ os: 'linux' }, 'missing architecture'],
  [{ ...linux, history: {} }, 'it is not a list'],
  [{ ...linux, history: [{ created: 'yesterday' }] }, '"yesterday" is not an RFC 3339 time'],
  [[], 'not a JSON object'],
  [null, 'invalid null image config for export'],
] as const)
  test(`the config ${JSON.stringify(json)} is refused: ${message}`, () => {
    assert.throws(
      () => complete(json, { layers: [layer('a', 1n)] }),
      (error: unknown) => error instanceof BuildError && error.kind === 'invalid-input' && error.message.includes(message),
    );
  });
