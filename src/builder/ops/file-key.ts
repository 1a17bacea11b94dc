/** The cache map of a file op (buildkit-wire.md sections 7.2 and 7.3). */
import { posix } from 'node:path';
import type { DescMessage, Message } from '@bufbuild/protobuf';
import { clone } from '@bufbuild/protobuf';
import { cacheDigestOf } from '../../core/digest.ts';
import { BuildError } from '../../core/errors.ts';
import { hasWildcard } from '../../core/patterns.ts';
import {
  type ChownOpt,
  type FileAction,
  FileActionCopySchema,
  FileActionMkDirSchema,
  FileActionMkFileSchema,
  FileActionRmSchema,
  FileActionSymlinkSchema,
  type FileOp,
} from '../proto/gen/pb/ops_pb.ts';
import type { Selector } from '../snapshot/ports.ts';
import type { CacheMap, CacheMapInput } from '../solver/ports.ts';
import { outermostPaths } from './exec-key.ts';
import { goBytes, goJson } from './go-json.ts';
import { byContentOf, type KeyDeps, pathSelector } from './results.ts';

export function fileCacheMap({ actions }: FileOp, inputCount: number, deps: KeyDeps): CacheMap {
  const selectors = new SelectorsByInput(inputCount);
  const texts = actions.map((action) => actionText(action, selectors));
  const indexes = actions.map(({ input, secondaryInput, output }) => [input, secondaryInput, output].map(Number));
  const fields = [
    '"Type":"buildkit.file.v0"',
    `"Actions":[${texts.map(goBytes).join(',')}]`,
    ...(isDefaultShape(indexes) ? [] : [`"indexes":${JSON.stringify(indexes)}`]),
  ];
  return { digest: cacheDigestOf(`{${fields.join(',')}}`), inputs: selectors.inputs(deps) };
}

/** What is read of each input; an input that is also written to counts as a whole, by definition. */
class SelectorsByInput {
  readonly #selectors: Selector[][];
  readonly #written = new Set<number>();

  constructor(count: number) {
    this.#selectors = Array.from({ length: count }, () => []);
  }

  /** False when the index names no input of the op but an action's result. */
  add(index: bigint, selector: Selector): boolean {
    const list = this.#selectors[Number(index)];
    list?.push(selector);
    return list !== undefined;
  }

  write(index: bigint): void {
    this.#written.add(Number(index));
  }

  inputs(deps: KeyDeps): CacheMapInput[] {
    return this.#selectors.map((selectors, index) => {
      if (selectors.length === 0 || this.#written.has(index)) return {};
      const paths = selectors.map(({ path }) => path).sort(byBytes);
      return { selector: cacheDigestOf(paths.reverse().join('\0')), ...byContentOf(distinct(selectors), deps) };
    });
  }
}

function actionText(action: FileAction, selectors: SelectorsByInput): string {
  selectors.write(action.input);
  const one = action.action;
  switch (one.case) {
    case 'mkdir':
      selectOwner(one.value.owner, selectors);
      return text(FileActionMkDirSchema, one.value);
    case 'mkfile':
      selectOwner(one.value.owner, selectors);
      return text(FileActionMkFileSchema, one.value);
    case 'symlink':
      return text(FileActionSymlinkSchema, one.value);
    case 'rm':
      return text(FileActionRmSchema, one.value);
    case 'copy': {
      const copy = clone(FileActionCopySchema, one.value);
      selectOwner(copy.owner, selectors);
      const selector: Selector = {
        path: copy.src,
        wildcard: copy.allowWildcard && hasWildcard(copy.src),
        followLinks: copy.followSymlink,
        includePatterns: copy.includePatterns,
        excludePatterns: copy.excludePatterns,
        requiredPaths: copy.requiredPaths,
      };
      // The selected content is the input's key, so only the name that arrives is left to count.
      if (selectors.add(action.secondaryInput, selector)) copy.src = baseName(copy.src);
      return text(FileActionCopySchema, copy);
    }
    default:
      throw new BuildError('invalid-input', 'invalid file action without a kind');
  }
}

const text = (schema: DescMessage, message: Message): string => goJson(schema, message);

/** Names are looked up in these files of the named input. */
function selectOwner(owner: ChownOpt | undefined, selectors: SelectorsByInput): void {
  const files = [
    [owner?.user, '/etc/passwd'],
    [owner?.group, '/etc/group'],
  ] as const;
  for (const [option, path] of files) {
    if (option?.user.case !== 'byName') continue;
    const { input } = option.user.value;
    if (input < 0n) throw new BuildError('invalid-input', `invalid user index ${input}`);
    selectors.add(input, pathSelector(path));
  }
}

/** Go's path.Base: `/` for the root, `.` for nothing. */
function baseName(path: string): string {
  if (path === '') return '.';
  return posix.basename(path) || '/';
}

/** Selectors of plain paths once each, none below another; those with patterns as they are. In order of their paths. */
function distinct(selectors: readonly Selector[]): Selector[] {
  const filtered = selectors.filter(hasFilter);
  const plain = selectors.filter((selector) => !hasFilter(selector));
  const paths = (followLinks: boolean): Selector[] =>
    outermostPaths(plain.filter((selector) => selector.followLinks === followLinks).map(({ path }) => path)).map((path) =>
      pathSelector(path, followLinks),
    );
  return [...paths(false), ...paths(true), ...filtered].sort((a, b) => byBytes(a.path, b.path));
}

const hasFilter = ({ wildcard, includePatterns, excludePatterns }: Selector): boolean =>
  wildcard || includePatterns.length > 0 || excludePatterns.length > 0;
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** A chain that starts at input 0 and ends in output 0: its key says nothing of indexes, as builders before indexes did. */
function isDefaultShape(indexes: readonly (readonly number[])[]): boolean {
  return indexes.every(([input, secondary, output], i) => {
    const expected = i === 0 ? 0 : indexes.length + i - 1;
    return input === expected && (secondary === -1 || secondary === 1) && output === (i === indexes.length - 1 ? 0 : -1);
  });
}
