import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import type { Vertex } from '../llb/definition.ts';
import { OpSchema } from '../proto/gen/pb/ops_pb.ts';
import type { OpContext } from '../solver/ports.ts';
import type { SourceKind, SourceRequest } from '../source/source.ts';
import { createSourceOp } from './source.ts';

const host = { os: 'linux', architecture: 'amd64', variant: '', osVersion: '', osFeatures: [] };
const context = {} as OpContext;
const vertexOf = (identifier: string): Vertex =>
  ({
    op: create(OpSchema, { op: { case: 'source', value: { identifier, attrs: { a: 'b' } } } }),
    platform: undefined,
  }) as unknown as Vertex;

function kind(requests: SourceRequest[], ephemeral?: boolean): SourceKind {
  return {
    schemes: ['one', 'two'],
    open(request) {
      requests.push(request);
      return {
        cacheKey: async (_, index) => ({
          key: `k${index}`,
          done: index === 1,
          ...(ephemeral === undefined ? {} : { ephemeral }),
        }),
        fetch: async () => undefined,
      };
    },
  };
}

test('the identifier is split at its scheme and the default platform is filled in', () => {
  const requests: SourceRequest[] = [];
  createSourceOp({ sources: [kind(requests)], defaultPlatform: host })(vertexOf('two://a/b?c=d://e'));
  const [{ scheme, locator, platform, op } = assert.fail()] = requests;
  assert.deepEqual(
    { scheme, locator, platform, attrs: op.attrs },
    { scheme: 'two', locator: 'a/b?c=d://e', platform: host, attrs: { a: 'b' } },
  );
});

test('keys are hashed as BuildKit hashes them, and what holds in one session says so', async () => {
  for (const ephemeral of [undefined, true]) {
    const op = createSourceOp({ sources: [kind([], ephemeral)], defaultPlatform: host })(vertexOf('one://x'));
    for (const index of [0, 1]) {
      const { map, done } = await op.cacheMap(context, index);
      assert.equal(map.digest, cacheDigestOf(`buildkit.source.v0:k${index}`));
      assert.deepEqual([map.ephemeral, done], [ephemeral, index === 1]);
    }
  }
});

test('a source without content gives scratch', async () => {
  const op = createSourceOp({ sources: [kind([])], defaultPlatform: host })(vertexOf('one://x'));
  const [result] = await op.exec(context, []);
  assert.equal(result?.id, undefined);
  assert.equal(result?.clone().id, undefined);
});

for (const [identifier, wanted] of [
  ['ftp://x', 'unsupported'],
  ['nothing', 'invalid-input'],
  ['', 'invalid-input'],
] as const)
  test(`the identifier "${identifier}" is ${wanted}`, () => {
    const resolve = createSourceOp({ sources: [kind([])], defaultPlatform: host });
    assert.throws(
      () => resolve(vertexOf(identifier)),
      (error: unknown) => error instanceof BuildError && error.kind === wanted,
    );
  });
