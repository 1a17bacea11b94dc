/** Packs directory trees as a tar, run inside a thread: the tree as clients see it, in walk order, hard links and attributes kept. */
import { closeSync, openSync, readSync } from 'node:fs';
import { BuildError } from '../../core/errors.ts';
import type { TaskContext } from '../../core/worker-pool.ts';
import { GO_MODE, isDevice, isDirectory, isPipe, isSymlink, permissionsOf } from '../session/fsutil/mode.ts';
import { byteStringOf, fsPathOf, type Stat } from '../session/fsutil/packet.ts';
import { walk } from '../session/fsutil/walk.ts';
import { openSys } from '../worker/sys/sys.ts';
import { type PipeMemory, PipeWriter } from './shared-pipe.ts';
import { paddingOf, TAR_END, type TarEntry, tarHeader } from './tar-header.ts';

export interface TarTreeArgs {
  readonly trees: readonly {
    /** Undefined: an empty tree. */
    readonly dir: string | undefined;
    /** Directory inside the archive; empty for its root. */
    readonly prefix: string;
    /** Modification time of everything, when set. */
    readonly epochSeconds: bigint | undefined;
  }[];
}

const READ_BYTES = 1024 * 1024;

/** Writes the archive to the pipe. Throws `cancelled` when nobody reads it any more. */
export function packTrees(args: TarTreeArgs & { readonly pipe: PipeMemory }, context: TaskContext): void {
  const pipe = new PipeWriter(args.pipe, context);
  const sys = openSys();
  const xattrsOf = (path: string | Buffer): Stat['xattrs'] =>
    sys.listXattr(path).flatMap((name) => {
      const value = sys.getXattr(path, name);
      return value === undefined ? [] : [[name, value] as const];
    });
  for (const { dir, prefix, epochSeconds } of args.trees) {
    const base = prefix === '' ? '' : `${byteStringOf(prefix)}/`;
    if (base !== '') pipe.write(tarHeader({ name: base, type: 'directory', mode: 0o755, mtimeS: Number(epochSeconds ?? 0n) }));
    if (dir === undefined) continue;
    const root = byteStringOf(dir);
    for (const stat of walk(root, { xattrsOf })) packEntry(pipe, root, base, stat, epochSeconds);
  }
  pipe.write(TAR_END);
  pipe.end();
}

function packEntry(pipe: PipeWriter, root: string, base: string, stat: Stat, epochSeconds: bigint | undefined): void {
  const entry = entryOf(stat, base, epochSeconds);
  pipe.write(tarHeader(entry));
  if (entry.type !== 'file' || stat.size === 0) return;
  copyFile(pipe, fsPathOf(`${root}/${stat.path}`), stat.size);
  pipe.write(new Uint8Array(paddingOf(stat.size)));
}

function entryOf(stat: Stat, base: string, epochSeconds: bigint | undefined): TarEntry {
  const type = typeOf(stat);
  const name = `${base}${stat.path}`;
  return {
    name: type === 'directory' ? `${name}/` : name,
    type,
    mode: permissionsOf(stat.mode),
    sizeBytes: type === 'file' ? stat.size : 0,
    uid: stat.uid,
    gid: stat.gid,
    mtimeS: Number(epochSeconds ?? (stat.modTime + 500_000_000n) / 1_000_000_000n), // Go rounds to the nearest second
    linkname: type === 'hardlink' ? `${base}${stat.linkname}` : stat.linkname,
    devMajor: stat.devMajor,
    devMinor: stat.devMinor,
    xattrs: stat.xattrs,
  };
}

function typeOf(stat: Stat): TarEntry['type'] {
  if (isDirectory(stat.mode)) return 'directory';
  if (isSymlink(stat.mode)) return 'symlink';
  if (stat.linkname !== '') return 'hardlink';
  if (isDevice(stat.mode)) return (stat.mode & GO_MODE.CHAR_DEVICE) === 0 ? 'block' : 'char';
  return isPipe(stat.mode) ? 'fifo' : 'file';
}

/** Exactly `sizeBytes` bytes: the header has promised them. */
function copyFile(pipe: PipeWriter, path: string | Buffer, sizeBytes: number): void {
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, sizeBytes));
  const file = openSync(path, 'r');
  try {
    for (let left = sizeBytes; left > 0; ) {
      const got = readSync(file, buffer, 0, Math.min(buffer.byteLength, left), null);
      if (got === 0) throw new BuildError('internal', `${path} became shorter while it was packed`);
      pipe.write(buffer.subarray(0, got));
      left -= got;
    }
  } finally {
    closeSync(file);
  }
}
