/** Errors about the user's file: always `invalid-input`, always with the place, in the words clients know from BuildKit. */
import { BuildError, type ErrorDetail, type ErrorSource, GRPC, type SourceRange } from '../../../core/errors.ts';
import { definitionJson } from '../../llb/definition-json.ts';
import type { Definition } from '../../proto/gen/pb/ops_pb.ts';

/** The file the instructions stand in. */
export interface SourceFile {
  readonly filename: string;
  readonly language: string;
  readonly data: Uint8Array;
  /** The graph that loads the file. */
  readonly definition?: Definition;
}

/** The real daemon sends Dockerfile errors with code Unknown; any other code would be printed in front of the message. */
export function invalid(message: string, detail: ErrorDetail = {}): BuildError {
  return new BuildError('invalid-input', message, { grpcCode: GRPC.UNKNOWN, ...detail });
}

/** One range per line, as clients mark the lines of an excerpt one by one. Lines from 1. */
export function linesOf(start: number, end: number): SourceRange[] {
  const last = Math.max(start, end);
  return Array.from({ length: last - start + 1 }, (_, i) => ({
    start: { line: start + i, character: 0 },
    end: { line: start + i, character: 0 },
  }));
}

/** `thrown` as a BuildError that knows where it happened; a place it already has is nearer and stays. */
export function located(thrown: unknown, file: SourceFile, ranges: readonly SourceRange[]): BuildError {
  const error = BuildError.from(thrown);
  if (error.detail.source !== undefined || ranges.length === 0) return error;
  const { filename, language, data, definition: loaded } = file;
  const definition = loaded === undefined ? {} : { definition: definitionJson(loaded) };
  const source: ErrorSource = { filename, language, data, ranges, ...definition };
  return new BuildError(error.kind, error.message, { ...error.detail, source }, { cause: error.cause ?? error });
}

/** Runs `work`; what it throws gets the place. */
export function at<T>(file: SourceFile, ranges: readonly SourceRange[], work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw located(thrown, file, ranges);
  }
}
