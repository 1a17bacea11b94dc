import assert from 'node:assert/strict';
import { test } from 'node:test';
import { normaliseScopes, parseChallenges } from './challenge.ts';

for (const [header, expected] of [
  [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull"',
    [
      {
        scheme: 'bearer',
        parameters: {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/busybox:pull',
        },
      },
    ],
  ],
  ['Basic realm="a, \\"b\\""', [{ scheme: 'basic', parameters: { realm: 'a, "b"' } }]],
  [
    'Negotiate, Bearer realm=x , Error=insufficient_scope, Basic',
    [
      { scheme: 'negotiate', parameters: {} },
      { scheme: 'bearer', parameters: { realm: 'x', error: 'insufficient_scope' } },
      { scheme: 'basic', parameters: {} },
    ],
  ],
  ['', []],
  ['="" , ,', []],
] as const)
  test(`the challenge header ${header.slice(0, 30)} is read`, () => assert.deepEqual(parseChallenges(header), expected));

test('scopes are merged per resource and sorted', () => {
  assert.deepEqual(normaliseScopes(['repository:b:push,pull', '', 'repository:a:pull repository:b:pull', 'registry:catalog:*']), [
    'registry:catalog:*',
    'repository:a:pull',
    'repository:b:pull,push',
  ]);
});
