/** Errors as HTTP answers: what, where, and what to do; never a stack, a cause or a path of this machine. */
import type { Response } from 'express';
import { BuildError, ERROR_KINDS, type ErrorDetail, type ErrorKind } from '../../core/errors.ts';

/** A request that is refused before any part of the daemon sees it, with a status of its own. */
export class Refusal extends BuildError {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    kind: ErrorKind,
    message: string,
    detail: ErrorDetail = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(kind, message, detail);
    this.status = status;
    this.headers = headers;
  }
}

const HTTP_STATUS: Partial<Record<ErrorKind, number>> = {
  'invalid-input': 400,
  'not-found': 404,
  denied: 403,
  unsupported: 501,
  'timed-out': 504,
  exhausted: 503,
  unavailable: 503,
};

export const statusOf = (error: BuildError): number =>
  error instanceof Refusal ? error.status : (HTTP_STATUS[error.kind] ?? 500);

/** Errors of ours are reported and shown without their inside; errors of the caller are only shown. */
export function sendError(thrown: unknown, response: Response, onError: (error: unknown) => void): void {
  const isBadUrl = thrown instanceof URIError || (thrown as { status?: number }).status === 400;
  const isOurs = thrown instanceof BuildError;
  const error = isBadUrl && !isOurs ? new BuildError('invalid-input', 'the path cannot be decoded') : BuildError.from(thrown);
  if (ERROR_KINDS[error.kind].fault !== 'user' && !(error instanceof Refusal)) onError(thrown);
  if (response.headersSent) return void response.destroy();
  const message = error.kind === 'internal' ? "internal error; the daemon's log has the details" : error.message;
  const { hint, retryAfterS } = error.detail;
  if (retryAfterS !== undefined) response.setHeader('retry-after', String(retryAfterS));
  if (error instanceof Refusal) for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
  response.status(statusOf(error)).json({ error: { kind: error.kind, message, ...(hint !== undefined && { hint }) } });
}
