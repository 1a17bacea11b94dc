/** A real store in a temporary directory, for the tests of this folder. */
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { systemClock } from '../../core/clock.ts';
import { WorkerPool } from '../../core/worker-pool.ts';
import { type DiskContentStore, openContentStore } from '../content/content-store.ts';
import { openMetadata } from '../metadata/metadata.ts';
import { openSys } from '../worker/sys/sys.ts';
import type { Snapshot, Snapshots } from './ports.ts';
import { unmountBelow } from './reconcile.ts';
import { type OpenedSnapshots, openSnapshots, type SnapshotsOptions } from './snapshots.ts';

export const never = new AbortController().signal;
export const needsRoot = process.getuid?.() === 0 ? {} : { skip: 'needs root' };

export interface Rig {
  readonly dir: string;
  readonly pool: WorkerPool;
  readonly content: DiskContentStore;
  readonly snapshots: OpenedSnapshots;
  /** Closes everything but what is on disk, and opens it again. */
  readonly reopen: () => Promise<OpenedSnapshots>;
  /** Closes everything but what is on disk. */
  readonly suspend: () => Promise<void>;
}

type RigOptions = Partial<Pick<SnapshotsOptions, 'snapshotter' | 'limits' | 'sys'>> & { readonly dir?: string };

export async function openRig(t: TestContext, options: RigOptions = {}): Promise<Rig> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'cooper-snapshots-'));
  const pool = new WorkerPool(2);
  const { sys = openSys() } = options;
  let opened: AsyncDisposableStack | undefined;
  const open = async (): Promise<{ content: DiskContentStore; snapshots: OpenedSnapshots }> => {
    const stack = new AsyncDisposableStack();
    opened = stack;
    const metadata = stack.use(await openMetadata(join(dir, 'metadata.sqlite')));
    const content = stack.use(openContentStore({ root: dir, clock: systemClock(), pool }));
    const { dir: _, ...rest } = options;
    const snapshots = stack.use(await openSnapshots({ root: dir, metadata, content, pool, clock: systemClock(), sys, ...rest }));
    return { content, snapshots };
  };
  t.after(async () => {
    await opened?.disposeAsync();
    await pool[Symbol.asyncDispose]();
    const left = unmountBelow(dir, sys);
    rmSync(dir, { recursive: true });
    if (left > 0) throw new Error(`${left} mounts were left behind`);
  });
  return {
    dir,
    pool,
    ...(await open()),
    reopen: async () => {
      await opened?.disposeAsync();
      return (await open()).snapshots;
    },
    suspend: async () => opened?.disposeAsync(),
  };
}

export async function step(snapshots: Snapshots, parent: Snapshot | undefined, change: (dir: string) => void): Promise<Snapshot> {
  await using mutable = await snapshots.prepare(parent, { description: 'step' });
  change(await mutable.mount());
  return await mutable.commit();
}

export const mountsBelow = (dir: string): number =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(` ${dir}/`)).length;

/** Every path with what it is: `dir`, `-> target`, or a file's content. */
export function readTree(dir: string): Record<string, string> {
  const tree: Record<string, string> = {};
  const visit = (path: string): void => {
    for (const name of readdirSync(join(dir, path)).sort()) {
      const below = join(path, name);
      const stat = lstatSync(join(dir, below));
      if (stat.isDirectory()) {
        tree[below] = 'dir';
        visit(below);
      } else if (stat.isSymbolicLink()) tree[below] = `-> ${readlinkSync(join(dir, below))}`;
      else tree[below] = stat.isFile() ? readFileSync(join(dir, below), 'utf8') : 'special';
    }
  };
  visit('');
  return tree;
}

export async function readView(snapshot: Snapshot): Promise<Record<string, string>> {
  await using view = await snapshot.view();
  return readTree(view.dir);
}
