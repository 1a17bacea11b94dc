/** File errors in the words Go prints, which is what users of the wire protocol know: `lstat /a: no such file or directory`. */
import { BuildError, type ErrorKind } from '../../core/errors.ts';

const TEXTS: Readonly<Record<string, readonly [string, ErrorKind]>> = {
  ENOENT: ['no such file or directory', 'not-found'],
  EEXIST: ['file exists', 'invalid-input'],
  ENOTDIR: ['not a directory', 'invalid-input'],
  EISDIR: ['is a directory', 'invalid-input'],
  ENOTEMPTY: ['directory not empty', 'invalid-input'],
  EACCES: ['permission denied', 'invalid-input'],
  EPERM: ['operation not permitted', 'invalid-input'],
  ELOOP: ['too many levels of symbolic links', 'invalid-input'],
  ENAMETOOLONG: ['file name too long', 'invalid-input'],
  EINVAL: ['invalid argument', 'invalid-input'],
  ERR_INVALID_ARG_VALUE: ['invalid argument', 'invalid-input'], // a NUL in a name, refused before the kernel would say EINVAL
};

/** `path` as the user knows it, seen from inside the root. */
export function pathError(call: string, path: string, code: string): BuildError {
  const [text, kind] = TEXTS[code] ?? [code, 'internal'];
  return new BuildError(kind, `${call} ${path}: ${text}`);
}

/** Runs a file call; its error comes out as Go would word it. A full disk and the like keep their own kind. */
export function goCall<T>(call: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw worded(call, path, error);
  }
}

/** The same for work that waits. */
export async function goCallAsync<T>(call: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw worded(call, path, error);
  }
}

function worded(call: string, path: string, error: unknown): BuildError {
  if (error instanceof BuildError) return error;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && TEXTS[code] !== undefined ? pathError(call, path, code) : BuildError.from(error);
}
