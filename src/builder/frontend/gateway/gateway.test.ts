import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildError } from '../../../core/errors.ts';
import type { Bridge, FrontendRequest, FrontendResult } from '../ports.ts';
import { gatewayFrontend } from './gateway.ts';

const result: FrontendResult = { refs: { kind: 'single', ref: undefined }, metadata: new Map() };

async function forwarded(source: string | undefined): Promise<FrontendRequest> {
  const requests: FrontendRequest[] = [];
  const bridge = {
    forward: async (request: FrontendRequest) => {
      requests.push(request);
      return result;
    },
  } as Partial<Bridge> as Bridge;
  const options = new Map([['filename', 'Dockerfile'], ...(source === undefined ? [] : ([['source', source]] as const))]);
  assert.equal(await gatewayFrontend.run(bridge, { frontend: 'gateway.v0', options, inputs: new Map() }), result);
  return requests[0] as FrontendRequest;
}

for (const source of [
  'docker/dockerfile:1',
  'docker/dockerfile:1.7-labs',
  'docker.io/docker/dockerfile-upstream:master',
  'dockerfile.v0',
])
  test(`${source} is the built-in frontend, which does not look at the syntax line again`, async () => {
    const request = await forwarded(source);
    assert.equal(request.frontend, 'dockerfile.v0');
    assert.equal(request.options.get('cmdline'), source);
    assert.equal(request.options.get('filename'), 'Dockerfile');
  });

test('another image is refused by name, with what to do', async () => {
  await assert.rejects(
    forwarded('registry.example/my/frontend:2'),
    (error) =>
      error instanceof BuildError && error.kind === 'unsupported' && error.message.includes('registry.example/my/frontend:2'),
  );
});

test('a gateway without a source is refused', async () => {
  await assert.rejects(forwarded(undefined), /no source specified for gateway/);
});
