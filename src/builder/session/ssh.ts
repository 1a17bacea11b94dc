/** The client's ssh agent as a socket for a step (buildkit-wire.md 3.7). Keys stay at the client; only requests to sign travel. */
import { once } from 'node:events';
import { chmodSync, chownSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { BuildError, cancelled } from '../../core/errors.ts';
import { CheckAgentRequestSchema } from '../proto/gen/moby/sshforward/v1/ssh_pb.ts';
import { decodeBytesMessage, encodeBytesMessage } from '../rpc/bytes-message.ts';
import type { Session, Sessions } from './ports.ts';

const CHECK = '/moby.sshforward.v1.SSH/CheckAgent';
const FORWARD = '/moby.sshforward.v1.SSH/ForwardAgent';
/** Connections of one step at once; agents answer in milliseconds. */
const MAX_CONNECTIONS = 64;

export interface AgentSocket {
  /** As in the mount; empty is `default`. */
  readonly id: string;
  /** Where the socket is made; at most 107 bytes, the kernel's limit. */
  readonly path: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/**
 * A session that forwards the agent `id`; undefined when none does.
 * @throws BuildError whatever else a client answers.
 */
export async function findAgent(
  sessions: Sessions,
  sessionIds: readonly string[],
  id: string,
  signal: AbortSignal,
): Promise<Session | undefined> {
  if (sessionIds.length === 0) return undefined;
  const request = toBinary(CheckAgentRequestSchema, create(CheckAgentRequestSchema, { ID: id }));
  try {
    return await sessions.any(sessionIds, signal, async (session) => {
      if (!session.supports(CHECK)) throw new BuildError('unsupported', 'the client forwards no ssh agent');
      await session.unary(CHECK, request, { signal });
      return session;
    });
  } catch (thrown) {
    const error = BuildError.from(thrown);
    if (!signal.aborted && (error.kind === 'not-found' || error.kind === 'unsupported')) return undefined;
    throw error;
  }
}

/** Serves the agent on a unix socket until disposed or the session ends; every connection is a stream of its own to the client. */
export async function openAgentSocket(session: Session, socket: AgentSocket, signal: AbortSignal): Promise<AsyncDisposable> {
  const closing = new AbortController();
  const until = AbortSignal.any([signal, session.closed, closing.signal]);
  const connections = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (connection) => {
    connections.add(connection);
    connection.on('error', () => {}); // `close` follows
    connection.on('close', () => connections.delete(connection));
    void forward(session, socket.id, connection, until);
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.listen(socket.path);
  await once(server, 'listening');
  chmodSync(socket.path, socket.mode);
  if (process.geteuid?.() === 0) chownSync(socket.path, socket.uid, socket.gid);
  return {
    async [Symbol.asyncDispose]() {
      closing.abort(cancelled('the step has ended'));
      for (const connection of connections) connection.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve())); // removes the socket too
    },
  };
}

/** Half-close maps to half-close in both directions; a failure on either side ends both. */
async function forward(session: Session, id: string, connection: Socket, signal: AbortSignal): Promise<void> {
  const gone = new AbortController();
  connection.on('close', () => gone.abort(cancelled('the connection to the agent socket was closed')));
  const stream = session.stream(FORWARD, { headers: [['buildkit.ssh.id', id]], signal: AbortSignal.any([signal, gone.signal]) });
  const toClient = async (): Promise<void> => {
    const requests: AsyncIterable<Uint8Array> = connection.iterator({ destroyOnReturn: false }); // answers may still come
    for await (const bytes of requests) await stream.send(encodeBytesMessage(bytes));
    stream.end();
  };
  const toStep = async (): Promise<void> => {
    for await (const message of stream) if (!connection.write(decodeBytesMessage(message))) await once(connection, 'drain');
    connection.end();
  };
  await Promise.all([toClient(), toStep()]).catch(() => {});
  connection.destroy();
}
