/** File steps: copy, mkdir, mkfile, one after the other in one op. Shapes: buildkit-wire.md section 2.4, FileOp. */
import { posix } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { cleanPath } from '../../core/patterns.ts';
import type { ChownOptSchema, FileActionSchema } from '../proto/gen/pb/ops_pb.ts';
import { type Output, type State, type StepOptions, type VertexBuilder, withOutput } from './state.ts';

/** Numeric ids are used as they are, names are looked up in the filesystem the action works on. */
export interface Owner {
  readonly user?: string;
  readonly group?: string;
}

export interface CopyAction {
  readonly kind: 'copy';
  readonly from: State;
  readonly src: string;
  readonly dest: string;
  readonly owner?: Owner | undefined;
  /** Octal bits, or symbolic text (`u+x`); undefined keeps the mode of the source. */
  readonly mode?: number | string | undefined;
  readonly followSymlink?: boolean;
  readonly dirCopyContents?: boolean;
  readonly attemptUnpack?: boolean;
  readonly createDestPath?: boolean;
  readonly allowWildcard?: boolean;
  readonly allowEmptyWildcard?: boolean;
  readonly includePatterns?: readonly string[];
  readonly excludePatterns?: readonly string[];
  readonly requiredPaths?: readonly string[];
}
export interface MkdirAction {
  readonly kind: 'mkdir';
  readonly path: string;
  readonly mode: number;
  readonly makeParents?: boolean;
  readonly owner?: Owner | undefined;
  /** Seconds since the epoch; undefined keeps the time of the build. */
  readonly createdS?: number | undefined;
}
export interface MkfileAction {
  readonly kind: 'mkfile';
  readonly path: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly owner?: Owner | undefined;
}
export type FileStep = CopyAction | MkdirAction | MkfileAction;

/** `user[:group]`; `root` is 0. */
export function parseOwner(text: string): Owner {
  const colon = text.indexOf(':');
  return colon === -1 ? { user: text } : { user: text.slice(0, colon), group: text.slice(colon + 1) };
}

/** The state after `steps`, in order, each on the result of the one before. */
export function file(state: State, steps: readonly FileStep[], options: StepOptions = {}): State {
  const sources = steps.flatMap((step) => (step.kind === 'copy' && step.from.output !== undefined ? [step.from.output] : []));
  const builder: VertexBuilder = {
    inputs: uniqueOutputs([...(state.output === undefined ? [] : [state.output]), ...sources.reverse()]),
    options,
    caps: ['file.base'],
    encode: (inputOf) => ({ op: { case: 'file', value: { actions: encodeActions(state, steps, inputOf) } } }),
  };
  return withOutput(state, { vertex: () => builder, index: 0 });
}

type ActionInit = Exclude<MessageInitShape<typeof FileActionSchema>, { readonly $typeName: string }>;

const NONE = -1n;
const KEEP = -1n;

function encodeActions(state: State, steps: readonly FileStep[], inputOf: (output: Output) => bigint): ActionInit[] {
  // The base is the first input, then sources in the order of the steps.
  const base = state.output === undefined ? NONE : inputOf(state.output);
  const secondary = steps.map((step) =>
    step.kind === 'copy' && step.from.output !== undefined ? inputOf(step.from.output) : NONE,
  );
  const inputCount = BigInt(new Set([base, ...secondary].filter((index) => index !== NONE)).size);
  return steps.map((step, i) => ({
    input: i === 0 ? base : inputCount + BigInt(i - 1),
    secondaryInput: secondary[i] ?? NONE,
    output: i === steps.length - 1 ? 0n : NONE,
    action: encodeAction(state, step, base),
  }));
}

function encodeAction(state: State, step: FileStep, base: bigint): NonNullable<ActionInit['action']> {
  const owner = ownerOf(step.owner, base);
  switch (step.kind) {
    case 'copy':
      return { case: 'copy', value: copyOf(state, step, owner) };
    case 'mkdir': {
      const { mode, makeParents = false, createdS } = step;
      const timestamp = createdS === undefined ? KEEP : BigInt(createdS) * 1_000_000_000n;
      return {
        case: 'mkdir',
        value: { path: absolute(state.dir, step.path), mode: mode & 0o777, makeParents, timestamp, ...owner },
      };
    }
    case 'mkfile': {
      const path = absolute(state.dir, step.path);
      return { case: 'mkfile', value: { path, mode: step.mode & 0o777, data: step.data, timestamp: KEEP, ...owner } };
    }
  }
}

function copyOf(state: State, step: CopyAction, owner: { owner?: OwnerInit }) {
  const { mode } = step;
  return {
    src: absolute(step.from.dir, step.src),
    dest: absoluteKeepingSlash(state.dir, step.dest),
    ...owner,
    mode: typeof mode === 'number' ? mode : mode === undefined ? -1 : 0,
    modeStr: typeof mode === 'string' ? mode : '',
    followSymlink: step.followSymlink ?? false,
    dirCopyContents: step.dirCopyContents ?? false,
    attemptUnpackDockerCompatibility: step.attemptUnpack ?? false,
    createDestPath: step.createDestPath ?? false,
    allowWildcard: step.allowWildcard ?? false,
    allowEmptyWildcard: step.allowEmptyWildcard ?? false,
    timestamp: KEEP,
    includePatterns: [...(step.includePatterns ?? [])],
    excludePatterns: [...(step.excludePatterns ?? [])],
    requiredPaths: [...(step.requiredPaths ?? [])],
  };
}

type OwnerInit = MessageInitShape<typeof ChownOptSchema>;
type UserInit = NonNullable<Exclude<OwnerInit, { readonly $typeName: string }>['user']>;

function ownerOf(owner: Owner | undefined, base: bigint): { owner?: OwnerInit } {
  if (owner === undefined) return {};
  return {
    owner: {
      ...(owner.user === undefined ? {} : { user: userOf(owner.user, base) }),
      ...(owner.group === undefined ? {} : { group: userOf(owner.group, base) }),
    },
  };
}

function userOf(text: string, base: bigint): UserInit {
  if (text === 'root') return { user: { case: 'byID', value: 0 } };
  const id = /^[+-]?\d+$/.test(text) ? Number(text) : Number.NaN;
  const fits = id >= -(2 ** 31) && id < 2 ** 31;
  if (fits) return { user: { case: 'byID', value: id >>> 0 } };
  // An empty name is no name: the zero id is meant.
  return text === '' ? { user: { case: 'byID', value: 0 } } : { user: { case: 'byName', value: { name: text, input: base } } };
}

/** Clean and absolute, seen from `dir`. */
function absolute(dir: string, path: string): string {
  const clean = cleanPath(path);
  return posix.isAbsolute(clean) ? clean : cleanPath(`/${dir}/${clean}`);
}

/** A trailing slash or `/.` says "into this directory" and must survive. */
function absoluteKeepingSlash(dir: string, path: string): string {
  const clean = absolute(dir, path);
  if (path.endsWith('/') && !clean.endsWith('/')) return `${clean}/`;
  if (path.endsWith('/.')) return clean === '/' ? '/.' : `${clean}/.`;
  return clean;
}

export function uniqueOutputs(outputs: readonly Output[]): Output[] {
  return outputs.filter((output, i) => outputs.indexOf(output) === i);
}
