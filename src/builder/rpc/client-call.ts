/** One call to a peer: its messages both ways, its headers, its end. Opened by RpcClient. */
import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2';
import { BuildError, cancelled, GRPC } from '../../core/errors.ts';
import { type MessagePieces, MessageReader } from './message-reader.ts';
import { MessageWriter } from './message-writer.ts';
import { Metadata } from './metadata.ts';
import { errorFromTrailers } from './status.ts';

/** A call in flight, messages as bytes. Iterate for the answers: it ends on status OK and throws a BuildError on any other. */
export interface RpcStream extends AsyncIterable<Uint8Array>, Disposable {
  /** Queues at once, in order; resolves when there is room for more. Rejects once the call is over; the answers say why. */
  send(message: Uint8Array): Promise<void>;
  /** A BytesMessage holding `data`, without copying it. */
  sendData(data: Uint8Array): Promise<void>;
  /** In place of iterating: each message in the pieces it arrived in, uncopied. For bulk. */
  pieces(): MessagePieces;
  /** Half-close: no more messages from us. */
  end(): void;
  /** Response headers; they may come as late as the first message. Rejects when the call fails before them. */
  readonly headers: Promise<Metadata>;
  /** Empty until the call has ended. */
  readonly trailers: Metadata;
  /** Gives the call up; no effect once it has ended. Disposing and leaving the iteration early do the same. */
  cancel(reason?: BuildError): void;
}

export interface ClientCallOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly maxMessageBytes: number;
  /** Why the connection is gone, or undefined while it is there. */
  readonly connectionLoss: () => BuildError | undefined;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * open ─response headers─► open ─trailers, then the last message read─► over
 * open ─cancel, deadline, reset, connection lost─► over
 */
export class ClientCall implements RpcStream, AsyncIterator<Uint8Array, undefined> {
  readonly headers: Promise<Metadata>;
  trailers = new Metadata();
  readonly #stream: ClientHttp2Stream;
  readonly #reader: MessageReader;
  readonly #writer: MessageWriter;
  readonly #options: ClientCallOptions;
  readonly #resolveHeaders: (headers: Metadata) => void;
  readonly #rejectHeaders: (error: BuildError) => void;
  readonly #over = Promise.withResolvers<BuildError | undefined>();
  readonly #timer: NodeJS.Timeout | undefined;
  /** What the trailers said, once they are here: a failure, or null for OK. */
  #status: BuildError | null | undefined;
  #isOver = false;

  constructor(stream: ClientHttp2Stream, options: ClientCallOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#reader = new MessageReader(stream, options.maxMessageBytes);
    this.#writer = new MessageWriter(stream, options.maxMessageBytes);
    const { promise, resolve, reject } = Promise.withResolvers<Metadata>();
    promise.catch(() => {}); // most callers never ask
    this.headers = promise;
    this.#resolveHeaders = resolve;
    this.#rejectHeaders = reject;
    stream.on('response', (headers, _flags, raw) => this.#onResponse(headers, Metadata.fromRaw(rawOf(raw, headers))));
    stream.on('trailers', (headers, _flags, raw) => this.#onTrailers(Metadata.fromRaw(rawOf(raw, headers))));
    stream.on('end', () => this.#onEnd());
    stream.on('error', () => {}); // `close` follows and knows more
    stream.on('close', () => this.#onClose());
    options.signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (options.timeoutMs !== undefined) {
      this.#timer = setTimeout(() => this.cancel(deadlineExceeded()), Math.min(options.timeoutMs, MAX_TIMER_MS));
      this.#timer.unref();
    }
  }

  send(message: Uint8Array): Promise<void> {
    return this.#writer.send(message);
  }
  sendData(data: Uint8Array): Promise<void> {
    return this.#writer.sendData(data);
  }
  end(): void {
    if (!this.#stream.destroyed && !this.#stream.writableEnded) this.#stream.end();
  }

  cancel(reason: BuildError = cancelled()): void {
    if (this.#isOver) return;
    this.#finish(reason);
    this.#reader.fail(reason);
    this.#reader.discard();
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }
  [Symbol.dispose](): void {
    this.cancel();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    return this.#following(() => this.#reader.next());
  }
  pieces(): MessagePieces {
    return { next: () => this.#following(() => this.#reader.nextPieces()), return: () => this.return() };
  }

  /** What `read` gives, and after the last message the status. */
  async #following<T>(read: () => Promise<IteratorResult<T, undefined>>): Promise<IteratorResult<T, undefined>> {
    try {
      const result = await read();
      if (result.done !== true) return result;
    } catch (error) {
      this.cancel(BuildError.from(error));
      throw error;
    }
    const failure = await this.#over.promise;
    if (failure !== undefined) throw failure;
    return { done: true, value: undefined };
  }
  return(): Promise<IteratorResult<never, undefined>> {
    this.cancel();
    return Promise.resolve({ done: true, value: undefined });
  }

  readonly #onAbort = (): void => this.cancel(BuildError.from(this.#options.signal?.reason));

  #onResponse(headers: IncomingHttpHeaders & IncomingHttpStatusHeader, metadata: Metadata): void {
    this.#reader.encoding = metadata.get('grpc-encoding');
    this.#resolveHeaders(metadata);
    if (metadata.has('grpc-status')) this.#onTrailers(metadata);
    else if (headers[':status'] !== 200) this.#status = httpError(headers[':status'] ?? 0);
  }

  #onTrailers(trailers: Metadata): void {
    this.trailers = trailers;
    this.#status = errorFromTrailers((name) => trailers.get(name)) ?? null;
  }

  /** All messages have been read into the queue; trailers, if any, were announced before. */
  #onEnd(): void {
    if (this.#status !== undefined) this.#finish(this.#status ?? undefined); // else `close` will know whether the connection is gone
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_NO_ERROR); // our half may still be open
  }

  #onClose(): void {
    if (this.#isOver) return;
    const status = this.#status;
    if (status !== undefined) {
      this.#finish(status ?? undefined);
      this.#reader.finish();
      return;
    }
    const error = this.#loss();
    this.#finish(error);
    this.#reader.fail(error);
  }

  /** Why the call ended without a status. */
  #loss(): BuildError {
    const { rstCode } = this.#stream;
    // grpc-go keeps the deadline too and cuts the stream with CANCEL when its clock is first; for other reasons it sends a status.
    if (rstCode === constants.NGHTTP2_CANCEL && this.#timer !== undefined) return deadlineExceeded();
    return (
      this.#options.connectionLoss() ??
      (rstCode === 0 ? new BuildError('internal', 'the peer ended the stream without a status') : resetError(rstCode))
    );
  }

  #finish(error: BuildError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#rejectHeaders(error ?? new BuildError('internal', 'the call ended without headers'));
    this.#over.resolve(error);
  }
}

const deadlineExceeded = (): BuildError => new BuildError('timed-out', 'context deadline exceeded');

/** A call that never started. */
export function failedCall(error: BuildError): RpcStream {
  const rejected = (): Promise<never> => {
    const rejection = Promise.reject(error);
    rejection.catch(() => {});
    return rejection;
  };
  return {
    send: rejected,
    sendData: rejected,
    end: () => {},
    headers: rejected(),
    trailers: new Metadata(),
    cancel: () => {},
    [Symbol.dispose]: () => {},
    pieces: () => ({ next: rejected }),
    [Symbol.asyncIterator]: () => ({ next: rejected }),
  };
}

/** The raw list is the third argument of header events; types that do not know it yet fall back to the joined object. */
function rawOf(raw: unknown, headers: IncomingHttpHeaders): readonly string[] {
  if (Array.isArray(raw)) return raw as readonly string[];
  return Object.entries(headers).flatMap(([name, value]) => [value ?? []].flat().flatMap((one) => [name, String(one)]));
}

/** An answer that is not gRPC's, gRPC over HTTP/2, "HTTP to gRPC status code mapping". */
function httpError(status: number): BuildError {
  const text = `the peer answered HTTP ${status} in place of gRPC`;
  if (status === 401 || status === 403) return new BuildError('denied', text);
  if (status === 404) return new BuildError('unsupported', text);
  if (status === 429 || status >= 502) return new BuildError('unavailable', text);
  return new BuildError('internal', text, { grpcCode: status === 400 ? GRPC.INTERNAL : GRPC.UNKNOWN });
}

/** The kind of failure behind a reset without a status, gRPC over HTTP/2, "Errors". */
function resetError(code: number): BuildError {
  switch (code) {
    case constants.NGHTTP2_CANCEL:
      return new BuildError('cancelled', 'the peer cancelled the stream');
    case constants.NGHTTP2_REFUSED_STREAM:
      return new BuildError('unavailable', 'the peer refused the stream');
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return new BuildError('exhausted', 'the peer is overloaded (ENHANCE_YOUR_CALM)');
    case constants.NGHTTP2_INADEQUATE_SECURITY:
      return new BuildError('denied', 'the peer asks for better transport security');
    default:
      return new BuildError('internal', `the stream was reset with HTTP/2 code ${code}`);
  }
}
