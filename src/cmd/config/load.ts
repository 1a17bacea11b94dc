/**
 * Reads the configuration once: file, then environment, then flags, each overriding the one before. A bad value stops the start with
 * file and line; an unknown key is a warning with the nearest real key; a known key that nothing reads yet is a warning that says so.
 */
import { existsSync, readFileSync } from 'node:fs';
import { parse, TomlDate, TomlError } from 'smol-toml';
import { BuildError } from '../../core/errors.ts';
import { nearest } from '../../core/nearest.ts';
import { type Arguments, booleanOf, type FlagSpec } from '../args.ts';
import { SETTINGS, type Setting, type SettingType } from './settings.ts';
import { type DiskSpace, parseDiskSpace, parseDuration } from './units.ts';

export type SettingValue = boolean | number | bigint | string | DiskSpace | readonly string[] | Readonly<Record<string, string>>;
/** Values by full key: `registry.docker.io.http` is stored with its path, so names may contain dots. */
export interface Values {
  /** Value of a key without names or array entries in it. */
  get(key: string): SettingValue | undefined;
  /** Tables of an array (`worker.oci.gcpolicy`) in order, or of named tables (`registry`) by name, each with its own values. */
  entries(prefix: string): readonly {
    readonly name: string;
    readonly values: ReadonlyMap<string, SettingValue>;
    readonly lists: ReadonlyMap<string, readonly ReadonlyMap<string, SettingValue>[]>;
  }[];
}
export interface Loaded {
  readonly values: Values;
  readonly warnings: readonly string[];
  readonly unknownKeys: number;
  readonly file: string | undefined;
}

export const DEFAULT_CONFIG_FILES = ['/etc/cooper/cooperd.toml', '/etc/buildkit/buildkitd.toml'];

/** Flags that settings define, for `--help` and the parser. */
export const SETTING_FLAGS: readonly FlagSpec[] = SETTINGS.flatMap(({ flag, type, doc }) =>
  flag === undefined
    ? []
    : [
        {
          name: flag,
          kind: type === 'boolean' ? 'switch' : type === 'texts' || type === 'labels' ? 'texts' : 'text',
          doc,
        } as const,
      ],
);

/** @throws BuildError `invalid-input` naming file and line, or the flag, or the variable. */
export function loadConfig(
  args: Arguments,
  env: NodeJS.ProcessEnv,
  defaultFiles: readonly string[] = DEFAULT_CONFIG_FILES,
): Loaded {
  const named = args.texts.get('config')?.at(-1);
  const file = named ?? defaultFiles.find((path) => existsSync(path));
  const reader = new FileReader(file, file === undefined ? '' : readConfigFile(file));
  const single = new Map(reader.single);
  for (const setting of SETTINGS) {
    const fromEnv = setting.env === undefined ? undefined : env[setting.env];
    if (fromEnv !== undefined && fromEnv !== '')
      single.set(setting.key, convertText(setting, fromEnv, `environment variable ${setting.env}`));
    const fromFlag = flagValue(setting, args);
    if (fromFlag !== undefined) single.set(setting.key, fromFlag);
  }
  return {
    values: { get: (key) => single.get(key), entries: (prefix) => reader.entries(prefix) },
    warnings: reader.warnings,
    unknownKeys: reader.unknownKeys,
    file,
  };
}

function readConfigFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new BuildError(
      'invalid-input',
      `cannot read the configuration file ${file}: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}

function flagValue(setting: Setting, args: Arguments): SettingValue | undefined {
  const { flag } = setting;
  if (flag === undefined) return undefined;
  if (setting.type === 'boolean') return args.switches.get(flag);
  const texts = args.texts.get(flag);
  if (texts === undefined) return undefined;
  if (setting.type === 'texts') return texts.flatMap((text) => text.split(',')).filter((text) => text !== '');
  if (setting.type === 'labels')
    return Object.fromEntries(
      texts.flatMap((text) => text.split(',')).map((pair) => [pair.split('=')[0] ?? '', pair.split('=').slice(1).join('=')]),
    );
  return convertText(setting, texts.at(-1) ?? '', `flag --${flag}`);
}

/** A value that arrives as text, from the environment or a flag. */
function convertText(setting: Setting, text: string, where: string): SettingValue {
  const value: unknown =
    setting.type === 'integer'
      ? Number(text)
      : setting.type === 'boolean'
        ? booleanOf(where, text)
        : setting.type === 'texts'
          ? text.split(',')
          : text;
  return convert(setting, value, where);
}

const EXPECTED: Readonly<Record<SettingType, string>> = {
  boolean: 'true or false',
  integer: 'a whole number',
  size: 'bytes, "10GB" or "80%"',
  duration: 'seconds or "48h"',
  text: 'a text in quotes',
  texts: 'a list of texts',
  labels: 'a table of texts',
};

/** @throws BuildError `invalid-input` that says where, what was found and what was expected. */
function convert(setting: Setting, value: unknown, where: string): SettingValue {
  const bad = (expected: string): BuildError =>
    new BuildError('invalid-input', `${where}: ${setting.key} is ${JSON.stringify(value)}; expected ${expected}`);
  switch (setting.type) {
    case 'boolean':
      if (typeof value === 'boolean') return value;
      if (setting.key === 'worker.oci.enabled' && value === 'auto') return true;
      throw bad(EXPECTED.boolean);
    case 'integer': {
      const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = setting;
      if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) return value;
      throw bad(
        setting.min === undefined && setting.max === undefined
          ? EXPECTED.integer
          : `a whole number from ${setting.min ?? 'any'} to ${setting.max ?? 'any'}`,
      );
    }
    case 'size':
    case 'duration':
      try {
        return setting.type === 'size' ? parseDiskSpace(value) : parseDuration(value);
      } catch {
        throw bad(EXPECTED[setting.type]);
      }
    case 'text':
      if (typeof value !== 'string') throw bad(EXPECTED.text);
      if (setting.choices !== undefined && !setting.choices.includes(value)) throw bad(`one of ${setting.choices.join(', ')}`);
      return value;
    case 'texts':
      if (typeof value === 'string') return [value];
      if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
      throw bad(EXPECTED.texts);
    case 'labels':
      if (isTable(value) && Object.values(value).every((item) => typeof item === 'string'))
        return value as Record<string, string>;
      throw bad(EXPECTED.labels);
  }
}

interface Entry {
  readonly name: string;
  readonly values: Map<string, SettingValue>;
  readonly lists: Map<string, Map<string, SettingValue>[]>;
}

/** Walks a parsed file along the table of settings. */
class FileReader {
  readonly single = new Map<string, SettingValue>();
  readonly warnings: string[] = [];
  unknownKeys = 0;
  readonly #groups = new Map<string, Entry[]>();
  readonly #file: string;
  readonly #lines: readonly string[];

  constructor(file: string | undefined, text: string) {
    this.#file = file ?? '';
    this.#lines = text.split('\n');
    if (file !== undefined) this.#walk(this.#parse(text), []);
  }

  entries(prefix: string): readonly Entry[] {
    return this.#groups.get(prefix) ?? [];
  }

  #parse(text: string): Record<string, unknown> {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof TomlError)
        throw new BuildError(
          'invalid-input',
          `${this.#file}:${error.line}:${error.column}: ${error.message.split('\n')[0]}`,
          {},
          { cause: error },
        );
      throw error;
    }
  }

  /** `path` holds names as written and `[i]` for array entries. */
  #walk(table: Record<string, unknown>, path: readonly string[]): void {
    for (const [name, value] of Object.entries(table)) {
      const at = [...path, name];
      const setting = findSetting(at);
      if (setting !== undefined) this.#take(setting, at, value);
      else if (Array.isArray(value) && value.length > 0 && value.every(isTable)) {
        for (const [i, item] of value.entries()) this.#walk(item, [...at, `[${i}]`]);
      } else if (isTable(value)) this.#walk(value as Record<string, unknown>, at);
      else this.#unknown(at);
    }
  }

  #take(setting: Setting, path: readonly string[], raw: unknown): void {
    const where = `${this.#file}:${this.#lineOf(path)}`;
    const value = convert(setting, raw, where);
    if (!setting.inForce) {
      const instead = setting.deprecatedBy === undefined ? '' : `; use ${setting.deprecatedBy}`;
      this.warnings.push(`${where}: ${written(path)} is known but not in force yet${instead}`);
    } else if (setting.deprecatedBy !== undefined)
      this.warnings.push(`${where}: ${written(path)} is deprecated; use ${setting.deprecatedBy}`);
    if (!/\*|\[\]/.test(setting.key)) {
      this.single.set(setting.key, value);
      return;
    }
    const pattern = setting.key.split('.');
    const depth = pattern.findIndex((part) => part === '*' || part.endsWith('[]'));
    const isArray = pattern[depth]?.endsWith('[]') ?? false;
    const prefix = path.slice(0, isArray ? depth + 1 : depth).join('.');
    const rest = path.slice(isArray ? depth + 2 : depth + 1);
    const entry = this.#entry(prefix, (isArray ? path[depth + 1] : path[depth]) ?? '');
    const listAt = rest.findIndex((part) => part.startsWith('['));
    if (listAt === -1) entry.values.set(rest.join('.'), value);
    else
      listEntry(entry, rest.slice(0, listAt).join('.'), Number((rest[listAt] ?? '[0]').slice(1, -1))).set(
        rest.slice(listAt + 1).join('.'),
        value,
      );
  }

  #entry(prefix: string, name: string): Entry {
    const group = this.#groups.get(prefix) ?? [];
    this.#groups.set(prefix, group);
    let entry = group.find((candidate) => candidate.name === name);
    if (entry === undefined) {
      entry = { name, values: new Map(), lists: new Map() };
      group.push(entry);
    }
    return entry;
  }

  #unknown(path: readonly string[]): void {
    this.unknownKeys += 1;
    const key = written(path);
    const near = nearest(
      key,
      SETTINGS.map((setting) => setting.key.replaceAll('[]', '')),
    );
    this.warnings.push(
      `${this.#file}:${this.#lineOf(path)}: unknown key ${key}${near === undefined ? '' : `; did you mean ${near}?`}`,
    );
  }

  /** The line on which the last part of the path is written; the parser keeps none, so it is looked for below its table's header. */
  #lineOf(path: readonly string[]): number {
    const key = path.findLast((part) => !part.startsWith('[')) ?? '';
    const table = path.slice(0, path.lastIndexOf(key)).filter((part) => !part.startsWith('['));
    const index = Number(path.findLast((part) => part.startsWith('['))?.slice(1, -1) ?? 0);
    let seen = -1;
    let inside = table.length === 0;
    for (const [i, line] of this.#lines.entries()) {
      const header = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?/.exec(line)?.[1];
      if (header !== undefined) {
        const names = header.split(/\.(?=(?:[^"]*"[^"]*")*[^"]*$)/).map((part) => part.trim().replace(/^["']|["']$/g, ''));
        inside = names.join('\0') === table.join('\0') && ++seen >= index;
        continue;
      }
      const name = /^\s*(?:"([^"]+)"|'([^']+)'|([\w.-]+))\s*=/.exec(line);
      const found = name?.[1] ?? name?.[2] ?? name?.[3];
      if (found === undefined) continue;
      if ((inside && found === key) || found === [...table, key].join('.')) return i + 1;
    }
    return 1;
  }
}

function listEntry(entry: Entry, name: string, index: number): Map<string, SettingValue> {
  const list = entry.lists.get(name) ?? [];
  entry.lists.set(name, list);
  while (list.length <= index) list.push(new Map());
  return list[index] as Map<string, SettingValue>;
}

/** The setting whose key, with `*` for any one name and `[]` for array entries, is this path. */
function findSetting(path: readonly string[]): Setting | undefined {
  const parts: string[] = [];
  for (const part of path) {
    if (part.startsWith('[')) parts[parts.length - 1] = `${parts.at(-1)}[]`;
    else parts.push(part);
  }
  return SETTINGS.find(({ key }) => {
    const pattern = key.split('.');
    // `frontend."dockerfile.v0"` is one name; a plain key never contains a dot.
    return pattern.length === parts.length && pattern.every((want, i) => want === '*' || want === parts[i]);
  });
}

const written = (path: readonly string[]): string =>
  path
    .map((part) => (/^[\w[\]-]+$/.test(part) ? part : JSON.stringify(part)))
    .join('.')
    .replaceAll('.[', '[');
const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof TomlDate);
