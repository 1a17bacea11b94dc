/** Trees over overlayfs. A step's upper directory becomes the next step's lowest-but-one without being touched again. */
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { OverlaySpec, Sys } from '../worker/sys/ports.ts';
import { codeOf } from '../worker/sys/sys-error.ts';
import { inUserNamespace } from './overlay-marks.ts';
import { makeTree, type Trees, unmountAt } from './trees.ts';

/**
 * `volatile` (Linux 5.10): unmounting a writable overlay otherwise syncs the whole file system below it, so every step would wait for
 * the writes of all others. What a crash may lose is an uncommitted directory, which start-up removes anyway.
 * The others keep the upper directory in the plain form that diff understands: no redirects, no metadata-only copies.
 */
const WRITABLE_OPTIONS = ['index=off', 'redirect_dir=off', 'metacopy=off', 'volatile', ...(inUserNamespace ? ['userxattr'] : [])];
/** A read-only mount must read the same marks. */
const VIEW_OPTIONS = ['redirect_dir=off', 'userxattr'];
const OPTIONAL = ['metacopy=off', 'redirect_dir=off', 'volatile'];

/** Undefined when this kernel, user or file system cannot do overlay mounts with what we need. Leaves nothing behind. */
export function openOverlayTrees(snapshots: string, sys: Sys): Trees | undefined {
  const options = probe(snapshots, sys);
  return options === undefined ? undefined : overlayTrees(snapshots, sys, options);
}

/** Tries a real mount, giving up options that an old kernel does not know. */
function probe(snapshots: string, sys: Sys): readonly string[] | undefined {
  const dir = mkdtempSync(join(snapshots, 'probe-'));
  try {
    for (const name of ['lower', 'upper', 'work', 'm']) mkdirSync(join(dir, name));
    let options: readonly string[] = WRITABLE_OPTIONS;
    for (const given of [undefined, ...OPTIONAL]) {
      options = options.filter((option) => option !== given);
      try {
        rmSync(join(dir, 'work'), { recursive: true });
        mkdirSync(join(dir, 'work'));
        sys.mountOverlay({
          lowers: [join(dir, 'lower')],
          upper: join(dir, 'upper'),
          work: join(dir, 'work'),
          target: join(dir, 'm'),
          options,
        });
        sys.unmount(join(dir, 'm'));
        return options;
      } catch (error) {
        if (codeOf(error) !== 'EINVAL' && sys.kind === 'native') return undefined;
      }
    }
    return undefined;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function overlayTrees(snapshots: string, sys: Sys, options: readonly string[]): Trees {
  const treeOf = (id: string): string => `${snapshots}/${id}/fs`;
  const lowersOf = (chain: readonly string[]): string[] => chain.map(treeOf).reverse();
  return {
    kind: 'overlay',
    treeOf,
    async create(id, chain) {
      const dir = makeTree(snapshots, id);
      const parent = chain.at(-1);
      if (parent === undefined) return;
      mkdirSync(join(dir, 'm'), { mode: 0o700 });
      copyRootAttributes(treeOf(parent), treeOf(id));
    },
    mountWritable(id, chain) {
      const dir = `${snapshots}/${id}`;
      if (chain.length === 0) return `${dir}/fs`;
      // A work directory of an earlier, unclean life (a named directory) refuses a volatile mount; it never holds anything of value.
      if (existsSync(`${dir}/work`)) rmSync(`${dir}/work`, { recursive: true });
      mkdirSync(`${dir}/work`, { mode: 0o700 });
      const spec: OverlaySpec = { lowers: lowersOf(chain), upper: `${dir}/fs`, work: `${dir}/work`, target: `${dir}/m`, options };
      sys.mountOverlay(spec);
      return spec.target;
    },
    unmountWritable(id) {
      sys.unmount(`${snapshots}/${id}/m`);
    },
    mountView(chain, at) {
      const [lowest] = chain;
      if (chain.length === 1 && lowest !== undefined) return { dir: treeOf(lowest), mounted: false };
      mkdirSync(at, { mode: 0o700, recursive: true }); // a run that was killed while it looked leaves the empty directory
      try {
        // One lower layer is not allowed without an upper one, hence the case above.
        sys.mountOverlay({
          lowers: lowersOf(chain),
          target: at,
          options: options.filter((option) => VIEW_OPTIONS.includes(option)),
        });
      } catch (error) {
        rmSync(at, { recursive: true });
        throw error;
      }
      return { dir: at, mounted: true };
    },
    unmountView: (at) => unmountAt(sys, at),
  };
}

/** The merged root directory shows the upper directory's owner and mode, which must be those of the parent. */
function copyRootAttributes(from: string, to: string): void {
  const { mode, uid, gid } = statSync(from);
  if (uid !== 0 || gid !== 0) chownSync(to, uid, gid);
  if ((mode & 0o7777) !== 0o755) chmodSync(to, mode & 0o7777);
}
