/** The account of a running build that is told of look-ups by hand; real builds are in test/e2e/explain.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type VertexDigest, vertexDigestOf } from '../../core/digest.ts';
import type { BuildEvent, StepInfo } from '../events.ts';
import type { Vertex } from '../llb/definition.ts';
import { OpSchema } from '../proto/gen/pb/ops_pb.ts';
import { BuildAccount } from './account.ts';
import type { AccountRecord } from './record.ts';

const options = {
  ignoreCache: false,
  description: {},
  exportCache: undefined,
  progressGroup: undefined,
  linuxResources: undefined,
};

/** A chain of exec steps, lowest first, compared with `earlier`. */
function accountOf(names: readonly string[], earlier: readonly AccountRecord[]) {
  const told: BuildEvent[] = [];
  const account = new BuildAccount(
    {
      ...{ ref: 'now', line: '', startedAtMs: 0, args: {} },
      keep: (_name, value) => value,
      earlier: () => earlier,
      findEviction: () => undefined,
      keepList: async () => undefined,
      compareLists: async () => undefined,
      onProblem: (error) => assert.ifError(error),
    },
    { emit: (event) => void told.push(event) },
  );
  const digests = names.map((_, at) => vertexDigestOf(Buffer.from(names.slice(0, at + 1).join('\n'))));
  const vertices = digests.map((digest, at): Vertex => {
    const op = create(OpSchema, { op: { case: 'exec', value: { meta: { args: [names[at] ?? ''] } } } });
    return {
      digest,
      op,
      bytes: digest as unknown as Uint8Array,
      inputs: [],
      name: names[at] ?? '',
      options,
      platform: undefined,
      sources: [],
    };
  });
  account.loaded({ root: undefined, vertices });
  const steps = vertices.map(
    ({ digest, name }, at): StepInfo => ({ step: digest, name, op: 'exec', inputs: digests.slice(at - 1, at), cacheable: true }),
  );
  const base = { build: 'now', atNs: 0n };
  account.emit({ ...base, type: 'steps-announced', steps: steps.toReversed() });
  const at = (index: number) => ({ ...base, step: digests[index] as VertexDigest, type: 'cache-lookup' as const });
  return {
    account,
    miss: (index: number) => account.emit({ ...at(index), hit: false, reason: 'never-seen' }),
    implied: (index: number) => account.emit({ ...at(index), hit: true, location: 'local', implied: true }),
  };
}

test('a step that was not needed yet when the one above it missed, and in the end was found, is not its cause', async () => {
  const names = (word: string) => ['[1/3] RUN a', `[2/3] RUN ${word}`, '[3/3] RUN c'];
  const first = accountOf(names('b'), []);
  for (const at of [0, 1, 2]) first.miss(at);
  const before = await first.account.finish();

  const second = accountOf(names('x'), [before]);
  second.miss(2);
  second.implied(1);
  second.implied(0);
  const cause = (await second.account.finish()).steps[2]?.cause;
  assert.deepEqual([cause?.reason, cause?.because], ['parent-changed', undefined]);
  assert.match(cause?.summary ?? '', /stands on "\[2\/3\] RUN x"/);

  const third = accountOf(names('y'), [before]);
  third.implied(0);
  third.miss(1);
  third.miss(2);
  assert.equal((await third.account.finish()).steps[2]?.cause?.because?.name, '[2/3] RUN y');
});
