/**
 * The gRPC server core: services served on any byte stream, be it an accepted socket (listener.ts) or a tunnel inside another call.
 * Knows nothing of what the services do; an observer sees every call begin and end.
 */
import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../core/clock.ts';
import { BuildError, type GrpcCode } from '../../core/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../core/limits.ts';
import { CONNECTION_WINDOW_BYTES, SERVER_OPTIONS } from './connection-limits.ts';
import type { Peer, RawMethod, Service } from './handlers.ts';
import { Metadata } from './metadata.ts';
import { ServerCall } from './server-call.ts';

/** Sees calls begin and end. Must return at once; what it throws is dropped. */
export interface RpcObserver {
  /** `method` is `/pkg.Service/Method` of a registered method, else `unknown`, so it is safe as a label. */
  rpcStarted?(method: string, peer: Peer): void;
  rpcEnded?(
    method: string,
    code: GrpcCode,
    durationNs: bigint,
    error: BuildError | undefined,
    caller: { readonly peer: Peer; readonly traceparent: string | undefined },
  ): void;
  /** A connection that broke the protocol or was lost, for the log. */
  connectionFailed?(peer: Peer, error: Error): void;
}

export interface RpcServerOptions {
  readonly services: readonly Service[];
  readonly clock: Clock;
  readonly observer?: RpcObserver;
  /** Per message, both ways; 16 MiB by default. */
  readonly maxMessageBytes?: number;
}

/** A peer that has not sent its HTTP/2 preface by then is not a client. */
const PREFACE_MS = 10_000;
/** On TCP a peer can vanish without a FIN; its builds would run on for nobody. */
const KEEPALIVE_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;
/** Between the statuses that a drain sends at its deadline and the end of the connection. */
const FLUSH_MS = 1_000;
const LAST_STREAM_ID = 2 ** 31 - 1;

export class RpcServer implements AsyncDisposable {
  readonly #methods = new Map<string, RawMethod>();
  readonly #services = new Set<string>();
  readonly #options: RpcServerOptions;
  readonly #connections = new Set<Connection>();
  #draining = false;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    for (const { typeName, methods } of options.services) {
      this.#services.add(typeName);
      for (const [path, method] of methods) this.#methods.set(path, method);
    }
  }

  get connections(): number {
    return this.#connections.size;
  }
  /** Calls in flight. */
  get calls(): number {
    let count = 0;
    for (const { calls } of this.#connections) count += calls.size;
    return count;
  }

  /** Serves HTTP/2 on `duplex` from its first byte (prior knowledge, or TLS after ALPN). The duplex ends with the connection. */
  attach(duplex: Duplex, peer: Peer): void {
    if (this.#draining) {
      duplex.destroy();
      return;
    }
    duplex.on('error', () => duplex.destroy()); // or it, and the session with it, could stay half dead after a TLS alert
    const session = performServerHandshake(duplex, SERVER_OPTIONS);
    const connection = new Connection(session, duplex, peer, this.#options.observer);
    this.#connections.add(connection);
    session.on('close', () => this.#connections.delete(connection));
    session.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, _flags: number, raw: unknown) =>
      this.#onStream(connection, stream, headers, Metadata.fromRaw(raw as string[])),
    );
  }

  /**
   * Takes no new connections, tells every client to go (GOAWAY) and waits for the calls in flight. After `deadlineMs` the rest end
   * with UNAVAILABLE and the connections are cut. Repeated calls wait for the same end.
   */
  async drain(deadlineMs: number): Promise<void> {
    this.#draining = true;
    await Promise.all([...this.#connections].map((connection) => connection.drain(deadlineMs)));
  }

  /** Cuts every connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain(0);
  }

  #onStream(connection: Connection, stream: ServerHttp2Stream, headers: IncomingHttpHeaders, metadata: Metadata): void {
    const httpStatus = refusalOf(headers);
    if (httpStatus !== undefined) {
      stream.on('error', () => {});
      stream.respond({ ':status': httpStatus }, { endStream: true });
      stream.close(constants.NGHTTP2_NO_ERROR);
      return;
    }
    const { observer, clock } = this.#options;
    const path = headers[':path'] ?? '';
    const handler = this.#methods.get(path);
    const label = handler === undefined ? 'unknown' : path;
    const startedAtNs = clock.nowNs();
    const call = new ServerCall(stream, {
      method: path,
      headers: metadata,
      peer: connection.peer,
      maxMessageBytes: this.#options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
      onEnd: (code, error) => {
        connection.calls.delete(call);
        const caller = { peer: connection.peer, traceparent: metadata.get('traceparent') };
        observe(() => observer?.rpcEnded?.(label, code, clock.nowNs() - startedAtNs, error, caller));
      },
    });
    connection.calls.add(call);
    observe(() => observer?.rpcStarted?.(label, connection.peer));
    void call.run(handler ?? (() => Promise.reject(this.#unknownMethod(path))));
  }

  #unknownMethod(path: string): BuildError {
    const [, service = '', method = ''] = path.split('/');
    return this.#services.has(service)
      ? new BuildError('unsupported', `unknown method ${method} for service ${service}`)
      : new BuildError('unsupported', `unknown service ${service}`);
  }
}

class Connection {
  readonly peer: Peer;
  readonly calls = new Set<ServerCall>();
  readonly #session: ServerHttp2Session;
  readonly #duplex: Duplex;
  readonly #observer: RpcObserver | undefined;
  readonly #closed: Promise<void>;
  #keepalive: NodeJS.Timeout | undefined;

  constructor(session: ServerHttp2Session, duplex: Duplex, peer: Peer, observer: RpcObserver | undefined) {
    this.#session = session;
    this.#duplex = duplex;
    this.peer = peer;
    this.#observer = observer;
    const preface = setTimeout(() => this.#cut(), PREFACE_MS).unref();
    this.#closed = new Promise((resolve) => {
      session.on('close', () => {
        clearTimeout(preface);
        clearInterval(this.#keepalive);
        resolve();
      });
    });
    let greeted = false;
    session.on('error', (error: Error) => {
      // Go clients leave in a way that nghttp2 calls a protocol error; with nothing in flight nothing was lost.
      if (greeted && this.calls.size === 0) return;
      observe(() => this.#observer?.connectionFailed?.(peer, error));
    });
    session.once('remoteSettings', () => {
      greeted = true;
      clearTimeout(preface);
      if (peer.transport === 'tcp' || peer.transport === 'tls') this.#startKeepalive();
    });
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
  }

  async drain(deadlineMs: number): Promise<void> {
    const session = this.#session;
    if (session.destroyed) return;
    if (deadlineMs > 0) {
      // First GOAWAY without a limit, then, one round trip later, the real one: calls that crossed the first are still served.
      session.goaway(constants.NGHTTP2_NO_ERROR, LAST_STREAM_ID);
      session.ping(() => session.destroyed || session.close());
      if (await this.#closesWithin(deadlineMs)) return;
    }
    for (const call of [...this.calls]) call.abort(new BuildError('unavailable', 'the daemon is shutting down'));
    if (!session.closed) session.close();
    if (!(await this.#closesWithin(FLUSH_MS))) this.#cut();
    await this.#closed;
  }

  /** The duplex too: node would wait for a peer that has stopped reading. */
  #cut(): void {
    this.#session.destroy();
    this.#duplex.destroy();
  }

  async #closesWithin(ms: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), ms);
    void this.#closed.then(() => resolve(true));
    const closed = await promise;
    clearTimeout(timer);
    return closed;
  }

  #startKeepalive(): void {
    const session = this.#session;
    this.#keepalive = setInterval(() => {
      if (session.closed || session.destroyed) return;
      const timer = setTimeout(() => this.#cut(), KEEPALIVE_TIMEOUT_MS).unref();
      session.ping(() => clearTimeout(timer));
    }, KEEPALIVE_MS).unref();
  }
}

/** HTTP status for what is not a gRPC request at all. */
function refusalOf(headers: IncomingHttpHeaders): number | undefined {
  if (headers[':method'] !== 'POST') return 405;
  return /^application\/grpc($|[+;])/.test(headers['content-type'] ?? '') ? undefined : 415;
}

/** An observer can neither block nor fail a call. */
function observe(tell: () => void): void {
  try {
    tell();
  } catch {
    // an observer that throws is a bug in the observer; the call goes on
  }
}
