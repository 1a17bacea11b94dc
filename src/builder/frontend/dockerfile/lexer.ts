/**
 * A Dockerfile as a list of instructions still in words: lines joined at the escape character, comments and blank lines dropped,
 * heredocs collected, arguments split as the keyword wants it. What the words mean is decided in instructions.ts.
 */
import type { SourceRange } from '../../../core/errors.ts';
import { DirectiveReader } from './directives.ts';
import { at, invalid, linesOf, located, type SourceFile } from './errors.ts';
import { trimLeft, trimSpace } from './go-text.ts';
import { type Heredoc, type HeredocWord, heredocsOf } from './heredoc.ts';
import { type Pair, parseJsonArray, parsePairs, splitAtSpaces, splitInstruction, splitWords } from './words.ts';

export type Arguments =
  | { readonly form: 'words'; readonly words: readonly string[] }
  | { readonly form: 'json'; readonly words: readonly string[] }
  | { readonly form: 'pairs'; readonly pairs: readonly Pair[] }
  /** HEALTHCHECK: a type, then a command. */
  | { readonly form: 'typed'; readonly type: string; readonly json: boolean; readonly words: readonly string[] }
  /** ONBUILD: an instruction of its own. */
  | { readonly form: 'trigger'; readonly trigger: RawInstruction | undefined };

export interface RawInstruction {
  /** As written. */
  readonly keyword: string;
  readonly flags: readonly string[];
  readonly args: Arguments;
  readonly heredocs: readonly Heredoc[];
  /** The joined line. */
  readonly original: string;
  readonly ranges: readonly SourceRange[];
  /** Comment lines right above. */
  readonly comments: readonly string[];
}

export interface LexedDockerfile {
  readonly instructions: readonly RawInstruction[];
  /** The escape character. */
  readonly escape: string;
  /** Lines at which a continued instruction went on after an empty line. */
  readonly emptyContinuations: readonly SourceRange[];
}

const MAX_LINE_BYTES = 65_535;

/** @throws BuildError `invalid-input` with the place in `file`. */
export function lexDockerfile(file: SourceFile, text: string): LexedDockerfile {
  const lexer = new Lexer(file, text);
  return lexer.run();
}

class Lexer {
  readonly #file: SourceFile;
  readonly #text: string;
  readonly #directives = new DirectiveReader();
  readonly #emptyContinuations: SourceRange[] = [];
  #escape = '\\';
  #continuation = continuationOf('\\');
  #from = 0;
  #line = 0;

  constructor(file: SourceFile, text: string) {
    this.#file = file;
    this.#text = text;
  }

  run(): LexedDockerfile {
    const instructions: RawInstruction[] = [];
    let comments: string[] = [];
    for (let raw = this.#nextLine(); raw !== undefined; raw = this.#nextLine()) {
      if (isComment(raw)) {
        const comment = trimSpace(raw.slice(1));
        if (comment === '') comments = [];
        else comments.push(comment);
      }
      const { text, isDirective } = this.#clean(trimLeft(raw));
      if (isDirective) comments.pop();
      const start = this.#line;
      const { text: head, continues } = this.#cut(text);
      if (!continues && head === '') continue;
      const original = continues ? head + this.#continued() : head;
      instructions.push(this.#instruction(original, start, comments));
      comments = [];
    }
    if (instructions.length === 0) throw this.#error('file with no instructions', this.#line, this.#line);
    return { instructions, escape: this.#escape, emptyContinuations: this.#emptyContinuations };
  }

  /** With its line end; undefined after the last one. */
  #nextLine(): string | undefined {
    if (this.#from >= this.#text.length) return undefined;
    const newline = this.#text.indexOf('\n', this.#from);
    const end = newline === -1 ? this.#text.length : newline + 1;
    const line = this.#text.slice(this.#from, end);
    this.#from = end;
    this.#line += 1;
    if (line.length > MAX_LINE_BYTES / 4 && Buffer.byteLength(line) > MAX_LINE_BYTES) {
      throw this.#error(`dockerfile line greater than max allowed size of ${MAX_LINE_BYTES}`, this.#line, this.#line);
    }
    return line;
  }

  /** Comments become nothing; directives take effect. */
  #clean(raw: string): { text: string; isDirective: boolean } {
    const line = trimLineEnd(raw);
    const directive = at(this.#file, linesOf(this.#line, this.#line), () => this.#directives.read(line));
    if (directive?.name === 'escape') this.#setEscape(directive.value);
    return { text: isComment(line) ? '' : line, isDirective: directive !== undefined };
  }

  #setEscape(value: string): void {
    if (value !== '`' && value !== '\\') {
      throw this.#error(`invalid escape token '${value}' does not match \` or \\`, this.#line, this.#line);
    }
    this.#escape = value;
    this.#continuation = continuationOf(value);
  }

  #cut(text: string): { text: string; continues: boolean } {
    const continues = this.#continuation.test(text);
    return { text: continues ? text.replace(this.#continuation, '$1') : text, continues };
  }

  /** The lines up to the first that is not continued; comments between them are dropped. */
  #continued(): string {
    const parts: string[] = [];
    let sawEmpty = false;
    for (let raw = this.#nextLine(); raw !== undefined; raw = this.#nextLine()) {
      const { text } = this.#clean(raw);
      if (isComment(raw)) continue;
      if (trimLeft(text) === '') {
        sawEmpty = true;
        continue;
      }
      const cut = this.#cut(text);
      parts.push(cut.text);
      if (!cut.continues) break;
    }
    if (sawEmpty) this.#emptyContinuations.push(...linesOf(this.#line, this.#line));
    return parts.join('');
  }

  #instruction(original: string, start: number, comments: readonly string[]): RawInstruction {
    const parsed = at(this.#file, linesOf(start, this.#line), () => this.#parse(original));
    const heredocs = this.#heredocs(parsed, original, start);
    return { ...parsed, heredocs, ranges: linesOf(start, this.#line), comments };
  }

  #parse(original: string, isTrigger = false): RawInstruction {
    const { keyword, flags, rest } = splitInstruction(original, this.#escape);
    const args = this.#arguments(keyword.toLowerCase(), rest, isTrigger);
    return { keyword, flags, args, heredocs: [], original, ranges: [], comments: [] };
  }

  #arguments(keyword: string, rest: string, isTrigger: boolean): Arguments {
    switch (keyword) {
      case 'add':
      case 'copy':
      case 'volume':
        return jsonOr(rest, splitAtSpaces);
      case 'cmd':
      case 'entrypoint':
      case 'run':
      case 'shell':
        return jsonOr(rest, (text) => (text === '' ? [] : [text]));
      case 'expose':
      case 'from':
        return { form: 'words', words: splitAtSpaces(rest) };
      case 'arg':
        return { form: 'words', words: splitWords(rest, this.#escape) };
      case 'env':
      case 'label':
        return { form: 'pairs', pairs: parsePairs(rest, keyword.toUpperCase(), this.#escape) };
      case 'healthcheck':
        return healthcheckArguments(rest);
      case 'maintainer':
      case 'stopsignal':
      case 'user':
      case 'workdir':
        return { form: 'words', words: rest === '' ? [] : [rest] };
      case 'onbuild':
        // A trigger of a trigger is refused by name later: its own words are not looked at, however deep it goes.
        return { form: 'trigger', trigger: rest === '' || isTrigger ? undefined : this.#parse(rest, true) };
      default:
        return { form: 'words', words: [] };
    }
  }

  #heredocs(instruction: RawInstruction, original: string, start: number): Heredoc[] {
    if (!original.includes('<<') || !mayHaveHeredocs(instruction)) return [];
    const words = at(this.#file, linesOf(start, this.#line), () => heredocsOf(original));
    return words.map((word) => this.#heredoc(word, start));
  }

  #heredoc(word: HeredocWord, start: number): Heredoc {
    const lines: string[] = [];
    for (let raw = this.#nextLine(); raw !== undefined; raw = this.#nextLine()) {
      const bare = trimLineEnd(raw);
      if ((word.chomp ? bare.replace(/^\t+/, '') : bare) === word.name) return { ...word, content: lines.join('') };
      lines.push(raw);
    }
    throw this.#error('unterminated heredoc', start, this.#line);
  }

  #error(message: string, start: number, end: number): Error {
    return located(invalid(message), this.#file, linesOf(start, end));
  }
}

/** The escape character at the end of a line, unless it is itself escaped; alone on a line it continues too. */
const continuationOf = (escapeChar: string): RegExp => new RegExp(`(^|[^\\${escapeChar}])\\${escapeChar}[ \\t]*$`);

function trimLineEnd(line: string): string {
  let end = line.length;
  while (line[end - 1] === '\n' || line[end - 1] === '\r') end -= 1;
  return line.slice(0, end);
}

const isComment = (line: string): boolean => trimLeft(line).startsWith('#');

function jsonOr(rest: string, split: (text: string) => string[]): Arguments {
  const json = parseJsonArray(rest);
  return json === undefined ? { form: 'words', words: split(rest) } : { form: 'json', words: json };
}

function healthcheckArguments(rest: string): Arguments {
  const type = /^\S+/.exec(rest)?.[0] ?? '';
  const command = trimLeft(rest.slice(type.length));
  const json = parseJsonArray(command);
  return { form: 'typed', type, json: json !== undefined, words: json ?? (command === '' ? [] : [command]) };
}

function mayHaveHeredocs({ keyword, args }: RawInstruction): boolean {
  if (args.form === 'trigger') return args.trigger !== undefined && mayHaveHeredocs(args.trigger);
  return ['add', 'copy', 'run'].includes(keyword.toLowerCase()) && args.form !== 'json';
}
