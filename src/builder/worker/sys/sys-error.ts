/** Failed system calls as BuildErrors: out of something is `exhausted`, all else `internal`; callers ask `code` for what they expect. */
import { constants } from 'node:os';
import { BuildError, type ErrorKind } from '../../../core/errors.ts';

const NAMES = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
const EXHAUSTED = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

export class SysError extends BuildError {
  /** `ENOENT`, ... */
  readonly code: string;
  readonly call: string;

  constructor(call: string, path: string, code: string, more = '') {
    super(kindOf(code), `${call} ${path}: ${code}${more === '' ? '' : ` (${more})`}`);
    this.code = code;
    this.call = call;
  }
}

const kindOf = (code: string): ErrorKind => (EXHAUSTED.has(code) ? 'exhausted' : 'internal');

export const errnoName = (errno: number): string => NAMES.get(errno) ?? `errno ${errno}`;

/** The code of a failed system call, ours or Node's; undefined for other errors. */
export function codeOf(error: unknown): string | undefined {
  if (error instanceof SysError) return error.code;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}
