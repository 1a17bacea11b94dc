/** Runs in a worker thread: searches the files below a directory for byte strings. */
import { closeSync, constants, opendirSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { TaskContext } from '../../core/worker-pool.ts';

export interface Needle {
  readonly id: string;
  readonly bytes: Uint8Array;
}
/** One secret in one file; `path` begins with `/` at the top of the tree. */
export interface Leak {
  readonly id: string;
  readonly path: string;
}

const CHUNK_BYTES = 1 << 20;
const MAX_LEAKS = 20; // more of them tell nobody anything new

/** Regular files only, links are not followed. Stops after a number of finds, or when nobody waits any more. */
export function findInTree(args: { readonly tree: string; readonly needles: readonly Needle[] }, context: TaskContext): Leak[] {
  const needles = args.needles.map(({ id, bytes }) => ({ id, bytes: Buffer.from(bytes) }));
  const overlap = Math.max(...needles.map(({ bytes }) => bytes.length)) - 1;
  const buffer = Buffer.allocUnsafe(overlap + CHUNK_BYTES);
  const leaks: Leak[] = [];
  const directories = ['/'];
  for (let path = directories.pop(); path !== undefined; path = directories.pop()) {
    using directory = opendirSync(join(args.tree, path));
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      if (leaks.length >= MAX_LEAKS || context.aborted()) return leaks;
      const inner = join(path, entry.name);
      if (entry.isDirectory()) directories.push(inner);
      else if (entry.isFile()) {
        for (const id of findInFile(join(args.tree, inner), needles, buffer, overlap, context)) leaks.push({ id, path: inner });
      }
    }
  }
  return leaks;
}

/** Ids of the secrets in one file. The end of a chunk is kept in front of the next, so that nothing hides between two. */
function findInFile(
  file: string,
  needles: readonly { readonly id: string; readonly bytes: Buffer }[],
  buffer: Buffer,
  overlap: number,
  context: TaskContext,
): Set<string> {
  const found = new Set<string>();
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    let held = 0;
    for (;;) {
      const read = readSync(fd, buffer, held, buffer.length - held, null);
      if (read === 0 || context.aborted()) return found;
      const data = buffer.subarray(0, held + read);
      for (const { id, bytes } of needles) if (!found.has(id) && data.indexOf(bytes) !== -1) found.add(id);
      held = Math.min(overlap, data.length);
      data.copyWithin(0, data.length - held);
    }
  } finally {
    closeSync(fd);
  }
}
