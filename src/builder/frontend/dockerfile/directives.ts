/**
 * Parser directives: `# escape=`, `# syntax=`, `# check=` in the comments a Dockerfile opens with
 * (https://docs.docker.com/reference/dockerfile/#parser-directives).
 */
import type { SourceRange } from '../../../core/errors.ts';
import { invalid, linesOf } from './errors.ts';
import { trimLeft, trimSpace } from './go-text.ts';

export type DirectiveName = 'syntax' | 'escape' | 'check';
export interface Directive {
  readonly name: DirectiveName;
  readonly value: string;
  readonly line: number;
}

const DIRECTIVE = /^([a-zA-Z][a-zA-Z0-9]*)\s*=(.*)$/;
const NAMES: ReadonlySet<string> = new Set<DirectiveName>(['syntax', 'escape', 'check']);

/** Reads directives line by line until the first line that is none. */
export class DirectiveReader {
  readonly #comment: string;
  readonly #seen = new Set<string>();
  #line: number;
  #done = false;

  constructor({ comment = '#', linesBefore = 0 } = {}) {
    this.#comment = comment;
    this.#line = linesBefore;
  }

  /** @throws BuildError `invalid-input` for a directive given twice. */
  read(line: string): Directive | undefined {
    this.#line += 1;
    if (this.#done) return undefined;
    const match = line.startsWith(this.#comment) ? DIRECTIVE.exec(trimLeft(line.slice(this.#comment.length))) : null;
    const name = (match?.[1] ?? '').toLowerCase();
    const value = trimSpace(match?.[2] ?? '');
    if (!isDirectiveName(name) || value === '') {
      this.#done = true;
      return undefined;
    }
    if (this.#seen.has(name)) throw invalid(`only one ${name} parser directive can be used`);
    this.#seen.add(name);
    return { name, value, line: this.#line };
  }

  get done(): boolean {
    return this.#done;
  }
}

const isDirectiveName = (name: string): name is DirectiveName => NAMES.has(name);

/** The value of a directive in the head of `text`; a repeated one ends the head. */
export function findDirective(text: string, name: DirectiveName): Directive | undefined {
  return findWith(text, name, '#');
}

/**
 * The frontend a file asks for: `# syntax=`, `// syntax=`, or a JSON document with a member `syntax`; a `#!` line before it is skipped.
 * `ref` is the first word of the value.
 */
export function findSyntax(
  text: string,
): { readonly ref: string; readonly cmdline: string; readonly ranges: readonly SourceRange[] } | undefined {
  const found = findWith(text, 'syntax', '#') ?? findWith(text, 'syntax', '//') ?? jsonSyntax(text);
  if (found === undefined) return undefined;
  return { ref: found.value.split(' ')[0] ?? '', cmdline: found.value, ranges: linesOf(found.line, found.line) };
}

function findWith(text: string, name: DirectiveName, comment: string): Directive | undefined {
  const { body, skipped } = withoutShebang(text);
  const reader = new DirectiveReader({ comment, linesBefore: skipped });
  for (let from = 0; from <= body.length && !reader.done; ) {
    const newline = body.indexOf('\n', from);
    const line = newline === -1 ? body.slice(from) : body.slice(from, newline);
    from += line.length + 1;
    try {
      const directive = reader.read(line.replace(/\r$/, ''));
      if (directive?.name === name) return directive;
    } catch {
      return undefined; // given twice: the parser reports it, with its place
    }
  }
  return undefined;
}

function jsonSyntax(text: string): Directive | undefined {
  const { body, skipped } = withoutShebang(text);
  if (!trimLeft(body).startsWith('{')) return undefined;
  try {
    const { syntax } = JSON.parse(body) as { syntax?: unknown };
    return typeof syntax === 'string' ? { name: 'syntax', value: syntax, line: skipped } : undefined;
  } catch {
    return undefined; // no JSON document, so no such directive
  }
}

function withoutShebang(text: string): { body: string; skipped: number } {
  if (!text.startsWith('#!')) return { body: text, skipped: 0 };
  const newline = text.indexOf('\n');
  return { body: newline === -1 ? '' : text.slice(newline + 1), skipped: 1 };
}
