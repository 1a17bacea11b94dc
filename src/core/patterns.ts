/**
 * Path patterns as Docker reads them: the lines of .dockerignore, the include and exclude lists of a file transfer and of COPY, and the
 * wildcards of single path components. The rules are those of https://docs.docker.com/build/concepts/context/#syntax and of Go's
 * filepath.Match (https://pkg.go.dev/path/filepath#Match); where the two differ each function says which one it follows.
 */
import { posix } from 'node:path';
import { BuildError } from './errors.ts';

export interface PatternSet {
  /** True when the last pattern that matches `path` or one of its parents is not an exclusion (`!`). `path` is relative and clean. */
  matches(path: string): boolean;
  /** The same answer for a walk that goes down a tree: hand in the state of the parent directory and each pattern is tried once per path. */
  visit(path: string, parent?: PatternState): { readonly matched: boolean; readonly state: PatternState };
  /** False when nothing below directory `dir`, itself not matched, can match. Only patterns without wildcards let it say so. */
  mayMatchBelow(dir: string): boolean;
  /** False when everything below directory `dir`, itself matched, is matched too: no `!` pattern reaches below it. */
  mayExcludeBelow(dir: string): boolean;
  readonly isEmpty: boolean;
}

/** Which patterns matched a directory, by position; made by `visit`, meaningless to anyone else. */
export type PatternState = readonly boolean[];

/** Throws BuildError `invalid-input` for a lone `!`; a pattern malformed otherwise (`[` without end, a trailing backslash) throws when a
 *  path is first tried against it, so one that is never reached does no harm, as in Docker. */
export function compilePatterns(patterns: readonly string[]): PatternSet {
  const compiled = patterns.map((text) => text.trim()).filter((text) => text !== '');
  return new CompiledPatterns(compiled.map(parsePattern));
}

/** The patterns of an ignore file: comments and blank lines dropped, paths cleaned, a leading `/` cut. */
export function parseIgnoreFile(text: string): string[] {
  const patterns: string[] = [];
  for (const raw of text.replace(/^\uFEFF/, '').split('\n')) {
    if (raw.startsWith('#')) continue;
    const line = raw.trim();
    if (line === '') continue;
    const inverted = line.startsWith('!');
    const body = inverted ? line.slice(1).trim() : line;
    const cleaned = body === '' ? '' : cleanPath(body);
    const relative = cleaned.length > 1 && cleaned.startsWith('/') ? cleaned.slice(1) : cleaned;
    patterns.push(inverted ? `!${relative}` : relative);
  }
  return patterns;
}

/** Whether `name` matches one glob with the grammar of filepath.Match: `*` and `?` stop at `/`, `**` means `*`.
 *  @throws BuildError `invalid-input` when the glob is malformed. */
export function matchGlob(glob: string, name: string): boolean {
  return globRegExp(glob).test(name);
}

/** True when a path component has an unescaped `*`, `?` or `[`. */
export function hasWildcard(text: string): boolean {
  return /^(?:[^\\*?[]|\\.)*[*?[]/.test(text);
}

/** Go's filepath.Clean: the shortest equal path, `.` for nothing, no trailing slash. */
export function cleanPath(path: string): string {
  const normal = posix.normalize(path);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

interface Pattern {
  readonly exclusion: boolean;
  readonly test: (path: string) => boolean;
  /** The text up to the trailing wildcard component, when the rest has none; such a pattern matches below this path only. */
  readonly fixedPrefix: string | undefined;
}

class CompiledPatterns implements PatternSet {
  readonly #patterns: readonly Pattern[];

  constructor(patterns: readonly Pattern[]) {
    this.#patterns = patterns;
  }

  get isEmpty(): boolean {
    return this.#patterns.length === 0;
  }

  matches(path: string): boolean {
    return this.visit(path).matched;
  }

  visit(path: string, parent?: PatternState): { matched: boolean; state: PatternState } {
    const state = new Array<boolean>(this.#patterns.length).fill(false);
    const parents = parent === undefined ? parentsOf(path) : [];
    let matched = false;
    for (const [at, pattern] of this.#patterns.entries()) {
      let match = parent?.[at] === true;
      // An inclusion cannot change an answer that is yes, nor an exclusion one that is no.
      if (!match && pattern.exclusion !== matched) continue;
      match ||= pattern.test(path) || parents.some((dir) => pattern.test(dir));
      state[at] = match;
      if (match) matched = !pattern.exclusion;
    }
    return { matched, state };
  }

  mayMatchBelow(dir: string): boolean {
    return this.#reachesBelow(dir, false);
  }

  mayExcludeBelow(dir: string): boolean {
    return this.#reachesBelow(dir, true);
  }

  #reachesBelow(dir: string, exclusion: boolean): boolean {
    const relevant = this.#patterns.filter((pattern) => pattern.exclusion === exclusion);
    return relevant.some(({ fixedPrefix }) => fixedPrefix === undefined || `${fixedPrefix}/`.startsWith(`${dir}/`));
  }
}

function parentsOf(path: string): string[] {
  const parents: string[] = [];
  for (let slash = path.indexOf('/', 1); slash !== -1; slash = path.indexOf('/', slash + 1)) parents.push(path.slice(0, slash));
  return parents;
}

function parsePattern(raw: string): Pattern {
  const cleaned = cleanPath(raw);
  const exclusion = cleaned.startsWith('!');
  const text = exclusion ? cleaned.slice(1) : cleaned;
  if (text === '') throw new BuildError('invalid-input', 'illegal exclusion pattern: "!"');
  const prefix = text.replace(/\/\*\*$/, '').replace(/\/\*$/, '');
  let test: Pattern['test'] | undefined;
  return {
    exclusion,
    fixedPrefix: /[*[\]?^\\]/.test(prefix) ? undefined : prefix,
    test: (path) => {
      test ??= compile(text);
      return test(path);
    },
  };
}

/** Docker's reading of one pattern. `**` spans components; text without wildcards is compared, not interpreted. */
function compile(text: string): (path: string) => boolean {
  globRegExp(text); // only for its syntax check
  const rest = text.slice(2);
  // `**` in front of literal text means "ends with it", whole component or not: `**foo` matches `a/xfoo`.
  if (text.startsWith('**') && !/[*?[\]\\]/.test(rest)) {
    return (path) => path.endsWith(rest) || (rest.startsWith('/') && path === rest.slice(1));
  }
  if (text.endsWith('**') && !/[*?[\]\\]/.test(text.slice(0, -2))) {
    // `foo/**` and `foo**`: everything that begins with what stands before the stars.
    const start = text.slice(0, -2);
    return (path) => path.startsWith(start);
  }
  if (!/[*?[\]\\]/.test(text)) return (path) => path === text;
  const expression = patternRegExp(text);
  return (path) => expression.test(path);
}

const CLASS_ESCAPES = 'dDwWsS';
const CONTROL_ESCAPES: Readonly<Record<string, string>> = { a: '\\x07', f: '\\f', n: '\\n', r: '\\r', t: '\\t', v: '\\v' };

/** A pattern with wildcards as Docker turns it into a regular expression; brackets and `^` keep their regular-expression meaning. */
function patternRegExp(text: string): RegExp {
  const chars = [...text];
  let source = '^';
  for (let at = 0; at < chars.length; at += 1) {
    const char = chars[at] as string;
    if (char === '*' && chars[at + 1] === '*') {
      at += 1;
      if (chars[at + 1] === '/') at += 1;
      source += at + 1 === chars.length ? '.*' : '(?:.*/)?';
    } else if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '\\') {
      at += 1;
      source += escapeSequence(text, chars[at] as string); // the syntax check has refused a trailing backslash
    } else source += '.+()|{}$/'.includes(char) ? `\\${char}` : char;
  }
  try {
    return new RegExp(`${source}$`, 'u');
  } catch {
    // Unicode mode refuses a `]` without `[`, which Docker takes literally.
    return wellFormed(text, () => new RegExp(`${source}$`));
  }
}

/** After a backslash Docker hands the next character to its regular expressions, so `\d` is a digit, as there. */
function escapeSequence(text: string, char: string): string {
  if (CLASS_ESCAPES.includes(char) || char === 'b' || char === 'B') return `\\${char}`;
  const control = CONTROL_ESCAPES[char];
  if (control !== undefined) return control;
  if (/[A-Za-z0-9]/.test(char)) throw malformed(text);
  return literal(char);
}

const globs = new Map<string, RegExp>();
const MAX_CACHED_GLOBS = 256;

/** filepath.Match as a regular expression. `*` and `?` never match `/`. */
function globRegExp(glob: string): RegExp {
  const known = globs.get(glob);
  if (known !== undefined) return known;
  const chars = [...glob];
  let source = '^';
  for (let at = 0; at < chars.length; at += 1) {
    const char = chars[at] as string;
    if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '[') {
      const parsed = globClass(glob, chars, at);
      source += parsed.source;
      at = parsed.end;
    } else if (char === '\\') {
      at += 1;
      const escaped = chars[at];
      if (escaped === undefined) throw malformed(glob);
      source += literal(escaped);
    } else source += literal(char);
  }
  const expression = new RegExp(`${source}$`, 'us');
  if (globs.size >= MAX_CACHED_GLOBS) globs.clear();
  globs.set(glob, expression);
  return expression;
}

/** `[a-z]`, `[^a]`: `chars[start]` is the bracket; `end` is the position of the closing one. */
function globClass(glob: string, chars: readonly string[], start: number): { source: string; end: number } {
  let at = start + 1;
  const negated = chars[at] === '^';
  if (negated) at += 1;
  const single = (): string => {
    let char = chars[at];
    if (char === undefined || char === '-' || char === ']') throw malformed(glob);
    if (char === '\\') {
      at += 1;
      char = chars[at];
    }
    if (char === undefined) throw malformed(glob);
    at += 1;
    return char;
  };
  const ranges: string[] = [];
  do {
    const low = single();
    let high = low;
    if (chars[at] === '-') {
      at += 1;
      high = single();
    }
    if ((low.codePointAt(0) ?? 0) <= (high.codePointAt(0) ?? 0)) ranges.push(`${literal(low)}-${literal(high)}`);
  } while (chars[at] !== ']');
  if (ranges.length === 0) return { source: negated ? '[^]' : '[]', end: at };
  return { source: `[${negated ? '^' : ''}${ranges.join('')}]`, end: at };
}

/** The character itself, in and out of a class, with and without Unicode mode. */
function literal(char: string): string {
  if (/^[A-Za-z0-9_]$/.test(char) || char.charCodeAt(0) >= 0x80) return char;
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

function wellFormed<T>(text: string, make: () => T): T {
  try {
    return make();
  } catch {
    throw malformed(text);
  }
}

const malformed = (text: string): BuildError => new BuildError('invalid-input', `syntax error in pattern "${text}"`);
