/** The file trees an export sends: one per platform, each readable while it is open. Shared by `type=local` and `type=tar`. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { BuildError } from '../../core/errors.ts';
import { type Attributes, type EpochChoice, parseEpoch, parseFlag } from './attributes.ts';
import { epochOf } from './epoch.ts';
import { exportPlatforms, resultFor } from './platforms.ts';
import type { ExportSource } from './ports.ts';

export interface TreeOptions {
  readonly epoch: EpochChoice;
  /** Each platform in a directory of its own; by default when there are several. */
  readonly platformSplit: boolean | undefined;
  readonly deleteOthers: boolean;
}

export interface TreeOutput {
  /** Platform id; empty in the single form. */
  readonly id: string;
  readonly dir: string;
  /** `linux_amd64` when platforms are split, else empty. */
  readonly prefix: string;
  readonly epochSeconds: bigint | undefined;
}

/** @throws BuildError `invalid-input`. */
export function parseTreeOptions(attributes: Attributes): TreeOptions {
  const mode = (attributes.get('mode') ?? '').trim().toLowerCase();
  if (!['', 'copy', 'delete'].includes(mode)) throw invalid(`invalid local exporter mode "${attributes.get('mode') ?? ''}"`);
  return {
    epoch: parseEpoch(attributes.get('source-date-epoch'), 'source-date-epoch'),
    platformSplit: attributes.has('platform-split') ? parseFlag(attributes, 'platform-split', true) : undefined,
    deleteOthers: mode === 'delete',
  };
}

/** Opens a view of every result; disposing closes them. Scratch is an empty directory below `tempDir`. */
export async function openTrees(
  source: ExportSource,
  options: TreeOptions,
  tempDir: string,
): Promise<{ readonly trees: readonly TreeOutput[] } & AsyncDisposable> {
  await using open = new AsyncDisposableStack();
  const split = options.platformSplit ?? source.multiPlatform;
  const trees: TreeOutput[] = [];
  for (const platform of exportPlatforms(source)) {
    const prefix = split ? platform.id.replaceAll('/', '_') : '';
    const result = resultFor(source, platform);
    const dir = result === undefined ? open.use(await emptyDir(tempDir)).dir : open.use(await result.view()).dir;
    trees.push({ id: platform.id, dir, prefix, epochSeconds: epochOf(source, options.epoch, platform) });
  }
  if (!split) await refuseOverlap(trees);
  const held = open.move();
  return { trees, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** Files of several platforms into one directory are fine as long as none would replace another. */
async function refuseOverlap(trees: readonly TreeOutput[]): Promise<void> {
  if (trees.length < 2) return;
  const seen = new Map<string, string>();
  for (const { id, dir } of trees)
    for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
      if (entry.isDirectory()) continue;
      const path = relative(dir, join(entry.parentPath, entry.name));
      const other = seen.get(path);
      if (other !== undefined) throw invalid(`cannot overwrite ${path} from ${other} with ${id} when split option is disabled`);
      seen.set(path, id);
    }
}

async function emptyDir(tempDir: string): Promise<{ readonly dir: string } & AsyncDisposable> {
  const dir = await mkdtemp(join(tempDir, 'scratch-'));
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

const invalid = (message: string): BuildError => new BuildError('invalid-input', message);
