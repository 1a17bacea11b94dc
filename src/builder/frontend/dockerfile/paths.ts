/** Paths inside images: always with slashes, whatever the daemon runs on. */
import { cleanPath } from '../../../core/patterns.ts';

/** Go's path.Join: the parts put together and cleaned; '' when all are empty. */
export function joinPath(...parts: readonly string[]): string {
  const joined = parts.filter((part) => part !== '').join('/');
  return joined === '' ? '' : cleanPath(joined);
}

export const isAbsolute = (path: string): boolean => path.startsWith('/');

/** Go's path.Base. */
export function baseName(path: string): string {
  const trimmed = path.replace(/(?<=[^/])\/+$/, '');
  if (trimmed === '') return '.';
  return /^\/+$/.test(trimmed) ? '/' : trimmed.slice(trimmed.lastIndexOf('/') + 1);
}
