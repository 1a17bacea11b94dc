/**
 * What a service implementation is given and what it gives: one function per method, its shape decided by the generated descriptor.
 * `service(Control, { info: async () => ({...}) })` binds them; methods left out answer UNIMPLEMENTED.
 */
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { BuildError } from '../../core/errors.ts';
import type { MessagePieces } from './message-reader.ts';
import { decodeMessage, encodeMessage, pathOf } from './messages.ts';
import type { HeaderList, Metadata } from './metadata.ts';

/** Who calls. */
export interface Peer {
  readonly transport: 'unix' | 'tcp' | 'tls' | 'tunnel';
  readonly address: string;
  /** Common name of the client certificate, once verified. */
  readonly identity?: string;
}

export interface CallContext {
  /** `/pkg.Service/Method`. */
  readonly method: string;
  readonly headers: Metadata;
  readonly peer: Peer;
  /** Aborts with `cancelled` when the client goes away, `timed-out` at its deadline, `unavailable` when a drain runs out of patience. */
  readonly signal: AbortSignal;
  /** Sends response headers now rather than with the first message. Later calls do nothing. */
  sendHeaders(headers?: HeaderList): void;
  /** Adds a trailer to whatever the call ends with. */
  setTrailer(name: string, value: string): void;
}

/** Messages as bytes, for streams where decoding costs more than the work. Iteration ends at the client's half-close. */
export interface RawStream extends AsyncIterable<Uint8Array> {
  /** Queues at once, in order; resolves when there is room for more. Rejects with `cancelled` when the client is gone. */
  send(message: Uint8Array): Promise<void>;
  /** A BytesMessage holding `data`, without copying it. */
  sendData(data: Uint8Array): Promise<void>;
  /** In place of iterating: each message in the pieces it arrived in, uncopied. For bulk. */
  pieces(): MessagePieces;
}
export type RawMethod = (stream: RawStream, context: CallContext) => Promise<void>;

const isRaw: unique symbol = Symbol('raw');
export interface RawHandler {
  readonly [isRaw]: RawMethod;
}
/** Marks a handler that reads and writes encoded messages, for any kind of method: `session: raw(async (stream, context) => ...)`. */
export const raw = (method: RawMethod): RawHandler => ({ [isRaw]: method });

type Method = Pick<DescMethod, 'input' | 'output' | 'methodKind'>;
type Request<M extends Method> = MessageShape<M['input']>;
/** A message, or its bytes where they are already at hand (a recorded log that is replayed). */
type Response<M extends Method> = MessageInitShape<M['output']> | Uint8Array;
export type UnaryHandler<M extends Method> = (request: Request<M>, context: CallContext) => Promise<Response<M>> | Response<M>;
export type ServerStreamHandler<M extends Method> = (request: Request<M>, context: CallContext) => AsyncIterable<Response<M>>;
export type ClientStreamHandler<M extends Method> = (
  requests: AsyncIterable<Request<M>>,
  context: CallContext,
) => Promise<Response<M>>;
export type BidiHandler<M extends Method> = (
  requests: AsyncIterable<Request<M>>,
  context: CallContext,
) => AsyncIterable<Response<M>>;
export type Handler<M extends Method> = M['methodKind'] extends 'unary'
  ? UnaryHandler<M>
  : M['methodKind'] extends 'server_streaming'
    ? ServerStreamHandler<M>
    : M['methodKind'] extends 'client_streaming'
      ? ClientStreamHandler<M>
      : BidiHandler<M>;
/** `Handlers<typeof Control>`. A throw becomes the status of the call. */
export type Handlers<S> =
  S extends GenService<infer Methods extends GenServiceMethods>
    ? { readonly [K in keyof Methods]?: Handler<Methods[K]> | RawHandler }
    : never;

/** A service ready to be registered: every method reduced to bytes. */
export interface Service {
  readonly typeName: string;
  readonly methods: ReadonlyMap<string, RawMethod>;
}

export function service<Methods extends GenServiceMethods>(
  descriptor: GenService<Methods>,
  handlers: Handlers<GenService<Methods>>,
): Service {
  const methods = new Map<string, RawMethod>();
  const table = handlers as Readonly<Record<string, unknown>>;
  for (const method of descriptor.methods) {
    const handler = table[method.localName];
    if (handler !== undefined) methods.set(pathOf(method), bind(method, handler));
  }
  return { typeName: descriptor.typeName, methods };
}

/** `service` has checked the handler against its method; here only the kind is left. */
function bind(method: DescMethod, handler: unknown): RawMethod {
  if (isRawHandler(handler)) return handler[isRaw];
  const { input, output } = method;
  switch (method.methodKind) {
    case 'unary': {
      const answer = handler as UnaryHandler<DescMethod>;
      return async (stream, context) => {
        const request = decodeMessage(input, await first(stream, context));
        await stream.send(encoded(output, await answer(request, context)));
      };
    }
    case 'server_streaming': {
      const answer = handler as ServerStreamHandler<DescMethod>;
      return async (stream, context) => {
        const request = decodeMessage(input, await first(stream, context));
        for await (const message of answer(request, context)) await stream.send(encoded(output, message));
      };
    }
    case 'client_streaming': {
      const answer = handler as ClientStreamHandler<DescMethod>;
      return async (stream, context) => {
        await stream.send(encoded(output, await answer(decoded(input, stream), context)));
      };
    }
    case 'bidi_streaming': {
      const answer = handler as BidiHandler<DescMethod>;
      return async (stream, context) => {
        for await (const message of answer(decoded(input, stream), context)) await stream.send(encoded(output, message));
      };
    }
  }
}

function isRawHandler(handler: unknown): handler is RawHandler {
  return typeof handler === 'object' && handler !== null && isRaw in handler;
}

async function first(stream: RawStream, context: CallContext): Promise<Uint8Array> {
  const result = await stream[Symbol.asyncIterator]().next();
  if (result.done === true) throw new BuildError('invalid-input', `${context.method} was called without a request message`);
  return result.value;
}

async function* decoded<D extends DescMessage>(schema: D, stream: RawStream): AsyncGenerator<MessageShape<D>, void, undefined> {
  for await (const message of stream) yield decodeMessage(schema, message);
}

function encoded<D extends DescMessage>(schema: D, response: MessageInitShape<D> | Uint8Array): Uint8Array {
  return response instanceof Uint8Array ? response : encodeMessage(schema, response);
}
