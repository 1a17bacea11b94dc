/**
 * How a failed build is told: the real daemon answers almost every failure with Unknown, and clients print any other code in front of
 * the message. What went wrong is in the typed details and, for our own client, in the kind.
 */
import { BuildError, GRPC } from '../../core/errors.ts';

/** Kinds that keep their code: clients act on them. */
const TYPED: ReadonlySet<string> = new Set(['cancelled', 'unsupported']);

export function asBuildFailure(thrown: unknown): BuildError {
  const error = BuildError.from(thrown);
  return TYPED.has(error.kind) || error.detail.grpcCode !== undefined ? error : error.wrap('', { grpcCode: GRPC.UNKNOWN });
}

type Call = (request: never, context: never) => unknown;

/** The same handlers; what their promises reject with is told as a build failure. */
export function tellBuildFailures<T extends { readonly [name: string]: unknown }>(handlers: T): T {
  const told = Object.entries(handlers).map(([name, handler]) => {
    if (typeof handler !== 'function') return [name, handler];
    const call = handler as Call;
    const answer = async (request: never, context: never): Promise<unknown> => {
      try {
        return await call(request, context);
      } catch (thrown) {
        throw asBuildFailure(thrown);
      }
    };
    return [name, answer];
  });
  return Object.fromEntries(told) as T;
}
