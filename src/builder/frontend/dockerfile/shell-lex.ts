/**
 * Quotes, escapes and variables of Dockerfile words: `$X`, `${X}` and the substitutions `:-` `-` `:+` `+` `:?` `?` `#` `##` `%` `%%` `/`
 * `//`, as https://docs.docker.com/reference/dockerfile/#environment-replacement describes them. Where that page is silent this does
 * what BuildKit does.
 */
import { BuildError } from '../../../core/errors.ts';
import { invalid } from './errors.ts';
import { goQuote, isSpace } from './go-text.ts';
import { parsePattern, replaceMatches, trimPrefix, trimSuffix } from './shell-pattern.ts';

export interface Variables {
  get(name: string): string | undefined;
}
export const NO_VARIABLES: Variables = { get: () => undefined };

export interface LexOptions {
  /** Backslash, or a backtick by directive. */
  readonly escape: string;
  /** Quotes stay in the result. */
  readonly rawQuotes?: boolean;
  /** Escape characters stay in the result. */
  readonly rawEscapes?: boolean;
  /** Quotes are ordinary characters. */
  readonly ignoreQuotes?: boolean;
  /** A variable that is not set stays as it is written. */
  readonly keepUnset?: boolean;
}

export interface Expanded {
  readonly text: string;
  /** Names of variables that were asked for and set, or not set. */
  readonly matched: ReadonlySet<string>;
  readonly unmatched: ReadonlySet<string>;
}

/** Substitutions inside substitutions; more is no Dockerfile but an attempt on the stack. */
const MAX_NESTING = 100;
/** Characters one word may grow to: `ENV A=$A$A` doubles with every line. */
const MAX_EXPANDED = 1 << 20;

/** The whole text as one word. @throws BuildError `invalid-input`. */
export function expandWord(word: string, variables: Variables, options: LexOptions): Expanded {
  const lexer = new ShellLexer(word, variables, options);
  const { text } = lexer.run();
  return { text, matched: lexer.matched, unmatched: lexer.unmatched };
}

/** The text split at spaces that are neither quoted nor escaped, also those that came out of variables. */
export function expandWords(word: string, variables: Variables, options: LexOptions): string[] {
  return new ShellLexer(word, variables, options).run().words;
}

const NAME = /\p{Nd}+|[@*#?\-$!]|[\p{L}_][\p{L}\p{Nd}_]*/uy;

class ShellLexer {
  readonly matched = new Set<string>();
  readonly unmatched = new Set<string>();
  readonly #source: string;
  readonly #variables: Variables;
  readonly #options: LexOptions;
  #at = 0;
  #depth = 0;
  #rawEscapes: boolean;

  constructor(source: string, variables: Variables, options: LexOptions) {
    this.#source = source;
    this.#variables = variables;
    this.#options = options;
    this.#rawEscapes = options.rawEscapes ?? false;
  }

  run(): { text: string; words: string[] } {
    try {
      return this.#until(undefined, this.#rawEscapes);
    } catch (thrown) {
      throw BuildError.from(thrown).wrap(`failed to process ${goQuote(this.#source)}`);
    }
  }

  #peek(): string {
    const code = this.#source.codePointAt(this.#at);
    return code === undefined ? '' : String.fromCodePoint(code);
  }

  /** '' at the end. */
  #next(): string {
    const character = this.#peek();
    this.#at += character.length;
    return character;
  }

  #ended(): boolean {
    return this.#at >= this.#source.length;
  }

  /** Reads up to `stop`, which is consumed, or to the end. */
  #until(stop: string | undefined, rawEscapes: boolean): { text: string; words: string[] } {
    const outer = this.#rawEscapes;
    this.#rawEscapes = rawEscapes;
    const splitter = new WordSplitter();
    let text = '';
    while (!this.#ended()) {
      const character = this.#peek();
      if (character === stop) {
        this.#next();
        this.#rawEscapes = outer;
        return { text, words: splitter.finish() };
      }
      const piece = this.#special(character);
      if (piece !== undefined) {
        text = grow(text, piece);
        if (character === '$') splitter.add(piece);
        else splitter.addRaw(piece);
        continue;
      }
      text = grow(text, this.#plain(splitter));
    }
    if (stop !== undefined) throw invalid(`unexpected end of statement while looking for matching ${stop}`);
    this.#rawEscapes = outer;
    return { text, words: splitter.finish() };
  }

  #special(character: string): string | undefined {
    if (character === '$') return this.#dollar();
    if (character === '<') return this.#heredocMark();
    if (this.#options.ignoreQuotes === true) return undefined;
    if (character === "'") return this.#singleQuoted();
    return character === '"' ? this.#doubleQuoted() : undefined;
  }

  /** One ordinary character, or an escaped one. */
  #plain(splitter: WordSplitter): string {
    const character = this.#next();
    if (character !== this.#options.escape) {
      splitter.add(character);
      return character;
    }
    const kept = this.#rawEscapes ? character : '';
    const escaped = this.#next(); // nothing, when the escape ends the word
    splitter.addRaw(kept + escaped);
    return kept + escaped;
  }

  /** `<< EOF` is one word, spaces and all. */
  #heredocMark(): string {
    this.#next();
    if (this.#peek() !== '<') return '<';
    let mark = `<${this.#next()}`;
    while (['\t', '\r', ' '].includes(this.#peek())) mark += this.#next();
    return mark;
  }

  #singleQuoted(): string {
    const start = this.#at;
    const close = this.#source.indexOf("'", start + 1);
    if (close === -1) throw invalid('unexpected end of statement while looking for matching single-quote');
    this.#at = close + 1;
    return this.#options.rawQuotes === true ? this.#source.slice(start, close + 1) : this.#source.slice(start + 1, close);
  }

  #doubleQuoted(): string {
    const quote = this.#options.rawQuotes === true ? '"' : '';
    this.#next();
    let text = quote;
    while (!this.#ended()) {
      const character = this.#peek();
      if (character === '"') {
        this.#next();
        return text + quote;
      }
      text = grow(text, character === '$' ? this.#dollar() : this.#quotedCharacter());
    }
    throw invalid('unexpected end of statement while looking for matching double-quote');
  }

  /** Inside double quotes only `"`, `$` and the escape itself can be escaped; any other escape is literal. */
  #quotedCharacter(): string {
    const escapeWith = this.#options.escape;
    const character = this.#next();
    if (character !== escapeWith) return character;
    const kept = this.#rawEscapes ? character : '';
    if (this.#ended()) return kept;
    const next = this.#peek();
    return next === '"' || next === '$' || next === escapeWith ? kept + this.#next() : kept + character;
  }

  #dollar(): string {
    this.#next();
    if (this.#peek() !== '{') {
      const name = this.#name();
      if (name === '') return '$';
      return this.#valueOf(name) ?? (this.#options.keepUnset === true ? `$${name}` : '');
    }
    this.#next();
    if (this.#ended()) throw invalid("syntax error: missing '}'");
    if (['{', '}', ':'].includes(this.#peek())) throw invalid('syntax error: bad substitution');
    this.#depth += 1;
    if (this.#depth > MAX_NESTING) throw invalid(`substitutions are nested more than ${MAX_NESTING} deep`);
    const value = this.#substitution(this.#name());
    this.#depth -= 1;
    return value;
  }

  #substitution(name: string): string {
    let operator = this.#next();
    if (operator === '}') return this.#valueOf(name) ?? (this.#options.keepUnset === true ? `\${${name}}` : '');
    if (operator === '/') return this.#replacement(name);
    const emptyIsUnset = operator === ':';
    if (emptyIsUnset) operator = this.#next();
    const written = emptyIsUnset ? `:${operator}` : operator;
    const isTrim = operator === '#' || operator === '%';
    if (!['+', '-', '?', '#', '%'].includes(operator) || (emptyIsUnset && isTrim)) {
      throw invalid(`unsupported modifier (${written === '' ? '\ufffd' : written}) in substitution`);
    }
    const word = this.#nested('}', isTrim, `'}'`);
    const value = this.#valueOf(name);
    if (value === undefined && this.#options.keepUnset === true) return `\${${name}${written}${word}}`;
    if (isTrim) return trimmed(value ?? '', word, operator);
    const missing = value === undefined || (emptyIsUnset && value === '');
    if (operator === '+') return missing ? '' : word;
    if (!missing) return value;
    if (operator === '-') return word;
    throw invalid(`${name}: ${word || `is not allowed to be ${value === undefined ? 'unset' : 'empty'}`}`);
  }

  #replacement(name: string): string {
    const all = this.#peek() === '/';
    if (all) this.#next();
    const pattern = this.#nested('/', true, `'/' in \${}`);
    const text = this.#nested('}', true, `'}'`);
    const value = this.#valueOf(name);
    if (value === undefined && this.#options.keepUnset === true) return `\${${name}/${pattern}/${text}}`;
    return replaceMatches(value ?? '', withPattern(pattern), text, all);
  }

  /** A part of a substitution up to `stop`; if that is missing, the error names what would have ended it. */
  #nested(stop: string, rawEscapes: boolean, missing: string): string {
    try {
      return this.#until(stop, rawEscapes).text;
    } catch (thrown) {
      throw this.#ended() ? invalid(`syntax error: missing ${missing}`) : thrown;
    }
  }

  /** Letters, digits and `_`; digits alone when it starts with one; one character for `$@`, `$?` and their like. */
  #name(): string {
    NAME.lastIndex = this.#at;
    const name = NAME.exec(this.#source)?.[0] ?? '';
    this.#at += name.length;
    return name;
  }

  #valueOf(name: string): string | undefined {
    const value = this.#variables.get(name);
    (value === undefined ? this.unmatched : this.matched).add(name);
    return value;
  }
}

function trimmed(value: string, word: string, operator: string): string {
  const longest = word.startsWith(operator);
  const pattern = withPattern(longest ? word.slice(1) : word);
  return operator === '#' ? trimPrefix(value, pattern, longest) : trimSuffix(value, pattern, longest);
}

function withPattern(text: string): ReturnType<typeof parsePattern> {
  try {
    return parsePattern(text);
  } catch (thrown) {
    throw BuildError.from(thrown).wrap(`invalid pattern (${text}) in substitution`);
  }
}

function grow(text: string, piece: string): string {
  if (text.length + piece.length > MAX_EXPANDED) throw invalid(`expands to more than ${MAX_EXPANDED} characters`);
  return text + piece;
}

/** Words as they are split at spaces; raw text belongs to the word it touches, whatever it contains. */
class WordSplitter {
  readonly #words: string[] = [];
  #word = '';
  #open = false;

  add(text: string): void {
    for (const character of text) {
      if (!isSpace(character)) this.addRaw(character);
      else if (this.#open && this.#word !== '') this.#close();
    }
  }

  addRaw(text: string): void {
    this.#word += text;
    this.#open = true;
  }

  #close(): void {
    this.#words.push(this.#word);
    this.#word = '';
    this.#open = false;
  }

  finish(): string[] {
    if (this.#word !== '') this.#close();
    return this.#words;
  }
}
