/**
 * Attributes of remote cache stores as typed tables: one table per store is read when it is opened and printed in
 * docs/cache-backends.md. Values come from `--cache-to`, `--cache-from` or buildkitd.toml, so every one of them is text.
 */
import { BuildError } from '../../../core/errors.ts';

interface SpecOf<Kind extends string> {
  readonly kind: Kind;
  /** Text as a user would write it. Without one, and unless `required`, the value may be absent. */
  readonly default?: string;
  /** Variable of the daemon's environment that is read when the attribute is absent. */
  readonly env?: string;
  /** Another name that means the same. */
  readonly alias?: string;
  readonly required?: true;
  readonly doc: string;
}
/** `secret` is text that no message may hold; `names` is text split at `;`; `duration` becomes milliseconds, `size` bytes. */
export type AttributeSpec = SpecOf<'text' | 'secret' | 'url' | 'names' | 'bool' | 'count' | 'duration' | 'size'>;
export type AttributeTable = Readonly<Record<string, AttributeSpec>>;

type Value<Kind> = Kind extends 'bool'
  ? boolean
  : Kind extends 'names'
    ? readonly string[]
    : Kind extends 'count' | 'duration' | 'size'
      ? number
      : string;
export type AttributeValues<Table extends AttributeTable> = {
  readonly [Name in keyof Table]:
    | Value<Table[Name]['kind']>
    | (Table[Name] extends { default: string } | { required: true } ? never : undefined);
};

/** @throws BuildError `invalid-input` naming the attribute that is missing or cannot be read; never with the value of a secret. */
export function readAttributes<Table extends AttributeTable>(
  store: string,
  table: Table,
  attributes: ReadonlyMap<string, string>,
  env: Readonly<Record<string, string | undefined>>,
): AttributeValues<Table> {
  const values = Object.entries<AttributeSpec>(table).map(([name, spec]) => {
    const written = attributes.get(name) ?? (spec.alias === undefined ? undefined : attributes.get(spec.alias));
    const text = written || (spec.env === undefined ? undefined : env[spec.env]) || spec.default;
    if (text === undefined || text === '') {
      if (spec.required === true) throw missing(store, name, spec);
      return [name, text];
    }
    return [name, parse(store, name, spec, text)];
  });
  return Object.fromEntries(values) as AttributeValues<Table>;
}

function missing(store: string, name: string, spec: AttributeSpec): BuildError {
  const elsewhere = spec.env === undefined ? '' : ` or ${spec.env} in the daemon's environment`;
  return new BuildError('invalid-input', `${store} cache: attribute ${name}${elsewhere} is not set`);
}

function parse(store: string, name: string, spec: AttributeSpec, text: string): unknown {
  const value = PARSERS[spec.kind](text);
  if (value !== undefined) return value;
  const shown = spec.kind === 'secret' || spec.kind === 'url' ? 'the value' : JSON.stringify(text);
  throw new BuildError('invalid-input', `${store} cache: attribute ${name}: ${shown} is not ${EXPECTED[spec.kind]}`);
}

const PARSERS: Readonly<Record<AttributeSpec['kind'], (text: string) => unknown>> = {
  text: (text) => text,
  secret: (text) => text,
  url: (text) => (URL.canParse(text) ? text : undefined),
  names: (text) => namesOf(text),
  bool: (text) => BOOLEANS.get(text),
  count: (text) => (/^[1-9]\d{0,8}$/.test(text) ? Number(text) : undefined),
  duration: parseDurationMs,
  size: parseSizeBytes,
};

const EXPECTED: Readonly<Record<AttributeSpec['kind'], string>> = {
  text: 'text',
  secret: 'a secret',
  url: 'an address with its scheme',
  names: 'a list of names separated by ;',
  bool: 'true or false',
  count: 'a positive integer',
  duration: 'a duration such as 90s, 10m or 24h',
  size: 'a size such as 512KB, 64MB or 1GB',
};

function namesOf(text: string): readonly string[] | undefined {
  const names = [...new Set(text.split(';').filter((name) => name !== ''))];
  return names.length === 0 ? undefined : names;
}

/** What Go's strconv.ParseBool takes: the same command lines are written for BuildKit. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'True', 'TRUE'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'False', 'FALSE'].map((text) => [text, false] as const),
]);

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
/** `1h30m`, `500ms`, `0`. Undefined when unreadable. */
function parseDurationMs(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return undefined;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g);
  return Math.round([...parts].reduce((sum, [, amount, unit]) => sum + Number(amount) * (UNIT_MS[unit ?? ''] ?? 0), 0));
}

/** Bytes; KB, MB and GB are powers of 1000 and KiB, MiB and GiB of 1024, as in buildkitd.toml. */
function parseSizeBytes(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMG])(i?)B?|B)?$/i.exec(text);
  if (match === null) return undefined;
  const power = match[2] === undefined ? 0 : 'KMG'.indexOf(match[2].toUpperCase()) + 1;
  return Math.floor(Number(match[1]) * (match[3] ? 1024 : 1000) ** power);
}
