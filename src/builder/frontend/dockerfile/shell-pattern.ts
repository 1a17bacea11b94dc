/**
 * The wildcards of `${x#pattern}`, `${x%pattern}` and `${x/pattern/text}`: `*` any text, `?` one character, neither across a line end;
 * a backslash makes `*`, `?` and itself literal. Matching is a walk over sets of positions, so no pattern can make it slow.
 */
import { invalid } from './errors.ts';

type Token = { readonly kind: 'star' } | { readonly kind: 'any' } | { readonly kind: 'char'; readonly char: string };

/** @throws BuildError `invalid-input` for an escape of any other character. */
export function parsePattern(text: string): Token[] {
  const characters = [...text];
  const tokens: Token[] = [];
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i] ?? '';
    if (character === '*') tokens.push({ kind: 'star' });
    else if (character === '?') tokens.push({ kind: 'any' });
    else if (character === '\\') {
      i += 1;
      const next = characters[i] ?? '';
      if (!['}', '/', '*', '?', '\\'].includes(next)) throw invalid(`invalid escape '\\${next}'`);
      tokens.push({ kind: 'char', char: next });
    } else tokens.push({ kind: 'char', char: character });
  }
  return tokens;
}

/** `value` without the shortest (or longest) prefix that matches. */
export function trimPrefix(value: string, tokens: readonly Token[], longest: boolean): string {
  const characters = [...value];
  const end = matchEnd(characters, 0, tokens, longest);
  return end === undefined ? value : characters.slice(end).join('');
}

/** `value` without the shortest (or longest) suffix that matches. */
export function trimSuffix(value: string, tokens: readonly Token[], longest: boolean): string {
  const reversed = [...value].reverse();
  const end = matchEnd(reversed, 0, [...tokens].reverse(), longest);
  return end === undefined ? value : reversed.slice(end).reverse().join('');
}

/** `value` with the first (or every) longest match replaced. */
export function replaceMatches(value: string, tokens: readonly Token[], replacement: string, all: boolean): string {
  const characters = [...value];
  let out = '';
  let position = 0;
  let lastEnd = -1;
  while (position <= characters.length) {
    const end = matchEnd(characters, position, tokens, true);
    const isMatch = end !== undefined && !(end === position && position === lastEnd);
    if (isMatch) {
      out += replacement;
      lastEnd = end;
      if (!all) return out + characters.slice(end).join('');
    }
    if (isMatch && end > position) position = end;
    else {
      out += characters[position] ?? '';
      position += 1;
    }
  }
  return out;
}

/** Where a match that starts at `start` ends: at the first or the last possible position. */
function matchEnd(text: readonly string[], start: number, tokens: readonly Token[], longest: boolean): number | undefined {
  let states = closure(new Set([0]), tokens);
  let end: number | undefined;
  for (let position = start; ; position++) {
    if (states.has(tokens.length)) {
      end = position;
      if (!longest) return end;
    }
    const character = text[position];
    if (character === undefined || states.size === 0) return end;
    const next = new Set<number>();
    for (const state of states) {
      const token = tokens[state];
      if (token === undefined) continue;
      if (token.kind === 'char' ? token.char === character : character !== '\n')
        next.add(token.kind === 'star' ? state : state + 1);
    }
    states = closure(next, tokens);
  }
}

/** A star may match nothing: its successor is reached with it. */
function closure(states: Set<number>, tokens: readonly Token[]): Set<number> {
  for (const state of states) if (tokens[state]?.kind === 'star') states.add(state + 1);
  return states;
}
