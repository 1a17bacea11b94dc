/** Which files differ between two saved digest trees, in a thread: the trees themselves may be long gone. */
import { BuildError } from '../../../core/errors.ts';
import type { TaskContext } from '../../../core/worker-pool.ts';
import { openSys } from '../../worker/sys/sys.ts';
import type { Selector } from '../ports.ts';
import { textOf } from '../tree/names.ts';
import { ContentTree } from './content-tree.ts';
import { readDigests } from './digest-file.ts';
import { selectedEntries } from './select.ts';

export interface CompareArgs {
  /** Saved digests. */
  readonly old: string;
  readonly now: string;
  readonly selectors: readonly Selector[];
  /** Changes listed; the others are counted. */
  readonly limit: number;
}
export interface FileChange {
  readonly path: string;
  /** `sha256:<hex>` over header and content (buildkit-wire.md 7.4); absent where the file was not there. */
  readonly old?: string;
  readonly now?: string;
}
export interface CompareOutput {
  readonly changes: readonly FileChange[];
  readonly more: number;
  /** Entries selected now. */
  readonly total: number;
}

/** @throws BuildError `not-found` when a list cannot be read. */
export function compareDigests({ old, now, selectors, limit }: CompareArgs, context: TaskContext): CompareOutput {
  const [before, after] = [old, now].map((file) => entriesOf(file, selectors, context)) as [Entries, Entries];
  const changed: FileChange[] = [];
  for (const path of [...new Set([...before.keys(), ...after.keys()])].sort()) {
    const [was, is] = [before.get(path), after.get(path)];
    if (was === is) continue;
    changed.push({
      path: textOf(path.slice(1)) || '/',
      ...(was === undefined ? {} : { old: `sha256:${was}` }),
      ...(is === undefined ? {} : { now: `sha256:${is}` }),
    });
  }
  return { changes: changed.slice(0, limit), more: Math.max(0, changed.length - limit), total: after.size };
}

type Entries = ReadonlyMap<string, string>;

function entriesOf(file: string, selectors: readonly Selector[], context: TaskContext): Entries {
  const root = readDigests(file);
  if (root === undefined) throw new BuildError('not-found', `no digests in ${file}`);
  const tree = new ContentTree('/dev/null', root, openSys(), context.aborted);
  const entries = new Map<string, string>();
  for (const selector of selectors) selectedEntries(tree, selector, entries);
  return entries;
}
