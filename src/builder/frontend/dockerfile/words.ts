/** How the text behind a keyword is taken apart: flags, words, pairs, JSON arrays. Each instruction has one of these forms. */
import { invalid } from './errors.ts';
import { goQuote, isSpace, trimLeft, trimSpace } from './go-text.ts';

const WHITESPACE = /[\t\v\f\r ]+/;

/** Keyword, `--flags`, and what is left. */
export function splitInstruction(line: string, escapeChar: string): { keyword: string; flags: string[]; rest: string } {
  const text = trimSpace(line);
  const gap = WHITESPACE.exec(text);
  if (gap === null) return { keyword: text, flags: [], rest: '' };
  const { flags, rest } = splitFlags(text.slice(gap.index + gap[0].length), escapeChar);
  return { keyword: text.slice(0, gap.index), flags, rest: trimSpace(rest) };
}

/** Leading words that begin with `--`, quotes and escapes taken out; `--` alone ends them. */
function splitFlags(line: string, escapeChar: string): { flags: string[]; rest: string } {
  const flags: string[] = [];
  let at = 0;
  while (true) {
    while (at < line.length && isSpace(line[at] ?? '')) at += 1;
    if (!line.startsWith('--', at)) return { flags, rest: line.slice(at) };
    const { word, end, blankAllowed } = readFlag(line, at, escapeChar);
    at = end;
    if (word === '--') return { flags, rest: line.slice(at) };
    if (word !== '' || blankAllowed) flags.push(word);
  }
}

function readFlag(line: string, start: number, escapeChar: string): { word: string; end: number; blankAllowed: boolean } {
  let word = '';
  let quote = '';
  let blankAllowed = false;
  let at = start;
  for (; at < line.length; at++) {
    const character = line[at] ?? '';
    if (quote === '' && isSpace(character)) break;
    if (quote === '' && (character === "'" || character === '"')) {
      quote = character;
      blankAllowed = true;
    } else if (character === quote) quote = '';
    else if (character === escapeChar) {
      at += 1;
      word += line[at] ?? '';
    } else word += character;
  }
  return { word, end: at, blankAllowed };
}

/** Words at unquoted spaces. Quotes and escapes stay: they are taken out when variables are expanded. */
export function splitWords(text: string, escapeChar: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  let blankAllowed = false;
  const close = (): void => {
    if (word !== '' || blankAllowed) words.push(word);
    word = '';
    blankAllowed = false;
  };
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? '';
    if (quote === '' && isSpace(character)) {
      close();
      continue;
    }
    if (character === escapeChar && quote !== "'") {
      if (at + 1 === text.length) break; // an escape at the end of the line escapes nothing
      at += 1;
      word += character + (text[at] ?? '');
      continue;
    }
    if (quote === character) quote = '';
    else if (quote === '' && (character === "'" || character === '"')) {
      quote = character;
      blankAllowed = true;
    }
    word += character;
  }
  close();
  return words;
}

export interface Pair {
  readonly key: string;
  readonly value: string;
  /** The old form `KEY value`, which takes the rest of the line. */
  readonly legacy: boolean;
}

/** `A=1 B=2`, or the old form `A 1`. @throws BuildError `invalid-input`. */
export function parsePairs(text: string, keyword: string, escapeChar: string): Pair[] {
  const words = splitWords(text, escapeChar);
  const [first] = words;
  if (first === undefined) return [];
  if (!first.includes('=')) {
    const gap = WHITESPACE.exec(text);
    if (gap === null) throw invalid(`${keyword} must have two arguments`);
    return [{ key: text.slice(0, gap.index), value: text.slice(gap.index + gap[0].length), legacy: true }];
  }
  return words.map((word) => {
    const equals = word.indexOf('=');
    if (equals === -1) {
      throw invalid(`Syntax error - can't find = in ${goQuote(word)}. Must be of the form: name=value`);
    }
    return { key: word.slice(0, equals), value: word.slice(equals + 1), legacy: false };
  });
}

/** At runs of spaces, nothing quoted. */
export const splitAtSpaces = (text: string): string[] => (text === '' ? [] : text.split(WHITESPACE));

/** The strings of a JSON array; undefined when the text is none. @throws BuildError `invalid-input` when it holds anything else. */
export function parseJsonArray(text: string): string[] | undefined {
  const trimmed = trimLeft(text);
  if (!trimmed.startsWith('[')) return undefined;
  let items: unknown;
  try {
    items = JSON.parse(trimmed);
  } catch {
    return undefined; // `[ -f x ] && ...` is a shell command
  }
  if (!Array.isArray(items)) return undefined;
  if (!items.every((item) => typeof item === 'string')) {
    throw invalid('when using JSON array syntax, arrays must be comprised of strings only');
  }
  return items;
}
