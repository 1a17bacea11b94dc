/**
 * Filters of `DiskUsage`, `Prune` and GC policies, in containerd's syntax: entries are alternatives, the comma-separated parts of an
 * entry must all hold; `field`, `field==value`, `field!=value`, `field~=expression`; values may be quoted
 * (https://github.com/containerd/containerd/blob/v2.1.0/pkg/filters/filter.go, buildkit-wire.md section 2.2).
 */
import { clientRegExp } from '../../core/client-regexp.ts';
import { BuildError } from '../../core/errors.ts';
import type { SnapshotUsage } from '../snapshot/ports.ts';

export type UsagePredicate = (record: SnapshotUsage) => boolean;

/** The empty entry, and no entries at all, match everything. @throws BuildError `invalid-input` for one that cannot be read. */
export function compileFilter(entries: readonly string[]): UsagePredicate {
  const alternatives = entries.map((entry) => (entry === '' ? [] : new Parser(entry).parts()));
  if (alternatives.length === 0) return () => true;
  return (record) => alternatives.some((parts) => parts.every((part) => part(record)));
}

/** Value of a field, or undefined when the record does not have it. A field that is there or not has the value ''. */
const FIELDS: Readonly<Record<string, (record: SnapshotUsage) => string | undefined>> = {
  id: ({ id }) => id,
  parents: ({ parents }) => (parents.length > 0 ? parents.join(';') : undefined),
  description: ({ description }) => (description === '' ? undefined : description),
  inuse: ({ inUse }) => (inUse ? '' : undefined),
  mutable: ({ mutable }) => (mutable ? '' : undefined),
  immutable: ({ mutable }) => (mutable ? undefined : ''),
  type: ({ recordType }) => recordType,
  shared: ({ shared }) => (shared ? '' : undefined),
  private: ({ shared }) => (shared ? undefined : ''),
};
const FIELD_NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const OPERATOR = /==|!=|~=/y;
const VALUE = /[^\s,]+/y;
const QUOTED = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/y;
const SPACE = /\s*/y;
/** An expression may also stand between slashes or bars, where nothing but the delimiter is escaped. */
const DELIMITED = /\/(?:[^/\\\n]|\\.)*\/|\|(?:[^|\\\n]|\\.)*\|/y;

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parts(): UsagePredicate[] {
    const parts = [this.#part()];
    while (this.#take(/,/y) !== undefined) parts.push(this.#part());
    if (this.#at < this.#text.length) this.#fail('expected "," or the end');
    return parts;
  }

  #part(): UsagePredicate {
    const path = [this.#field()];
    while (this.#take(/\./y) !== undefined) path.push(this.#field());
    // No record has fields within fields, so a path of several parts is absent; so is a field we do not know.
    const fieldOf = path.length === 1 ? (FIELDS[path[0] ?? ''] ?? (() => undefined)) : () => undefined;
    const operator = this.#take(OPERATOR);
    if (operator === undefined) return (record) => fieldOf(record) !== undefined;
    const value = this.#value(operator === '~=');
    if (operator === '==') return (record) => fieldOf(record) === value;
    if (operator === '!=') return (record) => fieldOf(record) !== value;
    const expression = clientRegExp(value);
    return (record) => {
      const found = fieldOf(record);
      return found !== undefined && expression.test(found);
    };
  }

  #field(): string {
    const quoted = this.#take(QUOTED);
    return quoted === undefined ? (this.#take(FIELD_NAME) ?? this.#fail('expected a field')) : unquote(quoted);
  }

  #value(isExpression: boolean): string {
    const delimited = isExpression ? this.#take(DELIMITED) : undefined;
    if (delimited !== undefined) return delimited.slice(1, -1).replaceAll(`\\${delimited[0]}`, delimited[0] ?? '');
    const quoted = this.#take(QUOTED);
    if (quoted !== undefined) return unquote(quoted);
    if (/["']/.test(this.#text[this.#at] ?? '')) this.#fail('quoted value is not terminated');
    return this.#take(VALUE) ?? this.#fail('expected a value');
  }

  /** The text that matches here, after white space. */
  #take(pattern: RegExp): string | undefined {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #fail(what: string): never {
    const [before, after] = [this.#text.slice(0, this.#at), this.#text.slice(this.#at)];
    throw new BuildError('invalid-input', `filter [${before} >|${after.slice(0, 1)}|< ${after.slice(1)}]: ${what}`, {
      hint: `fields are ${Object.keys(FIELDS).join(', ')}; operators are ==, != and ~=`,
    });
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' };
/** Go's escapes, as far as text needs them. */
const unquote = (quoted: string): string =>
  quoted
    .slice(1, -1)
    .replaceAll(/\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)/g, (_, escaped: string) =>
      escaped.length > 1 ? String.fromCodePoint(Number.parseInt(escaped.slice(1), 16)) : (ESCAPES[escaped] ?? escaped),
    );
