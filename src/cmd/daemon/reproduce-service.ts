/** `cooper.v1.Checks/Reproduce` on the build API: a ref as JSON in, a verdict as JSON out. Whoever may build may ask for it. */
import type { Reproducer } from '../../builder/reproduce/reproducer.ts';
import type { RawMethod, Service } from '../../builder/rpc/handlers.ts';
import { BuildError } from '../../core/errors.ts';
import { REPRODUCE_METHOD } from '../reproduce-method.ts';

const MAX_REF = 1_024;

export function reproduceService(reproducer: Reproducer): Service {
  const reproduce: RawMethod = async (stream, context) => {
    for await (const message of stream) {
      const verdict = await reproducer.check(refOf(message), context.signal);
      return await stream.send(new TextEncoder().encode(JSON.stringify(verdict)));
    }
    throw new BuildError('invalid-input', 'a request names a build');
  };
  return { typeName: 'cooper.v1.Checks', methods: new Map([[REPRODUCE_METHOD, reproduce]]) };
}

function refOf(message: Uint8Array): string {
  let request: unknown;
  try {
    request = JSON.parse(new TextDecoder().decode(message));
  } catch (cause) {
    throw new BuildError('invalid-input', 'the request is no JSON', {}, { cause });
  }
  const ref = typeof request === 'object' && request !== null && 'ref' in request ? request.ref : undefined;
  if (typeof ref !== 'string' || ref === '' || ref.length > MAX_REF)
    throw new BuildError('invalid-input', 'a request names a build');
  return ref;
}
