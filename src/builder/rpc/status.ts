/**
 * BuildError to gRPC status and back: the only place where the two meet. Typed details travel as google.protobuf.Any whose value is
 * JSON with proto field names (buildkit-wire 2.9), because that is what unmodified clients decode. One detail of our own keeps kind
 * and hint, so that an error which a client hands back through LLBBridge/Return still knows whose fault it was.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  BuildError,
  ERROR_KINDS,
  type ErrorDetail,
  type ErrorKind,
  type ErrorSource,
  GRPC,
  type GrpcCode,
} from '../../core/errors.ts';
import { type Status, StatusSchema } from '../proto/gen/google/rpc/status_pb.ts';
import { percentDecode, percentEncode } from './metadata.ts';

const TYPE_PREFIX = 'github.com/moby/buildkit/';
const SOURCE = 'errdefs.Source+json';
const VERTEX = 'errdefs.Vertex+json';
const EXIT = 'gatewayapi.ExitMessage+json';
/** Ours; clients that do not know it skip it. */
const COOPER = 'cooper.Error+json';

/** A status is a header block; one that is larger goes out without its details rather than not at all. */
const MAX_DETAILS_BYTES = 4 * 1024 * 1024;
const MAX_TEXT_BYTES = 64 * 1024;

/** The code a client sees for this failure. */
export function grpcCodeOf(error: BuildError): GrpcCode {
  return error.detail.grpcCode ?? ERROR_KINDS[error.kind].grpc;
}

/** The `google.rpc.Status` of a failure; also what history stores and `ExitMessage.Error` carries. Details: Source, Vertex, others, ExitMessage. */
export function statusOf(error: BuildError): Status {
  const { source, vertex, exitCode, wire } = error.detail;
  const details: [name: string, json: string][] = [];
  if (source !== undefined) details.push([SOURCE, JSON.stringify(sourceJson(source))]);
  if (vertex !== undefined) details.push([VERTEX, JSON.stringify({ digest: vertex })]);
  details.push(...Object.entries(wire ?? {}));
  if (exitCode !== undefined) details.push([EXIT, JSON.stringify(exitCode === 0 ? {} : { Code: exitCode })]);
  const code = grpcCodeOf(error);
  const own = JSON.stringify(ownJson(error));
  // Nothing that the code does not say already is left out: containerd's clients, which read content here, choke on a type they do not know.
  if (KIND_OF_CODE[code] !== error.kind || own !== JSON.stringify({ kind: error.kind })) details.push([COOPER, own]);
  return create(StatusSchema, {
    code,
    message: error.message,
    details: details.map(([name, json]) => ({ typeUrl: TYPE_PREFIX + name, value: Buffer.from(json, 'utf8') })),
  });
}

/** The trailers of a finished call; `undefined` is success. */
export function statusTrailers(error: BuildError | undefined): Record<string, string> {
  if (error === undefined) return { 'grpc-status': '0' };
  const details = toBinary(StatusSchema, statusOf(error));
  const message = error.message.length > MAX_TEXT_BYTES ? `${error.message.slice(0, MAX_TEXT_BYTES)}...` : error.message;
  const trailers: Record<string, string> = {
    'grpc-status': String(grpcCodeOf(error)),
    'grpc-message': percentEncode(message),
  };
  if (details.byteLength <= MAX_DETAILS_BYTES) {
    trailers['grpc-status-details-bin'] = Buffer.from(details.buffer, details.byteOffset, details.byteLength)
      .toString('base64')
      .replace(/=+$/, '');
  }
  return trailers;
}

/** The failure in a peer's trailers, or undefined for OK. `get` reads a trailer. Malformed details are left out, never fatal. */
export function errorFromTrailers(get: (name: string) => string | undefined): BuildError | undefined {
  const text = get('grpc-status') ?? '';
  const code = Number.parseInt(text, 10);
  if (!/^\d+$/.test(text)) return new BuildError('internal', `the peer sent no gRPC status (grpc-status "${text}")`);
  if (code === GRPC.OK) return undefined;
  const message = percentDecode(get('grpc-message') ?? '');
  return errorOf(create(StatusSchema, { ...detailsIn(get('grpc-status-details-bin')), code, message }));
}

/** A `google.rpc.Status` as a BuildError that keeps its code. Details of a known type become fields of the detail, the other JSON ones are kept in `wire`. */
export function errorOf(status: Status): BuildError {
  const wire: Record<string, string> = {};
  let detail: ErrorDetail = {};
  let kind: ErrorKind | undefined;
  for (const { typeUrl, value } of status.details) {
    if (!typeUrl.startsWith(TYPE_PREFIX) || !typeUrl.endsWith('+json')) continue;
    const name = typeUrl.slice(TYPE_PREFIX.length);
    const json = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('utf8');
    const read = readDetail(name, json);
    if (read === undefined) wire[name] ??= json;
    else {
      detail = { ...read.detail, ...detail }; // the first of a type is the outermost and wins
      kind ??= read.kind;
    }
  }
  if (Object.keys(wire).length > 0) detail = { ...detail, wire };
  const code = codeOf(status.code);
  kind ??= code === GRPC.UNKNOWN && detail.exitCode !== undefined ? 'step-failed' : KIND_OF_CODE[code];
  return new BuildError(kind, status.message, { ...detail, grpcCode: code });
}

/**
 * What a status from another program means to us. UNKNOWN is what frontends and clients answer for a request that cannot work, and
 * what BuildKit answers for a failed build, so it is the user's.
 */
const KIND_OF_CODE: Readonly<Record<GrpcCode, ErrorKind>> = {
  [GRPC.OK]: 'internal',
  [GRPC.CANCELLED]: 'cancelled',
  [GRPC.UNKNOWN]: 'invalid-input',
  [GRPC.INVALID_ARGUMENT]: 'invalid-input',
  [GRPC.DEADLINE_EXCEEDED]: 'timed-out',
  [GRPC.NOT_FOUND]: 'not-found',
  [GRPC.ALREADY_EXISTS]: 'invalid-input',
  [GRPC.PERMISSION_DENIED]: 'denied',
  [GRPC.RESOURCE_EXHAUSTED]: 'exhausted',
  [GRPC.FAILED_PRECONDITION]: 'step-failed',
  [GRPC.ABORTED]: 'unavailable',
  [GRPC.OUT_OF_RANGE]: 'invalid-input',
  [GRPC.UNIMPLEMENTED]: 'unsupported',
  [GRPC.INTERNAL]: 'internal',
  [GRPC.UNAVAILABLE]: 'unavailable',
  [GRPC.DATA_LOSS]: 'corrupt',
  [GRPC.UNAUTHENTICATED]: 'denied',
};

/** Codes outside the table count as UNKNOWN, as the gRPC specification asks. */
function codeOf(code: number): GrpcCode {
  return code in KIND_OF_CODE ? (code as GrpcCode) : GRPC.UNKNOWN;
}

/** `errdefs.Source` as JSON: proto names, bytes in base64, zero values absent. */
function sourceJson(source: ErrorSource): unknown {
  const position = (at: { readonly line: number; readonly character: number }): unknown => ({
    ...(at.line === 0 ? {} : { line: at.line }),
    ...(at.character === 0 ? {} : { character: at.character }),
  });
  const { filename, data, definition, language, ranges } = source;
  return {
    info: {
      ...(filename === '' ? {} : { filename }),
      ...(data.byteLength === 0 ? {} : { data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64') }),
      ...(definition === undefined ? {} : { definition }),
      ...(language === '' ? {} : { language }),
    },
    ...(ranges.length === 0 ? {} : { ranges: ranges.map(({ start, end }) => ({ start: position(start), end: position(end) })) }),
  };
}

function ownJson(error: BuildError): unknown {
  const { hint, retryAfterS } = error.detail;
  return { kind: error.kind, ...(hint === undefined ? {} : { hint }), ...(retryAfterS === undefined ? {} : { retryAfterS }) };
}

/** Undefined when the type is not ours to read or its JSON is not what it should be. */
function readDetail(name: string, json: string): { readonly detail: ErrorDetail; readonly kind?: ErrorKind } | undefined {
  if (name !== SOURCE && name !== VERTEX && name !== EXIT && name !== COOPER) return undefined;
  const value = parseObject(json);
  if (value === undefined) return undefined;
  switch (name) {
    case SOURCE:
      return { detail: { source: sourceOf(value) } };
    case VERTEX:
      return { detail: typeof value.digest === 'string' ? { vertex: value.digest } : {} };
    case EXIT:
      return { detail: { exitCode: numberOr0(value.Code) } };
    case COOPER: {
      const { kind, hint, retryAfterS } = value;
      return {
        detail: {
          ...(typeof hint === 'string' ? { hint } : {}),
          ...(typeof retryAfterS === 'number' ? { retryAfterS } : {}),
        },
        ...(typeof kind === 'string' && Object.hasOwn(ERROR_KINDS, kind) ? { kind: kind as ErrorKind } : {}),
      };
    }
  }
}

type JsonObject = { readonly [name: string]: unknown };
const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);
const objectOr = (value: unknown): JsonObject => (isObject(value) ? value : {});
const textOr = (value: unknown): string => (typeof value === 'string' ? value : '');
const numberOr0 = (value: unknown): number => (typeof value === 'number' ? value : 0);

function parseObject(json: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function sourceOf(value: JsonObject): ErrorSource {
  const info = objectOr(value.info);
  const position = (at: unknown): { line: number; character: number } => {
    const { line, character } = objectOr(at);
    return { line: numberOr0(line), character: numberOr0(character) };
  };
  const ranges = Array.isArray(value.ranges) ? value.ranges : [];
  return {
    filename: textOr(info.filename),
    language: textOr(info.language),
    data: Buffer.from(textOr(info.data), 'base64'),
    ...(isObject(info.definition) ? { definition: info.definition } : {}),
    ranges: ranges.map((range: unknown) => {
      const { start, end } = objectOr(range);
      return { start: position(start), end: position(end) };
    }),
  };
}

function detailsIn(trailer: string | undefined): { readonly details: Status['details'] } {
  if (trailer === undefined) return { details: [] };
  try {
    return { details: fromBinary(StatusSchema, Buffer.from(trailer, 'base64')).details };
  } catch {
    return { details: [] };
  }
}
