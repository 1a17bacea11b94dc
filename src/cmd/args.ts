/**
 * Command-line flags, declared as a table and read once: `--name value`, `--name=value`, switches with or without `=true|false` (the
 * form Go programs take, so that scripts written for the other daemon keep working), repeatable flags, `--` and operands.
 */
import { BuildError } from '../core/errors.ts';
import { nearest } from '../core/nearest.ts';

export interface FlagSpec {
  readonly name: string;
  readonly short?: string;
  readonly kind: 'switch' | 'text' | 'texts';
  readonly value?: string;
  readonly doc: string;
}
export interface Arguments {
  readonly switches: ReadonlyMap<string, boolean>;
  readonly texts: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/** @throws BuildError `invalid-input` for an unknown flag (naming the nearest), a missing value, or a switch with a strange value. */
export function parseArguments(argv: readonly string[], specs: readonly FlagSpec[]): Arguments {
  const switches = new Map<string, boolean>();
  const texts = new Map<string, string[]>();
  const operands: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at] ?? '';
    if (argument === '--') {
      operands.push(...argv.slice(at + 1));
      break;
    }
    if (!argument.startsWith('-') || argument === '-') {
      operands.push(argument);
      continue;
    }
    const [written = '', inline] = splitOnce(argument.replace(/^--?/, ''), '=');
    const spec = specs.find(({ name, short }) => name === written || short === written);
    if (spec === undefined) throw unknownFlag(argument, written, specs);
    if (spec.kind === 'switch') {
      switches.set(spec.name, booleanOf(argument, inline ?? 'true'));
      continue;
    }
    const value = inline ?? argv[++at];
    if (value === undefined) throw new BuildError('invalid-input', `flag --${spec.name} needs a value`);
    texts.set(spec.name, spec.kind === 'text' ? [value] : [...(texts.get(spec.name) ?? []), value]);
  }
  return { switches, texts, operands };
}

/** The last value of a text flag. */
export const textOf = (args: Arguments, name: string): string | undefined => args.texts.get(name)?.at(-1);
export const textsOf = (args: Arguments, name: string): readonly string[] => args.texts.get(name) ?? [];
export const isOn = (args: Arguments, name: string): boolean => args.switches.get(name) ?? false;

/** Lines of `--help`: flags aligned, one sentence each. */
export function formatFlags(specs: readonly FlagSpec[]): string {
  const left = specs.map(
    ({ name, short, kind, value = 'VALUE' }) =>
      `  ${short === undefined ? '    ' : `-${short}, `}--${name}${kind === 'switch' ? '' : ` ${value}`}`,
  );
  const width = Math.min(40, Math.max(0, ...left.map((text) => text.length)) + 2);
  return specs.map(({ doc }, i) => `${(left[i] ?? '').padEnd(width)} ${doc}`).join('\n');
}

function unknownFlag(argument: string, written: string, specs: readonly FlagSpec[]): BuildError {
  const near = nearest(
    written,
    specs.map(({ name }) => name),
  );
  return new BuildError('invalid-input', `unknown flag ${argument}${near === undefined ? '' : `; did you mean --${near}?`}`);
}

/** Go's strconv.ParseBool. */
export function booleanOf(what: string, text: string): boolean {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)) return false;
  throw new BuildError('invalid-input', `${what}: "${text}" is neither true nor false`);
}

export function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}
