/** Which files of a directory a transfer takes: include and exclude patterns, and paths whose symlinks are followed (buildkit-wire.md 3.2). */
import { compilePatterns, type PatternSet, type PatternState } from '../../../core/patterns.ts';
import { followPaths } from './follow-paths.ts';
import { textOf } from './packet.ts';
import type { Selection, WalkOptions } from './walk.ts';

export interface Wanted {
  readonly includePatterns: readonly string[];
  readonly excludePatterns: readonly string[];
  readonly followPaths: readonly string[];
}

/** For `walk(root, { select })`; undefined when everything is wanted. @throws BuildError `invalid-input` for malformed patterns. */
export function selectionOf(root: string, wanted: Wanted): WalkOptions['select'] {
  const followed = wanted.followPaths.length === 0 ? [] : followPaths(root, wanted.followPaths);
  const included = [...wanted.includePatterns, ...followed];
  const include = included.length === 0 || included.includes('.') ? undefined : compilePatterns(included);
  const exclude = wanted.excludePatterns.length === 0 ? undefined : compilePatterns(wanted.excludePatterns);
  if (include === undefined && exclude === undefined) return undefined;
  const filter = new Filter(include, exclude);
  return (path, directory) => filter.select(textOf(path), directory);
}

interface Level {
  readonly below: string;
  readonly include: PatternState | undefined;
  readonly exclude: PatternState | undefined;
}

class Filter {
  readonly #include: PatternSet | undefined;
  readonly #exclude: PatternSet | undefined;
  /** What the patterns said of the directories above the current entry. */
  readonly #levels: Level[] = [];

  constructor(include: PatternSet | undefined, exclude: PatternSet | undefined) {
    this.#include = include;
    this.#exclude = exclude;
  }

  select(path: string, directory: boolean): Selection {
    while (this.#levels.length > 0 && !path.startsWith((this.#levels.at(-1) as Level).below)) this.#levels.pop();
    const parent = this.#levels.at(-1);
    const include = this.#include?.visit(path, parent?.include);
    const exclude = this.#exclude?.visit(path, parent?.exclude);
    if (directory) {
      if (include?.matched === false && this.#include?.mayMatchBelow(path) === false) return 'prune';
      if (exclude?.matched === true && this.#exclude?.mayExcludeBelow(path) === false) return 'prune';
      this.#levels.push({ below: `${path}/`, include: include?.state, exclude: exclude?.state });
    }
    return include?.matched === false || exclude?.matched === true ? 'skip' : 'keep';
  }
}
