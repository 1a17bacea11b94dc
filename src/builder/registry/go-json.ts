/**
 * JSON exactly as Go's encoding/json writes it, so that a manifest or a cache key has the same digest as the one BuildKit makes
 * from the same values: `&`, `<`, `>` and two line separators are escaped, map keys are sorted by their bytes, fields keep the
 * order of the struct.
 */
import { BuildError } from '../../core/errors.ts';

/** JSON text taken over from elsewhere, whitespace aside (Go's json.RawMessage): numbers and key order stay as they were written. */
export class RawJson {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/**
 * Plain objects are Go structs: keys in the order given, undefined values left out. Maps are Go maps: keys sorted. (A plain object
 * cannot stand for a Go map, because JavaScript moves keys like "8080" to the front.)
 */
export type GoValue =
  | string
  | number
  | boolean
  | null
  | RawJson
  | readonly GoValue[]
  | ReadonlyMap<string, GoValue>
  | { readonly [field: string]: GoValue | undefined };

/** `indent` is what json.MarshalIndent takes; absent gives json.Marshal's single line. */
export function goJson(value: GoValue, indent?: string): string {
  const write = (item: GoValue, newline: string): string => {
    if (item instanceof RawJson) return compactJson(item.text);
    if (typeof item === 'string') return goString(item);
    if (item === null || typeof item !== 'object') return JSON.stringify(item);
    const inner = indent === undefined ? '' : newline + indent;
    const [open, close, members] = membersOf(item, (child) => write(child, inner));
    if (members.length === 0) return open + close;
    return open + inner + members.join(`,${inner}`) + newline + close;
  };
  const membersOf = (item: Exclude<GoValue, string | number | boolean | null | RawJson>, child: (value: GoValue) => string) => {
    if (Array.isArray(item)) return ['[', ']', item.map(child)] as const;
    const entries =
      item instanceof Map
        ? [...item].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
        : Object.entries(item as Record<string, GoValue | undefined>);
    const colon = indent === undefined ? ':' : ': ';
    const members = entries.flatMap(([key, value]) => (value === undefined ? [] : [goString(key) + colon + child(value)]));
    return ['{', '}', members] as const;
  };
  return write(value, indent === undefined ? '' : '\n');
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '\\u0026',
  '<': '\\u003c',
  '>': '\\u003e',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};
const escapeHtml = (text: string): string => text.replace(/[&<>\u2028\u2029]/g, (character) => ESCAPES[character] ?? character);
const goString = (text: string): string => escapeHtml(JSON.stringify(text));

/** The text without whitespace outside strings; everything else as it was, HTML characters escaped (json.Compact with escaping). */
export function compactJson(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|\s+/gs, (token) => (token.startsWith('"') ? escapeHtml(token) : ''));
}

/**
 * The members of a JSON object as raw text, in order; the last of equal keys wins, as in Go.
 * @throws BuildError `invalid-input` when `text` is not a JSON object; `what` names it in the message.
 */
export function objectMembers(text: string, what: string): Map<string, RawJson> {
  const members = new Map<string, RawJson>();
  const parsed = parseJson(text, what);
  if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed))
    throw new BuildError('invalid-input', `${what} is not a JSON object`);
  const compact = compactJson(text);
  for (let at = 1; at < compact.length - 1; ) {
    const keyEnd = skipValue(compact, at);
    const valueEnd = skipValue(compact, keyEnd + 1);
    members.set(JSON.parse(compact.slice(at, keyEnd)) as string, new RawJson(compact.slice(keyEnd + 1, valueEnd)));
    at = valueEnd + 1;
  }
  return members;
}

/** @throws BuildError `invalid-input` with the parser's reason. */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BuildError('invalid-input', `${what} is not valid JSON: ${(error as Error).message}`);
  }
}

/** The position after the value that starts at `at`, in compact and valid JSON. */
function skipValue(text: string, at: number): number {
  let depth = 0;
  for (let position = at; position < text.length; position += 1) {
    const character = text[position];
    if (character === '"') {
      position = endOfString(text, position);
      if (depth === 0) return position + 1;
    } else if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') {
      if (depth === 0) return position; // the end of the enclosing object closes a number or a word
      depth -= 1;
      if (depth === 0) return position + 1;
    } else if (depth === 0 && (character === ',' || character === ':')) return position;
  }
  return text.length;
}

/** The position of the closing quote. */
function endOfString(text: string, open: number): number {
  let position = open + 1;
  while (text[position] !== '"') position += text[position] === '\\' ? 2 : 1;
  return position;
}
