/**
 * Calls to a gRPC peer over any byte stream: the tunnel inside Control.Session, a unix socket, TCP with or without TLS. Errors are
 * BuildErrors made from the peer's status by status.ts; a connection that goes away is `unavailable`.
 */

import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { connect as connectNet } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import type { DescMessage, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { abortable } from '../../core/abort.ts';
import { BuildError } from '../../core/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../core/limits.ts';
import { ClientCall, failedCall, type RpcStream } from './client-call.ts';
import { CLIENT_OPTIONS, CONNECTION_WINDOW_BYTES } from './connection-limits.ts';
import { decodeMessage, encodeMessage, pathOf } from './messages.ts';
import { addHeaders, formatTimeout, type HeaderList } from './metadata.ts';

export interface CallOptions {
  readonly headers?: HeaderList;
  /** Cancels the call (RST_STREAM CANCEL); the call then rejects with the abort reason. */
  readonly signal?: AbortSignal;
  /** Sent as `grpc-timeout` and enforced here too; then the call rejects with `timed-out`. */
  readonly timeoutMs?: number;
  /** Largest message accepted or sent; 16 MiB by default. */
  readonly maxMessageBytes?: number;
}

/** What typed calls need of a generated method descriptor (`Control.method.solve`). */
export interface MethodOf<I extends DescMessage, O extends DescMessage> {
  readonly name: string;
  readonly parent: { readonly typeName: string };
  readonly input: I;
  readonly output: O;
}

export class RpcClient implements AsyncDisposable {
  readonly #session: ClientHttp2Session;
  readonly #duplex: Duplex;
  readonly #authority: string;
  readonly #closed = new AbortController();
  #goingAway = false;

  /** What broke the connection, once something has. */
  #cause: Error | undefined;

  /** Use openTunnel or connect. */
  constructor(session: ClientHttp2Session, duplex: Duplex, authority: string) {
    this.#session = session;
    this.#duplex = duplex;
    this.#authority = authority;
    const onError = (error: Error): void => {
      this.#cause ??= error;
      // After a TLS alert node destroys the session but not the socket, and neither would ever report its end.
      duplex.destroy();
    };
    duplex.on('error', onError);
    session.on('error', onError);
    session.on('goaway', () => {
      this.#goingAway = true;
    });
    session.on('close', () => this.#closed.abort(this.#loss()));
    const widen = (): void => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    if (session.connecting) session.once('connect', widen);
    else widen();
  }

  /** Aborts with an `unavailable` BuildError when the connection is gone. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Opens a call with messages as bytes; `path` is `/pkg.Service/Method`. Failures show on the stream, never here. */
  stream(path: string, options: CallOptions = {}): RpcStream {
    const { signal, timeoutMs } = options;
    if (signal?.aborted) return failedCall(BuildError.from(signal.reason));
    if (this.#closed.signal.aborted) return failedCall(BuildError.from(this.#closed.signal.reason));
    if (this.#goingAway || this.#session.closed || this.#session.destroyed) {
      return failedCall(new BuildError('unavailable', 'the peer is shutting down the connection'));
    }
    const headers: Record<string, string | string[]> = {
      ':method': 'POST',
      ':path': path,
      ':scheme': 'http',
      ':authority': this.#authority,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'cooper',
      'grpc-accept-encoding': 'gzip',
    };
    let stream: ClientHttp2Stream;
    try {
      if (timeoutMs !== undefined) headers['grpc-timeout'] = formatTimeout(timeoutMs);
      addHeaders(headers, options.headers ?? []);
      stream = this.#session.request(headers, { endStream: false });
    } catch (error) {
      return failedCall(
        error instanceof BuildError ? error : new BuildError('unavailable', `cannot start ${path}`, {}, { cause: error }),
      );
    }
    const maxMessageBytes = options.maxMessageBytes ?? MAX_MESSAGE_BYTES;
    return new ClientCall(stream, {
      signal,
      timeoutMs,
      maxMessageBytes,
      connectionLoss: () => (this.#session.destroyed ? this.#loss() : undefined),
    });
  }

  /** One request, one answer, both encoded. */
  async unaryBytes(path: string, request: Uint8Array, options: CallOptions = {}): Promise<Uint8Array> {
    using call = this.stream(path, options);
    call.send(request).catch(() => {}); // the status says why
    call.end();
    let answer: Uint8Array | undefined;
    for await (const message of call) {
      if (answer !== undefined) throw new BuildError('internal', `${path} answered a unary call twice`);
      answer = message;
    }
    if (answer === undefined) throw new BuildError('internal', `${path} answered OK without a message`);
    return answer;
  }

  /** `client.unary(Control.method.info, {})`. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const bytes = encodeMessage(method.input, request);
    return decodeMessage(method.output, await this.unaryBytes(pathOf(method), bytes, options));
  }

  /** The messages of a server stream. Leaving the loop cancels the call. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    using call = this.stream(pathOf(method), options);
    call.send(encodeMessage(method.input, request)).catch(() => {});
    call.end();
    for await (const message of call) yield decodeMessage(method.output, message);
  }

  /** Client stream and bidi: what comes from `requests` goes out at the peer's pace, answers are yielded. Leaving the loop cancels. */
  async *bidi<I extends DescMessage, O extends DescMessage>(
    method: MethodOf<I, O>,
    requests: AsyncIterable<MessageInitShape<I>>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    using call = this.stream(pathOf(method), options);
    const pump = async (): Promise<void> => {
      try {
        for await (const request of requests) await call.send(encodeMessage(method.input, request));
        call.end();
      } catch (error) {
        call.cancel(BuildError.from(error));
      }
    };
    void pump();
    for await (const message of call) yield decodeMessage(method.output, message);
  }

  #loss(): BuildError {
    const cause = this.#cause;
    if (cause === undefined) return new BuildError('unavailable', 'the connection was closed');
    return new BuildError(lossKind(cause), `the connection broke: ${cause.message}`, {}, { cause });
  }

  /** Round trip of an HTTP/2 PING, milliseconds. Rejects with `unavailable` when the connection is gone. */
  ping(): Promise<number> {
    return new Promise((resolve, reject) => {
      const fail = (cause: unknown): void => reject(new BuildError('unavailable', 'ping failed', {}, { cause }));
      try {
        this.#session.ping((error, durationMs) => (error === null ? resolve(durationMs) : fail(error)));
      } catch (error) {
        fail(error);
      }
    });
  }

  /** Lets running calls finish, then closes. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    const closed = new Promise<void>((resolve) => this.#session.once('close', resolve));
    if (!this.#session.closed) this.#session.close();
    await closed;
  }

  /** Closes at once; running calls fail with `unavailable`. */
  destroy(): void {
    this.#session.destroy();
    this.#duplex.destroy(); // node would wait for a peer that has stopped reading
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.destroy();
    if (!this.#closed.signal.aborted) await new Promise<void>((resolve) => this.#session.once('close', resolve));
  }
}

/**
 * A client over a byte stream that is already connected, such as the tunnel inside Control.Session, where the peer is the server.
 * The duplex belongs to the client from here on and ends with it.
 */
export function openTunnel(duplex: Duplex, authority = 'localhost'): RpcClient {
  const session = connectHttp2(`http://${authority}`, { ...CLIENT_OPTIONS, createConnection: () => duplex });
  return new RpcClient(session, duplex, authority);
}

export interface TlsIdentity {
  /** PEM. Absent: the system's certificate authorities. */
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** Name expected in the server's certificate, when it is not the host. */
  readonly serverName?: string;
}
export type Address =
  | { readonly type: 'unix'; readonly path: string }
  | { readonly type: 'tcp'; readonly host: string; readonly port: number; readonly tls?: TlsIdentity };

/** Connects and completes the HTTP/2 handshake. Rejects with `unavailable` when nobody answers, `denied` when TLS fails. */
export async function connect(address: Address, options: { readonly signal?: AbortSignal } = {}): Promise<RpcClient> {
  const secure = address.type === 'tcp' && address.tls !== undefined;
  const socket = openSocket(address);
  const connected = new Promise<void>((resolve, reject) => {
    socket.once(secure ? 'secureConnect' : 'connect', resolve);
    socket.once('error', (error) => {
      reject(new BuildError(lossKind(error), `cannot connect to ${textOf(address)}: ${error.message}`, {}, { cause: error }));
    });
  });
  try {
    await (options.signal === undefined ? connected : abortable(connected, options.signal));
  } catch (error) {
    connected.catch(() => {});
    socket.destroy();
    throw error;
  }
  if (secure && 'alpnProtocol' in socket && socket.alpnProtocol !== 'h2') {
    socket.destroy();
    throw new BuildError('unavailable', `${textOf(address)} does not speak HTTP/2`);
  }
  return openTunnel(socket, address.type === 'unix' ? 'localhost' : (address.tls?.serverName ?? address.host));
}

/** TLS says no: a certificate of ours or theirs was refused. */
const lossKind = (error: NodeJS.ErrnoException): 'denied' | 'unavailable' =>
  /CERT|SSL|TLS/.test(error.code ?? '') ? 'denied' : 'unavailable';

function openSocket(address: Address): Duplex {
  if (address.type === 'unix') return connectNet(address.path);
  const { host, port, tls } = address;
  if (tls === undefined) return connectNet({ host, port, noDelay: true });
  const { serverName, ...identity } = tls;
  const servername = serverName ?? host;
  return connectTls({
    host,
    port,
    ALPNProtocols: ['h2'],
    ...(/^[\d.]+$|:/.test(servername) ? {} : { servername }), // an IP address is no server name
    ...identity,
  }).setNoDelay(true);
}

const textOf = (address: Address): string =>
  address.type === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${address.port}`;
