/** Text quoted as Go's %q prints it, which is how commands stand in the error messages that clients show and tools parse. */

const SHORT: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '"': '\\"',
  '\\': '\\\\',
};
// unicode.IsPrint: letters, marks, numbers, punctuation, symbols, and the ASCII space.
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;

/** https://pkg.go.dev/strconv#Quote */
export function goQuote(text: string): string {
  let out = '"';
  for (const char of text) out += SHORT[char] ?? (PRINTABLE.test(char) ? char : escaped(char.codePointAt(0) ?? 0));
  return `${out}"`;
}

function escaped(code: number): string {
  if (code < 0x80) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}
