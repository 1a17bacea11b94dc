/** `--name=value` flags of instructions. */
import { invalid } from './errors.ts';
import { didYouMean } from './suggest.ts';

export type FlagType = 'bool' | 'string' | 'strings';
export interface Flags {
  /** Undefined when the flag was not given. */
  bool(name: string): boolean | undefined;
  /** `otherwise` when the flag was not given. */
  string(name: string, otherwise?: string): string;
  strings(name: string): readonly string[];
}

/** @throws BuildError `invalid-input` for an unknown or repeated flag or a value that does not fit. */
export function parseFlags(args: readonly string[], types: Readonly<Record<string, FlagType>>): Flags {
  const values = new Map<string, string[]>();
  for (const arg of args) {
    const equals = arg.indexOf('=');
    const written = equals === -1 ? arg : arg.slice(0, equals);
    const name = written.slice(2);
    const type = Object.hasOwn(types, name) ? types[name] : undefined;
    if (type === undefined) throw invalid(`unknown flag: ${written}${didYouMean(name, Object.keys(types))}`);
    const known = values.get(name);
    if (known !== undefined && type !== 'strings') throw invalid(`duplicate flag specified: ${written}`);
    const value = equals === -1 ? undefined : arg.slice(equals + 1);
    values.set(name, [...(known ?? []), type === 'bool' ? boolValue(written, value) : stringValue(written, value)]);
  }
  return {
    bool: (name) => (values.has(name) ? values.get(name)?.[0] === 'true' : undefined),
    string: (name, otherwise = '') => values.get(name)?.[0] ?? otherwise,
    strings: (name) => values.get(name) ?? [],
  };
}

function boolValue(written: string, value: string | undefined): string {
  if (value === '') throw invalid(`missing a value on flag: ${written}`);
  const word = (value ?? 'true').toLowerCase();
  if (word !== 'true' && word !== 'false') throw invalid(`expecting boolean value for flag ${written}, not: ${value}`);
  return word;
}

function stringValue(written: string, value: string | undefined): string {
  if (value === undefined) throw invalid(`missing a value on flag: ${written}`);
  return value;
}
