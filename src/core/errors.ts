/**
 * One small error taxonomy for the whole product. `kind` decides the gRPC status, the exit code, whose fault it is (so what burns an
 * error budget) and whether trying again can help; docs/errors.md is this table in prose.
 */
export type Fault = 'user' | 'system' | 'dependency';

/** gRPC status codes, https://grpc.io/docs/guides/status-codes/. */
export const GRPC = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
export type GrpcCode = (typeof GRPC)[keyof typeof GRPC];

export const ERROR_KINDS = {
  'invalid-input': {
    grpc: GRPC.INVALID_ARGUMENT,
    exit: 2,
    fault: 'user',
    retry: 'no',
    meaning: 'the Dockerfile, flag or request can never work as written',
  },
  'not-found': {
    grpc: GRPC.NOT_FOUND,
    exit: 3,
    fault: 'user',
    retry: 'no',
    meaning: 'image, stage, path or build that does not exist',
  },
  'step-failed': {
    grpc: GRPC.FAILED_PRECONDITION,
    exit: 4,
    fault: 'user',
    retry: 'no',
    meaning: "the user's command exited non-zero; its status is in the detail",
  },
  denied: { grpc: GRPC.PERMISSION_DENIED, exit: 5, fault: 'user', retry: 'no', meaning: 'credentials or policy said no' },
  cancelled: { grpc: GRPC.CANCELLED, exit: 130, fault: 'user', retry: 'no', meaning: 'the client went away or asked to stop' },
  unsupported: {
    grpc: GRPC.UNIMPLEMENTED,
    exit: 10,
    fault: 'user',
    retry: 'no',
    meaning: 'the request asks for a feature this daemon does not have',
  },
  'timed-out': {
    grpc: GRPC.DEADLINE_EXCEEDED,
    exit: 6,
    fault: 'system',
    retry: 'maybe',
    meaning: 'a limit of ours passed; the message names the limit',
  },
  exhausted: { grpc: GRPC.RESOURCE_EXHAUSTED, exit: 7, fault: 'system', retry: 'later', meaning: 'queue, disk or memory full' },
  unavailable: {
    grpc: GRPC.UNAVAILABLE,
    exit: 8,
    fault: 'dependency',
    retry: 'yes',
    meaning: 'registry or network not answering',
  },
  corrupt: { grpc: GRPC.DATA_LOSS, exit: 9, fault: 'system', retry: 'no', meaning: 'bytes do not match their digest' },
  internal: { grpc: GRPC.INTERNAL, exit: 70, fault: 'system', retry: 'no', meaning: 'a bug: an invariant did not hold' },
} as const satisfies Record<string, { grpc: GrpcCode; exit: number; fault: Fault; retry: string; meaning: string }>;
export type ErrorKind = keyof typeof ERROR_KINDS;

/** What a failure is about. Everything is optional; the edge that answers the client turns it into typed details. */
export interface ErrorDetail {
  /** The status the real daemon sends for the same failure, where it differs from the kind's own. */
  readonly grpcCode?: GrpcCode;
  /** Digest of the vertex that failed (a VertexDigest; text here, so that digests can throw BuildErrors without a cycle). */
  readonly vertex?: string;
  /** Exit status of the user's process. */
  readonly exitCode?: number;
  /** Where in the user's input; already resolved, lines from 1. */
  readonly source?: ErrorSource;
  /** Seconds after which trying again makes sense. */
  readonly retryAfterS?: number;
  /** What to do next, in one sentence. */
  readonly hint?: string;
  /** A typed detail of the wire contract that only its author knows, JSON already encoded: type name (`errdefs.Subrequest+json`) to value. */
  readonly wire?: Readonly<Record<string, string>>;
}

export interface ErrorSource {
  readonly filename: string;
  readonly language: string;
  readonly data: Uint8Array;
  readonly ranges: readonly SourceRange[];
  /** The graph that loads the file, in the wire's JSON form; opaque here. One with `toJSON` is made into text only when it is sent. */
  readonly definition?: object;
}
export interface SourceRange {
  readonly start: { readonly line: number; readonly character: number };
  readonly end: { readonly line: number; readonly character: number };
}

export class BuildError extends Error {
  override readonly name = 'BuildError';
  readonly kind: ErrorKind;
  readonly detail: ErrorDetail;

  constructor(kind: ErrorKind, message: string, detail: ErrorDetail = {}, options?: ErrorOptions) {
    super(message, options); // options.cause keeps the original for the log; the message is ours
    this.kind = kind;
    this.detail = detail;
  }

  get fault(): Fault {
    return ERROR_KINDS[this.kind].fault;
  }

  /** At every boundary, so that nothing else crosses it. Abort reasons and out-of-space errors keep their meaning. */
  static from(thrown: unknown): BuildError {
    if (thrown instanceof BuildError) return thrown;
    if (thrown instanceof Error) {
      const code = (thrown as NodeJS.ErrnoException).code;
      if (thrown.name === 'AbortError') return new BuildError('cancelled', 'context canceled', {}, { cause: thrown });
      if (thrown.name === 'TimeoutError') return new BuildError('timed-out', thrown.message, {}, { cause: thrown });
      if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EMFILE' || code === 'ENFILE' || code === 'ENOMEM') {
        const hint = code === 'ENOSPC' || code === 'EDQUOT' ? { hint: 'make room on the daemon, for example with prune' } : {};
        return new BuildError('exhausted', thrown.message, hint, { cause: thrown });
      }
      // Only names that a user chose can be that long or turn in a circle.
      if (code === 'ENAMETOOLONG' || code === 'ELOOP')
        return new BuildError('invalid-input', thrown.message, {}, { cause: thrown });
      return new BuildError('internal', thrown.message, {}, { cause: thrown });
    }
    return new BuildError('internal', `unexpected failure: ${String(thrown)}`);
  }

  /** The same failure seen from further out: `prefix: message`, kind and detail kept, more detail added. */
  wrap(prefix: string, detail: ErrorDetail = {}): BuildError {
    return new BuildError(
      this.kind,
      prefix === '' ? this.message : `${prefix}: ${this.message}`,
      { ...detail, ...this.detail },
      { cause: this },
    );
  }
}

export const cancelled = (message = 'context canceled'): BuildError => new BuildError('cancelled', message);

/** Makes a `switch` over a union total: a new member does not compile until someone decides what it means there. */
export function assertNever(value: never): never {
  throw new BuildError('internal', `unexpected value: ${JSON.stringify(value)}`);
}
