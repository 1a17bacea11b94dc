/** One call being served: an HTTP/2 stream seen as messages, with a deadline, a cancel signal and exactly one status at its end. */
import { constants, type ServerHttp2Stream } from 'node:http2';
import { BuildError, cancelled, GRPC, type GrpcCode } from '../../core/errors.ts';
import type { CallContext, Peer, RawMethod, RawStream } from './handlers.ts';
import { type MessagePieces, MessageReader } from './message-reader.ts';
import { MessageWriter } from './message-writer.ts';
import { addHeaders, type HeaderList, type Metadata, parseTimeout } from './metadata.ts';
import { grpcCodeOf, statusTrailers } from './status.ts';

export interface ServerCallOptions {
  readonly method: string;
  readonly headers: Metadata;
  readonly peer: Peer;
  readonly maxMessageBytes: number;
  /** Called once, when the status is decided. */
  readonly onEnd: (code: GrpcCode, error: BuildError | undefined) => void;
}

const MAX_TIMER_MS = 2 ** 31 - 1;
const RESPONSE_HEADERS = { ':status': 200, 'content-type': 'application/grpc', 'grpc-accept-encoding': 'gzip' } as const;

/**
 * open ─handler returns─► OK sent;  ─handler throws, deadline, drain─► its status sent;  ─reset or connection lost─► nothing to send
 */
export class ServerCall implements CallContext, RawStream {
  readonly method: string;
  readonly headers: Metadata;
  readonly peer: Peer;
  readonly #stream: ServerHttp2Stream;
  readonly #options: ServerCallOptions;
  readonly #reader: MessageReader;
  readonly #writer: MessageWriter;
  readonly #trailers: Record<string, string | string[]> = {};
  #timer: NodeJS.Timeout | undefined;
  #controller: AbortController | undefined;
  #abortReason: BuildError | undefined;
  #isOver = false;

  constructor(stream: ServerHttp2Stream, options: ServerCallOptions) {
    this.method = options.method;
    this.headers = options.headers;
    this.peer = options.peer;
    this.#stream = stream;
    this.#options = options;
    this.#reader = new MessageReader(stream, options.maxMessageBytes);
    this.#writer = new MessageWriter(stream, options.maxMessageBytes);
    stream.on('error', () => {}); // `close` follows
    stream.on('close', () => this.#onClose());
  }

  /** Made on first use: most unary handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  /** Runs the handler to the end of the call. Never rejects. */
  async run(handler: RawMethod): Promise<void> {
    try {
      this.#readRequestHeaders();
      await handler(this, this);
      this.#sendHeaders([]);
      this.#finish(undefined);
    } catch (error) {
      this.#finish(BuildError.from(error));
    }
  }

  /** Ends the call with this failure now; the handler's signal aborts with it and whatever it answers is dropped. */
  abort(reason: BuildError): void {
    if (this.#isOver) return;
    this.#abortReason = reason;
    this.#reader.fail(reason);
    this.#finish(reason);
    this.#controller?.abort(reason);
  }

  send(message: Uint8Array): Promise<void> {
    this.#sendHeaders([]);
    return this.#writer.send(message);
  }
  sendData(data: Uint8Array): Promise<void> {
    this.#sendHeaders([]);
    return this.#writer.sendData(data);
  }
  sendHeaders(headers: HeaderList = []): void {
    this.#sendHeaders(headers);
  }
  setTrailer(name: string, value: string): void {
    addHeaders(this.#trailers, [[name, value]]);
  }
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return this.#reader;
  }
  pieces(): MessagePieces {
    return { next: () => this.#reader.nextPieces(), return: () => this.#reader.return() };
  }

  #readRequestHeaders(): void {
    const encoding = this.headers.get('grpc-encoding');
    if (encoding !== undefined && encoding !== 'identity' && encoding !== 'gzip') {
      throw new BuildError('unsupported', `grpc-encoding "${encoding}" is not supported; this server accepts gzip`);
    }
    this.#reader.encoding = encoding;
    const timeout = this.headers.get('grpc-timeout');
    if (timeout === undefined) return;
    const timeoutMs = parseTimeout(timeout);
    if (timeoutMs === undefined) throw new BuildError('invalid-input', `malformed grpc-timeout "${timeout}"`);
    if (timeoutMs === 0) throw new BuildError('timed-out', 'context deadline exceeded');
    const onDeadline = (): void => this.abort(new BuildError('timed-out', 'context deadline exceeded'));
    this.#timer = setTimeout(onDeadline, Math.min(timeoutMs, MAX_TIMER_MS));
    this.#timer.unref();
  }

  /** Responding to a stream that is gone throws, so every path to `respond` asks first. */
  #sendHeaders(headers: HeaderList): void {
    const stream = this.#stream;
    if (this.#isOver || stream.headersSent || stream.destroyed || stream.closed) return;
    const response: Record<string, string | string[] | number> = { ...RESPONSE_HEADERS };
    addHeaders(response as Record<string, string | string[]>, headers);
    stream.respond(response, { waitForTrailers: true });
  }

  #finish(error: BuildError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#options.onEnd(error === undefined ? GRPC.OK : grpcCodeOf(error), error);
    const stream = this.#stream;
    if (stream.destroyed || stream.closed) return;
    const trailers = { ...statusTrailers(error), ...this.#trailers };
    this.#reader.discard(); // an unread request must not keep the stream open
    if (stream.headersSent) {
      stream.on('wantTrailers', () => {
        stream.sendTrailers(trailers); // node sends them from an immediate of its own; closing before that would lose them
        setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR)); // the client may still be sending; it need not
      });
      stream.end();
    } else {
      stream.respond({ ...RESPONSE_HEADERS, ...trailers }, { endStream: true });
      stream.close(constants.NGHTTP2_NO_ERROR);
    }
  }

  #onClose(): void {
    if (this.#isOver) return;
    const reason = cancelled();
    this.#abortReason = reason;
    this.#reader.fail(reason);
    this.#finish(reason);
    this.#controller?.abort(reason);
  }
}
