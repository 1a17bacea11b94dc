/** `RUN --mount=type=cache,target=/x` (https://docs.docker.com/reference/dockerfile/#run---mount). */
import { BuildError } from '../../../core/errors.ts';
import { invalid } from './errors.ts';
import { csvFields, goQuote, parseBool, parseRamSize } from './go-text.ts';
import { didYouMean } from './suggest.ts';

const TYPES = ['bind', 'cache', 'tmpfs', 'secret', 'ssh'] as const;
const SHARING = ['shared', 'private', 'locked'] as const;
export type MountKind = (typeof TYPES)[number];
export type Sharing = (typeof SHARING)[number];

export interface MountFlag {
  readonly type: MountKind;
  readonly from: string;
  readonly source: string;
  readonly target: string;
  readonly readonly: boolean;
  readonly sizeBytes: bigint;
  readonly id: string;
  readonly sharing: Sharing | undefined;
  readonly required: boolean;
  readonly env: string | undefined;
  readonly mode: number | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

type Draft = { -readonly [K in keyof MountFlag]: MountFlag[K] } & { readonlyGiven: boolean };

const ALIASES: Readonly<Record<string, string>> = {
  src: 'source',
  dst: 'target',
  destination: 'target',
  ro: 'readonly',
  rw: 'readwrite',
};
const KEYS = [
  ...['type', 'from', 'source', 'target', 'readonly', 'id', 'sharing', 'required', 'size', 'mode', 'uid', 'gid'],
  ...['src', 'dst', 'destination', 'ro', 'rw', 'readwrite', 'env'],
];

/** The stage or image a mount reads from, known before variables are: it decides which stages are built. @throws BuildError. */
export function mountSourceOf(flag: string): string {
  let from = '';
  for (const field of mountFields(flag)) {
    const { key, value } = splitField(field);
    if (key !== 'from' || value === undefined) continue;
    const dollar = value.indexOf('$');
    if (dollar !== -1 && dollar !== value.length - 1) {
      throw invalid("'from' doesn't support variable expansion, define alias stage instead");
    }
    from = value;
  }
  return from;
}

/** @throws BuildError `invalid-input` naming the field that is wrong. */
export function parseMountFlag(flag: string, expand: (word: string) => string): MountFlag {
  const draft: Draft = {
    type: 'bind',
    from: '',
    source: '',
    target: '',
    readonly: false,
    readonlyGiven: false,
    sizeBytes: 0n,
    id: '',
    sharing: undefined,
    required: false,
    env: undefined,
    mode: undefined,
    uid: undefined,
    gid: undefined,
  };
  for (const field of mountFields(flag)) {
    const { key, value } = splitField(field);
    if (value === undefined) applyBare(draft, key, field);
    else applyValue(draft, key, expand(value), field);
  }
  if (!draft.readonlyGiven) draft.readonly = draft.type !== 'cache' && draft.type !== 'tmpfs';
  checkMount(draft);
  const { readonlyGiven: _, ...mount } = draft;
  return mount;
}

function mountFields(flag: string): string[] {
  if (flag === '') throw invalid('failed to parse csv mounts: EOF');
  try {
    return csvFields(flag);
  } catch (thrown) {
    throw BuildError.from(thrown).wrap('failed to parse csv mounts');
  }
}

function splitField(field: string): { key: string; value: string | undefined } {
  const equals = field.indexOf('=');
  if (equals === -1) return { key: field.toLowerCase(), value: undefined };
  return { key: field.slice(0, equals).toLowerCase(), value: field.slice(equals + 1) };
}

function applyBare(draft: Draft, key: string, field: string): void {
  const name = ALIASES[key] ?? key;
  if (name === 'readonly' || name === 'readwrite') {
    draft.readonly = name === 'readonly';
    draft.readonlyGiven = true;
  } else if (name === 'required') {
    needType(draft, key, ['secret', 'ssh']);
    draft.required = true;
  } else throw invalid(`invalid field '${field}' must be a key=value pair`);
}

function applyValue(draft: Draft, key: string, value: string, field: string): void {
  switch (ALIASES[key] ?? key) {
    case 'type':
      draft.type = oneOf(TYPES, value, 'unsupported mount type');
      break;
    case 'from':
      draft.from = value;
      break;
    case 'source':
      draft.source = value;
      break;
    case 'target':
      draft.target = value;
      break;
    case 'readonly':
    case 'readwrite':
      draft.readonly = boolOf(key, value) === ((ALIASES[key] ?? key) === 'readonly');
      draft.readonlyGiven = true;
      break;
    case 'required':
      needType(draft, key, ['secret', 'ssh']);
      draft.required = boolOf(key, value);
      break;
    case 'size':
      needType(draft, key, ['tmpfs']);
      draft.sizeBytes = sizeOf(key, value);
      break;
    case 'id':
      draft.id = value;
      break;
    case 'sharing':
      draft.sharing = oneOf(SHARING, value, 'unsupported sharing value');
      break;
    case 'mode':
      draft.mode = numberOf(key, value, 8);
      break;
    case 'uid':
    case 'gid':
      draft[key as 'uid' | 'gid'] = numberOf(key, value, 10);
      break;
    case 'env':
      draft.env = value;
      break;
    default:
      throw invalid(`unexpected key '${key}' in '${field}'${didYouMean(key, KEYS)}`);
  }
}

function checkMount(draft: Draft): void {
  const { type, sharing } = draft;
  if (type === 'bind' || type === 'tmpfs') {
    for (const key of ['mode', 'uid', 'gid'] as const) {
      if (draft[key] !== undefined) throw invalid(`${key} not allowed for ${goQuote(type)} type mounts`);
    }
  }
  if (type === 'secret') {
    if (draft.from !== '') throw invalid('secret mount should not have a from');
    if (sharing !== undefined) throw invalid('secret mount should not define sharing');
    if (draft.source === '' && draft.target === '' && draft.id === '') {
      throw invalid('invalid secret mount. one of source, target required');
    }
    if (draft.source !== '' && draft.id !== '') throw invalid("both source and id can't be set");
  }
  if (sharing !== undefined && type !== 'cache') throw invalid(`invalid cache sharing set for ${type} mount`);
}

function needType(draft: Draft, key: string, types: readonly MountKind[]): void {
  if (!types.includes(draft.type)) throw invalid(`unexpected key '${key}' for mount type '${draft.type}'`);
}

function oneOf<T extends string>(options: readonly T[], value: string, what: string): T {
  const found = options.find((option) => option === value.toLowerCase());
  if (found === undefined) throw invalid(`${what} ${goQuote(value)}${didYouMean(value, options)}`);
  return found;
}

function boolOf(key: string, value: string): boolean {
  const parsed = parseBool(value);
  if (parsed === undefined) throw invalid(`invalid value for ${key}: ${value}`);
  return parsed;
}

function sizeOf(key: string, value: string): bigint {
  const parsed = parseRamSize(value);
  if (parsed === undefined) throw invalid(`invalid value for ${key}: ${value}`);
  return parsed;
}

function numberOf(key: string, value: string, radix: 8 | 10): number {
  const digits = radix === 8 ? /^[0-7]+$/ : /^\d+$/;
  const number = digits.test(value) ? Number.parseInt(value, radix) : Number.NaN;
  if (!(number < 2 ** 32)) throw invalid(`invalid value ${value} for ${key}`);
  return number;
}
