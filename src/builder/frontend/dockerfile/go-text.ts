/**
 * Texts as Go prints and reads them. History entries, messages and labels of images made by BuildKit carry Go's formats, so ours must
 * too: quoted strings (`%q`), durations (`1m30s`), booleans, sizes.
 */
import { invalid } from './errors.ts';

const SPACE = '\\t\\n\\v\\f\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const SPACES_LEFT = new RegExp(`^[${SPACE}]+`);
const SPACE_ONLY = new RegExp(`[${SPACE}]`);

/** unicode.IsSpace; not quite JavaScript's set. */
export const isSpace = (character: string): boolean => SPACE_ONLY.test(character);
export const trimLeft = (text: string): string => text.replace(SPACES_LEFT, '');
export function trimSpace(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text[end - 1] ?? '')) end -= 1;
  return trimLeft(text.slice(0, end));
}

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
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

/** `%q`: double quotes, Go escapes, everything printable as it is. */
export function goQuote(text: string): string {
  let out = '"';
  for (const character of text) out += SHORT_ESCAPES[character] ?? (isPrintable(character) ? character : escapeOf(character));
  return `${out}"`;
}

/** `%q` of a list. */
export const goQuoteList = (items: readonly string[]): string => `[${items.map(goQuote).join(' ')}]`;

const isPrintable = (character: string): boolean => character === ' ' || /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(character);

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}

const TRUE = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** The words Go's ParseBool knows; undefined for any other. */
export function parseBool(text: string): boolean | undefined {
  if (TRUE.has(text)) return true;
  return FALSE.has(text) ? false : undefined;
}

const UNIT_NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, μs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Nanoseconds of `1h2m3.5s`. @throws BuildError `invalid-input` in Go's words. */
export function parseDuration(text: string): bigint {
  const quoted = goQuote(text);
  const sign = /^[+-]/.exec(text)?.[0] ?? '';
  const body = text.slice(sign.length);
  if (body === '0') return 0n;
  if (body === '') throw invalid(`time: invalid duration ${quoted}`);
  let total = 0n;
  let rest = body;
  while (rest !== '') {
    const part = /^(\d*)(?:\.(\d*))?/.exec(rest);
    const digits = part?.[1] ?? '';
    const fraction = part?.[2] ?? '';
    if (digits === '' && fraction === '') throw invalid(`time: invalid duration ${quoted}`);
    rest = rest.slice(part?.[0].length ?? 0);
    const unit = /^[^.\d]+/.exec(rest)?.[0] ?? '';
    if (unit === '') throw invalid(`time: missing unit in duration ${quoted}`);
    const scale = UNIT_NS[unit];
    if (scale === undefined) throw invalid(`time: unknown unit ${goQuote(unit)} in duration ${quoted}`);
    rest = rest.slice(unit.length);
    total += BigInt(digits === '' ? '0' : digits) * BigInt(scale) + BigInt(Math.trunc(Number(`0.${fraction || '0'}`) * scale));
    if (total > 1n << 63n) throw invalid(`time: invalid duration ${quoted}`);
  }
  return sign === '-' ? -total : total;
}

/** `1m30s`, `1.5ms`, `0s`. */
export function formatDuration(ns: bigint): string {
  if (ns === 0n) return '0s';
  if (ns < 0n) return `-${formatDuration(-ns)}`;
  if (ns < 1_000n) return `${ns}ns`;
  if (ns < 1_000_000n) return `${decimal(ns, 1_000n)}µs`;
  if (ns < 1_000_000_000n) return `${decimal(ns, 1_000_000n)}ms`;
  const minutes = ns / 60_000_000_000n;
  const seconds = `${decimal(ns % 60_000_000_000n, 1_000_000_000n)}s`;
  if (minutes === 0n) return seconds;
  return minutes < 60n ? `${minutes}m${seconds}` : `${minutes / 60n}h${minutes % 60n}m${seconds}`;
}

function decimal(value: bigint, unit: bigint): string {
  const digits = unit.toString().length - 1;
  const fraction = (value % unit).toString().padStart(digits, '0').replace(/0+$/, '');
  return fraction === '' ? `${value / unit}` : `${value / unit}.${fraction}`;
}

const BINARY_UNITS = ['', 'k', 'm', 'g', 't', 'p'];

/** Bytes of `64m`, `1.5GB`, `512`; undefined when it is no size. Units are powers of 1024. */
export function parseRamSize(text: string): bigint | undefined {
  const match = /^(\d+(?:\.\d+)*) ?([kKmMgGtTpP])?[iI]?[bB]?$/.exec(text);
  if (match === null) return undefined;
  const value = Number(match[1]) * 1024 ** BINARY_UNITS.indexOf((match[2] ?? '').toLowerCase());
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : undefined;
}

/** The fields of one line of CSV. @throws BuildError `invalid-input` for a quote out of place. */
export function csvFields(line: string): string[] {
  const fields: string[] = [];
  let rest = line;
  while (true) {
    const quoted = /^"((?:[^"]|"")*)"(?=,|$)/.exec(rest);
    const plain = quoted === null ? /^[^,]*/.exec(rest)?.[0] : undefined;
    if (plain?.includes('"') === true) {
      throw invalid(rest.startsWith('"') ? 'extraneous or missing " in quoted-field' : 'bare " in non-quoted field');
    }
    fields.push(plain ?? (quoted?.[1] ?? '').replaceAll('""', '"'));
    rest = rest.slice(quoted?.[0].length ?? plain?.length ?? 0);
    if (rest === '') return fields;
    rest = rest.slice(1);
  }
}
