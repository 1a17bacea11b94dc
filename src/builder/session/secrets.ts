/** Secrets of a build, asked of its clients for each use and kept nowhere (buildkit-wire.md 3.6). */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { BuildError } from '../../core/errors.ts';
import { MAX_SECRET_BYTES } from '../../core/limits.ts';
import { GetSecretRequestSchema, GetSecretResponseSchema } from '../proto/gen/moby/buildkit/secrets/v1/secrets_pb.ts';
import type { Session, Sessions } from './ports.ts';

const GET_SECRET = '/moby.buildkit.secrets.v1.Secrets/GetSecret';

/**
 * The secret `id` from the first of the sessions that has it; undefined when none has. Waits for sessions that have not connected yet.
 * @throws BuildError `invalid-input` for a value above MAX_SECRET_BYTES; whatever else a client answers, as it is.
 */
export async function readSecret(
  sessions: Sessions,
  sessionIds: readonly string[],
  id: string,
  signal: AbortSignal,
  traceparent?: string,
): Promise<Uint8Array | undefined> {
  if (sessionIds.length === 0) return undefined;
  try {
    return await sessions.any(sessionIds, signal, (session) => readSecretFrom(session, id, signal, traceparent));
  } catch (thrown) {
    const error = BuildError.from(thrown);
    if (!signal.aborted && (error.kind === 'not-found' || error.kind === 'unsupported')) return undefined;
    throw error;
  }
}

/**
 * `traceparent`: of the step that wants it, so that the client's span joins the build's trace.
 * @throws BuildError `not-found` when this client does not have it, `unsupported` when it serves no secrets.
 */
export async function readSecretFrom(
  session: Session,
  id: string,
  signal: AbortSignal,
  traceparent?: string,
): Promise<Uint8Array> {
  if (!session.supports(GET_SECRET)) throw new BuildError('unsupported', 'the client offers no secrets');
  const headers = traceparent === undefined ? {} : { headers: [['traceparent', traceparent] as const] };
  const request = toBinary(GetSecretRequestSchema, create(GetSecretRequestSchema, { ID: id }));
  const { data } = fromBinary(GetSecretResponseSchema, await session.unary(GET_SECRET, request, { signal, ...headers }));
  if (data.byteLength > MAX_SECRET_BYTES) {
    throw new BuildError(
      'invalid-input',
      `invalid secret size ${data.byteLength}: a secret has at most ${MAX_SECRET_BYTES} bytes`,
    );
  }
  return data;
}
