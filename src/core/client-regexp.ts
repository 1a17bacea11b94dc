/**
 * Regular expressions that come from clients. They follow RE2 (what the clients' own documentation links to): no look-around, no
 * back-references. That is also what keeps one from stalling the event loop: when an expression backtracks too much, V8 goes on with its
 * linear engine, which knows neither.
 */
import { setFlagsFromString } from 'node:v8';
import { BuildError } from './errors.ts';

const MAX_LENGTH = 1_024;
const NOT_IN_RE2 = /\(\?<?[=!]|\\[1-9]|\\k</;
let linearFallback = false;

/** @throws BuildError `invalid-input` for one that does not compile, is too long, or uses what RE2 does not have. */
export function clientRegExp(source: string): RegExp {
  if (source.length > MAX_LENGTH)
    throw new BuildError('invalid-input', `regular expression longer than ${MAX_LENGTH} characters`);
  const [, flags = '', body = source] = /^\(\?([ims]+)\)(.*)$/s.exec(source) ?? [];
  if (NOT_IN_RE2.test(body)) {
    throw new BuildError('invalid-input', `regular expression "${source}": look-around and back-references are not supported`);
  }
  if (!linearFallback) setFlagsFromString('--enable-experimental-regexp-engine-on-excessive-backtracks');
  linearFallback = true;
  try {
    return new RegExp(body.replaceAll('(?P<', '(?<'), flags);
  } catch (cause) {
    throw new BuildError('invalid-input', `regular expression "${source}": ${(cause as Error).message}`, {}, { cause });
  }
}
