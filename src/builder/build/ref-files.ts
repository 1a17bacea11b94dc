/**
 * Reading files of a built result for a frontend. Paths mean what they would mean inside the result: symlinks never lead out of it.
 * Missing files are told in the words clients test for (`open <path>: no such file or directory`, buildkit-wire.md section 2.6).
 */

import { type BigIntStats, constants } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { BuildError, GRPC } from '../../core/errors.ts';
import { MAX_MESSAGE_BYTES } from '../../core/limits.ts';
import { compilePatterns } from '../../core/patterns.ts';
import { type Stat, StatSchema } from '../proto/gen/fsutil/types/stat_pb.ts';
import type { Snapshot } from '../snapshot/ports.ts';
import { resolveInRoot } from '../worker/root-path.ts';

/** A file whole, or `range` of it. @throws BuildError `exhausted` when more is asked than one message carries. */
export async function readFileOf(
  snapshot: Snapshot | undefined,
  path: string,
  range?: { readonly offset: number; readonly length: number },
): Promise<Uint8Array> {
  return await inView(snapshot, 'open', path, async (root) => {
    await using file = await open(resolveInRoot(root, path), constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await file.stat();
    if (stats.isDirectory()) throw new BuildError('invalid-input', `read ${path}: is a directory`, { grpcCode: GRPC.UNKNOWN });
    if (!stats.isFile()) throw new BuildError('invalid-input', `read ${path}: not a regular file`, { grpcCode: GRPC.UNKNOWN });
    const offset = range?.offset ?? 0;
    const available = Math.max(0, stats.size - offset);
    const length = range === undefined || range.length === 0 ? available : Math.min(range.length, available);
    if (length > MAX_MESSAGE_BYTES - 1024)
      throw new BuildError('exhausted', `read ${path}: ${length} bytes do not fit into one message; read it in ranges`);
    const data = new Uint8Array(length);
    const { bytesRead } = await file.read(data, 0, length, offset);
    return data.subarray(0, bytesRead);
  });
}

/** Entries of a directory by name; `includePattern` keeps those that match. */
export async function readDirOf(snapshot: Snapshot | undefined, path: string, includePattern: string): Promise<Stat[]> {
  const matches = includePattern === '' ? undefined : compilePatterns([includePattern]);
  return await inView(snapshot, 'open', path, async (root) => {
    const dir = resolveInRoot(root, path);
    const names = (await readdir(dir)).filter((name) => matches?.matches(name) ?? true).sort();
    return await Promise.all(names.map((name) => statEntry(join(dir, name), name)));
  });
}

/** One file or directory; a symlink as the last component is described, not followed. */
export async function statOf(snapshot: Snapshot | undefined, path: string): Promise<Stat> {
  return await inView(snapshot, 'lstat', path, async (root) => {
    const at = resolveInRoot(root, path, { followLast: false });
    return await statEntry(at, at === root ? '/' : (at.split('/').at(-1) ?? ''));
  });
}

/** Runs `read` on the merged tree. Errors name the path as the frontend knows it, never where the tree is mounted. */
async function inView<T>(
  snapshot: Snapshot | undefined,
  call: string,
  path: string,
  read: (root: string) => Promise<T>,
): Promise<T> {
  if (snapshot === undefined) throw missing(call, path);
  await using view = await snapshot.view();
  try {
    return await read(view.dir);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw missing(call, path);
    if (code === 'ENOTDIR')
      throw new BuildError('not-found', `${call} ${path}: not a directory`, { grpcCode: GRPC.UNKNOWN }, { cause: error });
    throw error;
  }
}

const missing = (call: string, path: string): BuildError =>
  new BuildError('not-found', `${call} ${path}: no such file or directory`, { grpcCode: GRPC.UNKNOWN });

async function statEntry(path: string, name: string): Promise<Stat> {
  const stats = await lstat(path, { bigint: true });
  return create(StatSchema, {
    path: name,
    mode: goFileMode(stats),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    size: stats.isDirectory() ? 0n : stats.size, // of a symlink: of its target's name
    modTime: stats.mtimeNs,
    linkname: stats.isSymbolicLink() ? await readlink(path) : '',
    devmajor: stats.isBlockDevice() || stats.isCharacterDevice() ? (stats.rdev >> 8n) & 0xfffn : 0n,
    devminor: stats.isBlockDevice() || stats.isCharacterDevice() ? (stats.rdev & 0xffn) | ((stats.rdev >> 12n) & 0xfff00n) : 0n,
  });
}

/** Go's os.FileMode bits (buildkit-wire.md section 4.2). */
function goFileMode(stats: BigIntStats): number {
  const mode = Number(stats.mode);
  let bits = mode & 0o777;
  if (stats.isDirectory()) bits += 2 ** 31;
  if (stats.isSymbolicLink()) bits += 2 ** 27;
  if (stats.isBlockDevice() || stats.isCharacterDevice()) bits += 2 ** 26;
  if (stats.isFIFO()) bits += 2 ** 25;
  if (stats.isSocket()) bits += 2 ** 24;
  if ((mode & 0o4000) !== 0) bits += 2 ** 23;
  if ((mode & 0o2000) !== 0) bits += 2 ** 22;
  if (stats.isCharacterDevice()) bits += 2 ** 21;
  if ((mode & 0o1000) !== 0) bits += 2 ** 20;
  return bits;
}
