/** `<<EOF` words: names, quoting, leading tabs (https://docs.docker.com/reference/dockerfile/#here-documents). */
import { invalid } from './errors.ts';
import { trimLeft } from './go-text.ts';
import { expandWords, NO_VARIABLES } from './shell-lex.ts';

export interface HeredocWord {
  readonly name: string;
  /** False when part of the word is quoted: the content is taken as it is. */
  readonly expand: boolean;
  /** `<<-`: tabs at the start of lines are dropped. */
  readonly chomp: boolean;
}
export interface Heredoc extends HeredocWord {
  /** Lines between the word and the line that ends it, line ends included. */
  readonly content: string;
}

const OPENING = /^\d*<<(-?)/;

/** Undefined when `word` is no heredoc. @throws BuildError `invalid-input` when its quotes do not match. */
export function parseHeredoc(word: string): HeredocWord | undefined {
  const opening = OPENING.exec(word);
  const rest = opening === null ? '' : trimLeft(word.slice(opening[0].length));
  if (opening === null || rest === '' || rest.includes('<')) return undefined;
  const [name, ...more] = expandWords(rest, NO_VARIABLES, { escape: '\\', keepUnset: true });
  if (name === undefined || more.length > 0) return undefined;
  const raw = expandWords(rest, NO_VARIABLES, { escape: '\\', keepUnset: true, rawQuotes: true });
  if (raw.length !== 1) throw invalid(`inconsistent quoting of heredoc word ${rest}`);
  return { name, expand: countQuotes(name) === countQuotes(raw[0] ?? ''), chomp: opening[1] === '-' };
}

/** As parseHeredoc, but a word that cannot be read is no heredoc. */
export function findHeredoc(word: string): HeredocWord | undefined {
  try {
    return parseHeredoc(word);
  } catch {
    return undefined;
  }
}

/** The heredocs a line opens, in order. @throws BuildError `invalid-input`. */
export function heredocsOf(line: string): HeredocWord[] {
  const heredocs: HeredocWord[] = [];
  for (const word of wordsOf(line)) {
    const heredoc = parseHeredoc(word);
    if (heredoc !== undefined) heredocs.push(heredoc);
  }
  return heredocs;
}

/** A line the lexer cannot split (an odd quote in a shell command) opens no heredoc. */
function wordsOf(line: string): string[] {
  try {
    return expandWords(line, NO_VARIABLES, { escape: '\\', rawQuotes: true, rawEscapes: true, keepUnset: true });
  } catch {
    return [];
  }
}

/** The content without leading tabs. */
export const chompTabs = (content: string): string => content.replace(/^\t+/gm, '');

const countQuotes = (text: string): number => text.replace(/[^'"]/g, '').length;
