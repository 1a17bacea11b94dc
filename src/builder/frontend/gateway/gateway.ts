/**
 * `gateway.v0`: a frontend named by an image (`# syntax=docker/dockerfile:1`). The published Dockerfile frontends are what is built in,
 * so these names run the built-in one and pull nothing (docs/adr/0008). Other images are refused: frontends do not run as containers here.
 */
import { BuildError } from '../../../core/errors.ts';
import { parseReference } from '../../registry/reference.ts';
import type { Bridge, Frontend, FrontendRequest, FrontendResult } from '../ports.ts';

const BUILT_IN = 'dockerfile.v0';
const PUBLISHED = new Set(['docker/dockerfile', 'docker/dockerfile-upstream']);

export const gatewayFrontend: Frontend = {
  async run(bridge: Bridge, request: FrontendRequest): Promise<FrontendResult> {
    const source = request.options.get('source') ?? '';
    if (source === '') throw new BuildError('invalid-input', 'no source specified for gateway', { grpcCode: 2 });
    if (source !== BUILT_IN && !isPublished(source)) {
      throw new BuildError(
        'unsupported',
        `the frontend image ${source} cannot be run: frontends as containers are not supported`,
        {
          hint: 'remove the syntax line, or use docker/dockerfile, which is built in',
        },
      );
    }
    // The command line in the options tells the Dockerfile frontend that its syntax line has been followed already.
    const options = new Map([...request.options, ['cmdline', request.options.get('cmdline') ?? source] as const]);
    return await bridge.forward({ frontend: BUILT_IN, options, inputs: request.inputs });
  },
};

/** Any tag or digest: there is one Dockerfile frontend here. @throws BuildError `invalid-input` for text that is no reference. */
function isPublished(source: string): boolean {
  const { host, repository } = parseReference(source);
  return host === 'docker.io' && PUBLISHED.has(repository);
}
