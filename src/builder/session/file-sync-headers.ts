/** The headers that tell a client which files of which directory are wanted (buildkit-wire.md 3.2). */
import type { Headers, ReceiveFiles } from './ports.ts';

type Wanted = Pick<ReceiveFiles, 'dirName' | 'includePatterns' | 'excludePatterns' | 'followPaths' | 'traceparent'>;

export function fileSyncHeaders(wanted: Wanted): Headers {
  return [
    ...header('dir-name', [wanted.dirName]),
    ...header('include-patterns', wanted.includePatterns),
    ...header('exclude-patterns', wanted.excludePatterns),
    ...header('followpaths', wanted.followPaths),
    ...(wanted.traceparent === undefined ? [] : [['traceparent', wanted.traceparent] as const]),
  ];
}

/** Headers carry printable ASCII; as soon as one value has more, all values of that name are escaped and a marker says so. */
function header(name: string, values: readonly string[]): [string, string][] {
  if (values.every((value) => /^[\x20-\x7e]*$/.test(value))) return values.map((value) => [name, value]);
  return [...values.map((value): [string, string] => [name, queryEscape(value)]), [`${name}-encoded`, '1']];
}

/** Go's url.QueryEscape: UTF-8, percent-encoded but for letters, digits, `-_.~`; a space is `+`. */
export function queryEscape(text: string): string {
  return encodeURIComponent(text.toWellFormed())
    .replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}

/** The other way round; malformed escapes stand for themselves. */
export function queryUnescape(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}
